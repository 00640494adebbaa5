/**
 * @file `wideword bench constrain`: how long kernels of a real model take on fewer and fewer physical blocks, and how few of them cost
 * little. It prints no number of a kernel whose bits depend on that.
 */

import { InputError } from '../../compiler/errors.ts';
import type { DeviceKind } from '../../driver/device.ts';
import { goesBy, namesOf } from '../../driver/distinct_kernels.ts';
import { type KernelBlocks, plateau } from '../../driver/measure_blocks.ts';
import type { Precision } from '../../driver/model.ts';
import { attentionOf } from '../../ir/attention.ts';
import { contractionOf } from '../../ir/contraction.ts';
import { costOf } from '../../ir/cost.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Measurement } from '../../passes/block_time.ts';
import { formatMs, progressBar, table, writeResult } from '../output.ts';
import type { Shapes } from '../tenants.ts';
import { CheckFailed } from './check.ts';
import { onDevice } from './on_device.ts';
import { type Chart, lineChart } from './plot.ts';
import { percent } from './report.ts';
import { benchTenants } from './tenants.ts';

export interface ConstrainOptions {
  readonly kernel?: string;
  readonly blocks?: readonly number[];
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tuning: boolean;
  readonly width: number;
  readonly shape: Shapes;
  readonly threads?: number;
  readonly json: boolean;
  readonly plot?: string;
}

interface Report {
  readonly device: { readonly kind: string; readonly name: string; readonly target: string };
  readonly model: string;
  readonly precision: Precision;
  readonly width: number;
  readonly tuning: boolean;
  readonly kernels: readonly KernelBlocks[];
}

export async function benchConstrain(spec: string, options: ConstrainOptions): Promise<number> {
  const { precision, width, tuning, blocks, kernel } = options;
  const [tenant] = await benchTenants([spec], 1, { ...options, seed: 1 });
  return onDevice(options, { model: spec, precision, width, tuning }, async (device, head) => {
    const bar = progressBar('measuring');
    const kernels = await device
      .measureBlocks([tenant!.model], {
        choose: (all) => chosen(all, kernel),
        width,
        tuning,
        ...(blocks && { blocks }),
        onProgress: bar.update,
      })
      .finally(bar.stop);
    for (const { kernel: name, problem } of kernels)
      if (problem !== undefined) throw new CheckFailed(`${name}: ${problem}`);
    const report: Report = { ...head, kernels };
    console.log(options.json ? JSON.stringify(toJson(report)) : toText(report));
    if (options.plot !== undefined) await writeResult(options.plot, lineChart(chartOf(report)));
  });
}

/** The kernels that are asked for by name (or by the node they came from), all, or three that stand for the model. */
function chosen(kernels: readonly Kernel[], name: string | undefined): readonly Kernel[] {
  if (name === undefined) return representatives(kernels);
  const found = name === 'all' ? kernels : kernels.filter((k) => goesBy(k, name));
  if (found.length === 0) throw new InputError(`no kernel '${name}': ${namesOf(kernels)}, or all`);
  return found;
}

/**
 * The costliest convolution with a window of 3x3 (or, without one, the costliest sum of products), the costliest matrix product, and the
 * costliest attention, by arithmetic; the costliest kernel if there is none of these.
 */
export function representatives(kernels: readonly Kernel[]): Kernel[] {
  const costliest = (some: readonly Kernel[]): Kernel[] =>
    some.length === 0 ? [] : [some.reduce((best, k) => (costOf(k).flops > costOf(best).flops ? k : best))];
  const sums = kernels.map((kernel) => ({ kernel, k: contractionOf(kernel)?.k.filter((i) => i.extent > 1) }));
  const windows = sums.filter(({ k }) => k && k.filter((i) => i.extent === 3).length === 2);
  const products = sums.filter(({ k }) => k?.length === 1);
  const attention = kernels.filter((k) => attentionOf(k));
  const found = [
    ...costliest((windows.length > 0 ? windows : sums.filter(({ k }) => k)).map((s) => s.kernel)),
    ...costliest(products.map((s) => s.kernel)),
    ...costliest(attention),
  ];
  return found.length > 0 ? [...new Set(found)] : costliest(kernels);
}

function toJson({ kernels, ...head }: Report): object {
  return {
    ...head,
    kernels: kernels.map(({ times, ...k }) => ({ ...k, times, plateau: plateau(times) })),
    ok: true,
  };
}

function toText({ device, model, precision, width, tuning, kernels }: Report): string {
  const counts = [...new Set(kernels.flatMap((k) => inPart(k).map((t) => t.blocks)))].sort((a, b) => a - b);
  const rows = kernels.map((k) => {
    const least = plateau(k.times)!;
    return [
      k.kernel.length > 32 ? `${k.kernel.slice(0, 31)}…` : k.kernel,
      k.loc[0] ?? '',
      k.virtualBlocks,
      ...counts.map((b) => at(inPart(k), b)),
      at(k.times, k.virtualBlocks),
      `${least} (${percent(least / k.virtualBlocks)})`,
    ];
  });
  const head = ['kernel', 'first from', 'virtual', ...counts.map((b) => `on ${b}`), 'on all', 'within 10 %'];
  return [
    `${model}, ${precision}, ${width === 1 ? 'one tenant' : `words of ${width} tenants`}${tuning ? '' : ', default schedules'}, on ${device.name} (${device.target})`,
    'time of a word against the physical blocks that each slot gets; the same bits on each of them',
    '',
    table([head, ...rows]),
  ].join('\n');
}

const inPart = ({ times, virtualBlocks }: KernelBlocks): readonly Measurement[] =>
  times.filter((t) => t.blocks < virtualBlocks);

function at(times: readonly Measurement[], blocks: number): string {
  const found = times.find((t) => t.blocks === blocks);
  return found ? formatMs(found.milliseconds) : '';
}

/** As many as can be told apart. */
const mostLines = 4;

function chartOf({ device, model, precision, width, kernels }: Report): Chart {
  const slowest = [...kernels].sort((a, b) => b.times.at(-1)!.milliseconds - a.times.at(-1)!.milliseconds);
  return {
    title: `${model}: constrained kernels`,
    subtitle: `${precision}, ${width === 1 ? 'one tenant' : `${width} tenants`}, ${device.name} (${device.target})`,
    xLabel: 'physical blocks of a slot',
    yLabel: 'milliseconds',
    scale: 'log',
    series: slowest.slice(0, mostLines).map((k) => ({
      name: `${(k.loc[0] ?? k.kernel).slice(0, 14)} (${k.virtualBlocks})`,
      points: k.times.map((t) => ({ x: t.blocks, y: t.milliseconds })),
    })),
  };
}
