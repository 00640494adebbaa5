/**
 * @file Random networks of convolutions, pools, sums and reshapes, in half floats, as lowering makes them.
 */
import fc from 'fast-check';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel, type NodeSpec } from '../../compiler/onnx/writer.ts';
import type { Module } from '../../ir/module.ts';
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import { randomTensor } from '../support/random.ts';

const layer = fc.record({
  op: fc.constantFrom(
    'conv',
    'conv',
    'conv',
    'depthwise',
    'pool',
    'relu',
    'add',
    'concat',
    'shuffle',
    'flat',
  ),
  channels: fc.constantFrom(8, 16, 24, 12),
  window: fc.constantFrom(1, 3),
  stride: fc.constantFrom(1, 1, 2),
});

/** Networks of up to eight layers on a picture of a few channels; the last layer may be an end of another shape. */
export const pictureNetwork = (): fc.Arbitrary<Module> =>
  fc
    .record({
      layers: fc.array(layer, { minLength: 2, maxLength: 8 }),
      end: fc.constantFrom('picture', 'mean', 'tokens'),
    })
    .map(({ layers, end }) => {
      const nodes: NodeSpec[] = [];
      const constants: Record<string, Tensor> = {};
      /** What was made so far; the last is the picture that the next layer takes. */
      const made: { name: string; shape: [number, number, number, number] }[] = [
        { name: 'x', shape: [1, 8, 6, 5] },
      ];
      const emit = (
        op: string,
        inputs: string[],
        shape: [number, number, number, number],
        attributes = {},
      ): void => {
        const name = `v${nodes.length}`;
        nodes.push({ op, inputs, outputs: [name], attributes });
        made.push({ name, shape });
      };
      const constant = (tensor: Tensor): string => {
        const name = `c${Object.keys(constants).length}`;
        constants[name] = tensor;
        return name;
      };
      const whole = (...numbers: number[]): string => constant(tensorOf('i64', [numbers.length], numbers));
      for (const { op, channels, window: k, stride } of layers) {
        const { name, shape } = made.at(-1)!;
        const [n, c, h, w] = shape;
        const pad = (k - 1) / 2;
        const attributes = {
          kernel_shape: [k, k],
          strides: [stride, stride],
          pads: [pad, pad, pad, pad],
        };
        const out = [h, w].map((s) => Math.floor((s - 1) / stride) + 1) as [number, number];
        const seed = nodes.length;
        if (op === 'conv') {
          const weights = constant(randomTensor('f32', [channels, c, k, k], seed));
          emit('Conv', [name, weights], [n, channels, ...out], attributes);
        } else if (op === 'depthwise') {
          const weights = constant(randomTensor('f32', [c, 1, k, k], seed));
          emit('Conv', [name, weights], [n, c, ...out], { ...attributes, group: c });
        } else if (op === 'pool') emit('MaxPool', [name], [n, c, ...out], attributes);
        else if (op === 'relu') emit('Relu', [name], shape);
        else if (op === 'add') {
          const like = made.find((m) => m.shape.join() === shape.join())!;
          emit('Add', [name, like.name], shape);
        } else if (op === 'concat' && c <= 48) {
          const like = made.find((m) => m.shape[2] === h && m.shape[3] === w)!;
          emit('Concat', [name, like.name], [n, c + like.shape[1], h, w], { axis: 1 });
        } else if (op === 'shuffle') {
          const [apart, together] = [whole(n, 2, c / 2, h * w), whole(n, c, h, w)];
          emit('Reshape', [name, apart], shape);
          emit('Transpose', [made.at(-1)!.name], shape, { perm: [0, 2, 1, 3] });
          emit('Reshape', [made.at(-1)!.name, together], shape);
        } else if (op === 'flat') {
          emit('Reshape', [name, whole(n * c * h * w)], shape);
          emit('Sigmoid', [made.at(-1)!.name], shape);
          emit('Reshape', [made.at(-1)!.name, whole(n, c, h, w)], shape);
        }
      }
      const { name, shape } = made.at(-1)!;
      if (end === 'mean') emit('GlobalAveragePool', [name], shape);
      if (end === 'tokens') {
        emit('Reshape', [name, whole(1, shape[1], shape[2] * shape[3])], shape);
        emit('Transpose', [made.at(-1)!.name], shape, { perm: [0, 2, 1] });
      }
      if (nodes.length === 0 || made.at(-1)!.name === 'x') emit('Relu', ['x'], shape);
      const model = buildModel({
        inputs: [{ name: 'x', shape: [1, 8, 6, 5] }],
        outputs: [made.at(-1)!.name],
        nodes,
        constants,
      });
      return lowerOnnx(model, { name: 'net', shapes: {}, precision: 'fp16' });
    });
