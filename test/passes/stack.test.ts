/**
 * @file Stacked products: random ones give the same bits as one by one; attention reads its three operands from one value as fast as from
 * three; and what is not stacked.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel } from '../../compiler/onnx/writer.ts';
import type { Precision } from '../../driver/model.ts';
import { attentionOf } from '../../ir/attention.ts';
import { compare } from '../../ir/compare.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { interpretProgram } from '../../ir/interpret_program.ts';
import { type Item, itemProblems } from '../../ir/item.ts';
import type { Module } from '../../ir/module.ts';
import type { Program } from '../../ir/program.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import { generate } from '../../models/index.ts';
import { Network, type Value } from '../../models/network.ts';
import { parsePasses, runPass } from '../../passes/index.ts';
import { emulatedWay } from '../support/ways.ts';

const target = targetOf('sm_90');

function run(passes: string, module: Module): Item {
  const [item] = parsePasses(passes).reduce<Item[]>(
    (items, step) => runPass(step, items, target),
    [{ kind: 'module', module }],
  );
  expect(itemProblems(item!, target)).toEqual([]);
  return item!;
}

const moduleAfter = (passes: string, module: Module): Module =>
  (run(passes, module) as Extract<Item, { kind: 'module' }>).module;

const inputsOf = (module: Module): Map<string, Tensor> =>
  new Map(module.inputs.map((name) => [name, randomInput(module.types.get(name)!, 5)]));

const results = (module: Module): unknown =>
  [...interpretModule(module, inputsOf(module))].map(([name, t]) => [name, [...bytesOf(t)]]);

const lowered = (graph: Uint8Array, precision: Precision = 'fp16'): Module =>
  lowerOnnx(graph, { name: 'm', shapes: {}, precision });

const kernelNames = (module: Module): string[] => module.calls.map((c) => c.kernel.name);
const stackedIn = (module: Module): string[] => kernelNames(module).filter((name) => /_x\d$/.test(name));

/** How products of one value are made and read. */
interface Shape {
  readonly products: number;
  readonly rows: number;
  readonly depth: number;
  readonly columns: number;
  /** Rows of a picture of rows, or plain ones. */
  readonly batch: readonly number[];
  readonly bias: 'none' | 'add' | 'gemm';
  readonly relu: boolean;
  readonly readers: 'products' | 'heads' | 'rows';
}

/** Products of the one value by weights of their own. */
function products(net: Network, x: Value, s: Pick<Shape, 'products' | 'columns' | 'bias' | 'relu'>): Value[] {
  const shape = [...x.shape.slice(0, -1), s.columns];
  const depth = x.shape.at(-1)!;
  return Array.from({ length: s.products }, () => {
    const weights = net.weights([depth, s.columns], depth, 1);
    let y: Value;
    if (s.bias === 'gemm') y = net.node('Gemm', [x, weights, net.vector(s.columns)], shape);
    else {
      y = net.node('MatMul', [x, weights], shape);
      if (s.bias === 'add') y = net.add(net.vector(s.columns), y);
    }
    return s.relu ? net.relu(y) : y;
  });
}

function network(s: Shape): Module {
  const net = new Network(3);
  const x = net.input('x', [...s.batch, s.rows, s.depth]);
  const made = products(net, x, s);
  const plain = s.batch.map((_, n) => n);
  const [row, column] = [s.batch.length, s.batch.length + 1];
  const outputs = made.map((y, n) => {
    const other = made[(n + 1) % made.length]!;
    switch (s.readers) {
      case 'products': {
        // Each is read twice, once in rows and once in columns.
        const across = net.node('Transpose', [other], [...s.batch, s.columns, s.rows], {
          perm: [...plain, column, row],
        });
        return net.node('MatMul', [y, across], [...s.batch, s.rows, s.rows]);
      }
      case 'heads':
        return net.node('Transpose', [net.reshape(y, [-1, s.rows, 2, s.columns / 2])], [], {
          perm: [0, 2, 1, 3],
        });
      case 'rows':
        return net.node('Softmax', [y], y.shape, { axis: -1 });
      default:
        return s.readers satisfies never;
    }
  });
  return lowered(buildModel(net.finish(outputs)));
}

const shapes: fc.Arbitrary<Shape> = fc
  .record({
    products: fc.integer({ min: 2, max: 4 }),
    rows: fc.integer({ min: 8, max: 11 }),
    depth: fc.integer({ min: 8, max: 12 }),
    columns: fc.constantFrom(8, 16, 24),
    batch: fc.constantFrom([], [1], [2]),
    bias: fc.constantFrom('none' as const, 'add' as const, 'gemm' as const),
    relu: fc.boolean(),
    readers: fc.constantFrom('products' as const, 'heads' as const, 'rows' as const),
  })
  .filter((s) => s.bias !== 'gemm' || s.batch.length === 0);

