/**
 * @file No emitted kernel has a race: every skeleton as emulated CUDA under a thread sanitizer, to which only barriers order the
 * threads of a block.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { index } from '../../ir/affine.ts';
import { buffer, kernel as buildKernel, load, reduce, store } from '../../ir/build.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { ContractionSchedule, Kernel, MmaSchedule } from '../../ir/kernel.ts';
import type { Program } from '../../ir/program.ts';
import { targetOf } from '../../ir/target.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { Emulator } from '../support/emulator/emulator.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { emulatedWay, type Way } from '../support/ways.ts';
import {
  attentionKernel,
  convKernel,
  depthwiseKernel,
  matmulKernel,
  momentsKernel,
  shuffleKernel,
  softmaxKernel,
} from './kernels.ts';

const target = targetOf('sm_90');
const plain = (kernel: Kernel): Kernel => scheduleKernel(kernel, target);
const tiled = (
  kernel: Kernel,
  tile: ContractionSchedule['tile'],
  perThread: ContractionSchedule['perThread'],
  stages: number,
): Kernel => ({
  ...kernel,
  schedule: {
    skeleton: 'contraction',
    threads: (tile.m / perThread.m) * (tile.n / perThread.n),
    tile,
    perThread,
    stages,
  },
});
type MmaShape = Pick<MmaSchedule, 'tile' | 'warps' | 'stages' | 'segments'> & { readonly splits?: number };
const mma = (kernel: Kernel, s: MmaShape): Kernel => ({
  ...kernel,
  schedule: {
    skeleton: 'mma',
    instruction: 'mma',
    threads: 32 * s.warps.m * s.warps.n * s.segments,
    splits: 1,
    ...s,
  },
});

const conv = (channelsInner: boolean): Kernel =>
  convKernel({
    channels: 32,
    outChannels: 48,
    size: [9, 7],
    kernel: [3, 3],
    pad: 1,
    channelsInner,
    residual: true,
    dtype: 'f16',
  });
const long = matmulKernel(1, 40, 48, 300, true, 'f16');

/** The sum of each row: one reduction, so that nothing but its own barriers stands between one block's and the next. */
function rowSums(rows: number, columns: number): Kernel {
  const [x, y] = [buffer('x0', 'f32', [rows, columns]), buffer('y0', 'f32', [rows])];
  const [r, c] = [index('r', rows), index('c', columns)];
  return buildKernel('sums', [x], [y], [r], [store(y, [r], reduce('sum', [c], load(x, [r, c])))]);
}

/** Each with the skeleton that it is to have. */
const cases: { readonly [name: string]: readonly [Kernel, string] } = {
  map: [plain(shuffleKernel(400)), 'map'],
  'a map with vectors': [
    {
      ...depthwiseKernel({ channels: 24, size: [9, 7], kernel: [3, 3], pad: 1, channelsLast: true }),
      schedule: { skeleton: 'map', threads: 32, perThread: 2, vector: 4 },
    },
    'map',
  ],
  'a reduction by warps': [plain(softmaxKernel(20, 70)), 'reduction'],
  'a reduction by blocks': [plain(rowSums(5, 3000)), 'reduction'],
  'two reductions by blocks': [plain(momentsKernel(3, 3000)), 'reduction'],
  'a contraction': [plain(matmulKernel(1, 70, 40, 90)), 'contraction'],
  'a convolution': [
    plain(convKernel({ channels: 9, outChannels: 33, size: [12, 11], kernel: [3, 3], pad: 1 })),
    'contraction',
  ],
  'a contraction in 3 stages, copies and registers': [
    tiled(matmulKernel(1, 70, 72, 60), { m: 64, n: 64, k: 8 }, { m: 8, n: 8 }, 3),
    'contraction',
  ],
  'a contraction in 2 stages, copies along k': [
    tiled(matmulKernel(1, 40, 35, 61, true), { m: 32, n: 32, k: 16 }, { m: 4, n: 2 }, 2),
    'contraction',
  ],
  'a contraction in one stage': [
    tiled(matmulKernel(1, 40, 36, 60), { m: 32, n: 32, k: 16 }, { m: 2, n: 2 }, 1),
    'contraction',
  ],
  'a convolution in 4 stages': [
    tiled(
      convKernel({ channels: 9, outChannels: 33, size: [12, 11], kernel: [3, 3], pad: 1 }),
      { m: 64, n: 32, k: 8 },
      { m: 4, n: 4 },
      4,
    ),
    'contraction',
  ],
  'tensor cores, operands through registers': [
    mma(conv(false), { tile: { m: 32, n: 32, k: 32 }, warps: { m: 1, n: 2 }, stages: 2, segments: 1 }),
    'mma',
  ],
  'tensor cores, whole steps': [
    mma(conv(true), { tile: { m: 64, n: 48, k: 32 }, warps: { m: 4, n: 1 }, stages: 3, segments: 1 }),
    'mma',
  ],
  'tensor cores, copies in 4 stages': [
    mma(long, { tile: { m: 32, n: 64, k: 32 }, warps: { m: 1, n: 2 }, stages: 4, segments: 1 }),
    'mma',
  ],
  'tensor cores, sums in several rounds': [
    mma(conv(true), { tile: { m: 128, n: 128, k: 32 }, warps: { m: 4, n: 2 }, stages: 2, segments: 1 }),
    'mma',
  ],
  'tensor cores, segments of one warp': [
    mma(long, { tile: { m: 16, n: 16, k: 32 }, warps: { m: 1, n: 1 }, stages: 2, segments: 4 }),
    'mma',
  ],
  'tensor cores, segments of several warps': [
    mma(long, { tile: { m: 32, n: 32, k: 32 }, warps: { m: 2, n: 2 }, stages: 2, segments: 2 }),
    'mma',
  ],
  'tensor cores, tiles shared by 4 blocks': [
    mma(long, {
      tile: { m: 32, n: 32, k: 32 },
      warps: { m: 2, n: 1 },
      stages: 2,
      segments: 1,
      splits: 4,
    }),
    'mma',
  ],
  'tensor cores, tiles shared by 2 blocks of 2 segments': [
    mma(conv(true), {
      tile: { m: 32, n: 48, k: 16 },
      warps: { m: 1, n: 1 },
      stages: 3,
      segments: 2,
      splits: 2,
    }),
    'mma',
  ],
  'attention, one tile of keys': [
    plain(attentionKernel({ heads: 3, queries: 10, keys: 16, features: 16 })),
    'attention',
  ],
  'attention, copies': [
    plain(attentionKernel({ heads: 3, queries: 18, keys: 150, features: 16, mask: true })),
    'attention',
  ],
  'attention, transposed operands': [
    plain(
      attentionKernel({
        heads: 3,
        queries: 24,
        keys: 80,
        features: 32,
        queriesLast: true,
        keysLast: true,
        valuesLast: true,
      }),
    ),
    'attention',
  ],
  'attention, operands through registers': [
    plain(
      attentionKernel({ heads: 3, queries: 33, keys: 65, features: 16, keysLast: true, valuesLast: true }),
    ),
    'attention',
  ],
};

