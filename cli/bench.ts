/**
 * @file `wideword bench`: how many inferences a second tenants get, one after another, side by side and coalesced, and how near to what
 * the device can do that is. It prints no number of a run whose outputs are wrong.
 */

import { InputError } from '../compiler/errors.ts';
import type { Device, DeviceKind } from '../driver/device.ts';
import type { Precision } from '../driver/model.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { higher, measureCeilings } from './bench/ceilings.ts';
import { type Measured, type Mode, measure, modes } from './bench/measure.ts';
import { onDevice } from './bench/on_device.ts';
import { lineChart } from './bench/plot.ts';
import { type BenchReport, modeNames, throughput, toJson, toText } from './bench/report.ts';
import { tenantsWithReference } from './bench/tenants.ts';
import { writeResult } from './output.ts';
import { parseModelSpec, type Shapes } from './tenants.ts';

export interface BenchOptions {
  readonly tenants: readonly number[];
  readonly mode: readonly Mode[];
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tier: TierChoice;
  readonly tuning: boolean;
  readonly width?: number;
  readonly seconds: number;
  readonly shape: Shapes;
  readonly tolerance?: number;
  readonly seed: number;
  readonly top: number;
  readonly threads?: number;
  readonly json: boolean;
  readonly plot?: string;
}

export async function bench(specs: readonly string[], options: BenchOptions): Promise<number> {
  return onDevice(
    options,
    {
      models: specs,
      precision: options.precision,
      tier: options.tier,
      tuning: options.tuning,
      width: options.width ?? null,
    },
    async (device, head) => {
      const report = { ...head, ...(await benchOn(device, specs, options)) };
      console.log(options.json ? JSON.stringify(toJson(report)) : toText(report, options.top));
      if (options.plot !== undefined) await writePlot(options.plot, report);
    },
  );
}

/** As many programs can run side by side. */
export const mostTenants = 256;

async function benchOn(
  device: Device,
  specs: readonly string[],
  options: BenchOptions,
): Promise<Pick<BenchReport, 'reference' | 'ceilings' | 'measured'>> {
  const counts = [...new Set(options.tenants)].sort((a, b) => a - b);
  const tell = statusLine();
  try {
    const total = counts.at(-1)! * specs.reduce((n, spec) => n + parseModelSpec(spec).count, 0);
    if (total > mostTenants)
      throw new InputError(
        `${total} tenants: bench runs each as a program of its own too, at most ${mostTenants}`,
      );
    const most = counts.at(-1)!;
    tell('preparing');
    const { tenants, reference } = await tenantsWithReference(specs, most, options, (done, all) =>
      tell(`preparing: ${done} of ${all} models`),
    );
    const each = tenants.length / most;
    tell('ceilings');
    const before = await measureCeilings(device, options.precision);
    const measured: Measured[] = [];
    for (const count of counts) {
      tell(`${count * each} tenants`);
      measured.push(
        await measure(device, tenants.slice(0, count * each), reference, { ...options, modes: options.mode }),
      );
    }
    tell('ceilings');
    const ceilings = higher(before, await measureCeilings(device, options.precision));
    return { reference: reference.by, ceilings, measured };
  } finally {
    tell('');
  }
}

/** What is being done, on a terminal only; each call replaces the line. */
export function statusLine(): (text: string) => void {
  if (!process.stderr.isTTY) return () => {};
  return (text) => void process.stderr.write(`\r\x1b[K${text}`);
}

async function writePlot(path: string, report: BenchReport): Promise<void> {
  const { models, device, precision, measured } = report;
  const figures = measured.flatMap((m) => m.figures);
  const chart = lineChart({
    title: models.join(' '),
    subtitle: `${precision}, ${device.name} (${device.target})`,
    xLabel: 'tenants',
    yLabel: 'inferences a second',
    series: modes
      .map((mode) => ({
        name: modeNames[mode],
        points: figures.filter((f) => f.mode === mode).map((f) => ({ x: f.tenants, y: throughput(f) })),
      }))
      .filter((s) => s.points.length > 0),
  });
  await writeResult(path, chart);
}

/** Reads `turn,space,coalesced`, of those that there are and in their order. */
export function parseModes<M extends string = Mode>(
  text: string,
  all: readonly M[] = modes as readonly string[] as readonly M[],
): M[] {
  const chosen = text.split(',').map((name) => {
    const mode = all.find((m) => m === name);
    if (!mode) throw new InputError(`no mode '${name}': ${all.join(', ')}`);
    return mode;
  });
  return all.filter((m) => chosen.includes(m));
}
