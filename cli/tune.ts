/**
 * @file `wideword tune`: measures schedules of models' kernels on a device and keeps the best in the cache, where everything that compiles
 * for the device finds them.
 */
import { type DeviceKind, openDevice } from '../driver/device.ts';
import type { Precision } from '../driver/model.ts';
import type { TunedKernel, TuneResult } from '../driver/tune.ts';
import type { Tier } from '../ir/class.ts';
import { benchTenants } from './bench/tenants.ts';
import { exitCodes, formatMs, progressBar, table } from './output.ts';
import type { Shapes } from './tenants.ts';

export interface TuneCliOptions {
  readonly width: readonly number[];
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tier: Tier;
  readonly shape: Shapes;
  readonly again: boolean;
  readonly kernel?: readonly string[];
  readonly candidates?: number;
  readonly threads?: number;
  readonly json: boolean;
}

export async function tune(specs: readonly string[], options: TuneCliOptions): Promise<number> {
  const { width, tier, again, kernel: kernels, threads, candidates: most } = options;
  const device = await openDevice(options.device, threads === undefined ? {} : { threads });
  const stop = new AbortController();
  // Once: a second Ctrl-C ends the process as ever.
  const interrupt = (): void => stop.abort();
  process.once('SIGINT', interrupt);
  const bar = progressBar('tuning');
  try {
    const tenants = await benchTenants(specs, 1, { ...options, seed: 1 });
    const models = tenants.map((t) => t.model);
    const result = await device
      .tune(models, {
        widths: width,
        tier,
        again,
        ...(kernels && { kernels }),
        ...(most !== undefined && { most }),
        signal: stop.signal,
        onProgress: bar.update,
      })
      .finally(bar.stop);
    if (options.json) {
      const head = { device: { kind: device.kind, name: device.name, target: device.target }, models: specs };
      console.log(JSON.stringify({ ...head, ...result }));
    } else {
      console.log(toText(result, `${device.name} (${device.target})`));
    }
    return result.kernels.length < result.total ? exitCodes.failure : exitCodes.ok;
  } finally {
    process.off('SIGINT', interrupt);
    device.close();
  }
}

/** A schedule without what is the same for all of the host's: `contraction(tile 64x24x64)`. */
const brief = (schedule: string): string =>
  schedule
    .replace(/^contraction\(threads: 1, (.*), per_thread.*/, 'contraction($1)')
    .replace('threads: 1, ', '')
    .replaceAll(': ', ' ');

function toText({ kernels, total }: TuneResult, device: string): string {
  const widths = [...new Set(kernels.flatMap((k) => k.times.map((t) => t.width)))].sort((a, b) => a - b);
  const at = (k: TunedKernel, width: number): string => {
    const found = k.times.find((t) => t.width === width);
    if (!found) return '';
    const { before, after } = found;
    return k.schedule === k.before ? formatMs(before) : `${formatMs(before)} → ${formatMs(after)}`;
  };
  const rows = kernels.map((k) => [
    k.kernel.length > 40 ? `${k.kernel.slice(0, 39)}…` : k.kernel,
    k.calls,
    k.candidates,
    brief(k.before),
    k.schedule === k.before ? '(the same)' : brief(k.schedule),
    ...widths.map((w) => at(k, w)),
  ]);
  const head = ['kernel', 'calls', 'tried', 'default', 'chosen', ...widths.map((w) => `width ${w}`)];
  // Each call counts, as in a round.
  const sums = widths.map((w) => {
    const sum = (which: 'before' | 'after'): number =>
      kernels.reduce((ms, k) => ms + k.calls * (k.times.find((t) => t.width === w)?.[which] ?? 0), 0);
    return `${formatMs(sum('before'))} → ${formatMs(sum('after'))}`;
  });
  const lines = [table([head, ...rows, ['all calls', '', '', '', '', ...sums]]), ''];
  for (const k of kernels)
    for (const { schedule, problem } of k.bad)
      lines.push(`NOT USED: ${k.kernel} with ${schedule}: ${problem}`);
  const known = kernels.filter((k) => k.known).length;
  const changed = kernels.filter((k) => k.schedule !== k.before).length;
  lines.push(
    `${kernels.length} kernels on ${device}: ${changed} get another schedule than the default${known > 0 ? `; ${known} were known from before (--again measures them again)` : ''}`,
  );
  if (kernels.length < total)
    lines.push(`stopped before the other ${total - kernels.length}; what was found is kept`);
  return lines.join('\n');
}
