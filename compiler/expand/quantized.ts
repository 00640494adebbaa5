/**
 * @file Arithmetic on quantized tensors: integers less their zero points, multiplied and summed in i32.
 */
import type { NodeView } from '../node_view.ts';
import type { Expander, Expansion, ExpansionFamily } from './expander.ts';

/** Input `i` as i32, less its zero point (input `zero`), whose elements stand along dimension `axis` from the end. */
function centred(node: NodeView, make: Expander, i: number, zero: number, fromEnd: number): string {
  const x = make.cast(node.input(i), 'i32');
  if (!node.has(zero)) return x;
  return make.sub(x, along(make, make.cast(node.input(zero), 'i32'), fromEnd));
}

/** A list of numbers as a tensor that varies along the dimension that is `fromEnd` from the last. */
function along(make: Expander, list: string, fromEnd: number): string {
  const shape = make.shape(list);
  if (shape.length !== 1 || shape[0] === 1) return shape.length === 1 ? make.reshape(list, []) : list;
  return make.reshape(list, [shape[0]!, ...new Array<number>(fromEnd).fill(1)]);
}

const matMulInteger: Expansion = (node, make) => [
  make.matmul(centred(node, make, 0, 2, 1), centred(node, make, 1, 3, 0)),
];

/** The node's window attributes, for the Conv that does the work. */
const windowAttributes = (node: NodeView) => {
  const names = ['auto_pad', 'dilations', 'group', 'kernel_shape', 'pads', 'strides'];
  node.ignore(...names);
  return Object.fromEntries([...node.node.attributes].filter(([name]) => names.includes(name)));
};

/** Products of quantized values with scales, back to the output's scale: round(x * sx * sw / sy) + zero. */
function requantized(node: NodeView, make: Expander, sum: string, scale: string, to: number): string {
  const real = make.mul(make.cast(sum, 'f32'), scale);
  return make.op('QuantizeLinear', [real, make.cast(node.input(to), 'f32'), node.input(to + 1)]);
}

/** Inputs: a, scale, zero, b, scale, zero, y scale, zero. */
const qLinearMatMul: Expansion = (node, make) => {
  const sum = make.matmul(centred(node, make, 0, 2, 1), centred(node, make, 3, 5, 0));
  const scales = make.mul(
    along(make, make.cast(node.input(1), 'f32'), 1),
    along(make, make.cast(node.input(4), 'f32'), 0),
  );
  return [requantized(node, make, sum, scales, 6)];
};

const convInteger: Expansion = (node, make) => {
  const spatial = node.shape(0).length - 2;
  node.require(!node.has(2) || node.shape(2).every((d) => d === 1), 'zero points of several channels');
  const w = make.cast(node.input(1), 'i32');
  const weights = node.has(3) ? make.sub(w, along(make, make.cast(node.input(3), 'i32'), spatial + 1)) : w;
  return [make.op('Conv', [centred(node, make, 0, 2, 0), weights], windowAttributes(node))];
};

/** Inputs: x, scale, zero, w, scale, zero, y scale, zero, bias. */
const qLinearConv: Expansion = (node, make) => {
  const spatial = node.shape(0).length - 2;
  const w = make.sub(
    make.cast(node.input(3), 'i32'),
    along(make, make.cast(node.input(5), 'i32'), spatial + 1),
  );
  const inputs = [centred(node, make, 0, 2, 0), w, ...(node.has(8) ? [node.input(8)] : [])];
  const sum = make.op('Conv', inputs, windowAttributes(node));
  const scales = make.mul(
    along(make, make.cast(node.input(1), 'f32'), 0),
    along(make, make.cast(node.input(4), 'f32'), spatial),
  );
  return [requantized(node, make, sum, scales, 6)];
};

/** Finds the scale and zero point that make the most of u8, then quantizes. */
const dynamicQuantize: Expansion = (node, make) => {
  const x = node.input(0);
  const zero = make.like(x, 0);
  const low = make.op('Min', [make.op('ReduceMin', [x], { keepdims: 0 }), zero]);
  const high = make.op('Max', [make.op('ReduceMax', [x], { keepdims: 0 }), zero]);
  const scale = make.div(make.sub(high, low), make.like(x, 255));
  const position = make.op('Round', [
    make.op('Clip', [make.div(make.op('Neg', [low]), scale), zero, make.like(x, 255)]),
  ]);
  const zeroPoint = make.cast(position, 'u8');
  return [make.op('QuantizeLinear', [x, scale, zeroPoint]), scale, zeroPoint];
};

export const quantizedOps: ExpansionFamily = {
  MatMulInteger: matMulInteger,
  ConvInteger: convInteger,
  QLinearMatMul: qLinearMatMul,
  QLinearConv: qLinearConv,
  DynamicQuantizeLinear: dynamicQuantize,
};
