/**
 * @file Small ONNX models with weights of their own, made in memory.
 */
import { buildModel } from '../../compiler/onnx/writer.ts';
import { randomTensor } from './random.ts';

/** A network of fully connected layers: x[1, sizes[0]] → y[1, sizes.at(-1)], relu between. */
export function mlpModel(sizes: readonly number[], seed = 1): Uint8Array {
  const layers = sizes.slice(1);
  return buildModel({
    inputs: [{ name: 'x', shape: [1, sizes[0]!] }],
    outputs: ['y'],
    nodes: layers.flatMap((_, n) => {
      const last = n === layers.length - 1;
      const output = last ? 'y' : `h${n}`;
      return [
        {
          op: 'Gemm',
          name: `fc${n}`,
          inputs: [n === 0 ? 'x' : `r${n - 1}`, `w${n}`, `b${n}`],
          outputs: [output],
          attributes: { transB: 1 },
        },
        ...(last ? [] : [{ op: 'Relu', name: `relu${n}`, inputs: [output], outputs: [`r${n}`] }]),
      ];
    }),
    constants: Object.fromEntries(
      layers.flatMap((size, n) => [
        [`w${n}`, randomTensor('f32', [size, sizes[n]!], seed * 100 + n)],
        [`b${n}`, randomTensor('f32', [size], seed * 100 + 50 + n)],
      ]),
    ),
  });
}

/** A small convolutional network with a residual and an open batch: x[N,3,12,12] → y[N,5]. */
export function convModel(seed = 1): Uint8Array {
  const w = (name: string, shape: readonly number[], n: number) =>
    [name, randomTensor('f32', shape, seed * 100 + n)] as const;
  return buildModel({
    inputs: [{ name: 'x', shape: ['N', 3, 12, 12] }],
    outputs: ['y'],
    nodes: [
      {
        op: 'Conv',
        name: 'stem',
        inputs: ['x', 'w0', 'b0'],
        outputs: ['a'],
        attributes: { pads: [1, 1, 1, 1] },
      },
      { op: 'Relu', name: 'act', inputs: ['a'], outputs: ['b'] },
      { op: 'Conv', name: 'block', inputs: ['b', 'w1'], outputs: ['c'], attributes: { pads: [1, 1, 1, 1] } },
      { op: 'Add', name: 'residual', inputs: ['c', 'b'], outputs: ['d'] },
      { op: 'GlobalAveragePool', name: 'pool', inputs: ['d'], outputs: ['e'] },
      { op: 'Flatten', name: 'flat', inputs: ['e'], outputs: ['f'] },
      { op: 'Gemm', name: 'head', inputs: ['f', 'w2'], outputs: ['g'], attributes: { transB: 1 } },
      { op: 'Softmax', name: 'softmax', inputs: ['g'], outputs: ['y'] },
    ],
    constants: Object.fromEntries([
      w('w0', [16, 3, 3, 3], 0),
      w('b0', [16], 1),
      w('w1', [16, 16, 3, 3], 2),
      w('w2', [5, 16], 3),
    ]),
  });
}
