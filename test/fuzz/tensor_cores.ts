/**
 * @file Random kernels for tensor cores, with schedules that no default has for sizes as small: k in segments, and tiles that blocks share.
 */
import fc from 'fast-check';
import type { Kernel, MmaSchedule } from '../../ir/kernel.ts';
import { partsOf } from '../../ir/mma.ts';
import type { DType } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { convKernel, matmulKernel } from '../codegen/kernels.ts';

const upTo = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });
const dtype = fc.constantFrom<DType>('f16', 'bf16');

const product: fc.Arbitrary<Kernel> = fc
  .tuple(upTo(2), upTo(20), upTo(20), upTo(90), fc.boolean(), dtype)
  .map(([batch, m, n, k, transposed, d]) => matmulKernel(transposed ? 1 : batch, m, n, k, transposed, d));

const convolution: fc.Arbitrary<Kernel> = fc
  .record({
    channels: fc.constantFrom(3, 8, 12, 16, 32),
    outChannels: upTo(20),
    size: fc.tuple(upTo(6), upTo(6)).map(([h, w]) => [h + 3, w + 3] as const),
    kernel: fc.tuple(upTo(3), upTo(3)),
    pad: fc.nat(2),
    residual: fc.boolean(),
    channelsInner: fc.boolean(),
    channelsLast: fc.boolean(),
    dtype,
  })
  .map(convKernel);

const schedule: fc.Arbitrary<MmaSchedule> = fc
  .record({
    m: fc.constantFrom(16, 32),
    n: fc.constantFrom(16, 48),
    k: fc.constantFrom(16, 32, 64),
    stages: fc.constantFrom(2, 3),
    segments: fc.constantFrom(1, 2),
    splits: fc.constantFrom(1, 2, 4),
  })
  .map(({ m, n, k, stages, segments, splits }) => ({
    skeleton: 'mma',
    instruction: 'mma',
    threads: 32 * segments,
    tile: { m, n, k },
    warps: { m: 1, n: 1 },
    stages,
    segments,
    splits,
  }));

/** Perhaps with one of as many parts of k for words beside others, or for wider ones. */
export const tensorCoreKernel: fc.Arbitrary<Kernel> = fc
  .tuple(
    fc.oneof(product, convolution),
    schedule,
    fc.option(fc.record({ from: fc.constantFrom(1, 2), schedule }), { nil: undefined }),
  )
  .map(([kernel, first, other]): Kernel => {
    const scheduled = { ...kernel, schedule: first };
    if (!other || partsOf(other.schedule) !== partsOf(first)) return scheduled;
    const both = { ...scheduled, wider: [other] };
    return verifyKernel(both).length === 0 ? both : scheduled;
  })
  .filter((kernel) => verifyKernel(kernel).length === 0);
