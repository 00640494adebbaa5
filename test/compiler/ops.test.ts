/**
 * @file What operators mean, compared with onnxruntime on random inputs; and that every kernel they lower to is sound.
 */
import { describe, expect, it } from 'vitest';
import { runPeer } from '../../cli/bench/onnxruntime.ts';
import { lowerOnnx } from '../../compiler/index.ts';
import { type AttributeValue, buildModel } from '../../compiler/onnx/writer.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { difference } from '../conformance/suite.ts';
import { randomTensor } from '../support/random.ts';

interface Case {
  readonly op: string;
  /** Shapes of f32 inputs, or tensors for inputs known at compile time, or `[type, shape]`. */
  readonly inputs: readonly (readonly number[] | Tensor | readonly [DType, readonly number[]] | null)[];
  readonly attributes?: { readonly [name: string]: AttributeValue };
  readonly opset?: number;
  readonly outputs?: number;
  /** Maps the uniform inputs in [-1, 1) to what the operator takes. */
  readonly map?: (v: number) => number;
}

const ints = (...values: number[]): Tensor => tensorOf('i64', [values.length], values);
const floats = (...values: number[]): Tensor => tensorOf('f32', [values.length], values);

const unary = [
  ...[
    'Abs',
    'Neg',
    'Sign',
    'Exp',
    'Sin',
    'Cos',
    'Tan',
    'Asin',
    'Acos',
    'Atan',
    'Sinh',
    'Cosh',
    'Tanh',
    'Asinh',
  ],
  ...['Atanh', 'Erf', 'Floor', 'Ceil', 'Round', 'Reciprocal', 'Relu', 'Sigmoid', 'HardSigmoid', 'HardSwish'],
  ...['LeakyRelu', 'Elu', 'Celu', 'Selu', 'Softplus', 'Softsign', 'Mish', 'ThresholdedRelu', 'Identity'],
].map(
  (op): Case => ({
    op,
    inputs: [[3, 5]],
    ...(['Floor', 'Ceil', 'Round'].includes(op) && { map: (v) => v * 4 }),
  }),
);

const binary = ['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min', 'PRelu', 'Equal', 'Less', 'Greater'].map(
  (op): Case => ({
    op,
    inputs: [
      [2, 3, 4],
      [3, 1],
    ],
  }),
);

const reductions = ['Sum', 'Mean', 'Prod', 'Max', 'Min', 'L1', 'L2', 'SumSquare', 'LogSumExp'].flatMap(
  (kind): Case[] => [
    { op: `Reduce${kind}`, inputs: [[2, 3, 4]], attributes: { keepdims: 0 } },
    { op: `Reduce${kind}`, inputs: [[2, 3, 4], ints(-1, 0)] },
  ],
);

const windows: Case[] = [
  {
    op: 'Conv',
    inputs: [[1, 4, 9, 8], [6, 4, 3, 3], [6]],
    attributes: { strides: [2, 1], pads: [1, 0, 2, 1] },
  },
  {
    op: 'Conv',
    inputs: [
      [2, 6, 7],
      [6, 1, 3],
    ],
    attributes: { group: 6, strides: [2], auto_pad: 'SAME_UPPER' },
  },
  { op: 'Conv', inputs: [[1, 4, 5, 5], [4, 2, 1, 1], [4]], attributes: { group: 2 } },
  {
    op: 'ConvTranspose',
    inputs: [[1, 4, 5, 4], [4, 3, 3, 3], [3]],
    attributes: { strides: [2, 3], pads: [1, 1, 0, 1] },
  },
  {
    op: 'ConvTranspose',
    inputs: [
      [1, 4, 5],
      [4, 2, 3],
    ],
    attributes: { group: 2, strides: [2], output_padding: [1] },
  },
  {
    op: 'MaxPool',
    inputs: [[1, 2, 7, 8]],
    outputs: 2,
    attributes: { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 1], ceil_mode: 1 },
  },
  {
    op: 'AveragePool',
    inputs: [[1, 2, 7, 8]],
    attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], count_include_pad: 1 },
  },
  { op: 'AveragePool', inputs: [[1, 2, 7, 8]], attributes: { kernel_shape: [3, 3], auto_pad: 'SAME_LOWER' } },
  { op: 'GlobalAveragePool', inputs: [[2, 3, 4, 5]] },
  { op: 'GlobalMaxPool', inputs: [[2, 3, 4]] },
];

