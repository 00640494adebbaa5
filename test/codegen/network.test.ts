/**
 * @file A whole network in half floats as it is compiled for tensor cores, layouts and all: emulated on the CPU, and on a GPU
 * where there is one, against the interpreter on what the network lowered to.
 */
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel } from '../../compiler/onnx/writer.ts';
import { SourceModel, scheduleModule } from '../../driver/model.ts';
import { linkWithKernels } from '../../driver/plan.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { titled, wayKinds } from '../support/ways.ts';

const pads = [1, 1, 1, 1];
/** A small ResNet: a first layer of 3 channels, a residual block, a pool, a strided shortcut, a mean and a matrix. */
const network = buildModel({
  inputs: [{ name: 'x', shape: [1, 3, 18, 14] }],
  outputs: ['y'],
  nodes: [
    { op: 'Conv', inputs: ['x', 'w0', 'b0'], outputs: ['c0'], attributes: { pads, strides: [2, 2] } },
    { op: 'Relu', inputs: ['c0'], outputs: ['r0'] },
    { op: 'MaxPool', inputs: ['r0'], outputs: ['p'], attributes: { kernel_shape: [3, 3], pads } },
    { op: 'Conv', inputs: ['p', 'w1'], outputs: ['c1'], attributes: { pads } },
    { op: 'Relu', inputs: ['c1'], outputs: ['r1'] },
    { op: 'Conv', inputs: ['r1', 'w2', 'b2'], outputs: ['c2'], attributes: { pads } },
    { op: 'Add', inputs: ['c2', 'p'], outputs: ['s'] },
    { op: 'Relu', inputs: ['s'], outputs: ['r2'] },
    { op: 'Conv', inputs: ['r2', 'w3'], outputs: ['c3'], attributes: { strides: [2, 2] } },
    { op: 'Conv', inputs: ['c3', 'w4'], outputs: ['c4'], attributes: { pads, group: 2 } },
    { op: 'GlobalAveragePool', inputs: ['c4'], outputs: ['g'] },
    { op: 'Flatten', inputs: ['g'], outputs: ['f'] },
    { op: 'Gemm', inputs: ['f', 'w5'], outputs: ['y'] },
  ],
  constants: {
    w0: randomTensor('f32', [16, 3, 3, 3], 1),
    b0: randomTensor('f32', [16], 2),
    w1: randomTensor('f32', [32, 16, 3, 3], 3),
    w2: randomTensor('f32', [16, 32, 3, 3], 4),
    b2: randomTensor('f32', [16], 5),
    w3: randomTensor('f32', [48, 16, 1, 1], 6),
    w4: randomTensor('f32', [48, 24, 3, 3], 7),
    w5: randomTensor('f32', [48, 10], 8),
  },
});

const lowered = lowerOnnx(network, { name: 'net', shapes: {}, precision: 'fp16' });
const model = new SourceModel(lowered, 'fp16');

describe('a network on tensor cores', () => {
  const compiled = scheduleModule(model.module, 'sm_90');

  it('has pictures with channels last', () => {
    const pictures = compiled.calls.flatMap((c) =>
      c.outputs.map((v) => compiled.types.get(v)!.shape.join('x')),
    );
    expect(pictures).toEqual(expect.arrayContaining(['1x9x7x16', '1x9x7x32', '1x5x4x48']));
    expect(compiled.calls.filter((c) => c.kernel.schedule?.skeleton === 'mma').length).toBeGreaterThan(4);
  });

  const { emulated, cuda } = wayKinds();
  for (const kind of [emulated, cuda]) {
    it.skipIf(kind.problem)(titled(`gives what the network means (${kind.name})`, kind), async () => {
      const way = kind.open();
      const inputs = new Map([['x', randomTensor('f32', [1, 3, 18, 14], 9)]]);
      const program = linkWithKernels([{ name: 'a', model }], way.target);
      await way.prepare([program]);
      const outputs = await way.run(program, new Map([['a', inputs]]));
      way.close();
      const expected = interpretModule(lowered, inputs).get('y')!;
      expect(relativeError(outputs.get('a')!.get('y')!, expected)).toBeLessThan(2e-3);
    });
  }
});
