/**
 * @file Reductions with several elements a lane at a time: emitted CUDA against the interpreter, and the same bits in every tier and cut.
 * Emulated on the CPU everywhere, on the GPU itself where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { add, index, mul } from '../../ir/affine.ts';
import {
  buffer,
  kernel as buildKernel,
  cast,
  indexValue,
  load,
  op,
  reduce,
  store,
  widen,
} from '../../ir/build.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel, ReductionSchedule } from '../../ir/kernel.ts';
import type { Program } from '../../ir/program.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { slice } from '../../passes/slice.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { emulatedWay, titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { layerNormKernel, momentsKernel, softmaxKernel } from './kernels.ts';

const target = targetOf('sm_90');

/** Everything that is not plain: strides, guards, gathers, two indices, values of the first loop in the last, other extents. */
function oddKernel(columns: number): Kernel {
  const [x, far] = [buffer('x0', 'f16', [5, columns, 3]), buffer('x1', 'f32', [40])];
  const [ids, flags] = [buffer('x2', 'i32', [columns]), buffer('x3', 'i1', [5, columns])];
  const [y, z] = [buffer('y0', 'f32', [5, 2, columns]), buffer('y1', 'i8', [5])];
  const [r, a, b, k, l] = [
    index('r', 5),
    index('a', 2),
    index('b', columns),
    index('k', columns),
    index('l', 40),
  ];
  const strided = widen(load(x, [r, b, add(a, 1)]));
  const moved = load(far, [add(b, mul(a, 3), -2)], -1);
  const most = reduce(
    'max',
    [a, b],
    op('mul', strided, op('add', moved, cast('f32', indexValue(add(b, a))))),
  );
  const all = reduce('sum', [l], load(far, [l]));
  const gathered = load(far, [load(ids, [k])], 0.5);
  const value = op('select', load(flags, [r, k]), gathered, op('sub', widen(load(x, [r, k, 0])), most));
  const [c, d] = [index('c', 2), index('d', columns)];
  const stored = op('add', op('sub', widen(load(x, [r, d, add(c, 1)])), most), reduce('min', [k], value));
  return buildKernel(
    'odd',
    [x, far, ids, flags],
    [y, z],
    [r],
    [store(y, [r, c, d], stored, [c, d]), store(z, [r], cast('i8', op('add', all, most)))],
  );
}

/** The greatest of each row, and each element's distance from it, in integers. */
function integerKernel(rows: number, columns: number, dtype: DType): Kernel {
  const [x, y] = [buffer('x0', dtype, [rows, columns]), buffer('y0', dtype, [rows, columns])];
  const [r, j, k] = [index('r', rows), index('j', columns), index('k', columns)];
  const most = reduce('max', [j], load(x, [r, j]));
  return buildKernel('distance', [x], [y], [r], [store(y, [r, k], op('sub', most, load(x, [r, k])), [k])]);
}

interface Case {
  readonly kernel: Kernel;
  /** Threads, lanes, vector, unroll; the default schedule besides. */
  readonly schedules: readonly (readonly [number, number, number, number])[];
}

const cases: { readonly [name: string]: Case } = {
  'layer norm, a vector a lane': {
    kernel: layerNormKernel(7, 768, 'f16'),
    schedules: [
      [96, 96, 8, 1],
      [64, 32, 8, 3],
      [64, 64, 4, 2],
    ],
  },
  'layer norm, f32': { kernel: layerNormKernel(7, 96, 'f32'), schedules: [[64, 32, 8, 1]] },
  'layer norm, bf16, lanes to spare': {
    kernel: layerNormKernel(5, 72, 'bf16'),
    schedules: [[128, 128, 8, 2]],
  },
  'layer norm, in steps': { kernel: layerNormKernel(3, 1000, 'f16'), schedules: [[64, 64, 4, 2]] },
  softmax: {
    kernel: softmaxKernel(9, 128, 'f16'),
    schedules: [
      [128, 32, 4, 1],
      [64, 32, 2, 1],
    ],
  },
  'softmax of odd rows': {
    kernel: softmaxKernel(9, 77, 'f16'),
    schedules: [
      [64, 32, 1, 3],
      [64, 64, 1, 2],
    ],
  },
  moments: { kernel: momentsKernel(6, 200), schedules: [[32, 32, 8, 1]] },
  'strides, gathers, several extents': {
    kernel: oddKernel(24),
    schedules: [
      [64, 32, 8, 1],
      [64, 32, 2, 2],
      [32, 32, 1, 2],
      [64, 64, 4, 1],
    ],
  },
  bytes: {
    kernel: integerKernel(5, 60, 'i8'),
    schedules: [
      [32, 32, 1, 2],
      [32, 32, 4, 1],
    ],
  },
  'long integers': {
    kernel: integerKernel(5, 60, 'i64'),
    schedules: [
      [32, 32, 4, 1],
      [32, 32, 1, 3],
    ],
  },
};

