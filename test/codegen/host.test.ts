/**
 * @file Every skeleton on the host device against the interpreter, and the promise of the same bits.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { hostTarget } from '../../ir/target.ts';
import { bytesOf, toNumbers } from '../../ir/tensor.ts';
import { isFloat } from '../../ir/types.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { runKernels } from '../support/run_kernel.ts';
import { type Way, wayKinds } from '../support/ways.ts';
import {
  convKernel,
  gatherKernel,
  matmulKernel,
  momentsKernel,
  shuffleKernel,
  softmaxKernel,
} from './kernels.ts';

const cases: Record<string, Kernel> = {
  'conv 3x3 padded': convKernel({ channels: 16, outChannels: 20, size: [13, 17], kernel: [3, 3], pad: 1 }),
  'conv 3x3 stride 2': convKernel({
    channels: 9,
    outChannels: 8,
    size: [15, 15],
    kernel: [3, 3],
    stride: 2,
    pad: 1,
  }),
  'conv 1x1 residual': convKernel({
    channels: 70,
    outChannels: 100,
    size: [9, 9],
    kernel: [1, 1],
    residual: true,
  }),
  'conv 1x1 stride 2': convKernel({ channels: 12, outChannels: 10, size: [9, 9], kernel: [1, 1], stride: 2 }),
  'conv batch of 3': convKernel({
    batch: 3,
    channels: 8,
    outChannels: 8,
    size: [8, 8],
    kernel: [3, 3],
    pad: 1,
  }),
  'conv f16': convKernel({
    channels: 16,
    outChannels: 24,
    size: [10, 10],
    kernel: [3, 3],
    pad: 1,
    dtype: 'f16',
  }),
  'conv bf16': convKernel({
    channels: 16,
    outChannels: 24,
    size: [10, 10],
    kernel: [3, 3],
    pad: 1,
    dtype: 'bf16',
  }),
  matmul: matmulKernel(2, 33, 65, 70),
  'matmul transposed': matmulKernel(1, 40, 30, 129, true),
  'matmul of a row': matmulKernel(1, 1, 200, 100),
  'matmul of a row, transposed': matmulKernel(1, 1, 200, 100, true),
  softmax: softmaxKernel(10, 300),
  'softmax f16': softmaxKernel(3, 77, 'f16'),
  moments: momentsKernel(12, 100),
  shuffle: shuffleKernel(50),
  gather: gatherKernel(12, 9, 33),
};

describe('emitted kernels on the host', () => {
  let device: Way;
  beforeAll(() => void (device = wayKinds().host.open()));
  afterAll(() => device.close());

  for (const [name, plain] of Object.entries(cases)) {
    const kernel = scheduleKernel(plain, hostTarget);
    it(`${name} (${kernel.schedule!.skeleton}) equals the interpreter`, async () => {
      const tenants = [1, 2, 3].map((t) =>
        kernel.inputs.map((b, i) => randomTensor(b.dtype, b.shape, 100 * t + i)),
      );
      const expected = tenants.map((inputs) => interpretKernel(kernel, inputs));
      const alone = await Promise.all(tenants.map((inputs) => runKernels(device, [kernel], [inputs])));
      for (const [t, [outputs]] of alone.entries()) {
        outputs!.forEach((output, i) => {
          const reference = expected[t]![i]!;
          if (!isFloat(output.dtype)) expect(toNumbers(output)).toEqual(toNumbers(reference));
          expect(relativeError(output, reference)).toBeLessThan(output.dtype === 'f32' ? 1e-5 : 2e-2);
        });
      }
      const together = await runKernels(device, [kernel, kernel, kernel], tenants);
      const constrained = await runKernels(device, [kernel, kernel, kernel], tenants, { blocks: 2 });
      const specialised = await runKernels(device, [kernel, kernel, kernel], tenants, {
        tier: 'specialised',
      });
      for (const [t, [outputs]] of alone.entries()) {
        outputs!.forEach((output, i) => {
          for (const other of [together, constrained, specialised]) {
            expect(bytesOf(other[t]![i]!)).toEqual(bytesOf(output));
          }
        });
      }
    });
  }

  it('one word serves kernels of several sizes', async () => {
    const kernels = [20, 24, 36].map((channels) =>
      scheduleKernel(
        convKernel({
          channels,
          outChannels: 12 + channels,
          size: [channels - 11, 12],
          kernel: [3, 3],
          pad: 1,
        }),
        hostTarget,
      ),
    );
    const tenants = kernels.map((k, t) => k.inputs.map((b, i) => randomTensor(b.dtype, b.shape, 10 * t + i)));
    const together = await runKernels(device, kernels, tenants);
    for (const [t, kernel] of kernels.entries()) {
      const [alone] = await runKernels(device, [kernel], [tenants[t]!], { tier: 'specialised' });
      expect(bytesOf(together[t]![0]!)).toEqual(bytesOf(alone![0]!));
      expect(relativeError(together[t]![0]!, interpretKernel(kernel, tenants[t]!)[0]!)).toBeLessThan(1e-5);
    }
  });
});
