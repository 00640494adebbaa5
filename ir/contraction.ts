/**
 * @file Recognises kernels whose heart is a sum of products of two operands (convolution, matrix product): what the
 * contraction skeleton can run. Indices are sorted into roles as in a batched matrix product: `m` runs along the operand
 * that is contiguous in the output (pixels of an NCHW picture, columns of a matrix), `n` along the other, `k` is summed.
 */
import { type Affine, coefficientOf, type Index, indicesOf, isPurelyAffine } from './affine.ts';
import { guardedDims, linearOffset } from './bounds.ts';
import type { Buffer, Expr, Kernel, Load, Reduce, Store } from './kernel.ts';
import { dtypes } from './types.ts';
import { vectorWidth, widestAccess } from './vector.ts';
import { childrenOf, freeIndices, visitExprs } from './walk.ts';

export interface Operand {
  readonly load: Load;
  readonly at: readonly Affine[];
  /** The positions it is indexed by besides k: the m or the n indices. */
  readonly positions: readonly Index[];
  /** The dimensions to compare with their extent at run time. */
  readonly guards: readonly number[];
  /** True if neighbours in memory are neighbouring positions; false if they are neighbours in k. */
  readonly positionFast: boolean;
  /** True if offset = (a part without positions) + the flat position. */
  readonly positionsContiguous: boolean;
  /** True if offset = (a part without k) + the flat k. */
  readonly kContiguous: boolean;
  /**
   * How many elements (8, 4, 2 or 1) can be read at once along the fast axis, from a flat position or k that is a multiple of as many:
   * they are neighbours in memory, aligned to their size, and all of them inside the buffer or none.
   */
  readonly vector: number;
  /**
   * The innermost index of k that is more than one, if no guard depends on it: over its whole extent the offset grows evenly and either all
   * is inside or nothing.
   */
  readonly inner: Index | undefined;
}

export interface Contraction {
  readonly sum: Reduce;
  readonly store: Store;
  readonly batch: readonly Index[];
  readonly m: readonly Index[];
  readonly n: readonly Index[];
  readonly k: readonly Index[];
  readonly a: Operand;
  readonly b: Operand;
  /** Loads of the epilogue, and the store, whose offset is (a part without m) + the flat m. */
  readonly contiguous: ReadonlySet<Load | Store>;
  /** True if every epilogue access is contiguous in m, so that m need not be taken apart. */
  readonly epilogueContiguous: boolean;
  /** How many neighbours in m the epilogue can read and write at once, at most 16 bytes of each buffer. */
  readonly epilogueVector: number;
}

/** The product of the extents. */
export const volume = (indices: readonly Index[]): number => indices.reduce((n, i) => n * i.extent, 1);

/** The kernel's contraction, or undefined if it is none. */
export function contractionOf(kernel: Kernel): Contraction | undefined {
  const [store] = kernel.stores;
  if (!store || kernel.stores.length !== 1 || store.over.length > 0) return undefined;
  const sum = onlySum(store.value);
  if (!sum) return undefined;
  const loads = productOf(sum.body);
  if (!loads) return undefined;
  const free = freeIndices();
  const uses = loads.map((l) => free(l));
  const sumIndices = new Set(sum.over);
  if (sum.over.some((i) => !uses[0]!.has(i) || !uses[1]!.has(i))) return undefined;

  const batch = kernel.domain.filter((i) => uses[0]!.has(i) === uses[1]!.has(i));
  const only = uses.map((mine, side) => kernel.domain.filter((i) => mine.has(i) && !uses[1 - side]!.has(i)));
  if ([...uses[0]!, ...uses[1]!].some((i) => !sumIndices.has(i) && !kernel.domain.includes(i)))
    return undefined;
  // m is the side that is contiguous in the output: it has the index with the smallest stride there.
  const out = linearOffset(store.buffer, store.at);
  if (!out) return undefined;
  const leastStep = (side: readonly Index[]): number =>
    Math.min(...side.filter((i) => i.extent > 1).map((i) => out.coefficients.get(i) ?? 0), Infinity);
  const mSide = leastStep(only[0]!) <= leastStep(only[1]!) ? 0 : 1;
  const m = only[mSide]!;
  const n = only[1 - mSide]!;
  const a = operandOf(loads[mSide]!, m, sum.over);
  const b = operandOf(loads[1 - mSide]!, n, sum.over);
  if (!a || !b) return undefined;

  const contiguous = new Set<Load | Store>();
  let epilogueContiguous = isContiguous(store.buffer, store.at, m);
  if (epilogueContiguous) contiguous.add(store);
  visitEpilogue(store.value, sum, (e) => {
    const mentionsM = [...free(e)].some((i) => m.includes(i));
    if (e.kind === 'load') {
      const at = e.at.flatMap((c) => ('affine' in c ? [c.affine] : []));
      const direct = at.length === e.at.length && guardedDims(e).length === 0;
      if (direct && isContiguous(e.buffer, at, m)) contiguous.add(e);
      else if (mentionsM) epilogueContiguous = false;
    } else if (e.kind === 'index' && mentionsM) epilogueContiguous = false;
  });
  const epilogueVector = epilogueContiguous ? widestAccess(contiguous, m) : 1;
  return { sum, store, batch, m, n, k: sum.over, a, b, contiguous, epilogueContiguous, epilogueVector };
}

