/**
 * @file Composite operators of language models: rotary position embedding, gated units, causal convolution with a cache.
 */
import { makeTensor } from '../../ir/tensor.ts';
import type { NodeView } from '../node_view.ts';
import type { Expander, Expansion, ExpansionFamily } from './expander.ts';

/** Turns pairs of elements by angles that grow with the position. */
const rotaryEmbedding: Expansion = (node, make) => {
  const shape = node.shape(0);
  const flat = shape.length === 3;
  node.require(flat || shape.length === 4, `shape [${shape}]`);
  const heads = node.int('num_heads', 0);
  node.require(!flat || (heads > 0 && shape[2]! % heads === 0), `${heads} heads for [${shape}]`);
  // Heads stand before positions in a tensor of rank 4, after them in one of rank 3.
  const x = flat ? make.reshape(node.input(0), [shape[0]!, shape[1]!, heads, -1]) : node.input(0);
  const size = make.shape(x)[3]!;
  const rotated = node.int('rotary_embedding_dim', 0) || size;
  node.require(rotated <= size && rotated % 2 === 0, `rotary_embedding_dim ${rotated}`);
  const half = rotated / 2;
  const angles = (i: number): string => {
    const cache = node.has(3) ? make.op('Gather', [node.input(i), node.input(3)]) : node.input(i);
    node.require(make.shape(cache).length === 3, `a cache of shape [${make.shape(cache)}]`);
    return make.unsqueeze(make.slice(cache, 2, 0, half), flat ? 2 : 1);
  };
  const [cos, sin] = [angles(1), angles(2)];
  const interleaved = node.int('interleaved', 0) !== 0;
  const pairs = (first: number): string =>
    interleaved
      ? make.op('Slice', [x, make.ints(first), make.ints(rotated), make.ints(3), make.ints(2)])
      : make.slice(x, 3, first * half, (first + 1) * half);
  const [a, b] = [pairs(0), pairs(1)];
  const real = make.sub(make.mul(cos, a), make.mul(sin, b));
  const imaginary = make.add(make.mul(sin, a), make.mul(cos, b));
  const turned = interleaved
    ? make.reshape(make.concat([make.unsqueeze(real, 4), make.unsqueeze(imaginary, 4)], 4), [
        ...make.shape(x).slice(0, 3),
        rotated,
      ])
    : make.concat([real, imaginary], 3);
  const whole = rotated === size ? turned : make.concat([turned, make.slice(x, 3, rotated, size)], 3);
  return [make.reshape(whole, shape)];
};

const swish = (make: Expander, x: string): string => make.mul(x, make.op('Sigmoid', [x]));

const swiGlu: Expansion = (node, make) => {
  const [a, b] = [node.input(0), node.input(1)];
  const gate = make.op('Sigmoid', [make.mul(a, make.like(a, node.float('alpha', 1)))]);
  return [make.mul(make.mul(a, gate), b)];
};

/** A depthwise convolution that sees the past only; the last inputs are kept for the next call. */
const causalConv: Expansion = (node, make) => {
  const [batch, channels] = node.shape(0) as [number, number, number];
  const width = node.shape(1)[2] ?? 0;
  node.require(node.shape(0).length === 3 && node.shape(1).length === 3, `shape [${node.shape(0)}]`);
  node.require(
    node.shape(1)[0] === channels && node.shape(1)[1] === 1,
    `weights of shape [${node.shape(1)}]`,
  );
  const past = node.has(3) ? node.input(3) : emptyState(node, make, [batch, channels, width - 1]);
  const seen = make.concat([past, node.input(0)], 2);
  const inputs = [seen, node.input(1), ...(node.has(2) ? [node.input(2)] : [])];
  const y = make.op('Conv', inputs, { group: channels });
  const length = make.shape(seen)[2]!;
  const activation = node.string('activation', 'none');
  node.require(['none', 'silu', 'swish'].includes(activation), `activation ${activation}`);
  return [activation === 'none' ? y : swish(make, y), make.slice(seen, 2, length - width + 1, length)];
};

const emptyState = (node: NodeView, make: Expander, shape: readonly number[]): string =>
  make.constant(makeTensor(node.type(0).dtype, shape));

export const sequenceOps: ExpansionFamily = {
  RotaryEmbedding: rotaryEmbedding,
  SwiGLU: swiGlu,
  CausalConvWithState: causalConv,
};
