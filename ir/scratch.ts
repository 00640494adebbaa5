/**
 * @file Memory that a task has beside its values: what blocks leave for each other. Where several blocks share a tile, each writes its sums
 * there and counts itself; the last one adds them up in order. Operands of a task stand in the order inputs, outputs, scratch.
 */
import type { Index } from './affine.ts';
import { contractionOf } from './contraction.ts';
import type { Kernel } from './kernel.ts';

/** One operand of scratch memory: the product of its factors, in elements of `elementBytes`. */
export interface Scratch {
  readonly name: 'partials' | 'counters';
  readonly factors: readonly ScratchFactor[];
  /**
   * True if it is zero before a task begins and again after it: it starts out as zeros, and nothing else ever lies there. Else nobody cares
   * what it holds before and after.
   */
  readonly keepsZeros: boolean;
}

/** A number, or how many tiles of `by` positions a box of indices has. */
export type ScratchFactor = number | { readonly box: readonly Index[]; readonly by: number };

/** How many operands of scratch memory a kernel has that has any. */
export const scratchOperands = 2;

/** Floats and counters alike. */
export const scratchElementBytes = 4;

/** The scratch memory of a kernel under its first schedule, in the order of its operands; none for most. */
export function scratchOf(kernel: Kernel): Scratch[] {
  const { schedule } = kernel;
  if (schedule?.skeleton !== 'mma' || schedule.splits === 1) return [];
  const c = contractionOf(kernel);
  if (!c) return [];
  const { tile, segments, splits } = schedule;
  const tiles = [
    { box: c.batch, by: 1 },
    { box: c.n, by: tile.n },
    { box: c.m, by: tile.m },
  ];
  return [
    { name: 'partials', factors: [...tiles, splits, segments * tile.m * tile.n], keepsZeros: false },
    { name: 'counters', factors: tiles, keepsZeros: true },
  ];
}

export const scratchElements = ({ factors }: Scratch): number =>
  factors.reduce<number>((product, f) => product * (typeof f === 'number' ? f : tilesOf(f)), 1);

export const scratchBytes = (s: Scratch): number => scratchElementBytes * scratchElements(s);

const tilesOf = ({ box, by }: Exclude<ScratchFactor, number>): number =>
  Math.ceil(box.reduce((n, i) => n * i.extent, 1) / by);
