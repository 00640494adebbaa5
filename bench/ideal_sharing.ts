/**
 * @file What requests at random times would wait for if tenants shared a device without loss (processor sharing): whoever arrives joins at
 * once, and n requests that run each advance as fast as in a coalesced round of n. `wideword bench serve` is to be held against this. It is
 * no bound: who lets some wait a little, or runs few requests faster than a coalesced round does, may come out a few hundredths below. A
 * simulation: no device is needed.
 *
 *     npx tsx bench/ideal_sharing.ts --times 1:0.247,8:0.49,16:0.84,32:1.73 --tenants 16 --load 0.3,0.6
 *
 * The times are those of `wideword bench MODEL --tenants 1,8,16,32 --mode coalesced`, in milliseconds; between them lines are drawn.
 */
import { Command, InvalidArgumentError } from 'commander';
import { latencyOf, poisson } from '../cli/bench/serve.ts';

type Point = readonly [tenants: number, milliseconds: number];

function parseTimes(text: string): readonly Point[] {
  const points = text.split(',').map((pair) => pair.split(':').map(Number));
  const ascending = points.every(([n, ms], i) => n! > (points[i - 1]?.[0] ?? 0) && ms! > 0);
  if (!ascending || points[0]?.[0] !== 1) throw new InvalidArgumentError('expected such as 1:0.247,16:0.84');
  return points.map(([n, ms]) => [n!, ms!]);
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('expected a whole number from 1');
  return Number(text);
}

function parseLoads(text: string): number[] {
  const loads = text.split(',').map(Number);
  if (!loads.every((load) => load > 0 && load < 1))
    throw new InvalidArgumentError('expected such as 0.3,0.6');
  return loads;
}

const options = new Command('ideal_sharing')
  .requiredOption('--times <list>', 'milliseconds of rounds of so many tenants', parseTimes)
  .option('--tenants <n>', 'who send requests', wholeNumber, 16)
  .option('--at-once <n>', "of one tenant's requests", wholeNumber, 1)
  .option('--load <list>', 'parts of what rounds of all tenants get through, below 1', parseLoads, [0.3, 0.6])
  .option('--requests <n>', 'of each load, about', wholeNumber, 100_000)
  .option('--seed <n>', 'of the arrivals', wholeNumber, 1)
  .parse()
  .opts<{
    times: readonly Point[];
    tenants: number;
    atOnce: number;
    load: number[];
    requests: number;
    seed: number;
  }>();

/** Milliseconds of a round of n tenants; beyond the last measured width as many times as long as it is wider. */
function roundOf(n: number): number {
  const { times } = options;
  const above = times.findIndex(([width]) => width >= n);
  if (above < 0) {
    const [width, ms] = times.at(-1)!;
    return (ms * n) / width;
  }
  const [width, ms] = times[above]!;
  const [before, least] = times[above - 1] ?? [width - 1, ms];
  return least + ((ms - least) * (n - before)) / (width - before);
}

interface Arrivals {
  readonly at: number[];
  readonly tenant: number[];
}

/** Latencies of requests in the order of their arrival. Of a tenant's requests `--at-once` run at the same time. */
function serve({ at, tenant }: Arrivals): Float64Array {
  const latencies = new Float64Array(at.length);
  const waiting: number[][] = Array.from({ length: options.tenants }, () => []);
  const free = Array<number>(options.tenants).fill(options.atOnce);
  /** By request, what is left of those that run, from 1 to 0. */
  const running = new Map<number, number>();
  let now = 0;
  let next = 0;
  while (next < at.length || running.size > 0) {
    const round = roundOf(Math.max(1, running.size));
    const least = Math.min(...running.values());
    const arrival = at[next] ?? Number.POSITIVE_INFINITY;
    const until = Math.min(arrival, now + least * round);
    const progress = (until - now) / round;
    now = until;
    for (const [request, left] of running) {
      running.set(request, left - progress);
      if (left - progress > 1e-9) continue;
      latencies[request] = now - at[request]!;
      running.delete(request);
      free[tenant[request]!]!++;
    }
    if (now === arrival) waiting[tenant[next]!]!.push(next++);
    for (const [t, requests] of waiting.entries())
      while (requests.length > 0 && free[t]! > 0) {
        running.set(requests.shift()!, 1);
        free[t]!--;
      }
  }
  return latencies;
}

const saturated = options.tenants / roundOf(options.tenants);
const alone = roundOf(1);
for (const load of options.load) {
  const rate = load * saturated;
  const arrivals = poisson(1000 * rate, options.requests / rate, options.tenants, options.seed);
  const latencies = serve(arrivals);
  const times = ({ p50, p99 }: { readonly p50: number; readonly p99: number }): string =>
    `p50 ${(p50 / alone).toFixed(2)}×, p99 ${(p99 / alone).toFixed(2)}×`;
  console.log(
    `${Math.round(100 * load)} % of ${Math.round(1000 * saturated)} a second: ${times(latencyOf(latencies))} of one alone`,
  );
}
