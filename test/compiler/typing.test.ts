/**
 * @file Shapes of inputs, constant folding, branches, and refusals.
 */
import { describe, expect, it } from 'vitest';
import { lowerOnnx, readModel, typeGraph, Unsupported } from '../../compiler/index.ts';
import { buildModel, type GraphSpec, type NodeSpec } from '../../compiler/onnx/writer.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { type Tensor, tensorOf, toNumbers } from '../../ir/tensor.ts';

const type = (graph: GraphSpec, shapes = {}) => typeGraph(readModel(buildModel(graph), 'm.onnx'), shapes);
const ints = (...values: number[]): Tensor => tensorOf('i64', [values.length], values);
const relu: NodeSpec = { op: 'Relu', inputs: ['x'], outputs: ['y'] };

describe('shapes of inputs', () => {
  const open = (...shape: (number | string)[]): GraphSpec => ({
    inputs: [{ name: 'x', shape }],
    outputs: ['y'],
    nodes: [relu],
  });

  it('takes an open leading dimension as a batch of one', () => {
    expect(type(open('N', 3)).types.get('y')!.shape).toEqual([1, 3]);
  });

  it('says which option gives the open dimensions', () => {
    expect(() => type(open('N', 3, 'h', '?'))).toThrow('--shape x=1,3,<h>,<size3>');
    expect(type(open('N', 3, 'h', '?'), { x: [2, 3, 4, 5] }).types.get('y')!.shape).toEqual([2, 3, 4, 5]);
  });

  it('gives dimensions of one name one size', () => {
    const two: GraphSpec = {
      inputs: [
        { name: 'a', shape: [1, 'n'] },
        { name: 'b', shape: [1, 'n'] },
      ],
      outputs: ['y'],
      nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['y'] }],
    };
    expect(type(two, { a: [1, 7] }).types.get('b')!.shape).toEqual([1, 7]);
    expect(() => type(two, { a: [1, 7], b: [1, 8] })).toThrow("dimension 'n' is 7 elsewhere");
  });

  it.each<[string, object, RegExp]>([
    ['an unknown name', { z: [1] }, /no input 'z'; its inputs are 'x'/],
    ['another rank', { x: [1] }, /the model has 2 dimensions/],
    ['another fixed size', { x: [1, 4] }, /fixes dimension 1 to 3/],
    ['no whole number', { x: [1.5, 3] }, /whole numbers/],
  ])('refuses a shape with %s', (_, shapes, message) => {
    expect(() => type(open('N', 3), shapes)).toThrow(message);
  });

  it('asks for the shape of an input that has none', () => {
    const graph: GraphSpec = { inputs: [{ name: 'x' }], outputs: ['y'], nodes: [relu] };
    expect(() => type(graph)).toThrow('--shape x=');
    expect(type(graph, { x: [2, 2] }).types.get('y')!.shape).toEqual([2, 2]);
  });
});

describe('constant folding', () => {
  it('computes shapes that models compute at run time', () => {
    const graph = type(
      {
        inputs: [{ name: 'x', shape: ['n', 4, 6] }],
        outputs: ['y'],
        nodes: [
          { op: 'Shape', inputs: ['x'], outputs: ['shape'] },
          { op: 'Slice', inputs: ['shape', 'zero', 'one'], outputs: ['batch'] },
          { op: 'Mul', inputs: ['four', 'three'], outputs: ['half'] },
          { op: 'Concat', inputs: ['batch', 'half', 'minus'], outputs: ['target'], attributes: { axis: 0 } },
          { op: 'Reshape', inputs: ['x', 'target'], outputs: ['y'] },
        ],
        constants: { zero: ints(0), one: ints(1), four: ints(4), three: ints(3), minus: ints(-1) },
      },
      { x: [5, 4, 6] },
    );
    expect(graph.nodes.map((n) => n.op)).toEqual(['Reshape']);
    expect(graph.types.get('y')!.shape).toEqual([5, 12, 2]);
    expect([...graph.constants.keys()]).toEqual(['target']);
  });

  it('is quick for the large constants that weights are made of', () => {
    const start = performance.now();
    const graph = type({
      inputs: [{ name: 'x', shape: [1, 2048] }],
      outputs: ['y'],
      nodes: [
        {
          op: 'ConstantOfShape',
          inputs: ['size'],
          outputs: ['w'],
          attributes: { value: tensorOf('f32', [1], [0.5]) },
        },
        { op: 'Transpose', inputs: ['w'], outputs: ['wt'] },
        { op: 'MatMul', inputs: ['x', 'wt'], outputs: ['y'] },
      ],
      constants: { size: ints(1000, 2048) },
    });
    expect(graph.constants.get('wt')!.shape).toEqual([2048, 1000]);
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it('leaves what would take long to compute to run time', () => {
    const graph = type({
      outputs: ['y'],
      nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['y'] }],
      constants: {
        a: tensorOf('f32', [300, 300], new Array(9e4).fill(1)),
        b: tensorOf('f32', [300, 300], new Array(9e4).fill(1)),
      },
    });
    expect(graph.nodes.map((n) => n.op)).toEqual(['MatMul']);
  });

  it('refuses sizes that no memory holds', () => {
    const huge: GraphSpec = {
      outputs: ['y'],
      nodes: [{ op: 'ConstantOfShape', inputs: ['size'], outputs: ['y'] }],
      constants: { size: ints(2 ** 20, 2 ** 20) },
    };
    expect(() => type(huge)).toThrow(/too large/);
  });
});

