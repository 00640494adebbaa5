/**
 * @file Simplification and precision: fewer nodes, the same function.
 */
import { describe, expect, it } from 'vitest';
import { convertPrecision, lowerGraph, readModel, simplify, typeGraph } from '../../compiler/index.ts';
import { buildModel, type GraphSpec, type NodeSpec } from '../../compiler/onnx/writer.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import { randomTensor, relativeError } from '../support/random.ts';

const type = (graph: GraphSpec) => typeGraph(readModel(buildModel(graph), 'm.onnx'));

/** What a graph gives as it is and simplified, for one random input. */
function bothWays(graph: GraphSpec): { ops: string[]; error: number } {
  const typed = type(graph);
  const simple = simplify(typed);
  const [x] = graph.inputs!;
  const inputs = new Map([['x', randomTensor('f32', x!.shape as number[], 7)]]);
  const [a, b] = [typed, simple].map((g) => interpretModule(lowerGraph(g), inputs).get('y')!);
  return { ops: simple.nodes.map((n) => n.op), error: relativeError(b!, a!) };
}

const random = (shape: number[], seed: number): Tensor => randomTensor('f32', shape, seed);
const positive = (shape: number[], seed: number): Tensor =>
  tensorOf(
    'f32',
    shape,
    Array.from(random(shape, seed).data as Float32Array, (v) => Math.abs(v) + 0.1),
  );
const batchNorm = (from: string, to: string): NodeSpec => ({
  op: 'BatchNormalization',
  inputs: [from, 'scale', 'shift', 'mean', 'variance'],
  outputs: [to],
});
const statistics = (channels: number) => ({
  scale: random([channels], 1),
  shift: random([channels], 2),
  mean: random([channels], 3),
  variance: positive([channels], 4),
});

describe('folding into weights', () => {
  it.each<[string, GraphSpec, string[]]>([
    [
      'batch norm after a convolution in groups',
      {
        inputs: [{ name: 'x', shape: [1, 4, 5, 5] }],
        outputs: ['y'],
        nodes: [
          { op: 'Conv', inputs: ['x', 'w', 'b'], outputs: ['h'], attributes: { group: 2 } },
          batchNorm('h', 'y'),
        ],
        constants: { w: random([6, 2, 3, 3], 5), b: random([6], 6), ...statistics(6) },
      },
      ['Conv'],
    ],
    [
      'batch norm after a transposed convolution in groups',
      {
        inputs: [{ name: 'x', shape: [1, 4, 5, 5] }],
        outputs: ['y'],
        nodes: [
          {
            op: 'ConvTranspose',
            inputs: ['x', 'w'],
            outputs: ['h'],
            attributes: { group: 2, strides: [2, 2] },
          },
          batchNorm('h', 'y'),
        ],
        constants: { w: random([4, 3, 2, 2], 5), ...statistics(6) },
      },
      ['ConvTranspose'],
    ],
    [
      'a chain of Mul, Add, Sub and Div by channels and by one number',
      {
        inputs: [{ name: 'x', shape: [2, 3, 8] }],
        outputs: ['y'],
        nodes: [
          { op: 'Conv', inputs: ['x', 'w'], outputs: ['a'] },
          { op: 'Mul', inputs: ['m', 'a'], outputs: ['c'] },
          { op: 'Add', inputs: ['c', 's'], outputs: ['d'] },
          { op: 'Sub', inputs: ['d', 'm'], outputs: ['e'] },
          { op: 'Div', inputs: ['e', 's'], outputs: ['y'] },
        ],
        constants: { w: random([4, 3, 3], 5), m: random([1, 4, 1], 6), s: tensorOf('f32', [], [0.5]) },
      },
      ['Conv'],
    ],
    [
      'a bias and a scale after a matrix product',
      {
        inputs: [{ name: 'x', shape: [3, 4] }],
        outputs: ['y'],
        nodes: [
          { op: 'MatMul', inputs: ['x', 'w'], outputs: ['a'] },
          { op: 'Add', inputs: ['a', 'v'], outputs: ['c'] },
          { op: 'Mul', inputs: ['c', 'v'], outputs: ['y'] },
        ],
        constants: { w: random([4, 5], 5), v: random([5], 6) },
      },
      ['Gemm'],
    ],
    [
      'a scale after a Gemm with factors',
      {
        inputs: [{ name: 'x', shape: [3, 4] }],
        outputs: ['y'],
        nodes: [
          {
            op: 'Gemm',
            inputs: ['x', 'w', 'b'],
            outputs: ['a'],
            attributes: { transB: 1, alpha: 0.5, beta: 0.25 },
          },
          { op: 'Mul', inputs: ['a', 'v'], outputs: ['y'] },
        ],
        constants: { w: random([5, 4], 5), b: random([1, 5], 6), v: random([5], 7) },
      },
      ['Gemm'],
    ],
  ])('%s', (_, graph, ops) => {
    const result = bothWays(graph);
    expect(result.ops).toEqual(ops);
    expect(result.error).toBeLessThan(1e-6);
  });

  const conv: NodeSpec = { op: 'Conv', inputs: ['x', 'w'], outputs: ['a'] };
  const scale: NodeSpec = { op: 'Mul', inputs: ['a', 'm'], outputs: ['y'] };
  const base: GraphSpec = {
    inputs: [{ name: 'x', shape: [1, 3, 4] }],
    outputs: ['y'],
    nodes: [conv, scale],
    constants: { w: random([4, 3, 1], 5), m: random([4, 1], 6) },
  };

  it.each<[string, GraphSpec]>([
    ['the value before it is an output too', { ...base, outputs: ['y', 'a'] }],
    [
      'the value before it is used elsewhere',
      { ...base, outputs: ['y', 'z'], nodes: [conv, scale, { op: 'Abs', inputs: ['a'], outputs: ['z'] }] },
    ],
    [
      'the constant varies along another dimension',
      { ...base, constants: { ...base.constants, m: random([4], 6) } },
    ],
    [
      'the constant is infinite',
      { ...base, constants: { ...base.constants, m: tensorOf('f32', [], [Infinity]) } },
    ],
    [
      'the constant is divided',
      { ...base, nodes: [conv, { op: 'Div', inputs: ['m', 'a'], outputs: ['y'] }] },
    ],
  ])('leaves it when %s', (_, graph) => {
    expect(simplify(type(graph)).nodes.map((n) => n.op)).toContain('Conv');
    expect(simplify(type(graph)).nodes.length).toBe(graph.nodes.length);
  });
});

