/**
 * @file Every schedule of a kernel that is worth measuring: the default first, then what a cost model (bytes, arithmetic, waves of blocks)
 * expects to be fastest. The tuner measures these and keeps one for a kernel, whatever the width, where they may differ in the order of sums:
 * a tenant's bits must not depend on how many run beside it. Of tensor cores' it keeps one for each width, all of as many parts of k.
 */
import { attentionOf } from '../ir/attention.ts';
import { type Contraction, contractionOf, volume } from '../ir/contraction.ts';
import {
  type ContractionSchedule,
  type Kernel,
  kernelVariants,
  type MapSchedule,
  type MmaSchedule,
  type ReductionSchedule,
  type Schedule,
} from '../ir/kernel.ts';
import { hasPlainLoops } from '../ir/lane_loops.ts';
import { formatSchedule } from '../ir/print.ts';
import type { Target } from '../ir/target.ts';
import { vectorWidths } from '../ir/vector.ts';
import { verifySchedule } from '../ir/verify_schedule.ts';
import { attentionCandidates } from './attention_tile.ts';
import { mmaCandidates, usesMma } from './mma_tile.ts';
import { estimateMma } from './mma_time.ts';
import { reductionSchedules } from './reduction_lanes.ts';
import { contracts, hostDepths, hostWidths, innerWork, scheduleKernel } from './schedule.ts';
import { byBits } from './schedules_by_width.ts';
import { estimateSimt, simtToTry } from './simt_tile.ts';

/** As many as are measured of a kernel; compiling them is most of what tuning takes. */
const mostCandidates = 12;
/** Of tensor cores', which are chosen by width. */
const mostMmaCandidates = 24;

/** A schedule with the expected time of `width` copies of the kernel side by side, in any unit that is the same for all of its kind. */
type Estimated<S extends Schedule> = (s: S, width: number) => number;

/**
 * Schedules of a kernel for a target, at most `most` of them, the defaults first: that of a word of one slot, and those of wider ones.
 * @param widths tenants of a word for which the schedules should be good; they count alike.
 */
export function scheduleCandidates(
  kernel: Kernel,
  target: Target,
  widths: readonly number[] = [1, 8],
  most?: number,
): Schedule[] {
  const defaults = kernelVariants(scheduleKernel(kernel, target)).map((v) => v.kernel.schedule!);
  const found = new Map(defaults.map((s) => [formatSchedule(s), s]));
  const limit = most ?? (defaults[0]!.skeleton === 'mma' ? mostMmaCandidates : mostCandidates);
  for (const s of expected(kernel, target, widths)) {
    if (found.size >= limit) break;
    if (isLawful(kernel, s, target)) found.set(formatSchedule(s), s);
  }
  return [...found.values()];
}

/** The sum, over all widths, of the time relative to the best of that width: what schedules are compared by, estimated or measured. */
export function scores(times: readonly (readonly number[])[]): number[] {
  const least = (times[0] ?? []).map((_, w) => Math.min(...times.map((t) => t[w]!)));
  return times.map((t) => t.reduce((sum, time, w) => sum + time / least[w]!, 0));
}

/** Candidates, the most promising first. Those that no estimate compares are few, and all come. */
function expected(kernel: Kernel, target: Target, widths: readonly number[]): Schedule[] {
  const c = contractionOf(kernel);
  if (c && target.kind === 'host' && contracts(c, target))
    return ranked(hostTiles(), (s) => estimateHost(c, s), [1]);
  if (c && usesMma(c, target)) {
    const tiles = likelyMma(c, target, widths);
    // One row by a matrix multiplies nothing twice: a row's lanes may read the weights straight to registers.
    const oneRow = Math.min(volume(c.m), volume(c.n)) === 1;
    return oneRow ? inTurns<Schedule>([tiles, reductionCandidates(kernel, target)]) : tiles;
  }
  const tiles =
    c && contracts(c, target)
      ? simtToTry(c, target, widths, (all, at) =>
          ranked(all, (s, width) => estimateSimt(c, s, width, target), at),
        )
      : [];
  const attention = attentionOf(kernel);
  // No other skeleton comes near.
  if (attention && target.kind === 'cuda') return attentionCandidates(attention, target);
  const { reduced, looped } = innerWork(kernel);
  const points = volume(kernel.domain);
  const maps = mapCandidates(points, reduced + looped, target);
  if (target.kind === 'host') return maps;
  const reductions = Math.max(reduced, looped) >= 8 ? reductionCandidates(kernel, target) : [];
  // One thread a point is worth a try only where a point is little work.
  return [...tiles, ...reductions, ...(reduced + looped < 1024 && tiles.length === 0 ? maps : [])];
}

/**
 * Those of tensor cores: in turns over the numbers of parts of k, the more promising first, and of each over the widths, the best of the width
 * that has not been named.
 */
