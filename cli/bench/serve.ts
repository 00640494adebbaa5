/**
 * @file `wideword bench serve`: what requests that arrive at random times wait for, through the issue engine as users get it and word by
 * word, against a request alone; and what the engine gets through against rounds of a captured program. Arrivals are Poisson's, made on the engine's own thread, and inputs
 * lie on the device, so that neither JavaScript nor copies are part of a number. It prints none if outputs are wrong.
 */

import { InputError } from '../../compiler/errors.ts';
import type { Device, DeviceKind } from '../../driver/device.ts';
import type { Engine, ServeOptions } from '../../driver/engine.ts';
import type { JitEvent } from '../../driver/jit.ts';
import type { Precision } from '../../driver/model.ts';
import { generator } from '../../ir/random.ts';
import type { Tensor } from '../../ir/tensor.ts';
import type { TierChoice } from '../../passes/coalesce.ts';
import type { Tensors } from '../../runtime/tenants.ts';
import { formatMs, median, table, writeResult } from '../output.ts';
import { parseModelSpec, type Shapes } from '../tenants.ts';
import { checkAgainst, checkSameBits } from './check.ts';
import { onDevice } from './on_device.ts';
import { lineChart } from './plot.ts';
import { quantile } from './report.ts';
import { type BenchTenant, tenantsWithReference } from './tenants.ts';

export interface BenchServeOptions {
  readonly tenants: number;
  readonly load: readonly number[];
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tier: TierChoice;
  readonly tuning: boolean;
  readonly stretch?: number;
  readonly lanes?: number;
  readonly atOnce?: number;
  readonly bound?: number;
  readonly jit: boolean;
  readonly seconds: number;
  readonly shape: Shapes;
  readonly tolerance?: number;
  readonly seed: number;
  readonly threads?: number;
  readonly json: boolean;
  readonly plot?: string;
}

/** Of some latencies, in milliseconds. */
interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/** Requests at a load, a part of what the captured program gets through: from their arrival to their end. */
interface Loaded extends Latency {
  readonly load: number;
  readonly requestsPerSecond: number;
  /** The same arrivals, word by word. */
  readonly words: Latency;
  readonly requests: number;
}

interface Report {
  readonly device: { readonly kind: string; readonly name: string; readonly target: string };
  readonly models: readonly string[];
  readonly tenants: number;
  readonly precision: Precision;
  readonly reference: string;
  /** Of a request when there is no other: milliseconds. */
  readonly solo: Latency & { readonly words: Latency };
  /** Requests a second when every tenant always has one. */
  readonly saturated: { readonly captured: number; readonly engine: number; readonly words: number };
  readonly loads: readonly Loaded[];
  /** At these loads. Null where the engine ran none. */
  readonly cohorts: { readonly count: number; readonly requestsPerCohort: number } | null;
  /** Of the device's thread, to choose and launch a cohort; on the host a launch is the cohort. */
  readonly cohortMicroseconds: number | null;
  /** Likewise a word, where requests run word by word. */
  readonly issueMicroseconds: number | null;
  readonly slotsPerWord: number;
  readonly jit: readonly JitEvent[];
}

/** As many an engine takes. */
const mostTenants = 4096;

export async function benchServe(specs: readonly string[], options: BenchServeOptions): Promise<number> {
  const total = options.tenants * specs.reduce((n, spec) => n + parseModelSpec(spec).count, 0);
  if (total > mostTenants) throw new InputError(`${total} tenants: bench serve takes at most ${mostTenants}`);
  return onDevice(options, { models: specs, precision: options.precision }, async (device, head) => {
    const report: Report = { ...head, ...(await measure(device, specs, options)) };
    console.log(options.json ? JSON.stringify(report) : toText(report));
    if (options.plot !== undefined) await writeResult(options.plot, chartOf(report));
  });
}

