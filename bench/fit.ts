/**
 * @file Holds the estimate of tensor-core schedules (passes/mma_time.ts) against what was measured, and fits its constants. No GPU is needed,
 * only what a tuner printed on one:
 *
 *     wideword tune resnet50 --device cuda --precision fp16 --width 1,8,16,32 --candidates 40 --json >resnet50.json
 *     npx tsx bench/fit.ts resnet50=resnet50.json bert-base:layers=1=bert.json [--kernels] [--fit] [--folds 3]
 *
 * For each width it prints two errors (root mean square of the logarithm of estimated over measured time: of all schedules, and of those
 * within a quarter of the best) and sums over all calls: the best measured schedule of each width, the best where all widths have one number
 * of parts of k, and what the estimate chooses among those measured, by the same law as for a kernel that nobody measured. Its regret is what
 * that takes longer than the best. The sums are a model's; kernels of other skeletons are left out.
 *
 * `--fit` searches for constants with less error and prints them. With `--folds` the kernels are dealt out to so many folds, and each is judged by
 * constants that were fitted without it, from a start that knows nothing of it.
 */
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { type DistinctKernel, distinctKernels } from '../driver/distinct_kernels.ts';
import { compileModel } from '../driver/model.ts';
import type { TuneResult } from '../driver/tune.ts';
import { type Contraction, contractionOf } from '../ir/contraction.ts';
import type { MmaSchedule } from '../ir/kernel.ts';
import { parseSchedules } from '../ir/parse/index.ts';
import { formatSchedule } from '../ir/print.ts';
import { targetOf } from '../ir/target.ts';
import { generate, parseRecipe } from '../models/index.ts';
import { mmaSchedules } from '../passes/mma_tile.ts';
import { estimateMma, type Machine, machine } from '../passes/mma_time.ts';
import { chooseByTime, scheduleFor } from '../passes/schedules_by_width.ts';
import { leastSquares } from './least_squares.ts';

/** Clocks of a multiprocessor a millisecond, as measured under load. */
const clocks = 1755e3;

const command = new Command('fit')
  .argument('<files...>', 'MODEL=FILE: a generated model, and what `wideword tune MODEL --json` printed')
  .option('--target <name>', 'a CUDA target', 'sm_90')
  .option('--kernels', 'prints every kernel, too', false)
  .option('--fit', 'searches for better constants', false)
  .option('--folds <n>', 'judges each kernel by constants fitted without its fold', Number, 1)
  .parse();
const options = command.opts<{ target: string; kernels: boolean; fit: boolean; folds: number }>();
const target = targetOf(options.target);

/** A kernel on tensor cores, with what was measured of it. */
interface Sample {
  readonly model: string;
  readonly name: string;
  readonly calls: number;
  readonly contraction: Contraction;
  readonly widths: readonly number[];
  readonly schedules: readonly MmaSchedule[];
  /** Milliseconds of each schedule at each width. */
  readonly times: readonly (readonly number[])[];
}

/** Reads `MODEL=FILE`. */
async function readSamples(argument: string): Promise<Sample[]> {
  const at = argument.lastIndexOf('=');
  const [model, file] = [argument.slice(0, at), argument.slice(at + 1)];
  const recipe = parseRecipe(model);
  if (!recipe) throw new RangeError(`${argument}: expected MODEL=FILE of a generated model`);
  const { kernels } = JSON.parse(await readFile(file, 'utf8')) as TuneResult;
  const bytes = generate(recipe.name, 1, recipe.sizes);
  const compiled = await compileModel(bytes, { name: model, precision: 'fp16' });
  const place = ({ name, loc }: DistinctKernel['kernel']): string => JSON.stringify([name, loc]);
  const known = new Map(distinctKernels([compiled], target.name).map((d) => [place(d.kernel), d.kernel]));
  return kernels.flatMap(({ kernel: name, loc, calls, times, measured }): Sample[] => {
    const kernel = known.get(JSON.stringify([name, loc]));
    if (!kernel) throw new RangeError(`${file}: ${model} has no kernel ${name} at ${loc.join(', ')}`);
    const contraction = contractionOf(kernel);
    const found = measured.flatMap((m) => {
      const schedule = parseSchedules(m.schedule)?.schedule;
      if (!schedule) throw new RangeError(`${file}: no schedule: ${m.schedule}`);
      return schedule.skeleton === 'mma' ? [{ schedule, times: m.times }] : [];
    });
    if (!contraction || found.length === 0) return [];
    return [
      {
        ...{ model, name: `${name} (${loc[0]})`, calls, contraction },
        widths: times.map((t) => t.width),
        schedules: found.map((m) => m.schedule),
        times: found.map((m) => m.times),
      },
    ];
  });
}