describe('the race detector', () => {
  const shared = cases['tensor cores, tiles shared by 4 blocks']![0];
  const program = oneWord([shared], target.name);
  const inputs = shared.inputs.map((b, i): [string, Tensor] => [b.name, randomTensor(b.dtype, b.shape, i)]);
  const missing: { readonly [what: string]: readonly [text: string, instead: string, found: RegExp] } = {
    'the fence before a block counts itself': [
      'fence_device();   // what',
      '// what',
      /no fence stands behind/,
    ],
    'the barrier before a block counts itself': [
      '__syncthreads();  // and what the others',
      '// and what the others',
      /data race|no fence stands behind/,
    ],
    'the atomic instruction': ['atomicInc(counter, COUNT - 1)', '(*counter)++', /data race/],
    'the fence after the last block is known': [
      'fence_device();  // what is read',
      '// what is read',
      /without a fence after the count/,
    ],
  };
  for (const [what, [text, instead, found]] of Object.entries(missing))
    it(`finds that ${what} is missing`, async () => {
      const emulator = await Emulator.compile([program], 'races', (all) => {
        expect(all).toContain(text);
        return all.replace(text, instead);
      });
      await expect(emulator.run(program, new Map([['tenant 0', new Map(inputs)]]))).rejects.toThrow(found);
    }, 120_000);

  it('finds two blocks that write the same place', async () => {
    const twice = oneWord([cases.map![0]], target.name);
    const emulator = await Emulator.compile([twice], 'races', (all) =>
      all.replaceAll('(row, block);', '(row, block / 2 * 2);'),
    );
    const given = new Map(cases.map![0].inputs.map((b, i) => [b.name, randomTensor(b.dtype, b.shape, i)]));
    await expect(emulator.run(twice, new Map([['tenant 0', given]]))).rejects.toThrow(/data race/);
  }, 120_000);
});

describe('emitted CUDA has no races', () => {
  const way: Way = emulatedWay('races');
  const programs = new Map<string, Program>();
  beforeAll(async () => {
    // Few blocks, so that each goes on to another virtual one with what the last left in shared memory.
    for (const [name, [kernel]] of Object.entries(cases))
      programs.set(name, oneWord([kernel], target.name, { blocks: 2 }));
    await way.prepare([...programs.values()]);
  }, 600_000);
  afterAll(() => way.close());

  for (const [name, [kernel, skeleton]] of Object.entries(cases)) {
    it(name, async () => {
      expect(kernel.schedule!.skeleton).toBe(skeleton);
      const inputs = kernel.inputs.map((b, i) => randomTensor(b.dtype, b.shape, i));
      const [outputs] = await runWord(way, programs.get(name)!, [kernel], [inputs]);
      const expected = interpretKernel(kernel, inputs);
      outputs!.forEach((o, n) => expect(relativeError(o, expected[n]!)).toBeLessThan(2e-3));
    });
  }
});
