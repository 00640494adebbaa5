/**
 * @file Tiles of a contraction that several blocks share: which part of k is a block's, and how the blocks put their sums together. None
 * waits for another: each leaves its sums in scratch memory (ir/scratch.ts), and the one that comes last adds them up in the order of
 * the parts, so that it does not matter which that is.
 */
import type { MmaSchedule } from '../ir/kernel.ts';
import type { KernelWriter } from './writer.ts';

/** Declares the block's tile and which of the parts of k it sums. The blocks of a tile follow one another (ir/blocks.ts). */
export function openSplits(w: KernelWriter, { splits }: MmaSchedule): void {
  if (splits === 1) return;
  w.line(`constexpr int SPLITS = ${splits};  // blocks that share a tile`);
  w.line('const int tile = (int)block / SPLITS, split = (int)block % SPLITS;');
}

/** The number of a block's tile, in C. */
export const tileNumber = ({ splits }: MmaSchedule): string => (splits === 1 ? '(int)block' : 'tile');

/** Declares how many steps of k a group of threads takes, and where its range begins. */
export function openRange(w: KernelWriter, { segments, splits }: MmaSchedule): void {
  const ranges = segments * splits;
  if (ranges === 1) return w.line('const int steps = (K + TK - 1) / TK, k_first = 0;');
  const range = splits === 1 ? 'segment' : segments === 1 ? 'split' : '(segment * SPLITS + split)';
  w.line(`const int steps = (K + ${ranges} * TK - 1) / (${ranges} * TK);  // of each range`);
  w.line(`const int k_first = ${range} * steps * TK;`);
}

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
