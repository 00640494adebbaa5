/**
 * @file What a scheduled kernel takes, as far as its text says: arithmetic, traffic, and what a block of it needs. Plans of words are made
 * from it where nothing has been measured.
 */
import { match } from 'ts-pattern';
import { attentionOf } from './attention.ts';
import { contractionOf } from './contraction.ts';
import { type Cost, costOf } from './cost.ts';
import type { Kernel, Schedule } from './kernel.ts';
import { attentionSharedBytes, mmaSharedBytes } from './mma.ts';
import type { Resources } from './occupancy.ts';
import { tileSharedBytes } from './simt.ts';

export interface Work extends Cost, Resources {
  /** True if its products run on tensor cores. */
  readonly tensorCores: boolean;
}

export function workOf(kernel: Kernel): Work {
  const { schedule } = kernel;
  const cost = costOf(kernel);
  // That it has none is for the verifier to say.
  if (!schedule) return { ...cost, threads: 1, registers: 0, sharedBytes: 0, tensorCores: false };
  return {
    ...cost,
    threads: schedule.threads,
    registers: registersOf(schedule),
    sharedBytes: sharedBytesOf(kernel, schedule),
    tensorCores: schedule.skeleton === 'mma' || schedule.skeleton === 'attention',
  };
}

/** Registers of a thread, roughly, as `ptxas` was seen to hand them out: those of sums, and the rest (docs/performance.md). */
const registersOf = (schedule: Schedule): number =>
  match(schedule)
    .with({ skeleton: 'map' }, ({ vector }) => 28 + 4 * vector)
    .with({ skeleton: 'reduction' }, ({ vector, unroll }) => 38 + 2 * vector * unroll)
    .with({ skeleton: 'contraction' }, ({ perThread: { m, n } }) => Math.min(255, 40 + m * n + 3 * (m + n)))
    .with({ skeleton: 'mma' }, ({ tile, warps }) =>
      Math.min(255, 80 + (tile.m * tile.n) / (32 * warps.m * warps.n)),
    )
    .with({ skeleton: 'attention' }, () => 160)
    .exhaustive();

/** What a block asks for; 0 if the schedule does not fit the kernel, which is for the verifier to say. */
const sharedBytesOf = (kernel: Kernel, schedule: Schedule): number =>
  match(schedule)
    .with({ skeleton: 'map' }, { skeleton: 'reduction' }, () => 0)
    .with({ skeleton: 'contraction' }, (s) => {
      const c = contractionOf(kernel);
      return c && s.threads > 1 ? tileSharedBytes(c, s) : 0;
    })
    .with({ skeleton: 'mma' }, (s) => {
      const c = contractionOf(kernel);
      return c ? mmaSharedBytes(c, s) : 0;
    })
    .with({ skeleton: 'attention' }, (s) => {
      const a = attentionOf(kernel);
      return a ? attentionSharedBytes(a, s) : 0;
    })
    .exhaustive();
