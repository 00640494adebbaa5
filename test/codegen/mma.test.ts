/**
 * @file The tensor-core skeleton: emitted CUDA against the interpreter, and the promise of the same bits. Emulated on the CPU
 * everywhere, on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { contractionOf } from '../../ir/contraction.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel, MmaSchedule } from '../../ir/kernel.ts';
import { memoised } from '../../ir/remap.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { type ConvShape, convKernel, matmulKernel } from './kernels.ts';

const target = targetOf('sm_90');
const conv = (shape: ConvShape): Kernel => convKernel({ dtype: 'f16', ...shape });

const nhwc = (shape: ConvShape): Kernel => conv({ ...shape, channelsInner: true, channelsLast: true });

interface Case {
  readonly kernel: Kernel;
  /** In place of the schedule pass's choice. */
  readonly schedule?: Partial<MmaSchedule>;
}

const wide = conv({ channels: 40, outChannels: 70, size: [9, 11], kernel: [3, 3], pad: 1 });
const long = conv({ channels: 264, outChannels: 24, size: [7, 7], kernel: [1, 1], residual: true });
const shape = (
  m: number,
  n: number,
  k: number,
  warps: readonly [number, number],
  stages: number,
  segments: number,
  splits = 1,
): MmaSchedule => ({
  skeleton: 'mma',
  instruction: 'mma',
  threads: 32 * warps[0] * warps[1] * segments,
  tile: { m, n, k },
  warps: { m: warps[0], n: warps[1] },
  stages,
  segments,
  splits,
});

const byWarpgroups = (...sizes: Parameters<typeof shape>): MmaSchedule => ({
  ...shape(...sizes),
  instruction: 'wgmma',
});