describe('If', () => {
  const branch = (op: string): GraphSpec => ({
    outputs: ['r'],
    nodes: [
      { op, inputs: ['x'], outputs: ['t'] },
      { op: 'Add', inputs: ['t', 'one'], outputs: ['r'] },
    ],
    constants: { one: tensorOf('f32', [], [1]) },
  });
  const choice = (condition: Partial<GraphSpec>): GraphSpec => ({
    outputs: ['y'],
    nodes: [
      {
        op: 'If',
        inputs: ['c'],
        outputs: ['y'],
        attributes: { then_branch: branch('Neg'), else_branch: branch('Abs') },
      },
    ],
    ...condition,
    inputs: [{ name: 'x', shape: [2] }, ...(condition.inputs ?? [])],
  });
  const run = (graph: GraphSpec, c?: Tensor): number[] => {
    const module = lowerOnnx(buildModel(graph), { name: 'm' });
    const inputs = new Map([['x', tensorOf('f32', [2], [-3, 5])]]);
    if (c) inputs.set('c', c);
    return toNumbers(interpretModule(module, inputs).get('y')!);
  };

  it('is the branch that a known condition takes', () => {
    expect(run(choice({ constants: { c: tensorOf('i1', [], [1]) } }))).toEqual([4, -4]);
    expect(run(choice({ constants: { c: tensorOf('i1', [], [0]) } }))).toEqual([4, 6]);
  });

  it('is a choice between both when the condition comes at run time', () => {
    const graph = choice({ inputs: [{ name: 'c', dtype: 'i1', shape: [1] }] });
    expect(run(graph, tensorOf('i1', [1], [1]))).toEqual([4, -4]);
    expect(run(graph, tensorOf('i1', [1], [0]))).toEqual([4, 6]);
  });

  it('is refused if the branches differ in type and the condition is open', () => {
    const graph = choice({ inputs: [{ name: 'c', dtype: 'i1', shape: [] }] });
    const wide: GraphSpec = { ...branch('Abs'), constants: { one: tensorOf('f32', [2, 1], [1, 1]) } };
    const node = { ...graph.nodes[0]!, attributes: { then_branch: branch('Neg'), else_branch: wide } };
    expect(() => type({ ...graph, nodes: [node] })).toThrow(/branches give f32\[2\] and f32\[2,2\]/);
  });
});

describe('refusals', () => {
  it('lists every node that cannot be compiled', () => {
    const graph: GraphSpec = {
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['d', 'e', 'f'],
      nodes: [
        { op: 'Sorcery', name: 'n1', inputs: ['x'], outputs: ['a'] },
        { op: 'Relu', inputs: ['a'], outputs: ['b'] },
        { op: 'Witchcraft', name: 'n2', inputs: ['b'], outputs: ['d'], domain: 'com.example' },
        { op: 'Loop', name: 'n3', inputs: ['x'], outputs: ['e'] },
        { op: 'And', name: 'n4', inputs: ['x', 'x'], outputs: ['f'] },
      ],
    };
    const error = (() => {
      try {
        return type(graph);
      } catch (e) {
        return e;
      }
    })();
    expect(error).toBeInstanceOf(Unsupported);
    expect((error as Unsupported).message.split('\n')).toEqual([
      "unsupported Sorcery (opset 18) at node 'n1': unknown operator",
      "unsupported com.example.Witchcraft (opset 18) at node 'n2': unknown operator",
      expect.stringMatching(/^unsupported Loop .* 'n3': loops are not supported/),
      "unsupported And (opset 18) at node 'n4': element type f32",
    ]);
  });

  it('does not mind what no output needs', () => {
    const graph: GraphSpec = {
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
      nodes: [{ op: 'Sorcery', inputs: ['x'], outputs: ['a'] }, relu],
    };
    expect(type(graph).nodes).toHaveLength(1);
  });

  it('refuses an attribute that it does not know', () => {
    const node: NodeSpec = { ...relu, name: 'n', attributes: { charm: 1 } };
    const bytes = buildModel({ inputs: [{ name: 'x', shape: [2] }], outputs: ['y'], nodes: [node] });
    expect(() => lowerOnnx(bytes, { name: 'm' })).toThrow(/'n': attribute charm is not supported/);
  });
});
