/** @file Registers for two blocks a multiprocessor: where two fit otherwise, and only there. */
import { describe, expect, it } from 'vitest';
import { emitWord } from '../../codegen/word.ts';
import { classOf } from '../../ir/class.ts';
import { contractionOf } from '../../ir/contraction.ts';
import type { MmaSchedule } from '../../ir/kernel.ts';
import { mmaBlocksHeld } from '../../ir/mma.ts';
import { targetOf } from '../../ir/target.ts';
import { convKernel } from './kernels.ts';

const sm90 = targetOf('sm_90');
const kernel = convKernel({
  ...{ channels: 64, outChannels: 64, size: [56, 56], kernel: [3, 3], pad: 1 },
  ...{ channelsInner: true, channelsLast: true, dtype: 'f16' },
});
const two: MmaSchedule = {
  ...{ skeleton: 'mma', instruction: 'wgmma', threads: 256, tile: { m: 64, n: 208, k: 64 } },
  ...{ warps: { m: 4, n: 2 }, stages: 3, segments: 1, splits: 1 },
};

describe('blocks held', () => {
  it.each<[string, Partial<MmaSchedule>, 1 | 2]>([
    ['two of 104 KB with 52 sums a thread', {}, 2],
    ['one of 174 KB', { stages: 5 }, 1],
    ['one with 128 sums a thread', { tile: { m: 128, n: 256, k: 64 }, warps: { m: 8, n: 1 } }, 1],
    [
      'those of fewer threads as they come',
      { threads: 128, tile: { m: 64, n: 104, k: 64 }, warps: { m: 4, n: 1 } },
      1,
    ],
    ['those that share a tile as they come', { splits: 2 }, 1],
  ])('are %s', (_, more, held) => {
    const schedule = { ...two, ...more };
    expect(mmaBlocksHeld(contractionOf(kernel)!, schedule, sm90)).toBe(held);
    const { source } = emitWord([classOf({ ...kernel, schedule }, 'specialised')], sm90);
    const bounds = held === 2 ? `${schedule.threads}, 2` : `${schedule.threads}`;
    expect(source).toContain(`__launch_bounds__(${bounds})`);
  });
});
