/**
 * @file What a multiprocessor's clocks go into, for estimates of kernels without tensor cores: guesses from published latencies of Hopper, of which
 * only the ratios matter where schedules are compared.
 */
import type { Expr } from '../ir/kernel.ts';
import { scalarOps } from '../ir/ops.ts';

export const clocks = {
  /** Until a block has found its slot; until a read is there, on average of caches and memory. */
  block: 1500,
  memory: 700,
  /** What a kernel takes however little it does: below it nothing is worth a class of its own. */
  least: 3000,
  /** Between the starts of two blocks on one multiprocessor. */
  start: 25,
  /** The same of blocks that live so shortly that each start must be paid for, as those of a map of many points (measured on an H100). */
  startOfShort: 250,
  /** A shuffle and what follows it; two barriers; a number of shared memory added to a sum. */
  shuffle: 30,
  barriers: 80,
  sum: 6,
  /** Warps that issue at once; clocks an instruction takes where a warp has no other to hide behind. */
  schedulers: 4,
  alone: 2,
  /** Bytes that a multiprocessor reads a clock, in sectors. */
  bytes: 64,
  sector: 32,
  /** Instructions of a thread before and after its work, of a vector's indices, of an access; of a sum over lanes. */
  thread: 40,
  vector: 6,
  address: 4,
  /** Of a coordinate's guard. */
  guard: 2,
  /** Reads that the compiler has under way together in a loop that it may unroll or not. */
  inLoop: 4,
  combine: 15,
} as const;

/** Instructions of a value, roughly. */
export function opCost(e: Expr): number {
  if (e.kind === 'const' || e.kind === 'reduce') return 0;
  if (e.kind !== 'op') return 1;
  if (e.op === 'div' || e.op === 'sqrt') return 10;
  return 'approximate' in scalarOps[e.op] ? 14 : 1;
}
