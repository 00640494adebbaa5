/**
 * @file Every law of the verifier, broken once.
 */
import { describe, expect, it } from 'vitest';
import { type Affine, add, affine, index } from '../../ir/affine.ts';
import { buffer, constant, kernel, load, op, reduce, store } from '../../ir/build.ts';
import type { Expr, Kernel, Schedule } from '../../ir/kernel.ts';
import { verifyKernel } from '../../ir/verify.ts';
import {
  convKernel,
  gatherKernel,
  matmulKernel,
  momentsKernel,
  shuffleKernel,
  softmaxKernel,
} from '../codegen/kernels.ts';

const x = buffer('x0', 'f32', [8]);
const y = buffer('y0', 'f32', [8]);
const i = index('i', 8);
const copy = (at: Affine | typeof i, value: Expr = load(x, [i])): Kernel =>
  kernel('k', [x], [y], [i], [store(y, [at], value)]);

const mma = {
  skeleton: 'mma',
  instruction: 'mma',
  threads: 128,
  tile: { m: 64, n: 64, k: 32 },
  warps: { m: 2, n: 2 },
  stages: 2,
  segments: 1,
  splits: 1,
} as const satisfies Schedule;
const halves = matmulKernel(1, 64, 64, 64, true, 'f16');

describe('the kernel verifier', () => {
  it('accepts what lowering makes', () => {
    for (const k of [
      convKernel({ channels: 4, outChannels: 4, size: [8, 8], kernel: [3, 3], pad: 1 }),
      matmulKernel(2, 8, 8, 8),
      softmaxKernel(4, 9),
      momentsKernel(3, 5),
      shuffleKernel(7),
      gatherKernel(4, 5, 6),
    ]) {
      expect(verifyKernel(k)).toEqual([]);
    }
  });

  const outside = index('j', 8);
  const broken: Record<string, [Kernel, RegExp]> = {
    'threads that are not the segments’ warps': [
      { ...halves, schedule: { ...mma, segments: 2 } },
      /2 segments of 128 threads are not 128 threads/,
    ],
    'a tile that its warps cannot share': [
      { ...halves, schedule: { ...mma, tile: { m: 48, n: 64, k: 32 } } },
      /48x64x32 is not made of 16x16x16/,
    ],
    'stages beyond shared memory': [
      { ...halves, schedule: { ...mma, stages: 32 } },
      /bytes of shared memory/,
    ],
    'more blocks that share a tile than one should add up for': [
      { ...halves, schedule: { ...mma, splits: 64 } },
      /64 splits, at most 32/,
    ],
    'parts that are not added pairwise': [
      { ...halves, schedule: { ...mma, splits: 3 } },
      /1 segments, 3 splits: .* both are powers of two/,
    ],
    'steps that parts are not made of': [
      { ...halves, schedule: { ...mma, tile: { m: 64, n: 64, k: 48 } } },
      /steps of 48 of k: .* 16, 32 or 64/,
    ],
    'no block at all': [{ ...halves, schedule: { ...mma, splits: 0 } }, /a size that is not at least 1/],
    'one stage': [{ ...halves, schedule: { ...mma, stages: 1 } }, /1 stages/],
    'f32 on tensor cores': [{ ...matmulKernel(1, 64, 64, 64), schedule: mma }, /two f16 or two bf16/],
    'an unbound index': [copy(i, load(x, [outside])), /index j is not bound/],
    'an index bound only inside a reduction': [
      copy(i, op('add', reduce('sum', [outside], load(x, [outside])), load(x, [outside]))),
      /index j is not bound/,
    ],
    'an extent of zero': [kernel('k', [x], [y], [index('z', 0)], [store(y, [i], load(x, [i]))]), /extent 0/],
    'a load one past the end': [
      copy(i, load(x, [add(i, 1)])),
      /coordinate 0, i \+ 1, runs over 1\.\.8 of 0\.\.7, without a pad/,
    ],
    'a load before the start': [copy(i, load(x, [add(i, -1)])), /runs over -1\.\.6/],
    'a store past the end': [copy(add(i, 1)), /store %y0: coordinate 0, i \+ 1, runs over 1\.\.8/],
    'two points that write one element': [copy(affine(0)), /does not write every element exactly once/],
    'an element that nobody writes': [
      kernel('k', [x], [y], [index('h', 4)], [store(y, [index('h', 4)], constant('f32', 0))]),
      /exactly once/,
    ],
    'an output without a store': [kernel('k', [x], [y], [i], []), /written by 0 stores/],
    'an output stored twice': [
      kernel('k', [x], [y], [i], [store(y, [i], load(x, [i])), store(y, [i], load(x, [i]))]),
      /written by 2 stores/,
    ],
    'a store to an input': [kernel('k', [x, y], [], [i], [store(y, [i], load(x, [i]))]), /not an output/],
    'a load from an output': [kernel('k', [], [x, y], [i], [store(y, [i], load(x, [i]))]), /not an input/],
    'operands of unlike types': [
      copy(i, { kind: 'op', op: 'add', dtype: 'f32', args: [load(x, [i]), constant('i32', 1)] }),
      /add of f32, i32/,
    ],
    'a value of the wrong type': [
      kernel('k', [x], [y], [i], [{ buffer: y, at: [affine(i)], over: [], value: constant('i32', 1) }]),
      /holds f32, the value is i32/,
    ],
    'a gather without a pad': [
      copy(i, { kind: 'load', dtype: 'f32', buffer: x, at: [{ gather: constant('i32', 3) }] }),
      /gathered, but there is no pad/,
    ],
    'more buffers than a row holds': [
      (() => {
        const many = Array.from({ length: 17 }, (_, n) => buffer(`x${n}`, 'f32', [8]));
        return kernel('k', many, [y], [i], [store(y, [i], load(many[0]!, [i]))]);
      })(),
      /a slot row holds 16/,
    ],
    'too many threads': [
      { ...copy(i), schedule: { skeleton: 'map', threads: 2048, perThread: 1, vector: 1 } },
      /2048 threads/,
    ],
  };
  for (const [name, [k, message]] of Object.entries(broken)) {
    it(`refuses ${name}`, () => expect(verifyKernel(k).join('\n')).toMatch(message));
  }

  it('reports every broken law, not only the first', () => {
    const k = kernel('k', [x], [y], [i], [store(y, [add(i, 1)], load(x, [add(i, 5)]))]);
    expect(verifyKernel(k).length).toBeGreaterThanOrEqual(3);
  });
});
