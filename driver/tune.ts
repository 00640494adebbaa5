/**
 * @file The tuner: measures schedules of each distinct kernel of some models on a device and keeps, for each kernel, the one that is best
 * over all the widths asked for. One for all widths, not one for each: it fixes the order of sums, and a tenant's bits must not depend on
 * how many run beside it.
 */
import { classOf, type Tier } from '../ir/class.ts';
import type { Schedule } from '../ir/kernel.ts';
import { formatSchedule } from '../ir/print.ts';
import { targetOf } from '../ir/target.ts';
import type { Tensor } from '../ir/tensor.ts';
import { scheduleCandidates, scores } from '../passes/candidates.ts';
import { CodeCache } from '../runtime/cache.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { inParallel } from '../runtime/parallel.ts';
import { type Toolchain, toolchainOf } from '../runtime/toolchain.ts';
import type { BlockTable } from './block_table.ts';
import { codeOfClasses, type Progress } from './code.ts';
import { type DistinctKernel, distinctKernels, scheduledBy } from './distinct_kernels.ts';
import { type Candidate, differenceOf, KernelTimer } from './kernel_timer.ts';
import { hasBlockTimes, measureKernel } from './measure_blocks.ts';
import type { Model } from './model.ts';
import type { TuningEntry, TuningTable } from './tuning.ts';

export interface TuneOptions {
  /** Tenants of a word for which kernels should be fast; each width counts alike. Default 1, 4, 8. */
  readonly widths?: readonly number[];
  /** Of the code that is measured. What is found serves both. Default `specialised`. */
  readonly tier?: Tier;
  /** Measures again what the table has at these widths already. */
  readonly again?: boolean;
  /** Ends the tuning early; what has been found is kept. */
  readonly signal?: AbortSignal;
  /** After each kernel; those that the table had count as cached. */
  readonly onProgress?: (p: Progress) => void;
}

/** A candidate that was not chosen because it does not work; never expected, and worth a bug report. */
export interface BadCandidate {
  readonly schedule: string;
  readonly problem: string;
}

export interface TunedKernel extends Pick<TuningEntry, 'kernel' | 'before' | 'schedule' | 'times'> {
  /** The model's nodes that the first call came from. */
  readonly loc: readonly string[];
  /** Calls of the kernel in all the models. */
  readonly calls: number;
  readonly candidates: number;
  /** True if the table had it. */
  readonly known: boolean;
  readonly bad: readonly BadCandidate[];
}

export interface TuneResult {
  /** Those done, in the order of the models. */
  readonly kernels: readonly TunedKernel[];
  /** How many distinct kernels there are; more than are done if the signal came. */
  readonly total: number;
}

/** Schedules that are less than so much better than the default are not worth a class of their own, nor told from chance. */
const leastGain = 0.03;
/** Candidates within so much of the best after a short look are measured in earnest. */
const closeEnough = 1.25;
const rounds = { look: 3, earnest: 11 } as const;

/** See `Device.tune`. */
export async function tuneKernels(
  device: NativeDevice,
  models: readonly Model[],
  cache: CodeCache,
  table: TuningTable,
  blocks: BlockTable,
  options: TuneOptions,
): Promise<TuneResult> {
  const { tier = 'specialised', again = false, signal, onProgress = () => {} } = options;
  const widths = [...new Set(options.widths ?? [1, 4, 8])].sort((a, b) => a - b);
  if (widths.length === 0 || widths.some((w) => !Number.isInteger(w) || w < 1))
    throw new RangeError(`widths are positive integers, not ${widths.join(', ') || 'none'}`);
  const work = distinctKernels(models, device.target);
  const toolchain = toolchainOf(device.target);
  const kernels: TunedKernel[] = [];
  for (const { key, kernel, isConstant, calls } of work) {
    if (signal?.aborted) break;
    const found = again ? undefined : table.find(key);
    const known = found !== undefined && widths.every((w) => found.times.some((t) => t.width === w));
    const tuned = known
      ? { ...found, bad: [] }
      : await tuneKernel({ device, kernel, isConstant, cache, toolchain, tier, widths, signal });
    if (!tuned) break;
    const { bad, ...entry } = tuned;
    if (!known) await table.put(key, entry);
    // Of what won also the time on fewer blocks: by that words of unlike kernels are planned.
    const winner = scheduledBy(table, kernel, targetOf(device.target));
    if (!known || !hasBlockTimes(blocks, winner, tier))
      await measureKernel({ device, cache, toolchain, tier, blocks }, winner, isConstant);
    const { before, schedule, times, candidates } = entry;
    kernels.push({
      kernel: kernel.name,
      loc: kernel.loc,
      calls,
      before,
      schedule,
      times,
      candidates,
      known,
      bad,
    });
    onProgress({
      done: kernels.length,
      total: work.length,
      cached: kernels.filter((k) => k.known).length,
      name: kernel.name,
    });
  }
  return { kernels, total: work.length };
}