const products: Case[] = [
  {
    op: 'MatMul',
    inputs: [
      [2, 1, 3, 4],
      [5, 4, 2],
    ],
  },
  { op: 'MatMul', inputs: [[4], [3, 4, 2]] },
  {
    op: 'Gemm',
    inputs: [[4, 3], [5, 4], [5]],
    attributes: { transA: 1, transB: 1, alpha: 0.5, beta: { float: 2 } },
  },
  {
    op: 'Einsum',
    inputs: [
      [2, 3, 4],
      [2, 4, 5],
    ],
    attributes: { equation: 'bij,bjk->bki' },
  },
  { op: 'Einsum', inputs: [[3, 3]], attributes: { equation: 'ii' } },
];

const rows: Case[] = [
  ...['Softmax', 'LogSoftmax', 'Hardmax'].flatMap((op): Case[] => [
    { op, inputs: [[2, 3, 4]], attributes: { axis: 1 } },
    { op, inputs: [[2, 3, 4]], attributes: { axis: 1 }, opset: 11 },
  ]),
  ...['ArgMax', 'ArgMin'].map((op): Case => ({ op, inputs: [[3, 4]], attributes: { axis: 1, keepdims: 0 } })),
  { op: 'LayerNormalization', inputs: [[2, 3, 8], [8], [8]], outputs: 3 },
  { op: 'InstanceNormalization', inputs: [[2, 3, 4, 4], [3], [3]] },
  { op: 'BatchNormalization', inputs: [[2, 3, 4], [3], [3], [3], [3]], map: (v) => v + 1.5 },
  { op: 'LRN', inputs: [[1, 6, 3, 3]], attributes: { size: 5 } },
  { op: 'LpNormalization', inputs: [[3, 4]], attributes: { p: 1 } },
  { op: 'CumSum', inputs: [[3, 4], tensorOf('i64', [], [1])], attributes: { reverse: 1, exclusive: 1 } },
  { op: 'TopK', inputs: [[3, 7], ints(3)], outputs: 2, attributes: { axis: 1 } },
];