const cases: Record<string, Case> = {
  'conv 3x3 padded, odd picture': {
    kernel: conv({ channels: 16, outChannels: 20, size: [13, 17], kernel: [3, 3], pad: 1 }),
  },
  'conv 3x3 stride 2': {
    kernel: conv({ channels: 9, outChannels: 8, size: [15, 15], kernel: [3, 3], stride: 2, pad: 1 }),
  },
  'conv 7x7 stride 2 of 3 channels': {
    kernel: conv({ channels: 3, outChannels: 32, size: [20, 20], kernel: [7, 7], stride: 2, pad: 3 }),
  },
  'conv 1x1 residual, 8 pixels at once': {
    kernel: conv({ channels: 72, outChannels: 100, size: [8, 8], kernel: [1, 1], residual: true }),
  },
  'conv 1x1 residual, 4 pixels at once': {
    kernel: conv({ channels: 36, outChannels: 33, size: [6, 6], kernel: [1, 1], residual: true }),
  },
  'conv 1x1, 2 pixels at once': {
    kernel: conv({ channels: 34, outChannels: 17, size: [6, 5], kernel: [1, 1] }),
  },
  'conv 1x1 residual, odd picture': {
    kernel: conv({ channels: 70, outChannels: 100, size: [9, 9], kernel: [1, 1], residual: true }),
  },
  'conv 1x1 stride 2': {
    kernel: conv({ channels: 24, outChannels: 10, size: [16, 16], kernel: [1, 1], stride: 2 }),
  },
  'conv 3x3, channels inside of taps': {
    kernel: conv({
      channels: 64,
      outChannels: 24,
      size: [9, 7],
      kernel: [3, 3],
      pad: 1,
      channelsInner: true,
      residual: true,
    }),
  },
  'conv 3x3 stride 2, channels inside of taps, 4 segments': {
    kernel: conv({
      channels: 32,
      outChannels: 40,
      size: [12, 12],
      kernel: [3, 3],
      pad: 1,
      stride: 2,
      channelsInner: true,
    }),
    schedule: shape(32, 32, 32, [1, 1], 2, 4),
  },
  'conv 3x3, too few channels for a step': {
    kernel: conv({
      channels: 24,
      outChannels: 8,
      size: [8, 8],
      kernel: [3, 3],
      pad: 1,
      channelsInner: true,
    }),
  },
  'NHWC conv 1x1 residual': {
    kernel: nhwc({ channels: 72, outChannels: 100, size: [9, 7], kernel: [1, 1], residual: true }),
  },
  'NHWC conv 1x1 stride 2': {
    kernel: nhwc({ channels: 24, outChannels: 16, size: [15, 15], kernel: [1, 1], stride: 2 }),
  },
  'NHWC conv 3x3, whole steps, 112 pixels a tile': {
    kernel: nhwc({ channels: 64, outChannels: 40, size: [11, 11], kernel: [3, 1], pad: 1, residual: true }),
    schedule: shape(64, 112, 64, [2, 1], 2, 1),
  },
  'NHWC conv 1x1, 4 stages of 64 in shared memory that was asked for': {
    kernel: nhwc({ channels: 320, outChannels: 64, size: [7, 7], kernel: [1, 1], residual: true }),
    schedule: shape(64, 112, 64, [4, 1], 4, 1),
  },
  'NHWC conv 3x3, 208 pixels a tile': {
    kernel: nhwc({ channels: 32, outChannels: 40, size: [15, 15], kernel: [3, 3], pad: 1 }),
    schedule: shape(32, 208, 32, [2, 1], 2, 1),
  },
  'NHWC conv 3x3, steps that go round': {
    kernel: nhwc({ channels: 8, outChannels: 16, size: [9, 9], kernel: [3, 3], pad: 1 }),
    schedule: shape(16, 48, 64, [1, 1], 3, 1),
  },
  'NHWC conv 3x3 stride 2, 24 channels, 4 segments': {
    kernel: nhwc({ channels: 24, outChannels: 24, size: [13, 10], kernel: [3, 3], stride: 2, pad: 1 }),
    schedule: shape(32, 16, 16, [1, 1], 4, 4),
  },
  'NHWC conv 5x3 of a batch, 2 segments of whole steps, bf16': {
    kernel: nhwc({
      batch: 2,
      channels: 32,
      outChannels: 33,
      size: [8, 9],
      kernel: [5, 3],
      pad: 2,
      dtype: 'bf16',
    }),
    schedule: shape(32, 48, 32, [2, 1], 3, 2),
  },
  'NHWC conv 7x7 stride 2 of 3 channels': {
    kernel: nhwc({ channels: 3, outChannels: 32, size: [20, 20], kernel: [7, 7], stride: 2, pad: 3 }),
  },
  'NHWC conv 3x3, sums put down in rounds': {
    kernel: nhwc({ channels: 16, outChannels: 72, size: [10, 12], kernel: [3, 3], pad: 1, residual: true }),
    schedule: shape(64, 160, 16, [2, 2], 2, 1),
  },
  'NHWC conv 3x3 in 2 splits, sums put down in rounds': {
    kernel: nhwc({ channels: 16, outChannels: 72, size: [10, 12], kernel: [3, 3], pad: 1, residual: true }),
    schedule: shape(64, 160, 16, [2, 2], 2, 1, 2),
  },
  'conv 1x1, whole steps of 49 pixels': {
    kernel: conv({ channels: 128, outChannels: 40, size: [7, 7], kernel: [1, 1], residual: true }),
  },
  'a row by a matrix': { kernel: matmulKernel(1, 1, 100, 264, true, 'f16') },
  'a row by a matrix, not transposed': { kernel: matmulKernel(1, 1, 104, 256, false, 'f16') },
  'conv batch of 3': {
    kernel: conv({ batch: 3, channels: 8, outChannels: 8, size: [8, 8], kernel: [3, 3], pad: 1 }),
  },
  'conv bf16': {
    kernel: conv({ channels: 16, outChannels: 24, size: [10, 10], kernel: [3, 3], pad: 1, dtype: 'bf16' }),
  },
  matmul: { kernel: matmulKernel(2, 33, 72, 80, false, 'f16') },
  'matmul of odd sizes': { kernel: matmulKernel(3, 19, 65, 43, false, 'f16') },
  'matmul transposed': { kernel: matmulKernel(1, 40, 30, 136, true, 'f16') },
  'matmul transposed of odd sizes': { kernel: matmulKernel(1, 17, 31, 129, true, 'f16') },
  'matmul bf16': { kernel: matmulKernel(1, 128, 96, 64, true, 'bf16') },
  'long k': { kernel: long },
  'long k in 8 segments': { kernel: long, schedule: shape(16, 16, 32, [1, 1], 2, 8) },
  'long k in 2 segments of 4 warps': { kernel: long, schedule: shape(32, 32, 32, [2, 2], 2, 2) },
  'long k in 2 splits': { kernel: long, schedule: shape(16, 32, 32, [1, 2], 3, 1, 2) },
  'long k in 4 splits of 2 segments': { kernel: long, schedule: shape(16, 16, 16, [1, 1], 2, 2, 4) },
  'splits without work': {
    kernel: matmulKernel(2, 33, 40, 72, false, 'f16'),
    schedule: shape(32, 32, 32, [2, 1], 3, 1, 8),
  },
  'NHWC conv 3x3 residual in 4 splits, steps that go round': {
    kernel: nhwc({ channels: 24, outChannels: 40, size: [7, 7], kernel: [3, 3], pad: 1, residual: true }),
    schedule: shape(32, 48, 32, [2, 1], 4, 1, 4),
  },
  'a row by a matrix in 4 splits': {
    kernel: matmulKernel(1, 1, 100, 520, true, 'f16'),
    schedule: shape(32, 16, 32, [1, 1], 4, 1, 4),
  },
  'segments that are short of work': { kernel: wide, schedule: shape(16, 16, 64, [1, 1], 2, 4) },
  'a tile of 128x128': { kernel: wide, schedule: shape(128, 128, 32, [4, 2], 2, 1) },
  'a tile of 64x64x64': { kernel: wide, schedule: shape(64, 64, 64, [2, 2], 2, 1) },
  '4 stages': { kernel: wide, schedule: shape(32, 64, 32, [1, 2], 4, 1) },
  'warpgroups: NHWC conv 3x3, whole steps, 56 pixels a tile': {
    kernel: nhwc({ channels: 64, outChannels: 40, size: [11, 11], kernel: [3, 1], pad: 1, residual: true }),
    schedule: byWarpgroups(64, 56, 64, [4, 1], 3, 1),
  },
  'warpgroups: NHWC conv 1x1, two along m in tiles of 256': {
    kernel: nhwc({ channels: 320, outChannels: 200, size: [7, 7], kernel: [1, 1], residual: true }),
    schedule: byWarpgroups(256, 48, 64, [8, 1], 4, 1),
  },
  'warpgroups: NHWC conv 3x3, two along n, sums put down in rounds': {
    kernel: nhwc({ channels: 32, outChannels: 72, size: [15, 15], kernel: [3, 3], pad: 1, residual: true }),
    schedule: byWarpgroups(128, 208, 32, [4, 2], 3, 1),
  },
  'warpgroups: a transposed matrix by rows, 2 segments, bf16': {
    kernel: matmulKernel(1, 20, 130, 520, true, 'bf16'),
    schedule: byWarpgroups(64, 24, 64, [4, 1], 4, 2),
  },
  'warpgroups: a row by a matrix in 4 splits of 2 segments': {
    kernel: matmulKernel(1, 1, 100, 1032, true, 'f16'),
    schedule: byWarpgroups(64, 8, 32, [4, 1], 4, 2, 4),
  },
  'warpgroups: NHWC conv 3x3 residual in 2 splits, steps that go round': {
    kernel: nhwc({ channels: 24, outChannels: 40, size: [7, 7], kernel: [3, 3], pad: 1, residual: true }),
    schedule: byWarpgroups(64, 48, 32, [4, 1], 3, 1, 2),
  },
  'warpgroups: more stages than steps': {
    kernel: matmulKernel(1, 32, 64, 72, true, 'f16'),
    schedule: byWarpgroups(64, 32, 64, [4, 1], 4, 1),
  },
  'more stages than steps': {
    kernel: matmulKernel(1, 32, 32, 16, true, 'f16'),
    schedule: shape(32, 32, 16, [1, 1], 4, 2),
  },
};