const tiers = ['generic', 'specialised'] as const;
const cuts = ['whole', '2 blocks', 'slices'] as const;

/** Three tenants' kernels in one word; `slices` of one block each. */
function programOf(kernel: Kernel, tier: (typeof tiers)[number], cut: (typeof cuts)[number]): Program {
  const program = oneWord(
    [kernel, kernel, kernel],
    target.name,
    cut === '2 blocks' ? { tier, blocks: 2 } : { tier },
  );
  return cut === 'slices' ? { ...program, words: slice(program.tenants, program.words, 1) } : program;
}

const scheduled = ({ kernel, schedules }: Case): Kernel[] => [
  scheduleKernel(kernel, target),
  ...schedules.map(([threads, lanes, vector, unroll]): Kernel => {
    const schedule: ReductionSchedule = { skeleton: 'reduction', threads, lanes, vector, unroll };
    return { ...kernel, schedule };
  }),
];

function suite(kind: WayKind, chosen: readonly string[] = Object.keys(cases)): void {
  let way: Way;
  const programs = new Map<string, Program>();
  const key = (...parts: readonly (string | number)[]): string => parts.join(' ');
  beforeAll(async () => {
    way = kind.open();
    for (const name of chosen)
      for (const [n, kernel] of scheduled(cases[name]!).entries())
        for (const tier of tiers)
          for (const cut of cuts) programs.set(key(name, n, tier, cut), programOf(kernel, tier, cut));
    await way.prepare([...programs.values()]);
  }, 600_000);
  afterAll(() => way?.close());

  for (const name of chosen) {
    it(name, async () => {
      const { kernel } = cases[name]!;
      const tenants = [0, 1, 2].map((t) =>
        kernel.inputs.map((b, n): Tensor => randomTensor(b.dtype, b.shape, 10 * t + n)),
      );
      for (const n of scheduled(cases[name]!).keys()) {
        let first: Tensor[][] | undefined;
        for (const tier of tiers)
          for (const cut of cuts) {
            const outputs = await runWord(
              way,
              programs.get(key(name, n, tier, cut))!,
              [kernel, kernel, kernel],
              tenants,
            );
            first ??= outputs;
            const same = outputs.every((tensors, t) =>
              tensors.every((o, i) => Buffer.from(bytesOf(o)).equals(bytesOf(first![t]![i]!))),
            );
            expect(same, `${n} ${tier} ${cut}`).toBe(true);
          }
        first!.forEach((outputs, t) => {
          const expected = interpretKernel(kernel, tenants[t]!);
          outputs.forEach((o, i) => expect(relativeError(o, expected[i]!)).toBeLessThan(4e-3));
        });
      }
    }, 120_000);
  }
}

const { emulated, cuda } = wayKinds();
describe('reductions with vectors, emulated', () => suite(emulated));
describe('reductions with vectors have no races', () =>
  suite({ name: 'races', open: () => emulatedWay('races') }, [
    'layer norm, in steps',
    'softmax of odd rows',
  ]));
describe.skipIf(cuda.problem)(titled('reductions with vectors on the GPU', cuda), () => suite(cuda));