const movement: Case[] = [
  { op: 'Transpose', inputs: [[2, 3, 4]], attributes: { perm: [2, 0, 1] } },
  {
    op: 'Concat',
    inputs: [
      [2, 1],
      [2, 3],
      [2, 2],
    ],
    attributes: { axis: 1 },
  },
  { op: 'Concat', inputs: new Array(20).fill([2, 3]), attributes: { axis: -1 } },
  { op: 'Split', inputs: [[2, 7], ints(2, 4, 1)], outputs: 3, attributes: { axis: 1 } },
  { op: 'Slice', inputs: [[5, 8], ints(-1, 1), ints(-100, 100), ints(0, 1), ints(-2, 3)] },
  { op: 'Tile', inputs: [[2, 3], ints(2, 3)] },
  { op: 'Expand', inputs: [[3, 1], ints(2, 1, 4)] },
  { op: 'Pad', inputs: [[3, 4], ints(1, 0, 2, 3), floats(7)] },
  { op: 'Pad', inputs: [[3, 4], ints(1, -1, 2, 2)], attributes: { mode: 'reflect' } },
  { op: 'Pad', inputs: [[3, 4], ints(0, 3, 2, 1)], attributes: { mode: 'edge' } },
  { op: 'Gather', inputs: [[4, 3], tensorOf('i64', [2, 2], [0, -1, 2, 1])] },
  { op: 'Gather', inputs: [[4, 3], tensorOf('i64', [], [-2])], attributes: { axis: 1 } },
  { op: 'GatherElements', inputs: [[2, 3], tensorOf('i64', [2, 2], [0, 2, -1, 1])], attributes: { axis: 1 } },
  { op: 'GatherND', inputs: [[2, 3, 4], tensorOf('i64', [2, 1], [1, -1])], attributes: { batch_dims: 1 } },
  { op: 'ScatterElements', inputs: [[3, 3], tensorOf('i64', [1, 2], [2, 0]), [1, 2]] },
  { op: 'ScatterND', inputs: [[4, 2], tensorOf('i64', [2, 1], [3, 1]), [2, 2]] },
  { op: 'DepthToSpace', inputs: [[1, 8, 2, 3]], attributes: { blocksize: 2, mode: 'CRD' } },
  { op: 'SpaceToDepth', inputs: [[1, 2, 4, 6]], attributes: { blocksize: 2 } },
  { op: 'Trilu', inputs: [[3, 5], tensorOf('i64', [], [1])], attributes: { upper: 0 } },
  {
    op: 'OneHot',
    inputs: [tensorOf('i64', [3], [0, -1, 2]), ints(4), floats(-1, 5)],
    attributes: { axis: 0 },
  },
  {
    op: 'Resize',
    inputs: [[1, 2, 3, 4], null, floats(1, 1, 2, 2)],
    attributes: { mode: 'nearest', nearest_mode: 'floor' },
  },
  { op: 'Resize', inputs: [[1, 2, 3, 4], null, null, ints(1, 2, 5, 7)], attributes: { mode: 'linear' } },
  { op: 'Resize', inputs: [[1, 2, 4, 4], null, floats(1, 1, 1.5, 0.8)], attributes: { mode: 'cubic' } },
  {
    op: 'Resize',
    inputs: [[1, 1, 3, 3], null, null, ints(1, 1, 6, 5)],
    attributes: { mode: 'linear', coordinate_transformation_mode: 'align_corners' },
  },
];

const others: Case[] = [
  { op: 'Clip', inputs: [[3, 4], tensorOf('f32', [], [-0.5]), tensorOf('f32', [], [0.25])] },
  { op: 'Clip', inputs: [[3, 4], null, []] },
  { op: 'Where', inputs: [['i1', [3, 1]], [3, 4], [4]] },
  { op: 'Pow', inputs: [[3, 4], floats(2)] },
  { op: 'Pow', inputs: [[3, 4], [4]], map: (v) => v + 1.5 },
  { op: 'Pow', inputs: [['i32', [3]], tensorOf('i64', [], [3])] },
  { op: 'Mod', inputs: [['i32', [6]], tensorOf('i32', [], [-3])] },
  { op: 'Div', inputs: [['i32', [6]], tensorOf('i32', [], [-3])] },
  { op: 'Cast', inputs: [[3, 4]], attributes: { to: 6 }, map: (v) => v * 9 },
  { op: 'Cast', inputs: [['i32', [5]]], attributes: { to: 9 } },
  { op: 'Sum', inputs: new Array(15).fill([2, 3]) },
  { op: 'Gelu', inputs: [[3, 4]], attributes: { approximate: 'tanh' }, opset: 20 },
  { op: 'QuantizeLinear', inputs: [[3, 4], floats(0.01), tensorOf('u8', [1], [128])], opset: 13 },
  {
    op: 'DequantizeLinear',
    inputs: [['i8', [3, 4]], floats(0.1, 0.2, 0.3)],
    attributes: { axis: 0 },
    opset: 13,
  },
  { op: 'MatMulInteger', inputs: [['u8', [3, 4]], ['i8', [4, 2]], tensorOf('u8', [], [7])] },
  {
    op: 'NegativeLogLikelihoodLoss',
    inputs: [[3, 4], ints(0, 3, 1), [4]],
    attributes: { reduction: 'mean' },
  },
  {
    op: 'GridSample',
    inputs: [
      [1, 2, 3, 4],
      [1, 3, 3, 2],
    ],
    map: (v) => v * 1.2,
    opset: 16,
  },
  {
    op: 'LSTM',
    inputs: [
      [3, 1, 2],
      [1, 16, 2],
      [1, 16, 4],
      [1, 32],
    ],
    outputs: 3,
    attributes: { hidden_size: 4 },
  },
  {
    op: 'GRU',
    inputs: [
      [3, 2, 2],
      [1, 9, 2],
      [1, 9, 3],
      [1, 18],
    ],
    outputs: 2,
    attributes: { hidden_size: 3 },
  },
];