const kernels = new Map(
  Object.entries(cases).map(([name, { kernel: plain, schedule }]) => {
    const chosen = scheduleKernel(plain, target);
    return [name, schedule ? { ...plain, schedule: schedule as MmaSchedule } : chosen] as const;
  }),
);

/** What the interpreter gives for a kernel's tenants; it knows no schedules, so cases that differ in theirs share it. */
const expectedOf = memoised((plain: Kernel) =>
  inputsOf(plain).map((inputs) => interpretKernel(plain, inputs)[0]!),
);
const inputsOf = (k: Kernel): Tensor[][] =>
  [1, 2].map((t) => k.inputs.map((b, i) => randomTensor(b.dtype, b.shape, 100 * t + i)));

function suite(kind: WayKind): void {
  let way: Way;
  beforeAll(async () => {
    way = kind.open();
    await way.prepare([...variants.values()].flat());
  }, 600_000);
  afterAll(() => way.close());
  const variants = new Map(
    [...kernels].map(([name, k]) => [
      name,
      [
        oneWord([k], target.name),
        oneWord([k, k], target.name),
        oneWord([k, k], target.name, { blocks: 2 }),
        oneWord([k, k], target.name, { tier: 'specialised' }),
      ],
    ]),
  );

  for (const [name, kernel] of kernels) {
    it(name, async () => {
      expect(kernel.schedule!.skeleton).toBe('mma');
      expect(contractionOf(kernel)).toBeDefined();
      const tenants = inputsOf(kernel);
      const expected = expectedOf(cases[name]!.kernel);
      const [alone, ...together] = variants.get(name)!;
      const single = await Promise.all(
        tenants.map(async (inputs) => (await runWord(way, alone!, [kernel], [inputs]))[0]![0]!),
      );
      const dtype = kernel.outputs[0]!.dtype;
      for (const [t, output] of single.entries())
        expect(relativeError(output, expected[t]!)).toBeLessThan(dtype === 'f16' ? 5e-4 : 4e-3);
      for (const program of together) {
        const both = await runWord(way, program, [kernel, kernel], tenants);
        for (const [t, output] of single.entries()) expect(bytesOf(both[t]![0]!)).toEqual(bytesOf(output));
      }
    });
  }
}

const { emulated, cuda } = wayKinds();
describe('tensor-core kernels, emulated', () => suite(emulated));
describe.skipIf(cuda.problem)(titled('tensor-core kernels on the GPU', cuda), () => suite(cuda));
