/**
 * @file One figure of a benchmark: some tenants, run in each mode. First the outputs are checked, with just the rounds that are timed
 * afterwards; then the modes take turns, so that whatever drifts (clocks, other users of the machine) hits all of them alike.
 */
import type { Device, LoadOptions, Program } from '../../driver/device.ts';
import { type WordKind, wordKinds } from '../../driver/plan.ts';
import type { TierChoice } from '../../passes/coalesce.ts';
import type { Together } from '../../runtime/native.ts';
import type { RoundResult } from '../../runtime/program.ts';
import { median } from '../output.ts';
import { checkAgainst, checkSameBits } from './check.ts';
import { type KernelTime, kernelTimes, roundCost, type WordTime, wordTimes } from './kernels.ts';
import type { BenchTenant, Reference } from './tenants.ts';

/** How tenants share the device: one after another, each on a stream of its own, or as the words of one program, of some kind. */
export const modes = ['turn', 'space', ...wordKinds] as const;
export type Mode = (typeof modes)[number];

export interface MeasureOptions {
  readonly modes: readonly Mode[];
  readonly tier: TierChoice;
  readonly tuning?: boolean;
  readonly width?: number;
  /** Of rounds, for each mode. */
  readonly seconds: number;
  readonly tolerance?: number;
}

/** What was measured of one mode. */
export interface Figure {
  readonly mode: Mode;
  readonly tenants: number;
  /** Milliseconds of each round, ascending. */
  readonly rounds: readonly number[];
  /** Kernel launches of a round. */
  readonly launches: number;
  /** Most tenants that share a launch. */
  readonly widest: number;
  /** Against the reference, relative. */
  readonly largestError: number;
  /** Of a round, all tenants. */
  readonly flops: number;
  readonly bytes: number;
}

export interface Measured {
  readonly figures: readonly Figure[];
  /** The kernels of the widest mode that was asked for, slowest first. */
  readonly kernels: readonly KernelTime[];
  /** The wide words in order, if there are any. */
  readonly words: readonly WordTime[];
  /** What could not be done as asked. */
  readonly notes: readonly string[];
}

/** A mode's programs, and how they run a round. */
export interface Run {
  readonly mode: Mode;
  readonly programs: readonly Program[];
  readonly together: Together;
}

/** Measures these tenants in all modes. Throws CheckFailed if an output is wrong, before anything is timed or after it. */
export async function measure(
  device: Device,
  tenants: readonly BenchTenant[],
  reference: Reference,
  options: MeasureOptions,
): Promise<Measured> {
  const { alone, shared, runs, close } = await loadRuns(device, tenants, options);
  try {
    const expected = await runAlone(alone, tenants);
    const errors = new Map<Mode, number>();
    for (const run of runs)
      errors.set(run.mode, await check(device, run, tenants, expected, reference, options));
    const times = await timeRounds(device, runs, options.seconds);
    for (const run of runs)
      checkSameBits(expected, outputsOf(run.programs), `${run.mode}, after the last round`);
    const cost = roundCost(tenants, device.target);
    // Words of branches are coalesced ones.
    const coalesced = shared.get('coalesced') ?? shared.get('branches');
    const wide = shared.get('wide');
    return {
      figures: runs.map(({ mode, programs: mine }) => ({
        mode,
        tenants: tenants.length,
        rounds: times.get(mode)!.sort((a, b) => a - b),
        launches: mine.reduce((n, p) => n + p.stats.words, 0),
        widest: Math.max(...mine.map((p) => p.stats.widest)),
        largestError: errors.get(mode)!,
        ...cost,
      })),
      kernels: await kernelTimes(coalesced ? [coalesced] : alone, tenants, device.target),
      words: wide ? await wordTimes(wide) : [],
      notes: [...shared.values()].flatMap((p) => p.plan.notes),
    };
  } finally {
    close();
  }
}

export type LoadRunsOptions = Pick<MeasureOptions, 'modes' | 'tier' | 'tuning' | 'width'> &
  Pick<LoadOptions, 'onProgress'>;

/** Programs loaded to run tenants in some modes. */
export interface LoadedRuns {
  /** One of each tenant. */
  readonly alone: readonly Program[];
  /** One of all tenants for each kind of words that is a mode asked for. */
  readonly shared: ReadonlyMap<WordKind, Program>;
  readonly runs: readonly Run[];
  close(): void;
}

