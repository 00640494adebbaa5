/**
 * @file Maps with vectors: emitted CUDA against the interpreter, and bit for bit against the same map one element a thread. Emulated on the
 * CPU everywhere, on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AffineLike, add, floordiv, index, mod, mul } from '../../ir/affine.ts';
import {
  buffer,
  kernel as buildKernel,
  cast,
  constant,
  indexValue,
  indicesFor,
  load,
  op,
  reduce,
  store,
  widen,
} from '../../ir/build.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Program } from '../../ir/program.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { slice } from '../../passes/slice.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { depthwiseKernel, gatherKernel } from './kernels.ts';

const target = targetOf('sm_90');

/** The greatest, or the sum, of each 2x2 or 3x3 window of a channels-last picture. */
function poolKernel(combine: 'max' | 'sum', channels: number, dtype: DType): Kernel {
  const [x, y] = [buffer('x0', dtype, [1, 9, 8, channels]), buffer('y0', dtype, [1, 5, 4, channels])];
  const domain = indicesFor(y.shape, ['n', 'oh', 'ow', 'c']);
  const [n, oh, ow, c] = domain as [(typeof domain)[0], ...typeof domain];
  const [kh, kw] = [index('kh', 3), index('kw', 3)];
  const at = [n, add(mul(oh!, 2), kh, -1), add(mul(ow!, 2), kw, -1), c!];
  const outside = combine === 'max' ? -Infinity : 0;
  const window = reduce(combine, [kh, kw], widen(load(x, at, outside)));
  const value = combine === 'max' ? window : op('div', window, constant('f32', 9));
  return buildKernel('pool', [x], [y], domain, [store(y, domain, cast(dtype, value))]);
}

/** The mean of each channel of a channels-last picture. */
function meanKernel(side: number, channels: number, dtype: DType): Kernel {
  const [x, y] = [buffer('x0', dtype, [side, side, channels]), buffer('y0', dtype, [channels])];
  const [c, h, w] = [index('c', channels), index('h', side), index('w', side)];
  const sum = reduce('sum', [h, w], widen(load(x, [h, w, c])));
  return buildKernel(
    'mean',
    [x],
    [y],
    [c],
    [store(y, [c], cast(dtype, op('div', sum, constant('f32', side * side))))],
  );
}

/** relu(a + b + bias), the bias along the last dimension; in the types of a, b and the result. */
function sumKernel(shape: readonly number[], [a, b, y]: readonly [DType, DType, DType]): Kernel {
  const domain = indicesFor(shape);
  const inputs = [buffer('x0', a, shape), buffer('x1', b, shape), buffer('x2', 'f32', shape.slice(-1))];
  const [p, q] = inputs.map((x) => cast('f32', load(x, x.shape.length === 1 ? domain.slice(-1) : domain)));
  const bias = load(inputs[2]!, domain.slice(-1));
  const sum = op('max', op('add', op('add', p!, q!), bias), constant('f32', 0));
  const out = buffer('y0', y, shape);
  return buildKernel('sum', inputs, [out], domain, [store(out, domain, cast(y, sum))]);
}

/** Everything that is not plain: shuffled reads, indices as values, a value for all points, two outputs, store loops. */
function oddKernel(): Kernel {
  const [x, s, far] = [buffer('x0', 'f16', [6, 16]), buffer('x1', 'i1', [16]), buffer('x2', 'f32', [96])];
  const [y, z] = [buffer('y0', 'f32', [6, 16]), buffer('y1', 'i8', [3, 6, 16])];
  const [r, c] = [index('r', 6), index('c', 16)];
  const [k, l] = [index('k', 3), index('l', 3)];
  const shuffled: AffineLike[] = [r, add(mul(mod(c, 2), 8), floordiv(c, 2))];
  const place = cast('f32', indexValue(add(mul(c, 3), r)));
  const value = op('add', op('add', widen(load(x, shuffled)), place), load(far, [mul(floordiv(r, 2), 8)]));
  const chosen = op('select', load(s, [c]), value, constant('f32', -1));
  const all = reduce('sum', [k], load(far, [add(mul(r, 3), k)]));
  const far2 = load(far, [add(mul(floordiv(r, 2), 16), c)]);
  const stored = cast('i8', op('add', all, op('mul', cast('f32', indexValue(add(l, c))), far2)));
  return buildKernel(
    'odd',
    [x, s, far],
    [y, z],
    [r, c],
    [store(y, [r, c], op('add', chosen, all)), store(z, [l, r, c], stored, [l])],
  );
}

interface Case {
  readonly kernel: Kernel;
  /** The widest vector that the verifier accepts; it is run, beside none. */
  readonly widest: number;
}

const depthwise = (dtype: DType, stride: number, channels = 24): Kernel =>
  depthwiseKernel({ channels, size: [9, 7], kernel: [3, 3], stride, pad: 1, channelsLast: true, dtype });

