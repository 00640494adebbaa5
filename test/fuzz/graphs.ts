/**
 * @file Random ONNX graphs of the operators that networks are made of, with weights of their own.
 */
import fc from 'fast-check';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel, type NodeSpec } from '../../compiler/onnx/writer.ts';
import type { Precision } from '../../driver/model.ts';
import type { Module } from '../../ir/module.ts';
import { makeTensor, type Tensor } from '../../ir/tensor.ts';
import { elementCount } from '../../ir/types.ts';
import { randomTensor } from '../support/random.ts';

/** One layer: what to do, to which of the values so far, and numbers for whatever is to be chosen. */
interface Layer {
  readonly kind: (typeof kinds)[number];
  readonly pick: number;
  readonly a: number;
  readonly b: number;
  readonly flag: boolean;
}

const kinds = [
  'conv',
  'matmul',
  'attention',
  'binary',
  'unary',
  'pool',
  'softmax',
  'norm',
  'transpose',
  'reshape',
  'concat',
  'reduce',
  'slice',
] as const;

export interface GraphCase {
  readonly precision: Precision;
  readonly lowered: Module;
}

const layer: fc.Arbitrary<Layer> = fc.record({
  kind: fc.constantFrom(...kinds),
  pick: fc.nat(9),
  a: fc.nat(11),
  b: fc.nat(11),
  flag: fc.boolean(),
});

export const graphCase: fc.Arbitrary<GraphCase> = fc
  .record({
    shape: fc.oneof(
      fc.tuple(fc.constant(1), ...['c', 'h', 'w'].map(() => fc.integer({ min: 1, max: 12 }))),
      fc.tuple(
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 20 }),
      ),
    ),
    layers: fc.array(layer, { minLength: 1, maxLength: 7 }),
    precision: fc.constantFrom<Precision>('fp32', 'fp16'),
    seed: fc.nat(999),
  })
  .map(({ shape, layers, precision, seed }) => {
    const net = new Net(shape, seed);
    for (const l of layers) net.add(l);
    return { precision, lowered: lowerOnnx(net.encode(), { name: `graph-${seed}`, precision }) };
  });

class Net {
  readonly #nodes: NodeSpec[] = [];
  readonly #constants: { [name: string]: Tensor } = {};
  readonly #values: { readonly name: string; readonly shape: readonly number[] }[];
  #used = 0;

  constructor(
    private readonly shape: readonly number[],
    private readonly seed: number,
  ) {
    this.#values = [{ name: 'x', shape }];
  }

  encode(): Uint8Array {
    return buildModel({
      inputs: [{ name: 'x', shape: this.shape }],
      outputs: [this.#values.at(-1)!.name],
      nodes: this.#nodes,
      constants: this.#constants,
    });
  }

  #weight(shape: readonly number[]): string {
    const name = `w${this.#used++}`;
    this.#constants[name] = randomTensor('f32', shape, this.seed * 100 + this.#used);
    return name;
  }