async function measure(
  device: Device,
  specs: readonly string[],
  options: BenchServeOptions,
): Promise<Omit<Report, 'device' | 'models' | 'precision'>> {
  const { tier, tuning, tolerance, seconds } = options;
  const { tenants, reference } = await tenantsWithReference(specs, options.tenants, options);
  const captured = await device.load(tenants, { tier, tuning });
  const requests = Object.fromEntries(tenants.map((t) => [t.name, t.inputs]));
  const { outputs: expected } = await captured.run(requests);
  checkAgainst(reference, tenants, expected, 'captured', tolerance);

  const serve: ServeOptions = {
    tier,
    tuning,
    ...(options.stretch !== undefined && { stretch: options.stretch }),
    ...(options.lanes !== undefined && { lanes: options.lanes }),
    ...(options.atOnce !== undefined && { atOnce: options.atOnce }),
    ...(options.bound !== undefined && { boundMilliseconds: options.bound }),
  };
  const jit: JitEvent[] = [];
  const told = { jit: options.jit, onJit: (event: JitEvent) => void jit.push(event) };
  const words = await device.serve(tenants, { ...serve, ...told, rounds: false });
  const engine = await device.serve(tenants, { ...serve, ...told });
  const both = [engine, words];
  const check = async (when: string): Promise<void> => {
    for (const e of both)
      checkSameBits(expected, await outputsOf(e, tenants), `${when}, after the last request`);
  };
  try {
    for (const e of both) {
      await submitAll(e, tenants);
      e.setInputs(requests);
    }
    await check('engine');
    const everyone = [...tenants.keys()];
    const round = median(await captured.time('coalesced', 5));
    const each = Math.max(4, Math.ceil((seconds * 1000) / round / 4));
    const closed = (e: Engine): Promise<Float64Array> =>
      e.drive(
        Array<number>(each * everyone.length).fill(0),
        Array.from({ length: each * everyone.length }, (_, n) => n % everyone.length),
      );
    // What compiling in the background brings is there before anything is measured.
    for (const e of both) await settle(e, () => closed(e), jit);

    const alone = async (e: Engine): Promise<Latency> => latencyOf(await soloOf(e, everyone, round, seconds));
    const solo = { ...(await alone(engine)), words: await alone(words) };
    const rates = { captured: [] as number[], engine: [] as number[], words: [] as number[] };
    for (let turn = 0; turn < 4; turn++) {
      const rounds = await captured.time('coalesced', each);
      rates.captured.push((1000 * everyone.length) / median(rounds));
      rates.engine.push(rateOf(await closed(engine)));
      rates.words.push(rateOf(await closed(words)));
    }
    await check('closed loop');
    const saturated = {
      captured: median(rates.captured),
      engine: median(rates.engine),
      words: median(rates.words),
    };
    const before = engine.stats();
    const loads: Loaded[] = [];
    for (const [n, load] of options.load.entries()) {
      const rate = load * saturated.captured;
      const arrivals = poisson(rate, seconds * 1000, everyone.length, options.seed + n);
      const times = await engine.drive(arrivals.at, arrivals.tenant);
      loads.push({
        ...{ load, requestsPerSecond: rate, requests: times.length },
        ...latencyOf(times),
        words: latencyOf(await words.drive(arrivals.at, arrivals.tenant)),
      });
    }
    const after = engine.stats();
    await check('open loop');
    const count = after.cohorts - before.cohorts;
    const requestsPerCohort = (after.cohortRequests - before.cohortRequests) / count;
    const onGpu = <T>(value: T): T | null => (device.kind === 'host' ? null : value);
    const stats = words.stats();
    return {
      tenants: tenants.length,
      reference: reference.by,
      ...{ solo, saturated, loads },
      cohorts: count > 0 ? { count, requestsPerCohort } : null,
      cohortMicroseconds: count > 0 ? onGpu(after.cohortMicroseconds) : null,
      issueMicroseconds: onGpu(stats.issueMicroseconds),
      slotsPerWord: stats.slots / stats.words,
      jit,
    };
  } finally {
    engine.close();
    words.close();
    captured.close();
  }
}

export function latencyOf(times: Iterable<number>): Latency {
  const sorted = [...times].sort((a, b) => a - b);
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}

const submitAll = (engine: Engine, tenants: readonly BenchTenant[]): Promise<Tensors[]> =>
  Promise.all(tenants.map((t) => engine.submit(t.name, t.inputs)));

/** What driven requests left behind, which computed on the inputs that were set. */
const outputsOf = async (
  engine: Engine,
  tenants: readonly BenchTenant[],
): Promise<{ [tenant: string]: Tensors }> => {
  const left = Array.from({ length: engine.atOnce }, (_, arena) => engine.readOutputs(arena));
  const again = await submitAll(engine, tenants);
  const fresh = Object.fromEntries(tenants.map((t, n) => [t.name, again[n]!]));
  for (const [arena, outputs] of left.entries()) {
    // Zeros are what is in an arena where no request has run.
    const used = tenants.filter(({ name }) => arena === 0 || Object.values(outputs[name]!).some(hasNonZero));
    const of = (all: { readonly [tenant: string]: Tensors }) =>
      Object.fromEntries(used.map(({ name }) => [name, all[name]!]));
    checkSameBits(of(fresh), of(outputs), 'engine, what driven requests left behind');
  }
  return fresh;
};

const hasNonZero = ({ data }: Tensor): boolean => data.some((value: number | bigint) => Number(value) !== 0);

/** Milliseconds, so that a hiccup of the machine does not pile up short requests. */
const leastApart = 0.2;

/** Requests one by one, each of the next tenant, far enough apart that none meets another. */
async function soloOf(
  engine: Engine,
  everyone: readonly number[],
  round: number,
  seconds: number,
): Promise<Float64Array> {
  const apart = Math.max(leastApart, 3 * round);
  const count = Math.max(2 * everyone.length, Math.min(400, Math.ceil((seconds * 1000) / apart)));
  return engine.drive(
    Array.from({ length: count }, (_, n) => n * apart),
    Array.from({ length: count }, (_, n) => everyone[n % everyone.length]!),
  );
}

