/**
 * @file The contraction skeleton without tensor cores: emitted CUDA against the interpreter, and the promise of the same bits, whatever the
 * tile. Emulated on the CPU everywhere, on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { interpretKernel } from '../../ir/interpret.ts';
import type { ContractionSchedule, Kernel } from '../../ir/kernel.ts';
import { memoised } from '../../ir/remap.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { convKernel, matmulKernel } from './kernels.ts';

const target = targetOf('sm_90');

const tile = (
  m: number,
  n: number,
  k: number,
  perThread: readonly [m: number, n: number],
  stages: number,
): ContractionSchedule => ({
  skeleton: 'contraction',
  threads: (m / perThread[0]) * (n / perThread[1]),
  tile: { m, n, k },
  perThread: { m: perThread[0], n: perThread[1] },
  stages,
});

interface Case {
  readonly kernel: Kernel;
  /** All of them give the same bits. */
  readonly schedules: readonly ContractionSchedule[];
}

const cases: Record<string, Case> = {
  'matmul, whole tiles': {
    kernel: matmulKernel(1, 128, 128, 32),
    schedules: [
      tile(128, 128, 16, [8, 8], 3),
      tile(128, 64, 8, [8, 8], 2),
      tile(64, 64, 8, [8, 4], 4),
      tile(64, 128, 32, [4, 8], 2),
    ],
  },
  'matmul, sizes that fill no tile': {
    kernel: matmulKernel(2, 70, 90, 44),
    schedules: [
      tile(64, 64, 16, [8, 8], 3),
      tile(128, 128, 8, [8, 8], 2),
      tile(32, 32, 16, [2, 2], 1),
      tile(16, 16, 32, [1, 1], 2),
    ],
  },
  'matmul, rows that are not aligned': {
    kernel: matmulKernel(1, 35, 37, 51),
    schedules: [tile(32, 32, 16, [4, 4], 3), tile(64, 64, 8, [8, 8], 2)],
  },
  'matmul transposed, copies along k': {
    kernel: matmulKernel(1, 33, 47, 61, true),
    schedules: [tile(32, 64, 16, [4, 4], 3), tile(16, 16, 16, [1, 2], 2)],
  },
  'matmul transposed, 2 neighbours in k': {
    kernel: matmulKernel(1, 64, 64, 62, true),
    schedules: [tile(64, 64, 16, [8, 8], 3), tile(64, 32, 8, [4, 4], 1)],
  },
  'matmul, one row': {
    kernel: matmulKernel(1, 1, 100, 40),
    schedules: [tile(64, 16, 16, [2, 4], 2), tile(16, 16, 8, [1, 1], 3)],
  },
  'matmul, k shorter than the stages': {
    kernel: matmulKernel(1, 20, 36, 4),
    schedules: [tile(32, 32, 16, [4, 4], 4), tile(32, 32, 8, [2, 2], 2)],
  },
  'matmul f16': {
    kernel: matmulKernel(1, 48, 40, 56, false, 'f16'),
    schedules: [tile(64, 64, 16, [8, 8], 3), tile(32, 32, 8, [4, 4], 1)],
  },
  'matmul bf16, transposed': {
    kernel: matmulKernel(1, 48, 40, 55, true, 'bf16'),
    schedules: [tile(64, 32, 16, [4, 8], 2)],
  },
  'conv 3x3 padded, odd picture': {
    kernel: convKernel({
      channels: 5,
      outChannels: 36,
      size: [9, 7],
      kernel: [3, 3],
      pad: 1,
      residual: true,
    }),
    schedules: [
      tile(64, 64, 16, [8, 8], 3),
      tile(64, 32, 8, [4, 4], 2),
      tile(128, 64, 8, [8, 8], 3),
      tile(32, 32, 32, [2, 2], 1),
    ],
  },
  'conv 3x3 stride 2, batch of 2': {
    kernel: convKernel({
      batch: 2,
      channels: 6,
      outChannels: 20,
      size: [11, 12],
      kernel: [3, 3],
      pad: 1,
      stride: 2,
    }),
    schedules: [tile(32, 32, 16, [4, 4], 3), tile(64, 16, 8, [4, 2], 2)],
  },
  'conv 1x1 residual, 4 pixels at once': {
    kernel: convKernel({ channels: 24, outChannels: 33, size: [6, 6], kernel: [1, 1], residual: true }),
    schedules: [tile(64, 32, 16, [4, 4], 3), tile(64, 64, 8, [8, 8], 2)],
  },
  'conv 1x1 residual, 2 pixels at once': {
    kernel: convKernel({ channels: 18, outChannels: 17, size: [6, 5], kernel: [1, 1], residual: true }),
    schedules: [tile(32, 32, 16, [4, 4], 3)],
  },
  'conv 5x1, a tile of 96 pixels': {
    kernel: convKernel({ channels: 7, outChannels: 24, size: [12, 9], kernel: [5, 1], pad: 2 }),
    schedules: [tile(96, 32, 16, [4, 4], 2), tile(48, 48, 24, [3, 6], 3)],
  },
  'NHWC conv 3x3': {
    kernel: convKernel({
      channels: 12,
      outChannels: 40,
      size: [7, 9],
      kernel: [3, 3],
      pad: 1,
      channelsInner: true,
      channelsLast: true,
      residual: true,
    }),
    schedules: [tile(64, 64, 16, [8, 8], 3), tile(32, 32, 8, [4, 4], 2)],
  },
  'NHWC conv 3x3, channels outside of taps': {
    kernel: convKernel({
      channels: 9,
      outChannels: 30,
      size: [6, 6],
      kernel: [3, 3],
      pad: 1,
      channelsLast: true,
    }),
    schedules: [tile(32, 64, 16, [4, 4], 3)],
  },
};

