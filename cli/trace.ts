/**
 * @file `wideword trace`: when which tenant's blocks ran where, for one round in each mode, as a file for ui.perfetto.dev and
 * chrome://tracing, as a picture, and in a few numbers; or what the issue engine did with requests that came at different times. It writes
 * nothing of a round whose outputs are wrong.
 */

import { InputError } from '../compiler/errors.ts';
import type { CodeProgress } from '../driver/code.ts';
import type { Device, DeviceKind } from '../driver/device.ts';
import type { Precision } from '../driver/model.ts';
import type { RoundTrace } from '../driver/trace.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { checkSameBits } from './bench/check.ts';
import { loadRuns, type Mode, modes, outputsOf, prepareRound, type Run, runAlone } from './bench/measure.ts';
import { onDevice } from './bench/on_device.ts';
import { modeNames } from './bench/report.ts';
import { type BenchTenant, benchTenants } from './bench/tenants.ts';
import { mostTenants, statusLine } from './bench.ts';
import { formatMs, table, writeResult } from './output.ts';
import { parseModelSpec, type Shapes } from './tenants.ts';
import { chromeTrace } from './trace/chrome.ts';
import { codeGroup } from './trace/code.ts';
import {
  type EngineSummary,
  engineGroup,
  type ServedTrace,
  summariseEngine,
  traceEngine,
} from './trace/engine.ts';
import { type Panel, roundsPicture } from './trace/picture.ts';
import { type RoundSummary, roundGroup, summarise, unitNames } from './trace/rounds.ts';
import { endOf, type Group, laterBy } from './trace/timeline.ts';

/** What can be traced: rounds in the modes of `bench`, and the engine. */
export const traceable = [...modes, 'engine'] as const;
export type Traceable = (typeof traceable)[number];

export interface TraceOptions {
  readonly output: string;
  readonly svg?: string;
  readonly tenants: number;
  readonly mode: readonly Traceable[];
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

/** A traced round of one mode, or requests that were served. */
type Traced =
  | { readonly mode: Mode; readonly trace: RoundTrace }
  | { readonly mode: 'engine'; readonly served: ServedTrace };

type Summary = ({ readonly mode: Mode } & RoundSummary) | ({ readonly mode: 'engine' } & EngineSummary);

/** What is shown of one of them. */
interface Shown extends Omit<Panel, 'title'> {
  readonly summary: Summary;
}

export async function trace(specs: readonly string[], options: TraceOptions): Promise<number> {
  const total = options.tenants * specs.reduce((n, spec) => n + parseModelSpec(spec).count, 0);
  if (total > mostTenants)
    throw new InputError(
      `${total} tenants: trace runs each as a program of its own too, at most ${mostTenants}`,
    );
  return onDevice(
    options,
    { models: specs, precision: options.precision, tier: options.tier },
    async (device, head) => {
      const tenants = await benchTenants(specs, options.tenants, options);
      const names = tenants.map((t) => t.name);
      const steps: CodeProgress[] = [];
      const traced = await traceModes(device, tenants, options, steps);
      const rounds = traced.map((t) => show(t, names, device));
      const compiled = traced.flatMap((t) => (t.mode === 'engine' ? t.served.compiled : []));

      const code = steps.length + compiled.length > 0 ? [codeGroup(steps, compiled)] : [];
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
          panels: rounds.map(({ summary, ...shown }) => ({
            title: `${modeNames[summary.mode]}: ${inWords(summary)}`,
            ...shown,
          })),
        });
        await writeResult(options.svg, picture);
      }
      const report = rounds.map(({ summary }) => summary);
      console.log(
        options.json
          ? JSON.stringify({ ...head, tenants: names, rounds: report, ok: true })
          : toText(report, `${specs.join(' ')}, ${tenants.length} tenants, on ${about.device}`, options),
      );
    },
  );
}

function show(traced: Traced, tenants: readonly string[], { kind, units }: Device): Shown {
  const { mode } = traced;
  const name = modeNames[mode];
  if (mode === 'engine') {
    const { served } = traced;
    const group: Group = engineGroup(name, served.journal, tenants);
    return { group, kind: 'tenant', rows: tenants, summary: { mode, ...summariseEngine(served) } };
  }
  const { trace } = traced;
  return {
    group: roundGroup(name, trace, tenants, kind),
    kind: 'block',
    rows: unitNames(kind, units, trace),
    summary: { mode, ...summarise(trace, units) },
  };
}

/** Traces a round in each mode, and the engine. Throws CheckFailed if an output has other bits than when its tenant runs alone. */
export async function traceModes(
  device: Device,
  tenants: readonly BenchTenant[],
  options: Pick<TraceOptions, 'mode' | 'tier' | 'tuning' | 'width' | 'seed'>,
  steps: CodeProgress[],
): Promise<Traced[]> {
  const { tier, tuning, width, seed } = options;
  const onProgress = (step: CodeProgress): void => void steps.push(step);
  const tell = statusLine();
  tell('compiling');
  const { alone, runs, close } = await loadRuns(device, tenants, {
    modes: options.mode.filter((mode) => mode !== 'engine'),
    tier,
    tuning,
    ...(width !== undefined && { width }),
    onProgress,
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
    if (options.mode.includes('engine')) {
      tell(modeNames.engine);
      const served = await traceEngine(device, tenants, { tier, tuning, onProgress, seed }, expected);
      traced.push({ mode: 'engine', served });
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

function inWords(summary: Summary): string {
  const { milliseconds, words } = summary;
  const text = `${formatMs(milliseconds)}, ${words} ${words === 1 ? 'word' : 'words'}`;
  if (summary.mode !== 'engine') return `${text}, ${percent(summary.busy)} busy`;
  const { requests, slots, latency } = summary;
  return `${requests} requests in ${text} of ${(slots / words).toFixed(1)} slots; p50 ${formatMs(latency.p50)}, longest ${formatMs(latency.longest)} (pale: queued)`;
}

function toText(report: readonly Summary[], title: string, { output, svg }: TraceOptions): string {
  const head = ['mode', 'round', 'words', 'blocks', 'busy', 'widest gap'];
  const rows = report.flatMap((r) =>
    r.mode === 'engine'
      ? []
      : [
          [
            modeNames[r.mode],
            formatMs(r.milliseconds),
            r.words,
            r.blocks,
            percent(r.busy),
            formatMs(r.widestGap),
          ],
        ],
  );
  const written = svg === undefined ? output : `${output} and ${svg}`;
  const engine = report.flatMap((r) => (r.mode === 'engine' ? [`${modeNames.engine}: ${inWords(r)}`] : []));
  const lines = [title, ...(rows.length > 0 ? [table([head, ...rows])] : []), ...engine];
  return `${lines.join('\n')}\nwritten to ${written}: open ${output} in ui.perfetto.dev`;
}
