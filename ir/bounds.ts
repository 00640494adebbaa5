/**
 * @file Proofs about accesses, by interval arithmetic over the loop extents: which coordinates stay inside their buffer,
 * and that a store writes every element exactly once. This is what isolation rests on.
 */
import {
  type Affine,
  type Atom,
  type Index,
  type Interval,
  intervalOf,
  isPurelyAffine,
  isQuotient,
} from './affine.ts';
import type { Buffer, Load, Store } from './kernel.ts';
import { elementCount, rowMajorStrides } from './types.ts';

/** True if a coordinate can never leave 0 .. extent-1. */
export function provedInside(at: Affine, extent: number): boolean {
  const { min, max } = intervalOf(at);
  return min >= 0 && max < extent;
}

/** The greatest number of the arithmetic of offsets, which emitted code does in 32 bits; the least is its negative. */
export const mostInt = 2 ** 31 - 1;

/** How far above and below 0 sums get; both are at least 0. */
interface Reach {
  readonly above: number;
  readonly below: number;
}

/** The reach of an expression's terms, some or all of them added up in any order. */
function reachOf(a: Affine): Reach {
  let [above, below] = [Math.max(0, a.constant), Math.max(0, -a.constant)];
  for (const { coeff, atom } of a.terms) {
    const of = reachOfAtom(atom);
    above += Math.abs(coeff) * (coeff > 0 ? of.above : of.below);
    below += Math.abs(coeff) * (coeff > 0 ? of.below : of.above);
  }
  return { above, below };
}

function reachOfAtom(atom: Atom): Reach {
  if (!isQuotient(atom)) return { above: atom.extent - 1, below: 0 };
  if (atom.kind === 'mod') return { above: atom.by - 1, below: 0 };
  const { above, below } = reachOf(atom.arg);
  return { above: Math.floor(above / atom.by), below: Math.ceil(below / atom.by) };
}

/**
 * The range of all numbers on the way to an expression's value: factors, divisors, sums of some of the terms, and the same of the
 * arguments of quotients. Emitted code computes the right value if 32 bits hold all of them.
 */
export function rangeOnTheWay(a: Affine): Interval {
  const { above, below } = reachOf(a);
  let [min, max] = [-below, above];
  for (const { coeff, atom } of a.terms) {
    const parts = [coeff];
    if (isQuotient(atom)) {
      const inner = rangeOnTheWay(atom.arg);
      // A quotient of what is negative is that of -arg + by - 1, negated (codegen/prelude/scalar.h).
      parts.push(inner.min, inner.max, atom.by, reachOf(atom.arg).below + atom.by - 1);
    }
    min = Math.min(min, ...parts);
    max = Math.max(max, ...parts);
  }
  return { min, max };
}

/** True if 32 bits hold all numbers of a range. */
export const fitsInt = ({ min, max }: Interval): boolean => min >= -mostInt && max <= mostInt;

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
