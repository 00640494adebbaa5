/**
 * @file Builds a network layer by layer: shapes are worked out and weights drawn as layers are added. Batch norms are left out, as
 * exporters fold them into the convolution before them.
 */
import type { AttributeValue, GraphSpec, InputSpec, NodeSpec } from '../compiler/onnx/writer.ts';
import { generator } from '../ir/random.ts';
import { makeTensor, type Tensor, tensorOf } from '../ir/tensor.ts';
import { type DType, elementCount } from '../ir/types.ts';

/** What a layer gives. */
export interface Value {
  readonly name: string;
  readonly shape: readonly number[];
}

export interface Window {
  /** Side of the square window. */
  readonly side: number;
  readonly stride?: number;
  readonly pad?: number;
}

export interface ConvOptions extends Window {
  readonly groups?: number;
  /** Spread of the outputs over that of the inputs. √2, the default, is for a rectifier behind the layer (He et al.). */
  readonly gain?: number;
}

type Attributes = { readonly [name: string]: AttributeValue };

export class Network {
  readonly #inputs: InputSpec[] = [];
  readonly #nodes: NodeSpec[] = [];
  readonly #constants: Record<string, Tensor> = {};
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = generator(seed);
  }

  input(name: string, shape: readonly number[], dtype: DType = 'f32'): Value {
    this.#inputs.push({ name, shape, dtype });
    return { name, shape };
  }

  /** Weights, uniform around zero, such that a sum of `fanIn` products is `gain` times as spread as what it sums. */
  weights(shape: readonly number[], fanIn: number, gain: number): Value {
    const bound = gain * Math.sqrt(3 / fanIn);
    const data = new Float32Array(elementCount(shape));
    const next = this.#next;
    for (let i = 0; i < data.length; i++) data[i] = (next() * 2 - 1) * bound;
    return this.constant(makeTensor('f32', shape, data));
  }

  /** Numbers near `centre`: biases, scales of normalisations. */
  vector(length: number, centre = 0): Value {
    return this.constant(
      tensorOf(
        'f32',
        [length],
        Array.from({ length }, () => centre + this.#near()),
      ),
    );
  }

  constant(tensor: Tensor): Value {
    const name = `w${Object.keys(this.#constants).length}`;
    this.#constants[name] = tensor;
    return { name, shape: tensor.shape };
  }

  scalar(value: number): Value {
    return this.constant(tensorOf('f32', [], [value]));
  }

  /** Any node with one output. */
  node(op: string, inputs: readonly Value[], shape: readonly number[], attributes: Attributes = {}): Value {
    const name = `${op.toLowerCase()}${this.#nodes.length}`;
    this.#nodes.push({ op, name, inputs: inputs.map((v) => v.name), outputs: [name], attributes });
    return { name, shape };
  }

  /** Convolution of [1, c, h, w] with a bias. */
  conv(x: Value, outChannels: number, options: ConvOptions): Value {
    const { side, stride = 1, pad = 0, groups = 1, gain = Math.SQRT2 } = options;
    const channels = x.shape[1]! / groups;
    const weights = this.weights([outChannels, channels, side, side], channels * side * side, gain);
    return this.node('Conv', [x, weights, this.vector(outChannels)], windowed(x, outChannels, options), {
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      group: groups,
    });
  }

  relu(x: Value): Value {
    return this.node('Relu', [x], x.shape);
  }

  add(a: Value, b: Value): Value {
    return this.node('Add', [a, b], a.shape);
  }

  /** With `ceil`, a last window that is only partly inside counts, too. */
  maxPool(x: Value, options: Window & { readonly ceil?: boolean }): Value {
    const { side, stride = 1, pad = 0, ceil = false } = options;
    return this.node('MaxPool', [x], windowed(x, x.shape[1]!, options), {
      kernel_shape: [side, side],
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      ceil_mode: ceil ? 1 : 0,
    });
  }

  /** The mean of each channel, as [1, c]. */
  globalPool(x: Value): Value {
    return this.flatten(this.node('GlobalAveragePool', [x], [1, x.shape[1]!, 1, 1]));
  }

  flatten(x: Value): Value {
    return this.node('Flatten', [x], [1, elementCount(x.shape)]);
  }

  reshape(x: Value, shape: readonly number[]): Value {
    return this.node('Reshape', [x, this.constant(tensorOf('i64', [shape.length], shape))], shape);
  }

  transpose(x: Value, perm: readonly number[]): Value {
    return this.node(
      'Transpose',
      [x],
      perm.map((d) => x.shape[d]!),
      { perm },
    );
  }

  /** A fully connected layer on [1, n], as exporters write it: Gemm with the weights transposed. */
  dense(x: Value, outputs: number, gain = Math.SQRT2): Value {
    const inputs = x.shape[1]!;
    const weights = this.weights([outputs, inputs], inputs, gain);
    return this.node('Gemm', [x, weights, this.vector(outputs)], [1, outputs], { transB: 1 });
  }

  /** The model with these outputs. */
  finish(outputs: readonly Value[]): GraphSpec {
    return {
      inputs: this.#inputs,
      outputs: outputs.map((v) => v.name),
      nodes: this.#nodes,
      constants: this.#constants,
    };
  }

  #near(): number {
    return (this.#next() - 0.5) / 8;
  }
}

/** The shape that a window over [1, c, h, w] gives. */
function windowed(
  x: Value,
  channels: number,
  { side, stride = 1, pad = 0, ceil = false }: Window & { readonly ceil?: boolean },
): number[] {
  const round = ceil ? Math.ceil : Math.floor;
  const spatial = x.shape.slice(2).map((extent) => round((extent + 2 * pad - side) / stride) + 1);
  if (spatial.some((extent) => extent < 1))
    throw new RangeError(`a picture of ${x.shape.slice(2).join('x')} is too small for this network`);
  return [1, channels, ...spatial];
}
