/**
 * @file The reader: what it takes, and that no bytes whatever get more out of it than a one-line message.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError, lowerOnnx, readModel, readTensor, Unsupported } from '../../compiler/index.ts';
import { encodeModel } from '../../compiler/onnx/schema.ts';
import { buildModel, type GraphSpec } from '../../compiler/onnx/writer.ts';
import { tensorOf } from '../../ir/tensor.ts';

const small: GraphSpec = {
  inputs: [{ name: 'x', shape: [2, 3] }],
  outputs: ['y'],
  nodes: [
    { op: 'Gemm', inputs: ['x', 'w', 'b'], outputs: ['h'], attributes: { alpha: 0.5, transB: 1 } },
    { op: 'Relu', inputs: ['h'], outputs: ['y'] },
  ],
  constants: { w: tensorOf('f32', [4, 3], new Array(12).fill(0.5)), b: tensorOf('f32', [4], [1, 2, 3, 4]) },
};

/** Reads bytes; true if that gave a graph. Fails the test if it ended in any other way than our errors. */
function survives(bytes: Uint8Array): boolean {
  try {
    readModel(bytes, 'x.onnx');
    return true;
  } catch (e) {
    expect(e).toBeInstanceOf(InputError);
    if (!(e instanceof Unsupported)) expect((e as Error).message).not.toContain('\n');
    return false;
  }
}

describe('readModel', () => {
  it('reads nodes, attributes, inputs and weights', () => {
    const graph = readModel(buildModel(small, 17), 'x.onnx');
    expect(graph).toMatchObject({ name: 'x.onnx', opset: 17, outputs: ['y'] });
    expect(graph.inputs).toEqual([{ name: 'x', dtype: 'f32', shape: [2, 3] }]);
    expect(graph.nodes.map((n) => n.op)).toEqual(['Gemm', 'Relu']);
    expect(Object.fromEntries(graph.nodes[0]!.attributes)).toEqual({ alpha: 0.5, transB: 1 });
    expect(graph.constants.get('b')!.data).toEqual(new Float32Array([1, 2, 3, 4]));
  });

  it('takes weights that are listed among the inputs as constants', () => {
    const listed = { ...small, inputs: [...small.inputs!, { name: 'w', shape: [4, 3] }] };
    expect(readModel(buildModel(listed), 'm').inputs.map((i) => i.name)).toEqual(['x']);
  });

  it('gives a message for every truncation', () => {
    const bytes = buildModel(small);
    for (let length = 0; length < bytes.length; length++) survives(bytes.subarray(0, length));
    expect(survives(bytes)).toBe(true);
  });

  it('survives flipped bytes, through lowering', () => {
    const bytes = buildModel(small);
    const flips = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(flips, (list) => {
        const broken = bytes.slice();
        for (const [at, mask] of list) broken[at]! ^= mask;
        try {
          lowerOnnx(broken, { name: 'x.onnx' });
        } catch (e) {
          if (!(e instanceof InputError)) throw e;
        }
      }),
      { numRuns: 1500 },
    );
  });

  it('survives random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void survives(bytes)),
      { numRuns: 1000 },
    );
  });

  const model = (graph: object, more: object = {}) =>
    encodeModel({ irVersion: 8, opsetImport: [{ domain: '', version: 18 }], graph, ...more });
  const node = (op: string, input: string[], output: string[]) => ({ opType: op, input, output });
  const value = (name: string, elemType = 1) => ({
    name,
    type: { tensorType: { elemType, shape: { dim: [] } } },
  });
  const tensor = (name: string, dims: number[], more: object) => ({ name, dims, dataType: 1, ...more });
  const y = [value('y')];

  it.each<[string, Uint8Array, RegExp]>([
    ['no bytes', new Uint8Array(), /no graph/],
    ['text', new TextEncoder().encode('{"not": "a model"}'), /not an ONNX model/],
    ['an empty graph', model({}), /no outputs/],
    ['an odd IR version', model({ output: y }, { irVersion: -3 }), /IR version/],
    ['no opset', encodeModel({ irVersion: 8, graph: { output: y } }), /which opset/],
    ['an output that nothing makes', model({ output: y }), /'y' is not made/],
    [
      'a value from nowhere',
      model({ node: [node('Relu', ['x'], ['y'])], output: y }),
      /'x' which nothing makes/,
    ],
    [
      'a cycle',
      model({ node: [node('Relu', ['b'], ['a']), node('Relu', ['a'], ['b'])], output: [value('b')] }),
      /'b' before it is made/,
    ],
    [
      'a value made twice',
      model({
        input: [value('x')],
        node: [node('Relu', ['x'], ['y']), node('Abs', ['x'], ['y'])],
        output: y,
      }),
      /'y' is made twice/,
    ],
    [
      'a huge weight without data',
      model({ initializer: [tensor('w', [2 ** 20, 2 ** 20], {})], output: [value('w')] }),
      /needs 1099511627776 elements/,
    ],
    [
      'a weight with too few bytes',
      model({ initializer: [tensor('w', [4], { rawData: new Uint8Array(12) })], output: [value('w')] }),
      /needs 16 bytes of data, it has 12/,
    ],
    [
      'a negative dimension',
      model({ initializer: [tensor('w', [-4], {})], output: [value('w')] }),
      /dimensions \[-4\]/,
    ],
  ])('says what is wrong with %s', (_, bytes, message) => {
    expect(() => readModel(bytes, 'x.onnx')).toThrow(InputError);
    expect(() => readModel(bytes, 'x.onnx')).toThrow(/^x\.onnx is not an ONNX model: /);
    expect(() => readModel(bytes, 'x.onnx')).toThrow(message);
  });

  it('caps how deep branches nest', () => {
    let graph: object = { output: [] };
    for (let depth = 0; depth < 20; depth++) {
      graph = {
        node: [{ ...node('If', ['c'], ['o']), attribute: [{ name: 'then_branch', type: 5, g: graph }] }],
      };
    }
    expect(() => readModel(model({ ...graph, input: [value('c', 9)], output: [value('c')] }), 'x')).toThrow(
      InputError,
    );
  });

  it('names every value of a type that it does not have', () => {
    const bytes = model({
      input: [value('d', 11), value('s', 8)],
      initializer: [{ name: 'u', dims: [1], dataType: 12, rawData: new Uint8Array(4) }],
      node: [node('Relu', ['d'], ['y'])],
      output: y,
    });
    expect(() => readModel(bytes, 'x')).toThrow(Unsupported);
    expect(() => readModel(bytes, 'x')).toThrow(
      /'u': element type uint32\n.*'d': element type double\n.*'s': element type string/,
    );
  });

  it('refuses data in other files, and values that are no tensors', () => {
    const external = model({ initializer: [tensor('w', [4], { dataLocation: 1 })], output: [value('w')] });
    expect(() => readModel(external, 'x')).toThrow(/'w': its data is in another file/);
    const sequence = model({ input: [{ name: 'q', type: { sequenceType: {} } }], output: [value('q')] });
    expect(() => readModel(sequence, 'x')).toThrow(/'q': of type sequence/);
  });

  it('keeps control characters of names out of messages', () => {
    const bytes = model({ node: [node('Relu', ['a\u001b[2J\nb'], ['y'])], output: y });
    expect(() => readModel(bytes, 'x')).toThrow(/uses 'a\?\[2J\?b' which/);
  });
});

describe('readTensor', () => {
  it.each(['', 'garbage bytes', '\u00ff\u00ff\u00ff'])('refuses %j', (text) => {
    expect(() => readTensor(new TextEncoder().encode(text))).toThrow(InputError);
  });
});
