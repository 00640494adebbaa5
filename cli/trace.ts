/**
 * @file `wideword trace`: when which tenant's blocks ran where, for one round in each mode, as a file for ui.perfetto.dev and
 * chrome://tracing, as a picture, and in a few numbers. It writes nothing of a round whose outputs are wrong.
 */
import { InputError } from '../compiler/errors.ts';
import type { CodeProgress } from '../driver/code.ts';
import { type Device, type DeviceKind, openDevice } from '../driver/device.ts';
import type { Precision } from '../driver/model.ts';
import type { RoundTrace } from '../driver/trace.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { CheckFailed, checkSameBits } from './bench/check.ts';
import { loadRuns, type Mode, outputsOf, prepareRound, type Run, runAlone } from './bench/measure.ts';
import { modeNames } from './bench/report.ts';
import { type BenchTenant, benchTenants } from './bench/tenants.ts';
import { mostTenants, statusLine } from './bench.ts';
import { exitCodes, formatMs, table, writeResult } from './output.ts';
import { parseModelSpec, type Shapes } from './tenants.ts';
import { chromeTrace } from './trace/chrome.ts';
import { codeGroup } from './trace/code.ts';
import { roundsPicture } from './trace/picture.ts';
import { type RoundSummary, roundGroup, summarise, unitNames } from './trace/rounds.ts';
import { endOf, laterBy } from './trace/timeline.ts';

export interface TraceOptions {
  readonly output: string;
  readonly svg?: string;
  readonly tenants: number;
  readonly mode: readonly Mode[];
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tier: TierChoice;
  readonly tuning: boolean;
  readonly width?: number;
  readonly shape: Shapes;
  readonly seed: number;
  readonly threads?: number;
  readonly json: boolean;
}

/** A traced round of one mode. */
interface Traced {
  readonly mode: Mode;
  readonly trace: RoundTrace;
}

export async function trace(specs: readonly string[], options: TraceOptions): Promise<number> {
  const total = options.tenants * specs.reduce((n, spec) => n + parseModelSpec(spec).count, 0);
  if (total > mostTenants)
    throw new InputError(
      `${total} tenants: trace runs each as a program of its own too, at most ${mostTenants}`,
    );
  const { threads } = options;
  const device = await openDevice(options.device, threads === undefined ? {} : { threads });
  const head = {
    device: { kind: device.kind, name: device.name, target: device.target },
    models: specs,
    precision: options.precision,
    tier: options.tier,
  };
  try {
    const tenants = await benchTenants(specs, options.tenants, options);
    const names = tenants.map((t) => t.name);
    const steps: CodeProgress[] = [];
    const traced = await traceModes(device, tenants, options, steps);
    const rounds = traced.map(({ mode, trace }) => ({
      mode,
      group: roundGroup(modeNames[mode], trace, names, device.kind),
      units: unitNames(device.kind, device.units, trace),
      summary: summarise(trace, device.units),
    }));

    const code = steps.length > 0 ? [codeGroup(steps)] : [];
    // Rounds begin together, so that they can be compared, and after the code was made, at a full millisecond.
    const start = Math.ceil(endOf(code) / 1e6) * 1e6;
    const groups = [...code, ...rounds.map((r) => laterBy(start, r.group))];
    const about = {
      models: specs.join(' '),
      device: `${device.name} (${device.target})`,
      precision: options.precision,
    };
    await writeResult(options.output, chromeTrace({ tenants: names, groups }, about));
    if (options.svg !== undefined) {
      const picture = roundsPicture({
        title: specs.join(' '),
        subtitle: `${options.precision}, ${device.name} (${device.target})`,
        tenants: names,
        panels: rounds.map(({ mode, group, units, summary }) => ({
          title: `${modeNames[mode]}: ${inWords(summary)}`,
          group,
          units,
        })),
      });
      await writeResult(options.svg, picture);
    }
    const report = rounds.map(({ mode, summary }) => ({ mode, ...summary }));
    console.log(
      options.json
        ? JSON.stringify({ ...head, tenants: names, rounds: report, ok: true })
        : toText(report, `${specs.join(' ')}, ${tenants.length} tenants, on ${about.device}`, options),
    );
    return exitCodes.ok;
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
    if (options.json) console.log(JSON.stringify({ ...head, ok: false, problem: error.message }));
    else console.error(`wideword: ${error.message}`);
    return exitCodes.failure;
  } finally {
    device.close();
  }
}

/** Traces a round in each mode. Throws CheckFailed if an output has other bits than when its tenant runs alone. */
export async function traceModes(
  device: Device,
  tenants: readonly BenchTenant[],
  { mode: modes, tier, tuning, width }: Pick<TraceOptions, 'mode' | 'tier' | 'tuning' | 'width'>,
  steps: CodeProgress[],
): Promise<Traced[]> {
  const tell = statusLine();
  tell('compiling');
  const { alone, runs, close } = await loadRuns(device, tenants, {
    modes,
    tier,
    tuning,
    ...(width !== undefined && { width }),
    onProgress: (step) => void steps.push(step),
  });
  try {
    const expected = await runAlone(alone, tenants);
    const traced: Traced[] = [];
    for (const run of runs) {
      tell(modeNames[run.mode]);
      await prepareRound(run, tenants);
      const trace = await typicalRound(device, run);
      checkSameBits(expected, outputsOf(run.programs), `${run.mode}, traced`);
      traced.push({ mode: run.mode, trace });
    }
    return traced;
  } finally {
    tell('');
    close();
  }
}

const rounds = 5;

/** The round of the median time among a few, after one that warms up. */
async function typicalRound(device: Device, { programs, together }: Run): Promise<RoundTrace> {
  await device.trace(programs, together);
  const traces: RoundTrace[] = [];
  for (let i = 0; i < rounds; i++) traces.push(await device.trace(programs, together));
  return traces.sort((a, b) => a.milliseconds - b.milliseconds)[rounds >> 1]!;
}

const percent = (part: number): string => `${(100 * part).toFixed(0)} %`;

const inWords = ({ milliseconds, words, busy }: RoundSummary): string =>
  `${formatMs(milliseconds)}, ${words} ${words === 1 ? 'word' : 'words'}, ${percent(busy)} busy`;

function toText(
  report: readonly ({ readonly mode: Mode } & RoundSummary)[],
  title: string,
  { output, svg }: TraceOptions,
): string {
  const head = ['mode', 'round', 'words', 'blocks', 'busy', 'widest gap'];
  const rows = report.map((r) => [
    modeNames[r.mode],
    formatMs(r.milliseconds),
    r.words,
    r.blocks,
    percent(r.busy),
    formatMs(r.widestGap),
  ]);
  const written = svg === undefined ? output : `${output} and ${svg}`;
  return `${title}\n${table([head, ...rows])}\nwritten to ${written}: open ${output} in ui.perfetto.dev`;
}
