/**
 * @file The channel order pass: what it changes, and that the model's results stay.
 */
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel } from '../../compiler/onnx/writer.ts';
import { contractionOf } from '../../ir/contraction.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { hostTarget, targetOf } from '../../ir/target.ts';
import { orderChannels } from '../../passes/channel_order.ts';
import { randomTensor, relativeError } from '../support/random.ts';

const model = buildModel({
  inputs: [{ name: 'x', shape: [1, 16, 6, 6] }],
  outputs: ['z'],
  nodes: [
    { op: 'Conv', inputs: ['x', 'w'], outputs: ['y'], attributes: { pads: [1, 1, 1, 1] } },
    { op: 'Conv', inputs: ['y', 'v'], outputs: ['z'] },
  ],
  constants: { w: randomTensor('f32', [24, 16, 3, 3], 1), v: randomTensor('f32', [8, 24, 1, 1], 2) },
});
const half = lowerOnnx(model, { name: 'm', shapes: {}, precision: 'fp16' });
const sums = (m: typeof half) =>
  m.calls.flatMap(
    (c) =>
      contractionOf(c.kernel)
        ?.k.map((i) => i.extent)
        .join('x') ?? [],
  );

describe('channel order', () => {
  it('puts channels inside of taps, and the weights with them', () => {
    const ordered = orderChannels(half, targetOf('sm_90'));
    expect(sums(half)).toEqual(['16x3x3', '24x1x1']);
    expect(sums(ordered)).toEqual(['3x3x16', '24x1x1']);
    const shapes = [...ordered.constants.values()].map((t) => t.shape.join('x'));
    expect(shapes).toContain('24x3x3x16');
    expect(shapes).not.toContain('24x16x3x3');
    const x = randomTensor('f32', [1, 16, 6, 6], 3);
    const run = (m: typeof half) => interpretModule(m, new Map([['x', x]])).get('z')!;
    expect(relativeError(run(ordered), run(half))).toBeLessThan(1e-3);
  });

  it('leaves alone what does not run on tensor cores', () => {
    const single = lowerOnnx(model, { name: 'm', shapes: {}, precision: 'fp32' });
    expect(sums(orderChannels(single, targetOf('sm_90')))).toEqual(['16x3x3', '24x1x1']);
    expect(sums(orderChannels(half, hostTarget))).toEqual(['16x3x3', '24x1x1']);
  });
});
