/**
 * @file The attention skeleton: emitted CUDA against the interpreter, and the promise of the same bits. Emulated on the CPU everywhere,
 * on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emitWord } from '../../codegen/word.ts';
import { attentionOf } from '../../ir/attention.ts';
import { classOf } from '../../ir/class.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { AttentionSchedule, Kernel } from '../../ir/kernel.ts';
import { memoised } from '../../ir/remap.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, reader, type Tensor, writer } from '../../ir/tensor.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { type AttentionShape, attentionKernel } from './kernels.ts';

const target = targetOf('sm_90');

const shapes: { readonly [name: string]: AttentionShape } = {
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
  'queries and values last': {
    heads: 2,
    queries: 24,
    keys: 40,
    features: 32,
    queriesLast: true,
    valuesLast: true,
  },
  'all last, of odd numbers': {
    heads: 3,
    queries: 21,
    keys: 67,
    features: 16,
    width: 24,
    mask: true,
    queriesLast: true,
    keysLast: true,
    valuesLast: true,
  },
  'queries last, keys shared': {
    ...{ heads: 3, queries: 16, keys: 64, features: 32 },
    ...{ queriesLast: true, valuesLast: true, sharedKeys: true },
  },
  bf16: { heads: 2, queries: 40, features: 32, mask: true, zeroHidden: true, dtype: 'bf16' },
};

const scheduled = (shape: AttentionShape): Kernel => scheduleKernel(attentionKernel(shape), target);
/** Two stages of 128 keys of 128 are more than code can declare. */
const asked: AttentionSchedule = {
  skeleton: 'attention',
  threads: 64,
  tile: { queries: 32, keys: 128 },
  room: { features: 128, values: 128 },
};
const kernels: ReadonlyMap<string, Kernel> = new Map([
  ...Object.entries(shapes).map(([name, shape]) => [name, scheduled(shape)] as const),
  [
    'shared memory that was asked for',
    {
      ...attentionKernel({ heads: 1, queries: 3, keys: 150, features: 120 }),
      schedule: asked,
    },
  ],
]);
const odd = scheduled({ heads: 1, queries: 20, keys: 70, features: 16, mask: true });
/** Two of one class. */
const sizes = [20, 50].map((queries) => ({
  ...attentionKernel({ heads: 3, queries, keys: 40, features: 16, mask: true }),
  schedule: scheduled({ heads: 3, queries: 20, keys: 40, features: 16, mask: true }).schedule!,
}));

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

const tenantsOf = (kernel: Kernel): Tensor[][] => [100, 200].map((seed) => operands(kernel, seed));
/** What the interpreter gives for a kernel's first tenant: it is slow, and tenants are alike. */
const expectedOf = memoised((kernel: Kernel) => interpretKernel(kernel, tenantsOf(kernel)[0]!)[0]!);

function suite(kind: WayKind): void {
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
  const oddAlone = oneWord([odd], target.name);
  const bothSizes = oneWord(sizes, target.name);
  let way: Way;
  beforeAll(async () => {
    way = kind.open();
    await way.prepare([...[...variants.values()].flat(), oddAlone, bothSizes]);
  }, 600_000);
  afterAll(() => way.close());

  for (const [name, kernel] of kernels) {
    it(name, async () => {
      expect(verifyKernel(kernel, target)).toEqual([]);
      expect(kernel.schedule!.skeleton).toBe('attention');
      const tenants = tenantsOf(kernel);
      const [alone, ...together] = variants.get(name)!;
      const single = await Promise.all(
        tenants.map(async (inputs) => (await runWord(way, alone!, [kernel], [inputs]))[0]![0]!),
      );
      const tolerance = kernel.outputs[0]!.dtype === 'bf16' ? 6e-3 : 8e-4;
      expect(relativeError(single[0]!, expectedOf(kernel))).toBeLessThan(tolerance);
      for (const program of together) {
        const both = await runWord(way, program, [kernel, kernel], tenants);
        for (const [t, output] of single.entries()) expect(bytesOf(both[t]![0]!)).toEqual(bytesOf(output));
      }
    });
  }

  it('NaN, infinities and hidden rows are what the interpreter makes of them', async () => {
    const inputs = operands(odd, 300);
    const mask = writer(inputs[3]!);
    mask(5 * 70 + 3, Number.NaN);
    mask(6 * 70 + 66, Number.POSITIVE_INFINITY);
    for (let key = 0; key < 64; key++) mask(7 * 70 + key, Number.NEGATIVE_INFINITY);
    const [expected] = interpretKernel(odd, inputs);
    const [[outputs]] = (await runWord(way, oddAlone, [odd], [inputs])) as [[Tensor]];
    const rowsOfNaN = (t: Tensor): number[] =>
      [...t.data.keys()].filter((n) => Number.isNaN(reader(t)(n))).map((n) => Math.floor(n / 16));
    expect(new Set(rowsOfNaN(expected!))).toEqual(new Set([2, 5, 6]));
    expect(relativeError(outputs, expected!)).toBeLessThan(8e-4);
  });

  it('sizes of one class run on one code', async () => {
    const tenants = sizes.map((k, n) => operands(k, 400 + n));
    const results = await runWord(way, bothSizes, sizes, tenants);
    for (const [n, k] of sizes.entries()) {
      const [expected] = interpretKernel(k, tenants[n]!);
      expect(relativeError(results[n]![0]!, expected!)).toBeLessThan(8e-4);
    }
  });
}

it('attention may need more shared memory than code can declare', () => {
  const neededBy = (k: Kernel): number => emitWord([classOf(k, 'generic')], target).sharedBytes;
  // Two stages of keys, padded, and as many values; and the queries.
  expect(neededBy(kernels.get('shared memory that was asked for')!)).toBe((2 * 2 * 128 + 32) * (128 + 8) * 2);
  expect(neededBy(kernels.get('heads of 128')!)).toBe((2 * 2 * 32 + 16) * (128 + 8) * 2);
});

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

const { emulated, cuda } = wayKinds();
describe('attention, emulated', () => suite(emulated));
describe.skipIf(cuda.problem)(titled('attention on the GPU', cuda), () => suite(cuda));
