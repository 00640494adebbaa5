/**
 * @file The schedule pass: picks a skeleton and its tile for every kernel, by shape alone where tuning has found none. The
 * choice must not look at who else runs: a tenant's bits depend on it.
 */
import { attentionOf } from '../ir/attention.ts';
import { type Contraction, contractionOf, volume } from '../ir/contraction.ts';
import type { ContractionSchedule, Kernel, MapSchedule, Schedule, Schedules } from '../ir/kernel.ts';
import { hasPlainLoops } from '../ir/lane_loops.ts';
import { linearize } from '../ir/linearize.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { attentionSchedule } from './attention_tile.ts';
import { mapTime, mapVector } from './map_vector.ts';
import { mmaSchedules, usesMma } from './mma_tile.ts';
import { reductionSchedules, reductionTime } from './reduction_lanes.ts';
import { simtSchedules } from './simt_tile.ts';

/** Gives every kernel of a module a schedule: the one that `tuned` has for it, else the default. */
export const schedule = (
  module: Module,
  target: Target,
  tuned: (kernel: Kernel) => Schedules | undefined = () => undefined,
): Module => ({
  ...module,
  calls: module.calls.map((call) => {
    const known = tuned(call.kernel);
    const kernel = known ? { ...call.kernel, ...known } : scheduleKernel(call.kernel, target);
    return { ...call, kernel };
  }),
});

export function scheduleKernel(kernel: Kernel, target: Target): Kernel {
  return { ...kernel, ...chooseSchedules(kernel, target) };
}

function chooseSchedules(kernel: Kernel, target: Target): Schedules {
  const contraction = contractionOf(kernel);
  if (contraction && usesMma(contraction, target)) return mmaSchedules(contraction, target);
  if (contraction && contracts(contraction, target) && target.kind === 'cuda')
    return simtSchedules(contraction, target);
  return { schedule: chooseSchedule(kernel, contraction, target) };
}

function chooseSchedule(kernel: Kernel, contraction: Contraction | undefined, target: Target): Schedule {
  if (contraction && contracts(contraction, target))
    return hostTile(volume(contraction.n), volume(contraction.k));
  const attention = attentionOf(kernel);
  const tiled = attention && attentionSchedule(attention, target);
  if (tiled) return tiled;
  const { reduced, looped } = innerWork(kernel);
  if (target.kind === 'cuda' && (reduced >= 32 || looped >= 64)) return reductionSchedule(kernel, target);
  return mapSchedule(kernel, target, reduced + looped);
}

/** For loops that are long enough to share: the lanes' schedule that is expected to be fastest, or a map where lanes read from all over. */
function reductionSchedule(kernel: Kernel, target: Target): Schedule {
  if (!hasPlainLoops(kernel)) {
    const { reduced, looped } = innerWork(kernel);
    // A warp a point, or the whole block where points are few and long.
    const isLong = Math.max(reduced, looped) >= 1024 && volume(kernel.domain) < 2048;
    const lanes = isLong ? 256 : target.warp;
    return { skeleton: 'reduction', threads: 256, lanes, vector: 1, unroll: 1 };
  }
  const best = reductionSchedules(kernel, target)[0]!;
  const map = mapVector(kernel, target);
  return map.vector > 1 && mapTime(kernel, map, target) < reductionTime(kernel, best, target) ? map : best;
}

/** True if sums of products are worth the contraction skeleton's tiles. */
export function contracts(c: Contraction, target: Target): boolean {
  const [m, n, k] = [volume(c.m), volume(c.n), volume(c.k)];
  return target.kind === 'host' ? m * n >= 16 && k >= 4 : Math.min(m, n) >= 8 && k >= 8;
}

/** Points of the outermost reductions and of the store loops. */
export function innerWork(kernel: Kernel): { reduced: number; looped: number } {
  let reduced = 0;
  let looped = 0;
  for (const s of linearize(kernel).statements) {
    if (s.kind === 'reduce') reduced = Math.max(reduced, volume(s.expr.over));
    if (s.kind === 'store') looped = Math.max(looped, volume(s.store.over));
  }
  return { reduced, looped: looped > 1 ? looped : 0 };
}

function mapSchedule(kernel: Kernel, target: Target, perPoint: number): MapSchedule {
  if (target.kind === 'cuda') return mapVector(kernel, target);
  // Chunks of some 16 thousand steps: enough to hide the pool's hand-over, few enough to share out.
  const wanted = 16384 / Math.max(1, perPoint);
  const perThread = 2 ** Math.max(0, Math.round(Math.log2(wanted)));
  return { skeleton: 'map', threads: 1, perThread, vector: 1 };
}

/** Widths of a host tile's n side that its register blocks (6 or 4 columns, or 1) divide. */
export const hostWidths = [1, 4, 8, 12, 24, 48, 96] as const;

/** Depths of a host tile: 9 are a depthwise window's. What a short sum leaves of a step would be staged and multiplied all the same. */
export const hostDepths = [9, 16, 32, 64] as const;

function hostTile(n: number, k: number): ContractionSchedule {
  // The narrowest that holds n, else the widest: a staged row of `a` is then used for as many columns as it can be.
  const width = hostWidths.find((w) => n <= w) ?? 96;
  const depth = hostDepths.find((d) => k <= d) ?? 64;
  return {
    skeleton: 'contraction',
    threads: 1,
    tile: { m: 64, n: width, k: depth },
    perThread: { m: 64, n: width },
    stages: 1,
  };
}