const cases: { readonly [name: string]: Case } = {
  'depthwise 3x3, f16': { kernel: depthwise('f16', 1), widest: 8 },
  'depthwise 3x3, stride 2, f16': { kernel: depthwise('f16', 2), widest: 8 },
  'depthwise 3x3, bf16': { kernel: depthwise('bf16', 1), widest: 8 },
  'depthwise 3x3, f32': { kernel: depthwise('f32', 2), widest: 8 },
  'depthwise 3x3, f32, 12 channels': { kernel: depthwise('f32', 2, 12), widest: 4 },
  'depthwise 3x3, 12 channels': { kernel: depthwise('f16', 1, 12), widest: 4 },
  'depthwise 3x3, 15 channels': { kernel: depthwise('f16', 1, 15), widest: 1 },
  'depthwise 3x3, channels first': {
    kernel: depthwiseKernel({ channels: 6, size: [9, 8], kernel: [3, 3], stride: 1, pad: 1, dtype: 'f16' }),
    widest: 8,
  },
  'greatest of windows, f16': { kernel: poolKernel('max', 16, 'f16'), widest: 8 },
  'greatest of windows, i8': { kernel: poolKernel('max', 16, 'i8'), widest: 8 },
  'mean of windows, f16': { kernel: poolKernel('sum', 40, 'f16'), widest: 8 },
  'mean of pictures, f16': { kernel: meanKernel(5, 72, 'f16'), widest: 8 },
  'mean of pictures, f32': { kernel: meanKernel(7, 12, 'f32'), widest: 4 },
  'sum of pictures, channels first': {
    kernel: sumKernel([1, 5, 6, 8], ['f16', 'f16', 'f16']),
    widest: 8,
  },
  'sum of types': { kernel: sumKernel([7, 24], ['f32', 'bf16', 'f16']), widest: 8 },
  'sum of integers and floats': { kernel: sumKernel([7, 6], ['i64', 'u8', 'i32']), widest: 2 },
  'gathered rows': { kernel: gatherKernel(12, 10, 24), widest: 8 },
  'shuffles, indices, several stores': { kernel: oddKernel(), widest: 8 },
};

/** The kernel with vectors, few threads and two rounds for each. */
const withVector = (kernel: Kernel, vector: number): Kernel => ({
  ...kernel,
  schedule: { skeleton: 'map', threads: 32, perThread: 2, vector },
});
const vectorsOf = ({ widest }: Case): number[] => (widest === 1 ? [1] : [1, widest]);

const tiers = ['generic', 'specialised'] as const;
const cuts = ['whole', '2 blocks', 'slices'] as const;

/** Three tenants' kernels in one word; `slices` of one block each. */
function programOf(kernel: Kernel, tier: (typeof tiers)[number], cut: (typeof cuts)[number]): Program {
  const kernels = [kernel, kernel, kernel];
  const program = oneWord(kernels, target.name, cut === '2 blocks' ? { tier, blocks: 2 } : { tier });
  return cut === 'slices' ? { ...program, words: slice(program.tenants, program.words, 1) } : program;
}

describe('vectors that the verifier accepts', () => {
  for (const [name, c] of Object.entries(cases)) {
    it(name, () => {
      expect(verifyKernel(withVector(c.kernel, 1))).toEqual([]);
      const accepted = [1, 2, 4, 8].filter((v) => verifyKernel(withVector(c.kernel, v)).length === 0);
      expect(accepted).toEqual([1, 2, 4, 8].filter((v) => v <= c.widest));
    });
  }
});

function suite(kind: WayKind): void {
  let way: Way;
  const programs = new Map<string, Program>();
  const key = (...parts: readonly (string | number)[]): string => parts.join(' ');
  beforeAll(async () => {
    way = kind.open();
    for (const [name, c] of Object.entries(cases))
      for (const v of vectorsOf(c))
        for (const tier of tiers)
          for (const cut of v === 1 ? (['whole'] as const) : cuts)
            programs.set(key(name, v, tier, cut), programOf(withVector(c.kernel, v), tier, cut));
    await way.prepare([...programs.values()]);
  }, 600_000);
  afterAll(() => way?.close());

  for (const [name, c] of Object.entries(cases)) {
    it(name, async () => {
      const { kernel } = c;
      const tenants = [0, 1, 2].map((t) =>
        kernel.inputs.map((b, n): Tensor => randomTensor(b.dtype, b.shape, 10 * t + n)),
      );
      const run = (...at: readonly (string | number)[]): Promise<Tensor[][]> =>
        runWord(way, programs.get(key(name, ...at))!, [kernel, kernel, kernel], tenants);
      const plain = await run(1, 'generic', 'whole');
      plain.forEach((outputs, t) => {
        const expected = interpretKernel(kernel, tenants[t]!);
        outputs.forEach((o, n) => expect(relativeError(o, expected[n]!)).toBeLessThan(4e-3));
      });
      for (const v of vectorsOf(c))
        for (const tier of tiers)
          for (const cut of v === 1 ? (['whole'] as const) : cuts) {
            const outputs = await run(v, tier, cut);
            const same = outputs.every((tensors, t) =>
              tensors.every((o, n) => Buffer.from(bytesOf(o)).equals(bytesOf(plain[t]![n]!))),
            );
            expect(same, `${v} ${tier} ${cut}`).toBe(true);
          }
    }, 120_000);
  }
}

const { emulated, cuda } = wayKinds();
describe('maps with vectors, emulated', () => suite(emulated));
describe.skipIf(cuda.problem)(titled('maps with vectors on the GPU', cuda), () => suite(cuda));