const kernels = Object.entries(cases).flatMap(([name, { kernel, schedules }]) =>
  schedules.map((schedule) => ({ name, plain: kernel, kernel: { ...kernel, schedule } })),
);

const inputsOf = memoised((k: Kernel): Tensor[][] =>
  [1, 2].map((t) => k.inputs.map((b, i) => randomTensor(b.dtype, b.shape, 100 * t + i))),
);
const expectedOf = memoised((k: Kernel) => inputsOf(k).map((inputs) => interpretKernel(k, inputs)[0]!));

function suite(kind: WayKind): void {
  let way: Way;
  const programs = kernels.map(({ kernel: k }) => ({
    alone: oneWord([k], target.name),
    together: [
      oneWord([k, k], target.name, { blocks: 2 }),
      oneWord([k, k], target.name, { tier: 'specialised' }),
    ],
  }));
  beforeAll(async () => {
    way = kind.open();
    await way.prepare(programs.flatMap(({ alone, together }) => [alone, ...together]));
  }, 600_000);
  afterAll(() => way.close());

  for (const [name, { kernel: plain }] of Object.entries(cases)) {
    it(name, async () => {
      const tenants = inputsOf(plain);
      const expected = expectedOf(plain);
      let first: Uint8Array[] | undefined;
      for (const [n, { kernel, plain: mine }] of kernels.entries()) {
        if (mine !== plain) continue;
        const { alone, together } = programs[n]!;
        const single: Tensor[] = [];
        for (const inputs of tenants) single.push((await runWord(way, alone, [kernel], [inputs]))[0]![0]!);
        const most = { f32: 1e-5, f16: 5e-4 }[kernel.outputs[0]!.dtype as string] ?? 4e-3;
        for (const [t, output] of single.entries())
          expect(relativeError(output, expected[t]!)).toBeLessThan(most);
        first ??= single.map(bytesOf);
        expect(single.map(bytesOf)).toEqual(first);
        for (const program of together) {
          const both = await runWord(way, program, [kernel, kernel], tenants);
          expect(both.map(([output]) => bytesOf(output!))).toEqual(first);
        }
      }
    });
  }
}

const { emulated, cuda } = wayKinds();
describe('contractions without tensor cores, emulated', () => suite(emulated));
describe.skipIf(cuda.problem)(titled('contractions without tensor cores on the GPU', cuda), () =>
  suite(cuda),
);