/** Estimated milliseconds. */
const estimate = (sample: Sample, s: MmaSchedule, width: number, constants: Machine): number =>
  estimateMma(sample.contraction, s, width, target, constants) / clocks;

/** Of a kernel at one width. */
interface Judged {
  readonly sample: Sample;
  readonly width: number;
  /** Logarithms of estimated over measured time, with the measured time over the best. */
  readonly errors: readonly { readonly error: number; readonly overBest: number }[];
  /** Milliseconds of all calls. */
  readonly best: number;
  readonly lawful: number;
  readonly chosen: number;
  readonly schedule: string;
  readonly bestSchedule: string;
}

function judge(sample: Sample, constants: Machine): Judged[] {
  const { contraction, schedules, times, widths, calls } = sample;
  const chosen = mmaSchedules(contraction, target, schedules, constants);
  const first = { schedule: schedules[0]! };
  const lawful = chooseByTime(schedules, times, widths, first, Number.NEGATIVE_INFINITY).after;
  const texts = schedules.map(formatSchedule);
  return widths.map((width, w) => {
    const measured = times.map((t) => t[w]!);
    const best = Math.min(...measured);
    const schedule = formatSchedule(scheduleFor(chosen, width));
    return {
      ...{ sample, width, schedule },
      bestSchedule: texts[measured.indexOf(best)]!,
      errors: measured.map((ms, n) => ({
        error: Math.log(estimate(sample, schedules[n]!, width, constants) / ms),
        overBest: ms / best,
      })),
      best: calls * best,
      lawful: calls * lawful[w]!,
      chosen: calls * measured[texts.indexOf(schedule)]!,
    };
  });
}

const sum = (of: readonly number[]): number => of.reduce((a, b) => a + b, 0);
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
const us = (ms: number): string => (1000 * ms).toFixed(1);
const rootMeanSquare = (of: readonly number[]): number =>
  Math.sqrt(sum(of.map((x) => x * x)) / Math.max(1, of.length));

/** Schedules within so much of the best are near it. */
const near = 1.25;

function print(title: string, judged: readonly Judged[]): void {
  console.log(`\n${title}`);
  console.log('model, width         error   near the best  best, µs  one order  chosen  regret');
  const nameOf = (j: Judged): string => `${j.sample.model} ${j.width}`;
  for (const name of [...new Set(judged.map(nameOf)), 'all']) {
    const of = judged.filter((j) => name === 'all' || nameOf(j) === name);
    const errors = of.flatMap((j) => j.errors);
    const [best, lawful, chosen] = [
      sum(of.map((j) => j.best)),
      sum(of.map((j) => j.lawful)),
      sum(of.map((j) => j.chosen)),
    ];
    const cells = [
      percent(rootMeanSquare(errors.map((e) => e.error))),
      percent(rootMeanSquare(errors.filter((e) => e.overBest <= near).map((e) => e.error))),
      ...[best, lawful, chosen].map(us),
      percent(chosen / best - 1),
    ];
    console.log(`${name.padEnd(20)} ${cells.map((c) => c.padStart(9)).join(' ')}`);
  }
}

/** The constants one by one: `own`, `overlap.mma`. */
type Path = readonly string[];
const pathsOf = (of: object, path: Path = []): Path[] =>
  Object.entries(of).flatMap(([name, value]) =>
    typeof value === 'object' ? pathsOf(value as object, [...path, name]) : [[...path, name]],
  );

