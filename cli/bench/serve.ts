/**
 * @file `wideword bench serve`: what requests that arrive at random times wait for, through the issue engine, against a request alone;
 * and what the engine gets through against rounds of a captured program. Arrivals are Poisson's, made on the engine's own thread, and inputs
 * lie on the device, so that neither JavaScript nor copies are part of a number. It prints none if outputs are wrong.
 */

import { InputError } from '../../compiler/errors.ts';
import type { Device, DeviceKind } from '../../driver/device.ts';
import type { Engine, ServeOptions } from '../../driver/engine.ts';
import type { JitEvent } from '../../driver/jit.ts';
import type { Precision } from '../../driver/model.ts';
import { generator } from '../../ir/random.ts';
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

/** Milliseconds of requests at a load, a part of what the captured program gets through. */
interface Loaded {
  readonly load: number;
  readonly requestsPerSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly requests: number;
}

interface Report {
  readonly device: { readonly kind: string; readonly name: string; readonly target: string };
  readonly models: readonly string[];
  readonly tenants: number;
  readonly precision: Precision;
  readonly reference: string;
  /** Of a request when there is no other: milliseconds. */
  readonly solo: { readonly p50: number; readonly p99: number };
  /** Requests a second when every tenant always has one. */
  readonly saturated: { readonly captured: number; readonly engine: number; readonly words: number };
  readonly loads: readonly Loaded[];
  /** Of the device's thread, to choose and launch a word; on the host a launch is the word. */
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
    ...(options.bound !== undefined && { boundMilliseconds: options.bound }),
  };
  const jit: JitEvent[] = [];
  const issuing = await device.serve(tenants, {
    ...serve,
    rounds: false,
    jit: options.jit,
    onJit: (event) => void jit.push(event),
  });
  const switching = await device.serve(tenants, { ...serve, jit: false });
  const check = async (engine: Engine, when: string): Promise<void> => {
    checkSameBits(expected, await outputsOf(engine, tenants), `${when}, after the last request`);
  };
  try {
    for (const engine of [issuing, switching]) {
      await submitAll(engine, tenants);
      await check(engine, 'engine');
    }
    const everyone = [...tenants.keys()];
    const round = median(await captured.time('coalesced', 5));
    const each = Math.max(4, Math.ceil((seconds * 1000) / round / 4));
    const closed = (engine: Engine): Promise<Float64Array> =>
      engine.drive(
        Array<number>(each * everyone.length).fill(0),
        Array.from({ length: each * everyone.length }, (_, n) => n % everyone.length),
      );
    // What compiling in the background brings is there before anything is measured.
    await settle(issuing, () => closed(issuing), jit);

    const solo = (await soloOf(issuing, everyone, round, seconds)).sort();
    const rates = { captured: [] as number[], engine: [] as number[], words: [] as number[] };
    for (let turn = 0; turn < 4; turn++) {
      const rounds = await captured.time('coalesced', each);
      rates.captured.push((1000 * everyone.length) / median(rounds));
      rates.engine.push(rateOf(await closed(switching)));
      rates.words.push(rateOf(await closed(issuing)));
    }
    await check(switching, 'closed loop');
    await check(issuing, 'closed loop');
    const saturated = {
      captured: median(rates.captured),
      engine: median(rates.engine),
      words: median(rates.words),
    };
    const loads: Loaded[] = [];
    for (const [n, load] of options.load.entries()) {
      const rate = load * saturated.captured;
      const arrivals = poisson(rate, seconds * 1000, everyone.length, options.seed + n);
      const times = (await issuing.drive(arrivals.at, arrivals.tenant)).sort();
      loads.push({
        load,
        requestsPerSecond: rate,
        p50: quantile([...times], 0.5),
        p99: quantile([...times], 0.99),
        requests: times.length,
      });
    }
    await check(issuing, 'open loop');
    const stats = issuing.stats();
    return {
      tenants: tenants.length,
      reference: reference.by,
      solo: { p50: quantile([...solo], 0.5), p99: quantile([...solo], 0.99) },
      saturated,
      loads,
      issueMicroseconds: device.kind === 'host' ? null : stats.issueMicroseconds,
      slotsPerWord: stats.slots / stats.words,
      jit,
    };
  } finally {
    issuing.close();
    switching.close();
    captured.close();
  }
}

const submitAll = (engine: Engine, tenants: readonly BenchTenant[]): Promise<Tensors[]> =>
  Promise.all(tenants.map((t) => engine.submit(t.name, t.inputs)));

/** What driven requests left behind, which computed on the inputs of the last that was submitted. */
const outputsOf = async (
  engine: Engine,
  tenants: readonly BenchTenant[],
): Promise<{ [tenant: string]: Tensors }> => {
  const left = engine.readOutputs();
  const again = await submitAll(engine, tenants);
  const fresh = Object.fromEntries(tenants.map((t, n) => [t.name, again[n]!]));
  checkSameBits(fresh, left, 'engine, what driven requests left behind');
  return fresh;
};

/** Requests one by one, each of the next tenant, far enough apart that none meets another. */
async function soloOf(
  engine: Engine,
  everyone: readonly number[],
  round: number,
  seconds: number,
): Promise<Float64Array> {
  const apart = 3 * round;
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
function poisson(
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
    `one request alone: ${formatMs(r.solo.p50)} (p99 ${formatMs(r.solo.p99)})`,
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
      ['requests at random, word by word', 'a second', 'p50', 'p99', 'p99 of alone'],
      ...r.loads.map((l) => [
        `${Math.round(100 * l.load)} % of captured`,
        rate(l.requestsPerSecond),
        formatMs(l.p50),
        formatMs(l.p99),
        `${(l.p99 / r.solo.p50).toFixed(1)}×`,
      ]),
    ]),
    '',
    `${r.slotsPerWord.toFixed(2)} slots a word${r.issueMicroseconds === null ? '' : `, ${r.issueMicroseconds.toFixed(1)} µs of CPU to choose and launch one`}`,
    ...r.jit.map(jitLine),
  ];
  return lines.join('\n');
}

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
