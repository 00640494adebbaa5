/**
 * @file The attention skeleton: emitted CUDA against the interpreter, and the promise of the same bits. Emulated on the CPU everywhere,
 * on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { attentionOf } from '../../ir/attention.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, reader, type Tensor, writer } from '../../ir/tensor.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { loadNative, type NativeDevice } from '../../runtime/native.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { type RunOptions, runKernels } from '../support/run_kernel.ts';
import { type AttentionShape, attentionKernel } from './kernels.ts';

const target = targetOf('sm_90');

const cases: Record<string, AttentionShape> = {
  'one query, one key': { heads: 3, queries: 1, features: 16 },
  'one query, several tiles of keys': { heads: 2, queries: 1, keys: 150, features: 16, mask: true },
  '7 queries': { heads: 2, queries: 7, features: 32, mask: true, zeroHidden: true },
  '64 queries, features of 64': { heads: 1, queries: 64, features: 64, width: 16 },
  '100 queries, masked': { heads: 1, queries: 100, features: 16, mask: true, zeroHidden: true },
  '128 queries': { heads: 1, queries: 128, features: 16 },
  '65 queries, heads of 32': { heads: 1, queries: 65, features: 32, mask: true },
  'heads of 64, odd sizes': { heads: 2, queries: 19, keys: 37, features: 64, mask: true },
  'heads of 24': { heads: 3, queries: 20, keys: 33, features: 24 },
  'heads of 128': { heads: 1, queries: 9, keys: 35, features: 128 },
  'heads of 8, values of 40': { heads: 2, queries: 33, keys: 70, features: 8, width: 40, mask: true },
  'many blocks of 64 queries': { heads: 16, queries: 66, keys: 20, features: 8 },
  'keys last': { heads: 2, queries: 30, keys: 48, features: 32, keysLast: true },
  'keys last, of an odd number': { heads: 2, queries: 33, keys: 65, features: 16, keysLast: true },
  'keys shared by all heads': {
    batch: 2,
    heads: 5,
    queries: 12,
    keys: 21,
    features: 16,
    mask: true,
    sharedKeys: true,
  },
  bf16: { heads: 2, queries: 40, features: 32, mask: true, zeroHidden: true, dtype: 'bf16' },
};

/** Random operands; masks hide a third of the keys, all of them from query 2 and all but the last one from query 3. */
function operands(kernel: Kernel, seed: number): Tensor[] {
  return kernel.inputs.map((b, i) => {
    const tensor = randomTensor(b.dtype, b.shape, seed + i);
    if (i < 3) return tensor;
    const [read, write] = [reader(tensor), writer(tensor)];
    const [, , queries, keys] = b.shape as [number, number, number, number];
    for (let n = 0; n < tensor.data.length; n++) {
      const [query, key] = [Math.floor(n / keys) % queries, n % keys];
      const hidden = query === 2 || (query === 3 ? key < keys - 1 : read(n) < -0.33);
      if (hidden) write(n, Number.NEGATIVE_INFINITY);
    }
    return tensor;
  });
}

function suite(open: () => NativeDevice, options: RunOptions): void {
  let device: NativeDevice;
  beforeAll(() => void (device = open()));
  afterAll(() => device.close());

  const run = (kernels: readonly Kernel[], tenants: readonly Tensor[][], more: RunOptions = {}) =>
    runKernels(device, kernels, tenants, { ...options, ...more });

  for (const [name, shape] of Object.entries(cases)) {
    it(name, async () => {
      const kernel = scheduleKernel(attentionKernel(shape), target);
      expect(verifyKernel(kernel, target)).toEqual([]);
      expect(kernel.schedule!.skeleton).toBe('attention');
      const tenants = [100, 200].map((seed) => operands(kernel, seed));
      const both = [kernel, kernel];
      const together = await run(both, tenants);
      const constrained = await run(both, tenants, { blocks: 2 });
      const specialised = await run(both, tenants, { tier: 'specialised' });
      for (const [t, inputs] of tenants.entries()) {
        const [[outputs]] = (await run([kernel], [inputs])) as [[Tensor]];
        // The interpreter is slow, and tenants are alike.
        const [expected] = t === 0 ? interpretKernel(kernel, inputs) : [outputs];
        expect(relativeError(outputs, expected!)).toBeLessThan(shape.dtype === 'bf16' ? 6e-3 : 8e-4);
        for (const other of [together, constrained, specialised])
          expect(bytesOf(other[t]![0]!)).toEqual(bytesOf(outputs));
      }
    });
  }

  it('NaN, infinities and hidden rows are what the interpreter makes of them', async () => {
    const kernel = scheduleKernel(
      attentionKernel({ heads: 1, queries: 20, keys: 70, features: 16, mask: true }),
      target,
    );
    const inputs = operands(kernel, 300);
    const mask = writer(inputs[3]!);
    mask(5 * 70 + 3, Number.NaN);
    mask(6 * 70 + 66, Number.POSITIVE_INFINITY);
    for (let key = 0; key < 64; key++) mask(7 * 70 + key, Number.NEGATIVE_INFINITY);
    const [expected] = interpretKernel(kernel, inputs);
    const [[outputs]] = (await run([kernel], [inputs])) as [[Tensor]];
    const rowsOfNaN = (t: Tensor): number[] =>
      [...t.data.keys()].filter((n) => Number.isNaN(reader(t)(n))).map((n) => Math.floor(n / 16));
    expect(new Set(rowsOfNaN(expected!))).toEqual(new Set([2, 5, 6]));
    expect(relativeError(outputs, expected!)).toBeLessThan(8e-4);
  });

  it('sizes of one class run on one code', async () => {
    const kernels = [20, 50].map((queries) =>
      scheduleKernel(attentionKernel({ heads: 9, queries, keys: 40, features: 16, mask: true }), target),
    );
    const [schedule] = kernels.map((k) => k.schedule!);
    const same = kernels.map((k) => ({ ...k, schedule: schedule! }));
    const tenants = same.map((k, n) => operands(k, 400 + n));
    const results = await run(same, tenants);
    for (const [n, k] of same.entries()) {
      const [expected] = interpretKernel(k, tenants[n]!);
      expect(relativeError(results[n]![0]!, expected!)).toBeLessThan(8e-4);
    }
  });
}

describe('attention is recognised', () => {
  const shape: AttentionShape = { heads: 2, queries: 9, features: 16, mask: true };
  it('with its roles', () => {
    const a = attentionOf(attentionKernel(shape))!;
    expect([a.batch, a.query].map((r) => r.map((i) => i.name))).toEqual([['b', 'h'], ['m']]);
    expect([a.key, a.features, a.width].map((i) => i.name)).toEqual(['k', 'c', 'd']);
    expect([a.q.vector, a.k.vector, a.v.vector, a.storeVector]).toEqual([8, 8, 8, 8]);
  });
  it('not in f32', () => expect(attentionOf(attentionKernel({ ...shape, dtype: 'f32' }))).toBeUndefined());
});

const { cuda, nvrtc } = loadNative().probe();
const problem = cuda.problem ?? nvrtc.problem;

describe('attention, emulated', () => suite(() => loadNative().openHost(1), { emulate: target.name }));
describe.skipIf(problem)(`attention on the GPU${problem ? ` (skipped: ${problem})` : ''}`, () =>
  suite(() => loadNative().openCuda(0), {}),
);
