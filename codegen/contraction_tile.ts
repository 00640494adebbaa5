/**
 * @file What the contraction skeletons share: a block's tile of m by n outputs, and offsets taken apart by what they depend on.
 */
import { type Affine, type Index, indicesOf } from '../ir/affine.ts';
import { type Contraction, contractionOf, type Operand } from '../ir/contraction.ts';
import type { Load, Store } from '../ir/kernel.ts';
import type { KernelWriter } from './writer.ts';

/** Outputs that a block computes, and the rows of k that it stages at a time. */
export interface Tile {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * Writes where the block's tile begins: `m0`, `n0` and the batch indices; with the sizes `M`, `N`, `K` and `TM`, `TN`, `TK`.
 * @param number which tile it is, in C.
 */
export function openTile(w: KernelWriter, tile: Tile, number = '(int)block'): Contraction {
  const c = contractionOf(w.kernel);
  if (!c) throw new Error(`kernel ${w.kernel.name} is not a contraction`);
  w.prologue();
  w.line(`constexpr int TM = ${tile.m}, TN = ${tile.n}, TK = ${tile.k};`);
  w.line(`const int M = ${w.volume(c.m)}, N = ${w.volume(c.n)}, K = ${w.volume(c.k)};`);
  w.line('const int m_tiles = (M + TM - 1) / TM, n_tiles = (N + TN - 1) / TN;');
  w.line(`const int m0 = ${number} % m_tiles * TM;`);
  w.line(`const int n0 = ${number} / m_tiles % n_tiles * TN;`);
  if (c.batch.length > 0) {
    w.line(`const int batch = ${number} / (m_tiles * n_tiles);`);
    w.unflatten('batch', c.batch);
  }
  return c;
}

/** The part of an operand's offset that comes from some indices, with or without the constant. */
export function partOfOffset(
  w: KernelWriter,
  { load, at }: Operand,
  indices: ReadonlySet<Index>,
  constant: boolean,
): string {
  return w.offset(
    load.buffer,
    at.map((a) => restrict(a, indices, constant)),
  );
}

/** Likewise of its coordinate `d`. */
export const partOfCoordinate = (
  w: KernelWriter,
  { at }: Operand,
  d: number,
  indices: ReadonlySet<Index>,
  constant: boolean,
): string => w.affine(restrict(at[d]!, indices, constant));

/** The offset of an epilogue's access that is contiguous in m, at `position_m` and the indices of n. */
export function offsetInM(w: KernelWriter, c: Contraction, access: Load | Store): string {
  const withoutM = new Set([...c.batch, ...c.n]);
  const at = access.at.flatMap((x) => ('terms' in x ? [x] : 'affine' in x ? [x.affine] : []));
  const base = w.offset(
    access.buffer,
    at.map((x) => restrict(x, withoutM, true)),
  );
  return base === '0' ? 'position_m' : `${base} + position_m`;
}

/** The terms of an expression that mention only the given indices. */
function restrict(a: Affine, indices: ReadonlySet<Index>, constant: boolean): Affine {
  return {
    constant: constant ? a.constant : 0,
    terms: a.terms.filter((t) => [...indicesOf({ constant: 0, terms: [t] })].every((i) => indices.has(i))),
  };
}
