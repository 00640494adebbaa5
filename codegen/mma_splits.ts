/**
 * @file Tiles of a contraction that several blocks share: which part of k is a block's, and how the blocks put their sums together. None
 * waits for another: each leaves its sums in scratch memory (ir/scratch.ts), and the one that comes last adds them up, always in the same
 * order, so that it does not matter which that is.
 */
import type { MmaSchedule } from '../ir/kernel.ts';
import { deepestStep, partsOf } from '../ir/mma.ts';
import type { KernelWriter } from './writer.ts';

/** Declares the block's tile and which of the parts of k it sums. The blocks of a tile follow one another (ir/blocks.ts). */
export function openSplits(w: KernelWriter, { splits }: MmaSchedule): void {
  if (splits === 1) return;
  w.line(`constexpr int SPLITS = ${splits};  // blocks that share a tile`);
  w.line('const int tile = (int)block / SPLITS, split = (int)block % SPLITS;');
}

/** The number of a block's tile, in C. */
export const tileNumber = ({ splits }: MmaSchedule): string => (splits === 1 ? '(int)block' : 'tile');

/**
 * Declares how many steps of k a group of threads takes, and where its part begins. Steps beyond the end of k are left out: they are all
 * zeros, which change no sum.
 */
export function openPart(w: KernelWriter, schedule: MmaSchedule): void {
  const { segments, splits } = schedule;
  const parts = partsOf(schedule);
  if (parts === 1) return w.line('const int steps = (K + TK - 1) / TK, k_first = 0;');
  const part = splits === 1 ? 'segment' : segments === 1 ? 'split' : '(segment * SPLITS + split)';
  const whole = parts * deepestStep;
  w.line(
    `const int depth = (K + ${whole - 1}) / ${whole} * ${deepestStep};  // of each of the ${parts} parts of k`,
  );
  w.line(`const int k_first = ${part} * depth, left_of_k = K - k_first;`);
  w.line('const int steps = ((left_of_k < depth ? left_of_k : depth) + TK - 1) / TK;');
}

/** The sum of these in C, of a power of two of them, as a balanced tree. */
export const pairwise = (terms: readonly string[]): string =>
  terms.length <= 2
    ? terms.join(' + ')
    : [terms.slice(0, terms.length / 2), terms.slice(terms.length / 2)]
        .map((half) => `(${pairwise(half)})`)
        .join(' + ');

/** After the last step: leaves the block's sums for the one that comes last, which alone goes on. */
export function leaveSplits(w: KernelWriter, { tile, threads, segments, splits }: MmaSchedule): void {
  if (splits === 1) return;
  w.line("// All blocks of the tile leave their sums; the last one goes on with everybody's.");
  w.line('copies_wait<0>();');
  // Here, not before the loop over k, where they would take registers.
  const first = w.kernel.inputs.length + w.kernel.outputs.length;
  w.line(
    `float* const left = (float*)row.operand[${first}] + tile * SPLITS * ${segments * tile.m * tile.n};`,
  );
  w.line(`leave_sums<${threads}>(left, split, acc);`);
  w.line(`if (!comes_last<SPLITS>((unsigned*)row.operand[${first + 1}] + tile)) return;`);
}