/** The only reduction of an expression, if it is an f32 sum and stands outside of all others. */
export function onlySum(value: Expr): Reduce | undefined {
  const found: Reduce[] = [];
  visitExprs([value], (e) => void (e.kind === 'reduce' && found.push(e)));
  const [sum] = found;
  return found.length === 1 && sum!.combine === 'sum' && sum!.dtype === 'f32' ? sum : undefined;
}

/** Visits what is computed after the sum. */
function visitEpilogue(value: Expr, sum: Reduce, visit: (e: Expr) => void): void {
  const seen = new Set<Expr>([sum]);
  const go = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    childrenOf(e).forEach(go);
    visit(e);
  };
  go(value);
}

/** The two loads of a product of (widened) loads with plain index arithmetic. */
export function productOf(body: Expr): [Load, Load] | undefined {
  if (body.kind !== 'op' || body.op !== 'mul') return undefined;
  const loads = body.args.map((arg) => {
    const e = arg.kind === 'cast' ? arg.arg : arg;
    const plain =
      e.kind === 'load' &&
      ['f32', 'f16', 'bf16'].includes(e.dtype) &&
      // The tails of a tile are zeros, so padding must be, too.
      (e.pad ?? 0) === 0 &&
      e.at.every((c) => 'affine' in c && isPurelyAffine(c.affine));
    return plain ? e : undefined;
  });
  return loads[0] && loads[1] ? [loads[0], loads[1]] : undefined;
}

/** How a tile of an operand is read that runs over `positions` and `k`; undefined if a coordinate is gathered. */
export function operandOf(load: Load, positions: readonly Index[], k: readonly Index[]): Operand | undefined {
  const at = load.at.map((c) => ('affine' in c ? c.affine : undefined));
  if (!at.every((a) => a !== undefined)) return undefined;
  const last = at.at(-1);
  const innermost = positions.filter((i) => i.extent > 1).at(-1);
  const innermostK = k.filter((i) => i.extent > 1).at(-1);
  const guards = guardedDims(load);
  const kIndices = new Set(k);
  const offset = linearOffset(load.buffer, at);
  const guardedIndices = new Set(guards.flatMap((d) => [...indicesOf(at[d]!)]));
  const positionFast = last !== undefined && innermost !== undefined && coefficientOf(last, innermost) !== 0;
  return {
    load,
    at,
    positions,
    guards,
    positionFast,
    positionsContiguous: guards.length === 0 && isContiguous(load.buffer, at, positions),
    // Guards on k would need its indices one by one.
    kContiguous:
      offset !== undefined &&
      isContiguous(load.buffer, at, k) &&
      ![...guardedIndices].some((i) => kIndices.has(i)),
    inner: innermostK && !guardedIndices.has(innermostK) ? innermostK : undefined,
    vector: offset ? vectorWidth(offset, positionFast ? positions : k, guardedIndices) : 1,
  };
}

/** True if the offset grows by exactly one from each flat position of `indices` to the next. */
function isContiguous(buffer: Buffer, at: readonly Affine[], indices: readonly Index[]): boolean {
  const offset = linearOffset(buffer, at);
  if (!offset) return false;
  let step = 1;
  for (const i of [...indices].reverse()) {
    if (i.extent > 1 && offset.coefficients.get(i) !== step) return false;
    step *= i.extent;
  }
  return true;
}

/** True if the operands are what tensor cores multiply: both f16, or both bf16. */
export const multiplies16Bit = (c: Contraction): boolean =>
  c.a.load.dtype === c.b.load.dtype && dtypes[c.a.load.dtype].bytes === 2;

/** True if steps of `tileK` never cross from one value of the outer k indices to another, so that what depends on these is known a step. */
export const hasWholeSteps = (o: Operand, tileK: number): boolean =>
  o.inner !== undefined && o.inner.extent % tileK === 0;
