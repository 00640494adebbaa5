/**
 * @file `wideword bench unlike`: one kernel of each of several models, all of unlike classes, one after the other, in one wide word, and as
 * branches of a graph. It prints no number if any way gives other bits.
 */

import type { DeviceKind } from '../../driver/device.ts';
import type { Precision } from '../../driver/model.ts';
import type { UnlikeResult, UnlikeWay } from '../../driver/unlike.ts';
import { formatMs, progressBar, table } from '../output.ts';
import type { Shapes } from '../tenants.ts';
import { CheckFailed } from './check.ts';
import { type DeviceHead, onDevice } from './on_device.ts';
import { benchTenants } from './tenants.ts';

export interface UnlikeBenchOptions {
  /** A name, or `auto`. */
  readonly kernel: string;
  readonly device: DeviceKind;
  readonly precision: Precision;
  readonly tuning: boolean;
  readonly seconds: number;
  readonly shape: Shapes;
  readonly threads?: number;
  readonly json: boolean;
}

interface Report extends DeviceHead, UnlikeResult {
  readonly models: readonly string[];
  readonly precision: Precision;
  readonly tuning: boolean;
}

export async function benchUnlike(specs: readonly string[], options: UnlikeBenchOptions): Promise<number> {
  const { precision, tuning, kernel, seconds } = options;
  const tenants = await benchTenants(specs, 1, { ...options, seed: 1 });
  return onDevice(options, { models: specs, precision, tuning }, async (device, head) => {
    const bar = progressBar('measuring');
    const result = await device
      .measureUnlike(
        tenants.map((t) => t.model),
        { seconds, tuning, onProgress: bar.update, ...(kernel !== 'auto' && { kernel }) },
      )
      .finally(bar.stop);
    if (result.problem !== undefined) throw new CheckFailed(result.problem);
    const report: Report = { ...head, ...result };
    console.log(options.json ? JSON.stringify({ ...report, ok: true }) : toText(report));
  });
}

const wayNames: { readonly [W in UnlikeWay]: string } = {
  turn: 'one after the other',
  chain: 'the same, each begun while the one before ends',
  wide: 'one wide word, all blocks',
  shares: 'one wide word, shares of blocks',
  branches: 'branches of one graph',
};

export function toText(report: Report): string {
  const { device, precision, tuning, kernels, ways, planned, code } = report;
  const turn = ways.find((w) => w.way === 'turn')!.milliseconds;
  const chain = ways.find((w) => w.way === 'chain')!.milliseconds;
  const hasShares = kernels.some((k) => k.share !== undefined);
  const expected =
    planned === 'shares'
      ? 'a plan would give slots these shares'
      : 'a plan would give every slot all of its blocks, as it expects no gain from shares';
  return [
    `one kernel of each of ${kernels.length} models, ${precision}${tuning ? '' : ', default schedules'}, on ${device.name} (${device.target})`,
    '',
    table([
      ['model', 'kernel', 'first from', 'virtual', 'share', 'alone', ...(code ? ['registers'] : [])],
      ...kernels.map((k) => [
        k.model,
        k.kernel.length > 32 ? `${k.kernel.slice(0, 31)}…` : k.kernel,
        k.loc[0] ?? '',
        k.virtualBlocks,
        k.share ?? '',
        formatMs(k.milliseconds),
        ...(k.resources ? [k.resources.registers] : []),
      ]),
    ]),
    '',
    'all of them once, weights from memory, the same bits in every way:',
    '',
    table([
      ['way', 'time', 'speed-up', 'of the second'],
      ...ways.map((w) => [
        wayNames[w.way],
        formatMs(w.milliseconds),
        `${(turn / w.milliseconds).toFixed(2)} x`,
        `${(chain / w.milliseconds).toFixed(2)} x`,
      ]),
    ]),
    '',
    hasShares ? expected : 'no shares: the device has fewer places than there are slots',
    ...(code
      ? [
          `wide code: ${code.registers} registers, ${code.threads} threads, ${code.sharedBytes} bytes of shared memory, ${code.localBytes} of stack; blocks per multiprocessor: ${code.blocksPerUnit}`,
        ]
      : []),
  ].join('\n');
}