function likelyMma(c: Contraction, target: Target, widths: readonly number[]): MmaSchedule[] {
  const schedules = [...mmaCandidates(c, target)];
  const times = new Map(schedules.map((s) => [s, widths.map((width) => estimateMma(c, s, width, target))]));
  const likely = byBits(schedules, [...times.values()]).slice(0, mostParts);
  const fastestFirst = (of: readonly MmaSchedule[], w: number): MmaSchedule[] =>
    [...of].sort((a, b) => times.get(a)![w]! - times.get(b)![w]!);
  return inTurns(likely.map((group) => inTurns(widths.map((_, w) => fastestFirst(group.schedules, w)))));
}

/** Numbers of parts of k that are measured. */
const mostParts = 3;

/** The first of each list, then the second of each, and so on; each item once. */
function inTurns<T>(lists: readonly (readonly T[])[]): T[] {
  const longest = Math.max(0, ...lists.map((l) => l.length));
  const items = Array.from({ length: longest }, (_, n) =>
    lists.flatMap((l) => (n < l.length ? [l[n]!] : [])),
  );
  return [...new Set(items.flat())];
}

function ranked<S extends Schedule>(
  candidates: readonly S[],
  estimate: Estimated<S>,
  widths: readonly number[],
): S[] {
  const score = scores(candidates.map((s) => widths.map((width) => estimate(s, width))));
  return [...candidates.keys()].sort((a, b) => score[a]! - score[b]!).map((n) => candidates[n]!);
}

function isLawful(kernel: Kernel, schedule: Schedule, target: Target): boolean {
  let lawful = true;
  verifySchedule(kernel, schedule, target, () => {
    lawful = false;
  });
  return lawful;
}

/** Tiles of single threads; m a multiple of two of the widest vectors. */
function hostTiles(): ContractionSchedule[] {
  const sides = [32, 64, 128].flatMap((m) => hostWidths.map((n) => ({ m, n })));
  return sides.flatMap(({ m, n }) =>
    [...hostDepths, 128, 256].map(
      (k): ContractionSchedule => ({
        skeleton: 'contraction',
        threads: 1,
        tile: { m, n, k },
        perThread: { m, n },
        stages: 1,
      }),
    ),
  );
}

/** A core, roughly. */
const core = {
  /** Multiplications a clock, with two vectors of 8 or 16. */
  multiply: 24,
  /** Clocks to stage an element: neighbours in memory vectorise. */
  contiguous: 0.5,
  scattered: 2.5,
  /** Clocks of an output's epilogue, and of a step of k. */
  output: 1,
  step: 60,
  nearBytes: 32 * 1024,
} as const;

/** Clocks of the kernel on one core. Tails are multiplied as zeros, so a tile that fits the sizes badly pays for all of it. */
function estimateHost(c: Contraction, { tile }: ContractionSchedule): number {
  const [m, n, k] = [volume(c.m), volume(c.n), volume(c.k)];
  const tiles = volume(c.batch) * Math.ceil(m / tile.m) * Math.ceil(n / tile.n);
  const steps = Math.ceil(k / tile.k);
  const clocks = ({ positionsContiguous, kContiguous }: Contraction['a']): number =>
    positionsContiguous || kContiguous ? core.contiguous : core.scattered;
  const staging = (tile.m * clocks(c.a) + tile.n * clocks(c.b)) * tile.k;
  // Sums that leave the nearest cache between two steps of k are slower to come by.
  const bytes = 4 * ((tile.m + tile.n) * tile.k + tile.m * tile.n);
  const multiplying = ((tile.m * tile.n * tile.k) / core.multiply) * (bytes > core.nearBytes ? 1.15 : 1);
  return tiles * (steps * (staging + multiplying + core.step) + tile.m * tile.n * core.output);
}

/** A warp a point, or a block. Fewer lanes would leave a warp one by one, and shuffles name all of it. */
function reductionCandidates(kernel: Kernel, target: Target): ReductionSchedule[] {
  if (hasPlainLoops(kernel)) return reductionSchedules(kernel, target).slice(0, 8);
  return [64, 128, 256, 512].flatMap((threads) =>
    [target.warp, threads].map(
      (lanes): ReductionSchedule => ({
        skeleton: 'reduction',
        ...{ threads, lanes },
        vector: 1,
        unroll: 1,
      }),
    ),
  );
}

/** @param perPoint steps of a point's own loops. */
function mapCandidates(points: number, perPoint: number, target: Target): MapSchedule[] {
  if (target.kind === 'cuda')
    return [64, 128, 256, 512].flatMap((threads) =>
      [1, 2, 4]
        .filter((perThread) => perThread === 1 || threads * perThread <= points)
        .map((perThread): MapSchedule => ({ skeleton: 'map', threads, perThread, vector: 1 }))
        // Those that cannot be proved are left out with all that is unlawful.
        .concat(vectorWidths.map((vector) => ({ skeleton: 'map', threads, perThread: 1, vector }))),
    );
  // A chunk that holds all points is one block; a wider one is the same.
  const all = 2 ** Math.ceil(Math.log2(points));
  return [1024, 4096, 16384, 65536].map((steps) => ({
    skeleton: 'map' as const,
    threads: 1,
    vector: 1,
    perThread: Math.min(all, 2 ** Math.max(0, Math.round(Math.log2(steps / Math.max(1, perPoint))))),
  }));
}