  #integers(values: readonly number[]): string {
    const name = `i${this.#used++}`;
    this.#constants[name] = makeTensor('i64', [values.length], BigInt64Array.from(values.map(BigInt)));
    return name;
  }

  /** A node whose value no later layer reads. */
  #push(op: string, inputs: readonly string[], attributes: NodeSpec['attributes'] = {}): string {
    const name = `t${this.#used++}`;
    this.#nodes.push({ op, inputs, outputs: [name], attributes });
    return name;
  }

  #node(
    op: string,
    inputs: readonly string[],
    shape: readonly number[],
    attributes: NodeSpec['attributes'] = {},
  ): void {
    if (elementCount(shape) > 4000 || elementCount(shape) === 0) return;
    const name = `v${this.#values.length}`;
    this.#nodes.push({ op, name: `${op} ${name}`, inputs, outputs: [name], attributes });
    this.#values.push({ name, shape });
  }

  add({ kind, pick, a, b, flag }: Layer): void {
    const values = this.#values;
    const { name: x, shape } = values[Math.max(0, values.length - 1 - (pick % 3))]!;
    const rank = shape.length;
    switch (kind) {
      case 'conv': {
        const [n, c, h, w] = shape;
        if (rank !== 4) return this.add({ kind: 'matmul', pick, a, b, flag });
        const size = 1 + (a % 3);
        const [pad, stride] = [b % 2, 1 + (b % 3 === 0 ? 1 : 0)];
        const group = flag && c! > 1 ? c! : 1;
        const out = group > 1 ? c! : 1 + a;
        const side = (s: number): number => Math.floor((s + 2 * pad - size) / stride) + 1;
        if (side(h!) < 1 || side(w!) < 1) return;
        const inputs = [x, this.#weight([out, c! / group, size, size]), this.#weight([out])];
        const attributes = { group, pads: [pad, pad, pad, pad], strides: [stride, stride] };
        return this.#node('Conv', inputs, [n!, out, side(h!), side(w!)], attributes);
      }
      case 'matmul': {
        const k = shape.at(-1)!;
        if (rank < 2) return;
        if (flag && rank === 3) {
          // A value by itself, transposed.
          const y = this.#push('Transpose', [x], { perm: [0, 2, 1] });
          return this.#node('MatMul', [x, y], [shape[0]!, shape[1]!, shape[1]!]);
        }
        const n = 1 + a * 3;
        return this.#node('MatMul', [x, this.#weight([k, n])], [...shape.slice(0, -1), n]);
      }
      case 'attention': {
        // Between two products a softmax; heads of multiples of 8, which tensor cores take in one kernel, and others.
        const [rows, k] = shape.slice(-2) as [number, number];
        const batch = shape.slice(0, -2);
        if (rank < 3 || elementCount(batch) * rows * rows > 4000) return;
        const head = 8 * (a % 4) || k;
        const operand = (): string =>
          head === k && flag ? x : this.#push('MatMul', [x, this.#weight([k, head])]);
        const [q, keys, v] = [operand(), operand(), operand()];
        const perm = [...batch.keys(), rank - 1, rank - 2];
        let scores = this.#push('MatMul', [q, this.#push('Transpose', [keys], { perm })]);
        if (b % 2 === 0) scores = this.#push('Mul', [scores, this.#weight([1])]);
        if (b % 3 === 0)
          scores = this.#push('Add', [scores, this.#weight(b % 2 === 0 ? [rows, rows] : [rows])]);
        const weights = this.#push('Softmax', [scores], { axis: -1 });
        return this.#node('MatMul', [weights, v], [...batch, rows, head]);
      }
      case 'binary': {
        const op = ['Add', 'Mul', 'Sub', 'Max'][a % 4]!;
        const other = values.find((v) => v.name !== x && String(v.shape) === String(shape));
        if (flag && other) return this.#node(op, [x, other.name], shape);
        const broadcast = shape.map((d, n) => ((b >> n) % 2 === 0 ? d : 1));
        return this.#node(op, [x, this.#weight(broadcast)], shape);
      }
      case 'unary':
        return this.#node(
          ['Relu', 'Sigmoid', 'Tanh', 'Abs', 'Neg', 'Gelu', 'HardSwish', 'Exp'][a % 8]!.replace(
            'Gelu',
            'Erf',
          ),
          [x],
          shape,
        );
      case 'pool': {
        const [n, c, h, w] = shape;
        if (rank !== 4 || h! < 2 || w! < 2) return;
        if (flag) return this.#node('GlobalAveragePool', [x], [n!, c!, 1, 1]);
        const attributes = { kernel_shape: [2, 2], strides: [1 + (a % 2), 1] };
        const out = [n!, c!, Math.floor((h! - 2) / (1 + (a % 2))) + 1, w! - 1];
        return this.#node(b % 2 ? 'MaxPool' : 'AveragePool', [x], out, attributes);
      }
      case 'softmax':
        return this.#node(flag ? 'Softmax' : 'LogSoftmax', [x], shape, { axis: a % rank });
      case 'norm': {
        const d = shape.at(-1)!;
        const inputs = [x, this.#weight([d]), this.#weight([d])];
        return this.#node('LayerNormalization', inputs, shape, { axis: -1 });
      }
      case 'transpose': {
        const perm = [...shape.keys()].map((d) => (d + a) % rank);
        return this.#node(
          'Transpose',
          [x],
          perm.map((d) => shape[d]!),
          { perm },
        );
      }
      case 'reshape': {
        const merged = flag
          ? [shape[0]!, elementCount(shape.slice(1)), 1]
          : [1, 1, elementCount(shape.slice(0, -1)), shape.at(-1)!];
        return this.#node('Reshape', [x, this.#integers(merged)], merged);
      }
      case 'concat': {
        const axis = a % rank;
        const other = values.find(
          (v) => v.shape.length === rank && v.shape.every((d, n) => n === axis || d === shape[n]),
        )!;
        const out = shape.map((d, n) => (n === axis ? d + other.shape[n]! : d));
        return this.#node('Concat', [x, other.name], out, { axis });
      }
      case 'reduce': {
        const axis = a % rank;
        const out = shape.map((d, n) => (n === axis ? 1 : d));
        return this.#node(
          ['ReduceMean', 'ReduceSum', 'ReduceMax'][b % 3]!,
          [x, this.#integers([axis])],
          out,
          {
            keepdims: 1,
          },
        );
      }
      case 'slice': {
        const axis = a % rank;
        const size = shape[axis]!;
        const from = b % size;
        const step = flag ? 1 : 2;
        const out = shape.map((d, n) => (n === axis ? Math.ceil((d - from) / step) : d));
        const [starts, ends, axes, steps] = [[from], [size], [axis], [step]].map((v) => this.#integers(v));
        return this.#node('Slice', [x, starts!, ends!, axes!, steps!], out);
      }
      default:
        return kind satisfies never;
    }
  }
}
