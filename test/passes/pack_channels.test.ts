/**
 * @file Packed pictures: the convolution of random shapes gives what it gave, but for the order of its sums; and what is not packed.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel } from '../../compiler/onnx/writer.ts';
import { compare } from '../../ir/compare.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { type Item, itemProblems } from '../../ir/item.ts';
import type { Module } from '../../ir/module.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { Network } from '../../models/network.ts';
import { parsePasses, runPass } from '../../passes/index.ts';

interface Shape {
  readonly channels: number;
  readonly outChannels: number;
  readonly size: readonly [number, number];
  readonly side: number;
  readonly stride: number;
  readonly pad: number;
}

function firstLayer({ channels, outChannels, size, ...window }: Shape): Module {
  const network = new Network(7);
  const x = network.input('x', [1, channels, ...size]);
  const graph = network.finish([network.relu(network.conv(x, outChannels, window))]);
  return lowerOnnx(buildModel(graph), { name: 'm', shapes: {}, precision: 'fp16' });
}

function run(passes: string, module: Module, target: string): Module {
  const [item] = parsePasses(passes).reduce<Item[]>(
    (items, step) => runPass(step, items, targetOf(target)),
    [{ kind: 'module', module }],
  );
  expect(itemProblems(item!, targetOf(target))).toEqual([]);
  return (item as Extract<Item, { kind: 'module' }>).module;
}

const inputsOf = (module: Module): Map<string, Tensor> =>
  new Map(module.inputs.map((name) => [name, randomInput(module.types.get(name)!, 5)]));

const isPacked = (module: Module): boolean => module.calls.some((c) => c.kernel.name === 'pack_channels');

describe('pictures of few channels are packed', () => {
  const shape: fc.Arbitrary<Shape> = fc
    .record({
      channels: fc.integer({ min: 2, max: 7 }),
      outChannels: fc.integer({ min: 8, max: 12 }),
      size: fc.tuple(fc.integer({ min: 9, max: 12 }), fc.integer({ min: 9, max: 12 })),
      side: fc.constantFrom(1, 2, 3, 5, 7),
      stride: fc.constantFrom(1, 2, 3),
      pad: fc.nat(3),
    })
    // What is worth a tensor core.
    .filter(({ channels, size: [h, w], side, stride, pad }) => {
      const along = (extent: number): number => Math.floor((extent + 2 * pad - side) / stride) + 1;
      return channels * side * side >= 8 && pad < Math.max(2, side) && along(h) * along(w) >= 8;
    });

  it('whatever the window', () => {
    let pairs = 0;
    fc.assert(
      fc.property(shape, (s) => {
        const module = run('saturate,fuse', firstLayer(s), 'sm_90');
        const packed = run('pack-channels,layout,channel-order,schedule', module, 'sm_90');
        expect(isPacked(packed)).toBe(s.side > 1);
        const first = packed.calls[0]!.kernel.outputs[0]!.shape;
        if (isPacked(packed) && first[2] === Math.ceil(s.size[1] / 2)) pairs++;
        const [before, after] = [module, packed].map((m) => interpretModule(m, inputsOf(m)));
        for (const [name, tensor] of before!)
          expect(compare(after!.get(name)!, tensor, 2e-3)).toMatchObject({ ok: true });
      }),
      { numRuns: 60, seed: 11 },
    );
    expect(pairs).toBeGreaterThan(5);
  });

  it('two at a time where the stride is even', () => {
    const resnet = run(
      'saturate,fuse,pack-channels',
      firstLayer({ channels: 3, outChannels: 64, size: [32, 32], side: 7, stride: 2, pad: 3 }),
      'sm_90',
    );
    expect(resnet.calls.map((c) => c.kernel.outputs[0]!.shape)).toEqual([
      [1, 32, 16, 8],
      [1, 64, 16, 16],
    ]);
    expect(resnet.calls[1]!.kernel.inputs.map((b) => b.shape)).toContainEqual([64, 7, 4, 8]);
  });

  it('on GPUs alone', () => {
    const module = firstLayer({ channels: 3, outChannels: 16, size: [12, 12], side: 3, stride: 2, pad: 1 });
    expect(isPacked(run('saturate,fuse,pack-channels', module, 'host'))).toBe(false);
  });

  it('not if the convolution has channels enough', () => {
    const module = firstLayer({ channels: 8, outChannels: 16, size: [12, 12], side: 3, stride: 2, pad: 1 });
    expect(isPacked(run('saturate,fuse,pack-channels', module, 'sm_90'))).toBe(false);
  });
});