interface KernelWork extends Pick<DistinctKernel, 'kernel' | 'isConstant'> {
  readonly device: NativeDevice;
  readonly cache: CodeCache;
  readonly toolchain: Toolchain;
  readonly tier: Tier;
  readonly widths: readonly number[];
  readonly signal: AbortSignal | undefined;
}

type Tuned = Pick<TuningEntry, 'kernel' | 'tier' | 'candidates' | 'before' | 'schedule' | 'times'> & {
  readonly bad: readonly BadCandidate[];
};

/** Measures one kernel; undefined if the signal came first. */
async function tuneKernel(work: KernelWork): Promise<Tuned | undefined> {
  const { device, kernel, tier, widths, signal } = work;
  const schedules = scheduleCandidates(kernel, targetOf(device.target), widths);
  const { compiled, bad } = await compileAll(work, schedules);
  const [first] = compiled;
  if (signal?.aborted) return undefined;
  if (!first || first.schedule !== schedules[0])
    throw new Error(`the default schedule of ${kernel.name} does not compile: ${bad[0]?.problem}`);
  const timer = new KernelTimer(device, kernel, work.isConstant, tier, Math.max(...widths));
  try {
    const right = await withoutWrong(timer, compiled, bad);
    const look = await timeAll(timer, right, widths, rounds.look, signal);
    if (!look) return undefined;
    const score = scores(look);
    const least = Math.min(...score);
    // The default stays in: what is better must be better than that, measured in the same turns.
    const close = right.filter((c, n) => c === first || score[n]! <= closeEnough * least);
    const times = await timeAll(timer, close, widths, rounds.earnest, signal);
    if (!times) return undefined;
    const final = scores(times);
    const best = final.indexOf(Math.min(...final));
    const chosen = final[best]! <= final[0]! * (1 - leastGain) ? best : 0;
    return {
      kernel: kernel.name,
      tier,
      candidates: right.length,
      before: formatSchedule(first.schedule),
      schedule: formatSchedule(close[chosen]!.schedule),
      times: widths.map((width, w) => ({ width, before: times[0]![w]!, after: times[chosen]![w]! })),
      bad,
    };
  } finally {
    timer.close();
  }
}

/** Code for all schedules, in their order; those that fail to compile are bad. */
async function compileAll(
  { device, kernel, cache, toolchain, tier, signal }: KernelWork,
  schedules: readonly Schedule[],
): Promise<{ compiled: Candidate[]; bad: BadCandidate[] }> {
  const compiled = new Map<Schedule, Candidate>();
  const bad: BadCandidate[] = [];
  await inParallel(schedules, async (schedule) => {
    if (signal?.aborted) return;
    try {
      const kernelClass = classOf({ ...kernel, schedule }, tier);
      const { path, symbol, launch } = await codeOfClasses([kernelClass], device.target, cache, toolchain);
      const code = device.load(device.kind === 'host' ? path : await CodeCache.read(path), symbol);
      compiled.set(schedule, { schedule, code, launch });
    } catch (error) {
      bad.push({ schedule: formatSchedule(schedule), problem: (error as Error).message.split('\n')[0]! });
    }
  });
  return { compiled: schedules.flatMap((s) => compiled.get(s) ?? []), bad };
}

/** The candidates whose results are those of the first, which is the default; the others go to `bad`. */
export async function withoutWrong(
  timer: KernelTimer,
  candidates: readonly Candidate[],
  bad: BadCandidate[],
): Promise<Candidate[]> {
  let expected: Tensor[] | undefined;
  const right: Candidate[] = [];
  for (const candidate of candidates) {
    const outputs = await timer.outputsOf(candidate);
    expected ??= outputs;
    const difference = differenceOf(outputs, expected);
    if (difference === undefined) right.push(candidate);
    else
      bad.push({
        schedule: formatSchedule(candidate.schedule),
        problem: `its results differ from the default schedule's by ${difference.toExponential(1)}`,
      });
  }
  return right;
}

/** Milliseconds of each candidate at each width; undefined if the signal came first. */
async function timeAll(
  timer: KernelTimer,
  candidates: readonly Candidate[],
  widths: readonly number[],
  count: number,
  signal: AbortSignal | undefined,
): Promise<number[][] | undefined> {
  const times: number[][] = candidates.map(() => []);
  for (const width of widths) {
    if (signal?.aborted) return undefined;
    const each = await timer.time(candidates, width, count);
    each.forEach((ms, n) => void times[n]!.push(ms));
  }
  return times;
}
