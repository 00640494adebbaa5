/**
 * @file The tuner: measures schedules of each distinct kernel of some models on a device and keeps, for each kernel, the best over all the
 * widths asked for. The order of sums is one for all widths, as a tenant's bits must not depend on how many run beside it; schedules of
 * tensor cores that add in one order (ir/mma.ts) may be one for each width.
 */
import { InputError } from '../compiler/errors.ts';
import { classOf, type Tier } from '../ir/class.ts';
import { type Kernel, kernelVariants, type Schedule, type Schedules } from '../ir/kernel.ts';
import { formatSchedule, formatSchedules } from '../ir/print.ts';
import { targetOf } from '../ir/target.ts';
import type { Tensor } from '../ir/tensor.ts';
import { scheduleCandidates } from '../passes/candidates.ts';
import { scheduleKernel } from '../passes/schedule.ts';
import { byBits, chooseByTime, scheduleFor } from '../passes/schedules_by_width.ts';
import { CodeCache } from '../runtime/cache.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { inParallel } from '../runtime/parallel.ts';
import { type Toolchain, toolchainOf } from '../runtime/toolchain.ts';
import type { BlockTable } from './block_table.ts';
import { codeOfClasses, type Progress } from './code.ts';
import { type DistinctKernel, distinctKernels, goesBy, namesOf, scheduledBy } from './distinct_kernels.ts';
import { type Candidate, differenceOf, KernelTimer } from './kernel_timer.ts';
import { hasBlockTimes, measureKernel } from './measure_blocks.ts';
import type { Model } from './model.ts';
import type { TuningEntry, TuningTable } from './tuning.ts';