/** Keeps the engine busy until two looks of its compiler have found nothing more to do. */
async function settle(engine: Engine, busy: () => Promise<unknown>, jit: readonly JitEvent[]): Promise<void> {
  const quietMilliseconds = 1500;
  const mostMilliseconds = 120_000;
  const start = performance.now();
  let [seen, since] = [jit.length, start];
  await engine.drive([0], [0]);
  while (performance.now() - since < quietMilliseconds && performance.now() - start < mostMilliseconds) {
    await busy();
    if (jit.length > seen || engine.isCompiling) [seen, since] = [jit.length, performance.now()];
  }
}

/** Requests a second of a closed loop: all arrived at once. */
const rateOf = (times: Float64Array): number => (1000 * times.length) / Math.max(...times);

/** Arrivals at a rate (a second), for so many milliseconds, each of a tenant at random. */
export function poisson(
  rate: number,
  milliseconds: number,
  tenants: number,
  seed: number,
): { at: number[]; tenant: number[] } {
  const random = generator(seed);
  const at: number[] = [];
  for (let t = 0; t < milliseconds || at.length < 100; ) {
    t -= (1000 / rate) * Math.log(1 - random());
    at.push(t);
  }
  return { at, tenant: at.map(() => Math.floor(random() * tenants)) };
}

function toText(r: Report): string {
  const rate = (n: number): string => n.toLocaleString('en-US', { maximumFractionDigits: n < 100 ? 1 : 0 });
  const lines = [
    `${r.models.join(' ')}: ${r.tenants} tenants, ${r.precision}, ${r.device.name} (${r.device.target}); outputs checked against ${r.reference}`,
    `one request alone: ${formatMs(r.solo.p50)} (p99 ${formatMs(r.solo.p99)}); word by word ${formatMs(r.solo.words.p50)} (p99 ${formatMs(r.solo.words.p99)})`,
    '',
    table([
      ['every tenant always has a request', 'requests a second', 'of captured'],
      ['rounds of a captured program', rate(r.saturated.captured), '1'],
      [
        'the engine, which switches to rounds',
        rate(r.saturated.engine),
        (r.saturated.engine / r.saturated.captured).toFixed(2),
      ],
      [
        'the engine, word by word',
        rate(r.saturated.words),
        (r.saturated.words / r.saturated.captured).toFixed(2),
      ],
    ]),
    '',
    table([
      ['requests at random', 'a second', 'p50', 'p99', 'p99 of alone', 'p99 word by word'],
      ...r.loads.map((l) => [
        `${Math.round(100 * l.load)} % of captured`,
        rate(l.requestsPerSecond),
        formatMs(l.p50),
        formatMs(l.p99),
        `${(l.p99 / r.solo.p50).toFixed(1)}×`,
        formatMs(l.words.p99),
      ]),
    ]),
    '',
    r.cohorts
      ? `${r.cohorts.requestsPerCohort.toFixed(2)} requests a cohort at these loads${cpu(r.cohortMicroseconds)}`
      : 'no cohorts: word by word, and rounds',
    `${r.slotsPerWord.toFixed(2)} slots a word where it goes word by word${cpu(r.issueMicroseconds)}`,
    ...r.jit.map(jitLine),
  ];
  return lines.join('\n');
}

const cpu = (microseconds: number | null): string =>
  microseconds === null ? '' : `, ${microseconds.toFixed(1)} µs of CPU to choose and launch one`;

/** One line of what the background compiler did. */
export function jitLine(event: JitEvent): string {
  const what = event.kernels.length > 3 ? `${event.kernels.length} kernels` : event.kernels.join(', ');
  switch (event.kind) {
    case 'compiled':
      return `compiled ${what} as one code in ${formatMs(event.end - event.begin)}: ${event.why}`;
    case 'failed':
      return `could not compile ${what} (${event.why}): ${event.problem}`;
    case 'brought':
      return `${what} as one code: ${Math.round(100 * event.share)} % of the words since; slots a word ${event.slots.before.toFixed(2)} before, ${event.slots.after.toFixed(2)} after; its blocks take ${event.factor.toFixed(2)}× as long`;
    default:
      return event satisfies never;
  }
}

function chartOf(r: Report): string {
  const series = (name: string, of: (l: Loaded) => number) => ({
    name,
    points: r.loads.map((l) => ({ x: Math.round(100 * l.load), y: of(l) })),
  });
  return lineChart({
    title: r.models.join(' '),
    subtitle: `${r.tenants} tenants, ${r.precision}, ${r.device.name} (${r.device.target}); alone ${formatMs(r.solo.p50)}`,
    xLabel: '% of the requests that a captured program gets through',
    yLabel: 'milliseconds a request',
    series: [series('p50', (l) => l.p50), series('p99', (l) => l.p99)],
  });
}
