/**
 * @file Shapes of the tensor-core skeleton that follow from its schedule: what the schedule pass, the verifier and codegen agree on.
 */
import type { AttentionSchedule, MmaSchedule } from './kernel.ts';

/** Static shared memory of a block, on every CUDA target. */
export const maxSharedBytes = 48 * 1024;

/** Elements from one staged row to the next: padded, so that 16 bytes of each of eight rows lie in different banks. */
export const rowPitch = (elements: number): number => (elements % 16 === 0 ? elements + 8 : elements);

/** Floats from one row of sums to the next: padded, so that a warp's fragments lie in different banks. */
export const sumPitch = (m: number): number => m + 8;

/** Bytes of a block's shared memory: the stages, or (after the last) 16 rows of sums for each warp. */
export function mmaSharedBytes({ tile, warps, stages, segments }: MmaSchedule): number {
  // An operand is staged as rows of k or as columns of it; the wider of both, as which it is depends on the kernel.
  const side = (width: number): number => 2 * Math.max(tile.k * rowPitch(width), width * rowPitch(tile.k));
  const staged = segments * stages * (side(tile.m) + side(tile.n));
  const sums = 4 * segments * 16 * warps.n * sumPitch(tile.m);
  return Math.max(staged, sums);
}

/**
 * Bytes of a block's shared memory: two stages of keys and values; the queries before the second stage, and the results after the
 * last lie in the same place.
 */
export function attentionSharedBytes({ tile, room }: AttentionSchedule): number {
  // As above, the wider of both ways in which a tile may lie.
  const lying = (rows: number, columns: number): number =>
    2 * Math.max(rows * rowPitch(columns), columns * rowPitch(rows));
  const stage = lying(tile.keys, room.features) + lying(tile.keys, room.values);
  const results = 4 * tile.queries * (sumPitch(room.values) + 1);
  return Math.max(stage + Math.max(stage, lying(tile.queries, room.features)), results);
}
