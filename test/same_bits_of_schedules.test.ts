/**
 * @file Schedules on tensor cores that cut k into as many parts give the same bits: what words of different widths run a kernel under may
 * differ in everything else.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Buffer, Kernel, MmaSchedule } from '../ir/kernel.ts';
import { deepestStep, partDepth, partsOf } from '../ir/mma.ts';
import type { Program } from '../ir/program.ts';
import { randomInput } from '../ir/random.ts';
import { bytesOf } from '../ir/tensor.ts';
import { verifyKernel } from '../ir/verify.ts';
import { convKernel, matmulKernel } from './codegen/kernels.ts';
import { oneWord, runWord } from './support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from './support/ways.ts';

const mma = (
  [m, n, k]: readonly [number, number, number],
  warps: readonly [number, number],
  stages: number,
  segments: number,
  splits: number,
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

/** By warpgroups: the tensor cores of an H100 add in the same order, whichever instruction asks them to. */
const wgmma = (...shape: Parameters<typeof mma>): MmaSchedule => ({ ...mma(...shape), instruction: 'wgmma' });

/** By the number of parts. */
const schedules: readonly MmaSchedule[] = [
  mma([16, 16, 32], [1, 1], 2, 1, 1),
  mma([32, 48, 64], [2, 1], 3, 1, 1),
  mma([32, 32, 16], [1, 2], 4, 1, 1),
  wgmma([64, 24, 64], [4, 1], 3, 1, 1),
  mma([16, 16, 32], [1, 1], 3, 2, 1),
  wgmma([64, 16, 32], [4, 1], 4, 2, 1),
  mma([32, 48, 64], [1, 1], 2, 1, 2),
  mma([16, 32, 16], [1, 1], 2, 8, 1),
  mma([32, 16, 64], [2, 1], 2, 4, 2),
  mma([16, 16, 32], [1, 1], 3, 2, 4),
  mma([32, 32, 64], [1, 1], 2, 1, 8),
  wgmma([64, 32, 64], [4, 1], 3, 2, 4),
];

/** The kernel with its outputs as they are before they are rounded to 16 bits, which would hide in what order sums were added. */
function unrounded(kernel: Kernel): Kernel {
  const outputs = kernel.outputs.map((b): Buffer => ({ ...b, dtype: 'f32' }));
  const stores = kernel.stores.map((s) => {
    if (s.value.kind !== 'cast') throw new Error('expected a cast');
    return { ...s, buffer: outputs[kernel.outputs.indexOf(s.buffer)]!, value: s.value.arg };
  });
  return { ...kernel, outputs, stores };
}

const kernels: readonly Kernel[] = [
  matmulKernel(1, 19, 40, 601, true, 'f16'),
  matmulKernel(1, 17, 24, 1160, true, 'bf16'),
  convKernel({
    channels: 72,
    outChannels: 40,
    size: [5, 7],
    kernel: [3, 3],
    pad: 1,
    residual: true,
    channelsInner: true,
    channelsLast: true,
    dtype: 'f16',
  }),
].map(unrounded);

function suite(kind: WayKind): void {
  let way: Way;
  const programs = new Map<Kernel, Map<MmaSchedule, Program>>();
  beforeAll(async () => {
    way = kind.open();
    for (const kernel of kernels)
      programs.set(
        kernel,
        new Map(
          schedules
            // Warpgroups need rows of k that can be copied.
            .filter((schedule) => verifyKernel({ ...kernel, schedule }).length === 0)
            .map((schedule) => [schedule, oneWord([{ ...kernel, schedule }], way.target)]),
        ),
      );
    await way.prepare([...programs.values()].flatMap((p) => [...p.values()]));
  }, 600_000);
  afterAll(() => way?.close());

  kernels.forEach((kernel, n) => {
    it(`of kernel ${n}`, async () => {
      const counts = [...programs.get(kernel)!.keys()].filter((s) => s.instruction === 'wgmma').length;
      expect(counts).toBe(n === 0 ? 0 : 3);
      const inputs = kernel.inputs.map((b, i) => randomInput(b, 10 * n + i));
      const bits = new Map<number, Set<string>>();
      for (const [schedule, program] of programs.get(kernel)!) {
        const [outputs] = await runWord(way, program, [kernel], [inputs]);
        const parts = partsOf(schedule);
        bits.set(
          parts,
          (bits.get(parts) ?? new Set()).add(Buffer.from(bytesOf(outputs![0]!)).toString('hex')),
        );
      }
      expect([...bits].map(([parts, { size }]) => [parts, size])).toEqual([
        [1, 1],
        [2, 1],
        [8, 1],
      ]);
      // Sums in another order are other sums, or the test would say nothing.
      expect(new Set([...bits.values()].flatMap((b) => [...b])).size).toBe(3);
    }, 600_000);
  });
}

const { emulated, cuda } = wayKinds();
describe('the same bits of schedules of as many parts, emulated', () => suite(emulated));
describe.skipIf(cuda.problem)(titled('the same bits of schedules of as many parts on the GPU', cuda), () =>
  suite(cuda),
);

describe('parts of k', () => {
  it('are whole steps of any depth and hold all of k', () => {
    for (const k of [1, 63, 64, 65, 600, 4608])
      for (const parts of [1, 2, 4, 8, 32]) {
        expect(partDepth(k, parts) % deepestStep).toBe(0);
        expect(partDepth(k, parts) * parts).toBeGreaterThanOrEqual(k);
      }
  });
});
