/**
 * @file Networks of matrix products: BERT, fully connected layers, and a single product.
 */
import type { GraphSpec } from '../compiler/onnx/writer.ts';
import { Network, type Value } from './network.ts';

export interface BertSizes {
  readonly layers: number;
  /** Length of a token's vector; heads have 64 each. */
  readonly width: number;
  readonly heads: number;
  readonly sequence: number;
  readonly vocabulary: number;
}

/** BERT-base, uncased, at sequence 128. */
export const bertSizes: BertSizes = { layers: 12, width: 768, heads: 12, sequence: 128, vocabulary: 30522 };

/** The encoder: embeddings of tokens and places, then layers of attention and two matrices, each normalised behind its residual. */
export function bert(seed: number, s: BertSizes): GraphSpec {
  if (s.width % s.heads !== 0) throw new RangeError(`width ${s.width} is not a multiple of ${s.heads} heads`);
  const net = new Network(seed);
  const rows = [1, s.sequence, s.width];
  const ids = net.input('input_ids', [1, s.sequence], 'i64');
  // Vectors of spread 1.
  const tokens = net.weights([s.vocabulary, s.width], 1, 1);
  const places = net.weights(rows, 1, 1);
  const embedded = net.node('Gather', [tokens, ids], rows);
  let x = layerNorm(net, net.add(embedded, places));
  for (let layer = 0; layer < s.layers; layer++) {
    x = layerNorm(net, net.add(attention(net, x, s), x));
    const hidden = gelu(net, linear(net, x, 4 * s.width, Math.SQRT2));
    x = layerNorm(net, net.add(linear(net, hidden, s.width, 1), x));
  }
  return net.finish([x]);
}

function attention(net: Network, x: Value, { width, heads, sequence }: BertSizes): Value {
  const size = width / heads;
  const split = (gain: number): Value => net.reshape(linear(net, x, width, gain), [1, sequence, heads, size]);
  const query = net.transpose(split(1), [0, 2, 1, 3]);
  const key = net.transpose(split(1), [0, 2, 3, 1]);
  const value = net.transpose(split(1), [0, 2, 1, 3]);
  const square = [1, heads, sequence, sequence];
  const scores = net.node('MatMul', [query, key], square);
  const scaled = net.node('Div', [scores, net.scalar(Math.sqrt(size))], square);
  const shares = net.node('Softmax', [scaled], square, { axis: -1 });
  const mixed = net.node('MatMul', [shares, value], [1, heads, sequence, size]);
  const joined = net.reshape(net.transpose(mixed, [0, 2, 1, 3]), [1, sequence, width]);
  return linear(net, joined, width, 1);
}

/** A fully connected layer on [1, rows, n], as exporters write it: MatMul, then Add. */
function linear(net: Network, x: Value, outputs: number, gain: number): Value {
  const inputs = x.shape.at(-1)!;
  const shape = [...x.shape.slice(0, -1), outputs];
  const product = net.node('MatMul', [x, net.weights([inputs, outputs], inputs, gain)], shape);
  return net.node('Add', [net.vector(outputs), product], shape);
}

const layerNorm = (net: Network, x: Value): Value =>
  net.node('LayerNormalization', [x, net.vector(x.shape.at(-1)!, 1), net.vector(x.shape.at(-1)!)], x.shape, {
    axis: -1,
    epsilon: 1e-12,
  });

/** x · (1 + erf(x / √2)) / 2, by the operators that it is exported as. */
function gelu(net: Network, x: Value): Value {
  const binary = (op: string, a: Value, b: number): Value => net.node(op, [a, net.scalar(b)], x.shape);
  const erf = net.node('Erf', [binary('Div', x, Math.SQRT2)], x.shape);
  return binary('Mul', net.node('Mul', [x, binary('Add', erf, 1)], x.shape), 0.5);
}

export interface MlpSizes {
  readonly layers: number;
  readonly width: number;
}

export const mlpSizes: MlpSizes = { layers: 4, width: 1024 };

/** Fully connected layers, a rectifier behind each. */
export function mlp(seed: number, { layers, width }: MlpSizes): GraphSpec {
  const net = new Network(seed);
  let x = net.input('x', [1, width]);
  for (let layer = 0; layer < layers; layer++) x = net.relu(net.dense(x, width));
  return net.finish([x]);
}

export interface SgemmSizes {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** The product that the paper measures, from ResNet-18's conv2_2. */
export const sgemmSizes: SgemmSizes = { m: 256, n: 128, k: 1152 };

/** One matrix product: the weights, m by k, times the input, k by n. */
export function sgemm(seed: number, { m, n, k }: SgemmSizes): GraphSpec {
  const net = new Network(seed);
  const x = net.input('x', [k, n]);
  return net.finish([net.node('MatMul', [net.weights([m, k], k, 1), x], [m, n])]);
}
