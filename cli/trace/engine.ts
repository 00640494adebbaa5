/**
 * @file Requests that the issue engine serves, as spans: they arrive at different times, a track shows the words that were issued, and each
 * tenant's track when its requests waited and ran.
 */
import type { Device } from '../../driver/device.ts';
import type { Engine, Journal, JournalWord, ServeOptions } from '../../driver/engine.ts';
import type { JitEvent } from '../../driver/jit.ts';
import { generator } from '../../ir/random.ts';
import type { RoundResult } from '../../runtime/program.ts';
import { median } from '../../runtime/turns.ts';
import { checkSameBits } from '../bench/check.ts';
import { quantile } from '../bench/report.ts';
import type { BenchTenant } from '../bench/tenants.ts';
import type { Group, Span, Track } from './timeline.ts';

/** What the engine did with some requests. */
export interface ServedTrace {
  readonly journal: Journal;
  /** What was compiled beside them before; times as those of `CodeProgress`. */
  readonly compiled: readonly Compiled[];
}

/** A compile in the background. */
export type Compiled = Exclude<JitEvent, { kind: 'brought' }>;

/** Requests arrive over so many times what one takes alone. */
const soloLatencies = 4;
const traces = 5;
/** How often the background compiler looks, in milliseconds, and how many looks without a find are enough. */
const jitPeriod = 50;
const quietLooks = 4;
const longestWait = 60_000;

/**
 * Lets one or two requests of each tenant arrive at random, and gives the journal of the median of a few goes, after the background compiler
 * has found what it finds. Throws CheckFailed if an output has other bits than when its tenant runs alone.
 */
export async function traceEngine(
  device: Device,
  tenants: readonly BenchTenant[],
  options: Pick<ServeOptions, 'tier' | 'tuning' | 'onProgress'> & { readonly seed: number },
  expected: RoundResult['outputs'],
): Promise<ServedTrace> {
  const { seed, ...serve } = options;
  const events: JitEvent[] = [];
  const engine = await device.serve(tenants, {
    ...serve,
    rounds: false,
    jit: { period: jitPeriod, threshold: 5 },
    onJit: (event) => void events.push(event),
  });
  try {
    const inputs = (which: 'inputs' | 'others') =>
      Object.fromEntries(tenants.map((t) => [t.name, t[which]] as const));
    // Other outputs are left behind by requests before.
    engine.setInputs(inputs('others'));
    const alone: number[] = [];
    for (const t of tenants.keys()) alone.push((await engine.drive([0], [t]))[0]!);
    const { at, tenant } = arrivals(tenants.length, soloLatencies * median(alone), seed);
    await settle(engine, events, () => engine.drive(at, tenant));
    engine.setInputs(inputs('inputs'));
    const journals: Journal[] = [];
    engine.keepJournal(true);
    for (let i = 0; i < traces; i++) {
      await engine.drive(at, tenant);
      journals.push(engine.takeJournal());
    }
    checkSameBits(expected, engine.readOutputs(), 'engine, traced');
    const later = performance.now() - engine.now();
    return {
      journal: journals.sort((a, b) => lengthOf(a) - lengthOf(b))[traces >> 1]!,
      compiled: events.flatMap((e) =>
        e.kind === 'brought' ? [] : [{ ...e, begin: e.begin + later, end: e.end + later }],
      ),
    };
  } finally {
    engine.close();
  }
}

/** One or two requests a tenant, at any times within so many milliseconds, in order; the first comes at 0. */
function arrivals(tenants: number, milliseconds: number, seed: number): { at: number[]; tenant: number[] } {
  const random = generator(seed);
  const all = Array.from({ length: tenants }, (_, tenant) =>
    Array.from({ length: random() < 0.5 ? 1 : 2 }, () => ({ at: milliseconds * random(), tenant })),
  ).flat();
  all.sort((a, b) => a.at - b.at);
  return { at: all.map((a) => a.at - all[0]!.at), tenant: all.map((a) => a.tenant) };
}

/** Keeps the engine busy until a few looks of its compiler have found nothing more to do. */
async function settle(engine: Engine, events: readonly JitEvent[], busy: () => Promise<unknown>) {
  const start = engine.now();
  let [seen, since] = [events.length, start];
  while (engine.now() - since < quietLooks * jitPeriod && engine.now() - start < longestWait) {
    await busy();
    if (events.length > seen || engine.isCompiling) [seen, since] = [events.length, engine.now()];
  }
}

/** From the first request to the end of the last, in milliseconds. */
const lengthOf = ({ requests }: Journal): number =>
  Math.max(...requests.map((r) => r.ended)) - originOf(requests);
const originOf = (requests: Journal['requests']): number => Math.min(...requests.map((r) => r.queued));

/**
 * The words and the requests as a group of tracks, from the first request on. A word lasts from its launch to when the engine saw its end.
 * @param tenants of the timeline.
 */
export function engineGroup(name: string, { words, requests }: Journal, tenants: readonly string[]): Group {
  const numberOf = new Map(tenants.map((tenant, n) => [tenant, n]));
  const origin = originOf(requests);
  const since = (milliseconds: number): number => Math.round((milliseconds - origin) * 1e6);
  const ofTenant: Span[][] = tenants.map(() => []);
  for (const [request, { tenant: owner, queued, started, ended }] of requests.entries()) {
    const tenant = numberOf.get(owner)!;
    const details = { request };
    ofTenant[tenant]!.push(
      { name: 'queued', begin: since(queued), end: since(started), tenant, isFaint: true, details },
      { name: 'running', begin: since(started), end: since(ended), tenant, details },
    );
  }
  const wordSpans = words.map((word, number) => ({
    name: nameOf(word),
    begin: since(word.issued),
    end: since(word.ended),
    details: {
      word: number,
      expected: Math.round(word.expected * 1e6),
      code: word.kernels,
      tenants: new Set(word.slots.map((s) => s.tenant)).size,
      slots: word.slots.map(
        ({ tenant, task, from, to }) => `${tenant}: ${task}, blocks ${from} to ${to - 1}`,
      ),
    },
  }));
  return {
    name,
    tracks: [
      { kind: 'word', name: 'words', spans: wordSpans },
      ...ofTenant.map((spans, n): Track => ({ kind: 'tenant', name: tenants[n]!, spans })),
    ],
  };
}

const nameOf = ({ slots }: JournalWord): string =>
  `${[...new Set(slots.map((s) => s.task))].join(' + ')} × ${slots.length}`;

/** What the engine did, in numbers. Times are in milliseconds. */
export interface EngineSummary {
  /** From the first request to the end of the last. */
  readonly milliseconds: number;
  readonly requests: number;
  /** From when a request was taken in to its end. */
  readonly latency: { readonly p50: number; readonly longest: number };
  readonly words: number;
  readonly slots: number;
  /** Codes that were compiled in the background before. */
  readonly compiled: number;
}

export function summariseEngine({ journal, compiled }: ServedTrace): EngineSummary {
  const { words, requests } = journal;
  const latencies = requests.map((r) => r.ended - r.queued).sort((a, b) => a - b);
  return {
    milliseconds: lengthOf(journal),
    requests: requests.length,
    latency: { p50: quantile(latencies, 0.5), longest: latencies.at(-1)! },
    words: words.length,
    slots: words.reduce((n, w) => n + w.slots.length, 0),
    compiled: compiled.filter((e) => e.kind === 'compiled').length,
  };
}
