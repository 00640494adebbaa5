/**
 * @file Virtual blocks: which points of a scheduled kernel's domain each block computes. Codegen, slicing and the interpreter of
 * programs go by the same numbering.
 */
import { match } from 'ts-pattern';
import { type Affine, add, affine, floordiv, type Index, intervalOf, mul } from './affine.ts';
import { attentionOf } from './attention.ts';
import { contractionOf, volume } from './contraction.ts';
import type { Kernel, MapSchedule, ReductionSchedule } from './kernel.ts';

export const mapPointsPerBlock = (s: MapSchedule): number => s.threads * s.perThread * s.vector;
export const reductionPointsPerBlock = (s: ReductionSchedule): number => s.threads / s.lanes;

/** How many virtual blocks a scheduled kernel has. */
export const virtualBlocks = (kernel: Kernel): number => intervalOf(blockOf(kernel)).max + 1;

/**
 * The virtual block that computes a point, in the indices of the kernel's domain. Of the blocks that share a tile, which follow one another,
 * it is the last: once all up to it have run, in whatever order and over however many words, the tile is there.
 */
export function blockOf(kernel: Kernel): Affine {
  const { schedule } = kernel;
  if (!schedule) throw new Error(`kernel ${kernel.name} has no schedule: run the schedule pass first`);
  return match(schedule)
    .with({ skeleton: 'map' }, (s) => floordiv(flat(kernel.domain), mapPointsPerBlock(s)))
    .with({ skeleton: 'reduction' }, (s) => floordiv(flat(kernel.domain), reductionPointsPerBlock(s)))
    .with({ skeleton: 'contraction' }, ({ tile }) => tileOf(kernel, tile))
    .with({ skeleton: 'mma' }, ({ tile, splits }) => add(mul(tileOf(kernel, tile), splits), splits - 1))
    .with({ skeleton: 'attention' }, ({ tile }) => {
      const a = attentionOf(kernel);
      if (!a) throw new Error(`kernel ${kernel.name} is not attention`);
      const tiles = Math.ceil(volume(a.query) / tile.queries);
      return add(floordiv(flat(a.query), tile.queries), mul(flat(a.batch), tiles));
    })
    .exhaustive();
}

/** The tile of a contraction that a point lies in. */
function tileOf(kernel: Kernel, tile: { readonly m: number; readonly n: number }): Affine {
  const c = contractionOf(kernel);
  if (!c) throw new Error(`kernel ${kernel.name} is not a contraction`);
  const mTiles = Math.ceil(volume(c.m) / tile.m);
  const nTiles = Math.ceil(volume(c.n) / tile.n);
  const rows = add(floordiv(flat(c.n), tile.n), mul(flat(c.batch), nTiles));
  return add(floordiv(flat(c.m), tile.m), mul(rows, mTiles));
}

/** The place in row-major order of a box of indices. */
function flat(indices: readonly Index[]): Affine {
  let step = 1;
  let sum = affine(0);
  for (const i of [...indices].reverse()) {
    sum = add(sum, mul(i, step));
    step *= i.extent;
  }
  return sum;
}
