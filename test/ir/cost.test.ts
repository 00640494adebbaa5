/**
 * @file Arithmetic and traffic of kernels: counted by hand for small ones, and as published for whole networks.
 */
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { index } from '../../ir/affine.ts';
import { buffer, constant, kernel, load, op, store } from '../../ir/build.ts';
import { addCosts, costOf, noCost } from '../../ir/cost.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { generate, type ModelName } from '../../models/index.ts';
import { fuse } from '../../passes/fuse.ts';
import { convKernel, gatherKernel, matmulKernel, shuffleKernel, softmaxKernel } from '../codegen/kernels.ts';

const cases: readonly [string, Kernel, { flops: number; bytes: number }][] = [
  [
    'a product, batched',
    matmulKernel(3, 5, 7, 11),
    { flops: 2 * 3 * 5 * 7 * 11, bytes: 4 * 3 * (5 * 11 + 11 * 7 + 5 * 7) },
  ],
  [
    'a product of halves',
    matmulKernel(1, 4, 8, 16, true, 'f16'),
    { flops: 1024, bytes: 2 * (64 + 128 + 32) },
  ],
  [
    'a padded convolution with bias, residual and rectifier',
    convKernel({ channels: 3, outChannels: 8, size: [6, 6], kernel: [3, 3], pad: 1, residual: true }),
    { flops: 8 * 36 * (2 * 27 + 3), bytes: 4 * (3 * 36 + 8 * 27 + 8 + 2 * 8 * 36) },
  ],
  [
    'a strided convolution, which reads a quarter of the picture',
    convKernel({ channels: 2, outChannels: 2, size: [8, 8], kernel: [1, 1], stride: 2 }),
    { flops: 2 * 16 * (2 * 2 + 2), bytes: 4 * (2 * 16 + 4 + 2 + 2 * 16) },
  ],
  // Maximum; difference, exponential and sum; difference, exponential and quotient.
  ['softmax, in three sweeps', softmaxKernel(4, 9), { flops: 4 * 9 * (1 + 3 + 3), bytes: 4 * 2 * 36 }],
  ['a gather, which reads a part', gatherKernel(100, 4, 8), { flops: 0, bytes: 4 * 32 + 8 * 4 + 4 * 32 }],
  ['integers, which are no floating-point operations', shuffleKernel(8), { flops: 0, bytes: 4 * 64 }],
];

describe('costOf', () => {
  it.each(cases)('%s', (_, k, cost) => expect(costOf(k)).toEqual(cost));

  it('counts what does not depend on the innermost index once for all of it', () => {
    const [x, y] = [buffer('x0', 'f32', [4]), buffer('y0', 'f32', [4, 100])];
    const [i, j] = [index('i', 4), index('j', 100)];
    const row = op('exp', load(x, [i]));
    const value = op('add', row, constant('f32', 1));
    expect(costOf(kernel('k', [x], [y], [i, j], [store(y, [i, j], value)]))).toEqual({
      flops: 8,
      bytes: 16 + 1600,
    });
    const product = op('mul', row, load(y, [i, j]));
    const z = buffer('z0', 'f32', [4, 100]);
    expect(costOf(kernel('k', [x, y], [z], [i, j], [store(z, [i, j], product)])).flops).toBe(4 + 400);
  });

  // Multiplications and additions to a sum, as torchvision's documentation gives them, in billions.
  const published: readonly [ModelName, number][] = [
    ['resnet18', 1.81],
    ['resnet34', 3.66],
    ['resnet50', 4.09],
    ['mobilenetv2', 0.3],
    ['squeezenet1.1', 0.35],
  ];
  it.each(published)('%s takes the published %f billion multiplications', (name, billions) => {
    const module = fuse(lowerOnnx(generate(name, 1), { name }));
    const { flops } = module.calls.map((c) => costOf(c.kernel)).reduce(addCosts, noCost);
    expect(flops / 2e9 / billions).toBeGreaterThan(0.99);
    expect(flops / 2e9 / billions).toBeLessThan(1.06);
  });
});