const composites: Case[] = [
  {
    op: 'LSTM',
    inputs: [
      [3, 2, 2],
      [2, 16, 2],
      [2, 16, 4],
    ],
    outputs: 2,
    attributes: { hidden_size: 4, direction: 'bidirectional' },
  },
  { op: 'TopK', inputs: [['i32', [9]], ints(4)], outputs: 2, attributes: { largest: 0 } },
  {
    op: 'QLinearConv',
    inputs: [
      ...[['u8', [1, 2, 4, 4]] as const, floats(0.1), tensorOf('u8', [1], [9])],
      ...[['i8', [3, 2, 3, 3]] as const, floats(0.1, 0.2, 0.3), tensorOf('i8', [3], [0, 0, 0])],
      ...[floats(0.7), tensorOf('u8', [1], [100]), ['i32', [3]] as const],
    ],
    attributes: { pads: [1, 1, 1, 1] },
  },
  { op: 'DynamicQuantizeLinear', inputs: [[3, 4]], outputs: 3 },
  {
    op: 'GridSample',
    inputs: [
      [1, 1, 4, 4],
      [1, 2, 3, 2],
    ],
    attributes: { mode: 'bicubic', padding_mode: 'border', align_corners: 1 },
    opset: 16,
  },
  {
    op: 'SoftmaxCrossEntropyLoss',
    inputs: [[3, 4, 2], tensorOf('i64', [3, 2], [0, 3, 1, 2, 2, 0])],
    outputs: 2,
  },
];

const all = [
  ...unary,
  ...binary,
  ...reductions,
  ...windows,
  ...products,
  ...rows,
  ...movement,
  ...others,
  ...composites,
];

describe('operators', () => {
  it.each(
    all.map((c, i) => [`${c.op} (${i})`, c] as const),
  )('%s means what onnxruntime says', async (_, test) => {
    const constants: { [name: string]: Tensor } = {};
    const inputs = new Map<string, Tensor>();
    const names = test.inputs.map((given, i) => {
      const name = given ? `x${i}` : '';
      if (given && 'data' in given) constants[name] = given;
      else if (given) inputs.set(name, randomInput(given as readonly number[], i, test.map));
      return name;
    });
    const outputs = Array.from({ length: test.outputs ?? 1 }, (_n, i) => `y${i}`);
    const { op, attributes = {}, opset = 18 } = test;
    const bytes = buildModel(
      {
        inputs: [...inputs].map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
        outputs,
        nodes: [{ op, inputs: names, outputs, attributes }],
        constants,
      },
      opset,
    );
    const module = lowerOnnx(bytes, { name: op });
    expect(module.calls.flatMap((c) => verifyKernel(c.kernel))).toEqual([]);
    const got = interpretModule(module, inputs);
    const want = await runPeer(bytes, inputs);
    for (const name of outputs)
      expect(difference(got.get(name)!, want.get(name)!), `${op} ${name}`).toBe(undefined);
  });
});

function randomInput(
  given: readonly number[] | readonly [DType, readonly number[]],
  seed: number,
  map = (v: number) => v,
): Tensor {
  const [dtype, shape] =
    typeof given[0] === 'string' ? (given as [DType, number[]]) : (['f32', given as number[]] as const);
  const tensor = randomTensor(dtype, shape, seed + 1);
  return dtype === 'f32' ? tensorOf(dtype, shape, Array.from(tensor.data as Float32Array, map)) : tensor;
}
