/**
 * @file Proofs about accesses, by interval arithmetic over the loop extents: which coordinates stay inside their buffer,
 * and that a store writes every element exactly once. This is what isolation rests on.
 */
import { type Affine, type Index, intervalOf, isPurelyAffine, isQuotient } from './affine.ts';
import type { Buffer, Load, Store } from './kernel.ts';
import { elementCount, rowMajorStrides } from './types.ts';

/** True if a coordinate can never leave 0 .. extent-1. */
export function provedInside(at: Affine, extent: number): boolean {
  const { min, max } = intervalOf(at);
  return min >= 0 && max < extent;
}

/** The dimensions of a load whose coordinate must be compared with the extent when it runs. */
export function guardedDims(load: Load): number[] {
  return load.at.flatMap((c, d) =>
    'affine' in c && provedInside(c.affine, load.buffer.shape[d]!) ? [] : [d],
  );
}

/** offset = constant + sum of coefficient * index, in elements; undefined if a coordinate is not purely affine. */
export interface LinearOffset {
  readonly constant: number;
  readonly coefficients: ReadonlyMap<Index, number>;
}

export function linearOffset(buffer: Buffer, at: readonly Affine[]): LinearOffset | undefined {
  if (!at.every(isPurelyAffine)) return undefined;
  const strides = rowMajorStrides(buffer.shape);
  const coefficients = new Map<Index, number>();
  let constant = 0;
  at.forEach((a, d) => {
    constant += a.constant * strides[d]!;
    for (const { coeff, atom } of a.terms) {
      if (isQuotient(atom)) continue;
      coefficients.set(atom, (coefficients.get(atom) ?? 0) + coeff * strides[d]!);
    }
  });
  return { constant, coefficients };
}

/**
 * True if a store's offsets run over 0 .. elements-1, each exactly once, when `domain` and `store.over` run over their
 * box: sorted by coefficient, each index's coefficient is the product of the smaller indices' extents (a mixed-radix number).
 */
export function writesEachOnce(domain: readonly Index[], store: Store): boolean {
  const offset = linearOffset(store.buffer, store.at);
  if (offset?.constant !== 0) return false;
  const digits = [...domain, ...store.over]
    .filter((i) => i.extent !== 1)
    .map((i) => ({ extent: i.extent, step: offset.coefficients.get(i) ?? 0 }))
    .sort((a, b) => a.step - b.step);
  let step = 1;
  for (const digit of digits) {
    if (digit.step !== step) return false;
    step *= digit.extent;
  }
  return step === elementCount(store.buffer.shape);
}