export async function loadRuns(
  device: Device,
  tenants: readonly BenchTenant[],
  { modes: chosen, tier, tuning = true, width, onProgress }: LoadRunsOptions,
): Promise<LoadedRuns> {
  const programs: Program[] = [];
  const close = (): void => {
    for (const program of programs) program.close();
  };
  const load = async (mine: readonly BenchTenant[], words: WordKind = 'coalesced'): Promise<Program> => {
    const options = {
      tier,
      tuning,
      words,
      ...(width !== undefined && { width }),
      ...(onProgress && { onProgress }),
    };
    const program = await device.load(mine, options);
    programs.push(program);
    return program;
  };
  try {
    const alone: Program[] = [];
    for (const t of tenants) alone.push(await load([t]));
    const shared = new Map<WordKind, Program>();
    for (const kind of wordKinds) if (chosen.includes(kind)) shared.set(kind, await load(tenants, kind));
    const runs = chosen.map((mode): Run => {
      if (mode === 'turn' || mode === 'space')
        return { mode, programs: alone, together: mode === 'turn' ? 'in turn' : 'side by side' };
      return { mode, programs: [shared.get(mode)!], together: 'in turn' };
    });
    return { alone, shared, runs, close };
  } catch (error) {
    close();
    throw error;
  }
}

type Outputs = RoundResult['outputs'];

const requestsOf = (tenants: readonly BenchTenant[], which: 'inputs' | 'others') =>
  Object.fromEntries(tenants.map((t) => [t.name, t[which]]));

export const outputsOf = (programs: readonly Program[]): Outputs =>
  Object.assign({}, ...programs.map((p) => p.readOutputs()));

/** What each tenant's outputs are when it runs alone. */
export async function runAlone(alone: readonly Program[], tenants: readonly BenchTenant[]): Promise<Outputs> {
  for (const [n, program] of alone.entries()) await program.run(requestsOf([tenants[n]!], 'inputs'));
  return outputsOf(alone);
}

/** The tenants of a program. */
const tenantsOf = (program: Program, tenants: readonly BenchTenant[]): BenchTenant[] => {
  const names = new Set(program.plan.tenants.map((t) => t.name));
  return tenants.filter((t) => names.has(t.name));
};

/** Puts the tenants' inputs in place, with other outputs left behind by a round before. */
export async function prepareRound({ programs }: Run, tenants: readonly BenchTenant[]): Promise<void> {
  for (const program of programs) {
    const mine = tenantsOf(program, tenants);
    await program.run(requestsOf(mine, 'others'));
    program.setInputs(requestsOf(mine, 'inputs'));
  }
}

/** Runs one round as it is timed, and checks what comes out. */
async function check(
  device: Device,
  run: Run,
  tenants: readonly BenchTenant[],
  expected: Outputs,
  reference: Reference,
  { tolerance }: MeasureOptions,
): Promise<number> {
  const { mode, programs, together } = run;
  await prepareRound(run, tenants);
  await device.time(programs, together, 1);
  const outputs = outputsOf(programs);
  checkSameBits(expected, outputs, mode);
  return checkAgainst(reference, tenants, outputs, mode, tolerance);
}

/** Rounds of a batch take about so long: enough that what lies between two batches does not count, few enough to alternate often. */
const batchMilliseconds = 20;
const warmupRounds = 3;
const leastRounds = 5;

/** Milliseconds of rounds by mode, in batches in turn. */
async function timeRounds(
  device: Device,
  runs: readonly Run[],
  seconds: number,
): Promise<Map<Mode, number[]>> {
  const batches = new Map<Mode, number>();
  for (const { mode, programs, together } of runs) {
    const warm = await device.time(programs, together, warmupRounds);
    batches.set(
      mode,
      Math.max(1, Math.min(100, Math.round(batchMilliseconds / Math.max(median(warm), 0.01)))),
    );
  }
  const times = new Map<Mode, number[]>(runs.map(({ mode }) => [mode, []]));
  const spent = (mode: Mode): number => times.get(mode)!.reduce((sum, ms) => sum + ms, 0);
  const isDone = ({ mode }: Run): boolean =>
    times.get(mode)!.length >= leastRounds && spent(mode) >= seconds * 1000;
  for (let first = 0; !runs.every(isDone); first++) {
    // Another mode goes first each time, so that none always follows the same one.
    for (let i = 0; i < runs.length; i++) {
      const run = runs[(first + i) % runs.length]!;
      if (isDone(run)) continue;
      times.get(run.mode)!.push(...(await device.time(run.programs, run.together, batches.get(run.mode)!)));
    }
  }
  return times;
}