it('drops nodes that pass their input on', () => {
  const graph = simplify(
    type({
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
      nodes: [
        { op: 'Identity', inputs: ['x'], outputs: ['a'] },
        { op: 'Dropout', inputs: ['a'], outputs: ['b'] },
        { op: 'Relu', inputs: ['b'], outputs: ['y'] },
      ],
    }),
  );
  expect(graph.nodes).toMatchObject([{ op: 'Relu', inputs: ['x'] }]);
});

describe('lowering', () => {
  it('gives every output storage of its own', () => {
    const graph = type({
      inputs: [{ name: 'x', shape: [2, 3] }],
      outputs: ['x', 'k', 'v', 'y', 'w', 'i'],
      nodes: [
        { op: 'Relu', inputs: ['x'], outputs: ['y'] },
        { op: 'Flatten', inputs: ['y'], outputs: ['v'], attributes: { axis: 0 } },
        { op: 'Flatten', inputs: ['v'], outputs: ['w'] },
        { op: 'Identity', inputs: ['x'], outputs: ['i'] },
      ],
      constants: { k: tensorOf('f32', [2], [1, 2]) },
    });
    const module = lowerGraph(graph);
    const values = module.outputs.map((o) => o.value);
    expect(new Set(values).size).toBe(6);
    const made = module.calls.flatMap((c) => c.outputs);
    for (const value of values) expect(made).toContain(value);
    const x = randomTensor('f32', [2, 3], 1);
    const got = interpretModule(module, new Map([['x', x]]));
    expect(got.get('x')).toEqual(x);
    expect(got.get('i')).toEqual(x);
    expect(got.get('k')!.data).toEqual(new Float32Array([1, 2]));
    expect(got.get('v')!.shape).toEqual([1, 6]);
    expect(got.get('w')!.data).toEqual(got.get('y')!.data);
  });

  it('leaves out calls and constants that no output needs', () => {
    const module = lowerGraph(
      type({
        inputs: [{ name: 'x', shape: [2, 4] }],
        outputs: ['b'],
        nodes: [{ op: 'Split', inputs: ['x'], outputs: ['a', 'b'], attributes: { axis: 1 } }],
        constants: { unused: tensorOf('f32', [2], [1, 2]) },
      }),
    );
    expect(module.calls).toHaveLength(1);
    expect(module.constants.size).toBe(0);
  });
});

describe('convertPrecision', () => {
  const graph: GraphSpec = {
    inputs: [
      { name: 'x', shape: [2, 8] },
      { name: 'ids', dtype: 'i64', shape: [2] },
    ],
    outputs: ['y', 'ids'],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['e'] },
      { op: 'MatMul', inputs: ['x', 'w'], outputs: ['h'] },
      { op: 'Add', inputs: ['h', 'e'], outputs: ['s'] },
      { op: 'Add', inputs: ['s', 'mask'], outputs: ['m'] },
      { op: 'Softmax', inputs: ['m'], outputs: ['y'] },
    ],
    constants: {
      w: random([8, 4], 1),
      table: random([5, 4], 2),
      mask: tensorOf('f32', [4], [0, 0, 0, -3e38]),
    },
  };

  it('halves weights and intermediate values, and keeps the types of inputs and outputs', () => {
    const full = simplify(type(graph));
    const half = convertPrecision(full, 'fp16');
    const module = lowerGraph(half);
    expect([...module.constants.values()].map((t) => t.dtype)).toEqual(['f16', 'f16', 'f16']);
    expect(module.types.get('x')!.dtype).toBe('f32');
    expect(module.types.get(module.outputs[0]!.value)!.dtype).toBe('f32');
    expect(half.types.get('s')!.dtype).toBe('f16');
    const inputs = new Map([
      ['x', random([2, 8], 3)],
      ['ids', tensorOf('i64', [2], [4, 0])],
    ]);
    const [a, b] = [full, half].map((g) => interpretModule(lowerGraph(g), inputs).get('y')!);
    expect(relativeError(b!, a!)).toBeLessThan(2e-3);
    expect(Array.from(b!.data as Float32Array).every(Number.isFinite)).toBe(true);
  });
});