describe('products of one value', () => {
  it('are one, and give the same bits', () => {
    fc.assert(
      fc.property(shapes, fc.constantFrom('saturate', 'saturate,fuse'), (s, passes) => {
        const before = moduleAfter(passes, network(s));
        const after = moduleAfter('stack', before);
        expect(stackedIn(after)).toHaveLength(1);
        expect(after.calls).toHaveLength(before.calls.length - s.products + 1);
        const constants = (m: Module): number =>
          m.calls.flatMap((c) => c.inputs).filter((v) => m.constants.has(v)).length;
        expect(constants(after)).toBeLessThan(constants(before));
        expect(results(after)).toEqual(results(before));
        // Places in memory, and weights laid out anew.
        const program = (
          run('channel-order,schedule,plan-memory', after) as Extract<Item, { kind: 'program' }>
        ).program;
        const outputs = interpretProgram(program, new Map([['m', inputsOf(after)]])).get('m')!;
        expect([...outputs].map(([name, t]) => [name, [...bytesOf(t)]])).toEqual(results(before));
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  const plain = { products: 2, columns: 16, bias: 'add', relu: false } as const;
  const refused: { readonly [reason: string]: (net: Network, x: Value) => readonly Value[] } = {
    'one is an output of the model': (net, x) => {
      const [a, b] = products(net, x, plain) as [Value, Value];
      return [a, net.node('Softmax', [b], b.shape)];
    },
    'weights have another reader': (net, x) => {
      const shared = net.weights([16, 16], 16, 1);
      const y = (w: Value): Value => net.node('MatMul', [x, w], [8, 16]);
      const softmax = (v: Value): Value => net.node('Softmax', [v], v.shape);
      const other = net.node('MatMul', [softmax(x), shared], [8, 16]);
      return [y(shared), y(net.weights([16, 16], 16, 1)), other].map(softmax);
    },
    'columns are not as many': (net, x) => {
      const of = (columns: number): Value => products(net, x, { ...plain, products: 1, columns })[0]!;
      return [of(16), of(24)].map((y) => net.node('Softmax', [y], y.shape));
    },
    'columns do not fill 16 bytes': (net, x) =>
      products(net, x, { ...plain, columns: 12 }).map((y) => net.node('Softmax', [y], y.shape)),
    'epilogues differ': (net, x) => {
      const [a, b] = products(net, x, plain) as [Value, Value];
      return [net.relu(a), b].map((y) => net.node('Softmax', [y], y.shape));
    },
    'one is read without its rows': (net, x) =>
      products(net, x, plain).map((y) => net.node('Softmax', [net.reshape(y, [4, 32])], [4, 32])),
    'they multiply different values': (net, x) => {
      const of = (v: Value): Value => products(net, v, { ...plain, products: 1 })[0]!;
      const other = net.node('Softmax', [x], x.shape);
      return [of(x), of(other)].map((y) => net.node('Softmax', [y], y.shape));
    },
  };
  const graph = (make: (net: Network, x: Value) => readonly Value[]): Uint8Array => {
    const net = new Network(5);
    return buildModel(net.finish(make(net, net.input('x', [8, 16]))));
  };
  for (const [reason, make] of Object.entries(refused)) {
    it(`stay apart if ${reason}`, () => {
      const before = moduleAfter('saturate,fuse', lowered(graph(make)));
      expect(kernelNames(before).filter((name) => /matmul|gemm/.test(name)).length).toBeGreaterThan(1);
      expect(moduleAfter('stack', before)).toBe(before);
    });
  }

  it('stay apart in f32, and on the host', () => {
    const softmaxes = (net: Network, x: Value): readonly Value[] =>
      products(net, x, plain).map((y) => net.node('Softmax', [y], y.shape));
    const single = moduleAfter('fuse', lowered(graph(softmaxes), 'fp32'));
    expect(moduleAfter('stack', single)).toBe(single);
    const half: Item = { kind: 'module', module: moduleAfter('saturate,fuse', lowered(graph(softmaxes))) };
    expect(runPass({ name: 'stack' }, [half], targetOf('host'))[0]).toEqual(half);
    expect(stackedIn(moduleAfter('stack', half.module))).toHaveLength(1);
  });
});

describe('queries, keys and values', () => {
  const bert = lowered(
    generate('bert-base', 1, { layers: 2, width: 48, heads: 3, sequence: 20, vocabulary: 30 }),
  );
  const before = moduleAfter('saturate,fuse,fuse-attention', bert);
  const after = moduleAfter('stack', before);

  it('are one product in each layer, which attention reads as widely as three', () => {
    expect(after.calls).toHaveLength(before.calls.length - 4);
    expect(stackedIn(after)).toEqual(['matmul_add_x3', 'matmul_add_x3']);
    const attentions = [before, after].map((m) => m.calls.flatMap((c) => attentionOf(c.kernel) ?? []));
    const facts = attentions.map((list) =>
      list.map(({ q, k, v, storeVector }) => [
        ...[q, k, v].map(({ vector, positionFast, guards }) => ({ vector, positionFast, guards })),
        storeVector,
      ]),
    );
    expect(facts[1]).toHaveLength(2);
    expect(facts[1]).toEqual(facts[0]);
    expect(results(after)).toEqual(results(before));
  });

  it('run as emitted CUDA', async () => {
    const { program } = run('pack-channels,layout,channel-order,schedule,plan-memory=2,coalesce', after) as {
      program: Program;
    };
    const way = emulatedWay();
    await way.prepare([program]);
    const tenants = program.tenants.map((t) => t.name);
    const inputs = inputsOf(after);
    const got = await way.run(program, new Map(tenants.map((name) => [name, inputs])));
    const wanted = interpretModule(before, inputs);
    for (const name of tenants)
      for (const [output, tensor] of wanted)
        expect(compare(got.get(name)!.get(output)!, tensor, 2e-2)).toMatchObject({ ok: true });
  });
});