/** What these models' kernels say nothing of, and what is known otherwise. */
const fixed = [
  'registers',
  'sum',
  'carried',
  'doubt',
  'part',
  'readsAtOnce',
  'element',
  'guard',
  'wholeStep',
];
const paths = pathsOf(machine).filter(([first]) => !fixed.includes(first!));

const valueAt = (of: object, path: Path): number =>
  path.reduce<unknown>((value, name) => (value as { [name: string]: unknown })[name], of) as number;

/** The constants with others for the unknowns: each e to the power of one. */
function withUnknowns(unknowns: readonly number[]): Machine {
  const constants = structuredClone(machine);
  for (const [n, path] of paths.entries()) {
    const holder = path.slice(0, -1).reduce<object>((of, name) => (of as never)[name], constants);
    Object.assign(holder, { [path.at(-1)!]: Math.exp(unknowns[n]!) });
  }
  return constants;
}

/** How much a doubling of a constant must gain, so that the search does not wander where there is nothing to find. */
const inertia = 0.15;

/** Where the search begins: the constants as they are; and for folds, which those have seen, well away from them. */
const known = paths.map((path) => Math.log(valueAt(machine, path)));
const blurred = known.map((x, n) => x + (n % 2 === 0 ? 1 : -1) * Math.log(1.5));

function fitConstants(samples: readonly Sample[], start: readonly number[]): Machine {
  const residuals = (unknowns: readonly number[]): number[] => {
    const constants = withUnknowns(unknowns);
    const errors = samples.flatMap((sample) =>
      sample.widths.flatMap((width, w) => {
        const best = Math.min(...sample.times.map((t) => t[w]!));
        // Near the best a mistake counts; far from it only to stay far.
        const weights = sample.schedules.map(
          (s, n) => (best / sample.times[n]![w]!) * (s.splits > 1 ? 0.5 : 1),
        );
        const all = Math.sqrt(sum(weights.map((x) => x * x)));
        return sample.schedules.map(
          (s, n) =>
            (weights[n]! / all) * Math.log(estimate(sample, s, width, constants) / sample.times[n]![w]!),
        );
      }),
    );
    return [...errors, ...unknowns.map((x, n) => inertia * (x - start[n]!))];
  };
  return withUnknowns(leastSquares(residuals, start));
}

const samples = (await Promise.all(command.args.map(readSamples))).flat();
const judgeAll = (of: readonly Sample[], constants: Machine): Judged[] =>
  of.flatMap((s) => judge(s, constants));
const schedules = sum(samples.map((s) => s.schedules.length));
console.log(`${samples.length} kernels, ${schedules} schedules`);
const now = judgeAll(samples, machine);
print('the constants as they are', now);
let shown = now;
if (options.fit) {
  if (options.folds > 1) {
    const heldOut = Array.from({ length: options.folds }, (_, fold) => {
      const isHeld = (n: number): boolean => n % options.folds === fold;
      const constants = fitConstants(
        samples.filter((_, n) => !isHeld(n)),
        blurred,
      );
      return judgeAll(
        samples.filter((_, n) => isHeld(n)),
        constants,
      );
    });
    print(`each kernel by constants fitted without its fold, of ${options.folds}`, heldOut.flat());
  }
  const fitted = fitConstants(samples, known);
  print('constants fitted to all', (shown = judgeAll(samples, fitted)));
  console.log();
  for (const path of paths)
    console.log(
      `${path.join('.').padEnd(20)} ${valueAt(machine, path)} → ${valueAt(fitted, path).toPrecision(3)}`,
    );
}
if (options.kernels)
  for (const j of shown)
    console.log(
      `${j.sample.name} x${j.sample.calls} at ${j.width}: ${us(j.chosen)} ${j.schedule}${j.chosen > j.best ? `, best ${us(j.best)} ${j.bestSchedule}` : ''}`,
    );