export interface TuneOptions {
  /** Tenants of a word for which kernels should be fast; each width counts alike. Default 1, 4, 8. */
  readonly widths?: readonly number[];
  /** Of the code that is measured. What is found serves both. Default `specialised`. */
  readonly tier?: Tier;
  /** Schedules of a kernel that are measured, at most. Default 24 on tensor cores, else 12. */
  readonly most?: number;
  /** Measures again what the table has at these widths already. */
  readonly again?: boolean;
  /** Only kernels of these names, or from these nodes of the model. Default: all. */
  readonly kernels?: readonly string[];
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

/** A candidate, and milliseconds at each width; those that a short look ruled out have only that. */
export interface MeasuredCandidate {
  readonly schedule: string;
  readonly times: readonly number[];
}

export interface TunedKernel extends Pick<TuningEntry, 'kernel' | 'before' | 'schedule' | 'times'> {
  /** The model's nodes that the first call came from. */
  readonly loc: readonly string[];
  /** Calls of the kernel in all the models. */
  readonly calls: number;
  readonly candidates: number;
  /** True if the table had it. */
  readonly known: boolean;
  /** All that were measured; none if the table had it. */
  readonly measured: readonly MeasuredCandidate[];
  readonly bad: readonly BadCandidate[];
}

export interface TuneResult {
  /** Those done, in the order of the models. */
  readonly kernels: readonly TunedKernel[];
  /** How many distinct kernels there are; more than are done if the signal came. */
  readonly total: number;
}

/** Schedules that are less than so much better than the defaults are not worth a class of their own, nor told from chance. */
const leastGain = 0.03;
/** Candidates within so much of the best of a width after a short look are measured in earnest. */
const closeEnough = 1.15;
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
  const work = named(distinctKernels(models, device.target), options.kernels);
  const toolchain = toolchainOf(device.target);
  const kernels: TunedKernel[] = [];
  const knownOf = (key: string): TuningEntry | undefined => {
    const found = again ? undefined : table.find(key);
    return found && widths.every((w) => found.times.some((t) => t.width === w)) ? found : undefined;
  };
  const { most } = options;
  const compileWork = ({ kernel, isConstant }: DistinctKernel): Promise<CompiledWork> =>
    compileAll({ device, kernel, isConstant, cache, toolchain, tier, widths, signal, most });
  const compiled = new Ahead(
    work.filter(({ key }) => !knownOf(key)),
    compileWork,
  );
  for (const item of work) {
    const { key, kernel, isConstant, calls } = item;
    if (signal?.aborted) break;
    const found = knownOf(key);
    const known = found !== undefined;
    const tuned = found ? { ...found, bad: [], measured: [] } : await tuneKernel(await compiled.of(item));
    if (!tuned) break;
    const { bad, measured, ...entry } = tuned;
    if (!known) await table.put(key, entry);
    // Of what won also the time on fewer blocks: by that words of unlike kernels are planned.
    const winner = scheduledBy(table, kernel, targetOf(device.target));
    for (const { kernel: variant } of kernelVariants(winner))
      if (!known || !hasBlockTimes(blocks, variant, tier))
        await measureKernel({ device, cache, toolchain, tier, blocks }, variant, isConstant);
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
      measured,
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

/** Those that are asked for. Throws InputError for a name that none has. */
function named(all: readonly DistinctKernel[], names?: readonly string[]): readonly DistinctKernel[] {
  if (!names) return all;
  for (const name of names)
    if (!all.some(({ kernel }) => goesBy(kernel, name)))
      throw new InputError(`no kernel '${name}': ${namesOf(all.map((item) => item.kernel))}`);
  return all.filter(({ kernel }) => names.some((name) => goesBy(kernel, name)));
}

/** Results of work on items in order, where that on the next ones goes on while one is looked at. */
class Ahead<T, R> {
  readonly #started = new Map<T, Promise<R>>();

  constructor(
    private readonly items: readonly T[],
    private readonly work: (item: T) => Promise<R>,
  ) {}

  of(item: T): Promise<R> {
    const at = this.items.indexOf(item);
    for (const next of this.items.slice(at, at + 3)) {
      if (this.#started.has(next)) continue;
      const result = this.work(next);
      // Whoever asks for it hears of an error; maybe nobody does.
      result.catch(() => {});
      this.#started.set(next, result);
    }
    return this.#started.get(item)!;
  }
}

interface KernelWork extends Pick<DistinctKernel, 'kernel' | 'isConstant'> {
  readonly device: NativeDevice;
  readonly cache: CodeCache;
  readonly toolchain: Toolchain;
  readonly tier: Tier;
  readonly widths: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly most: number | undefined;
}

interface CompiledWork extends KernelWork {
  /** In the order of `candidates`, without those that failed. */
  readonly compiled: readonly Candidate[];
  readonly candidates: readonly Schedule[];
  readonly bad: BadCandidate[];
}

type Tuned = Pick<TuningEntry, 'kernel' | 'tier' | 'candidates' | 'before' | 'schedule' | 'times'> & {
  readonly bad: readonly BadCandidate[];
  readonly measured: readonly MeasuredCandidate[];
};

/** Measures one kernel; undefined if the signal came first. */
async function tuneKernel(work: CompiledWork): Promise<Tuned | undefined> {
  const { device, kernel, tier, widths, signal, compiled, candidates, bad } = work;
  const target = targetOf(device.target);
  const [first] = compiled;
  if (signal?.aborted) return undefined;
  if (!first || first.schedule !== candidates[0])
    throw new Error(`the default schedule of ${kernel.name} does not compile: ${bad[0]?.problem}`);
  const timer = new KernelTimer(device, kernel, work.isConstant, tier, Math.max(...widths));
  try {
    const right = await withoutWrong(timer, compiled, bad);
    const defaults = defaultsAmong(right, scheduleKernel(kernel, target));
    const look = await timeAll(timer, right, widths, rounds.look, signal);
    if (!look) return undefined;
    const close = closest(right, look, defaults, widths);
    const times = await timeAll(timer, close, widths, rounds.earnest, signal);
    if (!times) return undefined;
    const schedules = close.map((c) => c.schedule);
    const inEarnest = new Map(close.map((c, n) => [c, times[n]!]));
    const { schedules: chosen, before, after } = chooseByTime(schedules, times, widths, defaults, leastGain);
    return {
      kernel: kernel.name,
      tier,
      candidates: right.length,
      before: formatSchedules(defaults),
      schedule: formatSchedules(chosen),
      times: widths.map((width, w) => ({ width, before: before[w]!, after: after[w]! })),
      bad,
      measured: right.map((c, n) => ({
        schedule: formatSchedule(c.schedule),
        times: inEarnest.get(c) ?? look[n]!,
      })),
    };
  } finally {
    timer.close();
  }
}

/** The default schedules, without those of wider words that do not work. */
function defaultsAmong(right: readonly Candidate[], { schedule, wider = [] }: Kernel): Schedules {
  const works = new Set(right.map((c) => formatSchedule(c.schedule)));
  const working = wider.filter((w) => works.has(formatSchedule(w.schedule)));
  return { schedule: schedule!, ...(working.length > 0 && { wider: working }) };
}

/**
 * The candidates worth measuring in earnest: the defaults, as what is better must be better than these, measured in the same turns; and of each
 * order of sums that could win those that could be the best at some width.
 */
function closest(
  candidates: readonly Candidate[],
  times: readonly (readonly number[])[],
  defaults: Schedules,
  widths: readonly number[],
): Candidate[] {
  const schedules = candidates.map((c) => c.schedule);
  const timeOf = new Map(schedules.map((s, n) => [s, times[n]!]));
  const [first, ...others] = byBits(schedules, times);
  const kept = new Set(widths.map((width) => formatSchedule(scheduleFor(defaults, width))));
  for (const group of [first!, ...others.filter((g) => g.score <= closeEnough * first!.score)])
    for (const s of group.schedules)
      if (widths.some((_, w) => timeOf.get(s)![w]! <= closeEnough * timeOf.get(group.best[w]!)![w]!))
        kept.add(formatSchedule(s));
  return candidates.filter((c) => kept.has(formatSchedule(c.schedule)));
}

/** Code for all candidates; those that fail to compile are bad. */
async function compileAll(work: KernelWork): Promise<CompiledWork> {
  const { device, kernel, cache, toolchain, tier, widths, signal, most } = work;
  const schedules = scheduleCandidates(kernel, targetOf(device.target), widths, most);
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
  return { ...work, compiled: schedules.flatMap((s) => compiled.get(s) ?? []), candidates: schedules, bad };
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
