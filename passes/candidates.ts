/**
 * @file Every schedule of a kernel that is worth measuring: the default first, then what a cost model (bytes, arithmetic, waves of blocks)
 * expects to be fastest. The tuner measures these and keeps one for a kernel, whatever the width: order of accumulation differs between
 * them, and a tenant's bits must not depend on how many run beside it.
 */
import { attentionOf } from '../ir/attention.ts';
import { type Contraction, contractionOf, volume } from '../ir/contraction.ts';
import type { ContractionSchedule, Kernel, MapSchedule, ReductionSchedule, Schedule } from '../ir/kernel.ts';
import { hasPlainLoops } from '../ir/lane_loops.ts';
import { formatSchedule } from '../ir/print.ts';
import type { Target } from '../ir/target.ts';
import { vectorWidths } from '../ir/vector.ts';
import { verifySchedule } from '../ir/verify_schedule.ts';
import { estimateMma, mmaCandidates, usesMma } from './mma_tile.ts';
import { reductionSchedules } from './reduction_lanes.ts';
import { contracts, hostWidths, innerWork, scheduleKernel } from './schedule.ts';

/** As many as are measured of a kernel; compiling them is most of what tuning takes. */
const mostCandidates = 12;

/** A schedule with the expected time of `width` copies of the kernel side by side, in any unit that is the same for all of its kind. */
type Estimated<S extends Schedule> = (s: S, width: number) => number;

/**
 * Schedules of a kernel for a target, at most `most` of them, the default first.
 * @param widths tenants of a word for which the schedules should be good; they count alike.
 */
export function scheduleCandidates(
  kernel: Kernel,
  target: Target,
  widths: readonly number[] = [1, 8],
  most = mostCandidates,
): Schedule[] {
  const { schedule: chosen } = scheduleKernel(kernel, target);
  const found = new Map([[formatSchedule(chosen!), chosen!]]);
  for (const s of expected(kernel, target, widths)) {
    if (found.size >= most) break;
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
  if (c && usesMma(c, target))
    return ranked([...mmaCandidates(c, target)], (s, width) => estimateMma(c, s, width, target), widths);
  const tiles =
    c && contracts(c, target)
      ? ranked(cudaTiles(c), (s, width) => estimateTile(c, s, width, target), widths).slice(0, 6)
      : [];
  // The tiles of attention are not tuned yet; no other skeleton comes near.
  if (attentionOf(kernel) && target.kind === 'cuda') return [];
  const { reduced, looped } = innerWork(kernel);
  const points = volume(kernel.domain);
  const maps = mapCandidates(points, reduced + looped, target);
  if (target.kind === 'host') return maps;
  const reductions = Math.max(reduced, looped) >= 8 ? reductionCandidates(kernel, target) : [];
  // One thread a point is worth a try only where a point is little work.
  return [...tiles, ...reductions, ...(reduced + looped < 1024 && tiles.length === 0 ? maps : [])];
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
    [32, 64, 128, 256].map(
      (k): ContractionSchedule => ({
        skeleton: 'contraction',
        threads: 1,
        tile: { m, n, k },
        perThread: { m, n },
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

/** Tiles of sums by `fmaf`, of 64 to 256 threads that hold 1 to 64 sums each. */
function cudaTiles(c: Contraction): ContractionSchedule[] {
  // No wider than what holds all of a side.
  const sides = (size: number): number[] => [16, 32, 64, 128].filter((s) => s < 2 * size || s === 16);
  const found: ContractionSchedule[] = [];
  for (const m of sides(volume(c.m)))
    for (const n of sides(volume(c.n)))
      for (const k of [8, 16, 32])
        for (const threads of [64, 128, 256]) {
          const [columns, rows] = [threads === 256 ? 16 : 8, threads === 64 ? 8 : 16];
          const perThread = { m: m / columns, n: n / rows };
          if (perThread.m > 8 || perThread.n > 8) continue;
          found.push({ skeleton: 'contraction', threads, tile: { m, n, k }, perThread });
        }
  return found;
}

/** A multiprocessor, roughly: of these figures only the ratios matter here, and none was fitted. */
const machine = {
  threads: 2048,
  registers: 65536,
  sharedBytes: 227 * 1024,
  /** Multiplications a clock, and numbers of shared memory. */
  multiply: 128,
  shared: 32,
  /** Thread instructions a clock; of an element on its way to shared memory. */
  issue: 128,
  element: 12,
  /** Clocks of a step that wait for memory and a barrier, and of a block's start and end. */
  step: 700,
  block: 2000,
} as const;

/** Clocks that `width` copies of the kernel take side by side, by `fmaf`. */
function estimateTile(
  c: Contraction,
  { tile, threads, perThread }: ContractionSchedule,
  width: number,
  target: Target,
): number {
  const tiles = Math.ceil(volume(c.m) / tile.m) * Math.ceil(volume(c.n) / tile.n);
  const steps = Math.ceil(volume(c.k) / tile.k);
  const products = tile.m * tile.n * tile.k;
  const staging = ((tile.m + tile.n) * tile.k * machine.element) / machine.issue;
  const reading = (products / perThread.m + products / perThread.n) / (machine.shared * target.warp);
  const busy = steps * (staging + Math.max(products / machine.multiply, reading));
  const alone = steps * machine.step + machine.block + (busy * machine.multiply) / Math.min(threads, 128);
  const shared = 4 * (tile.m + tile.n + 2) * tile.k;
  const registers = threads * (perThread.m * perThread.n + 40);
  const fit = Math.max(
    1,
    Math.min(
      Math.floor(machine.sharedBytes / shared),
      Math.floor(machine.threads / threads),
      Math.floor(machine.registers / registers),
    ),
  );
  const each = Math.ceil((width * volume(c.batch) * tiles) / target.units);
  return Math.max(each * busy, Math.ceil(each / fit) * alone);
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
