/**
 * @file Operators about shapes only: they make views, or values that are known at compile time.
 */
import { constant, load } from '../../ir/build.ts';
import { makeTensor, reader, reshaped, type Tensor, tensorOf, writer } from '../../ir/tensor.ts';
import { type DType, elementCount, type TensorType } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { broadcastAt, broadcastShape } from './broadcast.ts';
import { dtypeAttribute } from './convert.ts';
import { emitMap } from './map.ts';

/** An operator that gives its first input's elements under another shape. */
const view = (shape: (node: NodeView) => number[]): OpRule => ({
  infer(node) {
    node.ignore('consumed_inputs');
    const from = node.type(0);
    const to = shape(node);
    node.require(
      elementCount(to) === elementCount(from.shape),
      `[${from.shape}] does not reshape to [${to}]`,
    );
    return [{ dtype: from.dtype, shape: to }];
  },
  fold(node) {
    const x = node.constant(0);
    return x && [reshaped(x, shape(node))];
  },
  lower: (node, out) => out.view(node.output(0), node.input(0)),
});

function reshapeTarget(node: NodeView): number[] {
  const from = node.shape(0);
  const wanted = node.opset < 5 ? node.ints('shape') : node.numbers(1);
  if (!wanted) throw node.unsupported('no shape');
  const zeroIsZero = node.int('allowzero', 0) !== 0;
  const dims = wanted.map((d, i) => {
    if (d !== 0 || zeroIsZero) return d;
    node.require(i < from.length, `dimension ${i} to copy from [${from}]`);
    return from[i]!;
  });
  node.require(dims.every((d) => d >= -1) && dims.filter((d) => d === -1).length <= 1, `shape [${wanted}]`);
  const rest = dims.reduce((n, d) => (d === -1 ? n : n * d), 1);
  const open = rest === 0 ? 0 : elementCount(from) / rest;
  node.require(Number.isInteger(open) || !dims.includes(-1), `[${from}] does not reshape to [${wanted}]`);
  return dims.map((d) => (d === -1 ? open : d));
}

/** Axes as an attribute before opset 13, as an input since. */
const axesOf = (node: NodeView): readonly number[] | undefined =>
  node.opset < 13 ? node.ints('axes') : node.numbers(1);

function squeezed(node: NodeView): number[] {
  const from = node.shape(0);
  const axes = axesOf(node)?.map((a) => node.axis(a, from.length));
  for (const a of axes ?? []) node.require(from[a] === 1, `axis ${a} of [${from}] is not 1`);
  return from.filter((d, i) => (axes ? !axes.includes(i) : d !== 1));
}

function unsqueezed(node: NodeView): number[] {
  const from = node.shape(0);
  const wanted = axesOf(node);
  if (!wanted) throw node.unsupported('no axes');
  const rank = from.length + wanted.length;
  const axes = wanted.map((a) => node.axis(a, rank));
  node.require(new Set(axes).size === axes.length, `axes [${wanted}]`);
  const rest = from.values();
  return Array.from({ length: rank }, (_, d) => (axes.includes(d) ? 1 : rest.next().value!));
}

function flattened(node: NodeView): number[] {
  const from = node.shape(0);
  const given = node.int('axis', 1);
  const axis = given === from.length ? given : node.axis(given, from.length);
  return [elementCount(from.slice(0, axis)), elementCount(from.slice(axis))];
}

/** An operator whose value follows from types, attributes and constants: it never reaches lowering. */
export const known = (value: (node: NodeView) => Tensor): OpRule => ({
  infer: (node) => [value(node)],
  fold: (node) => [value(node)],
  lower(node) {
    throw node.unsupported('it must be known at compile time');
  },
});

const ints = (values: readonly number[]): Tensor => tensorOf('i64', [values.length], values);

/** A folded tensor's size in elements that is still sensible. */
function checkSize(node: NodeView, shape: readonly number[]): void {
  node.require(
    shape.every((d) => Number.isInteger(d) && d >= 0),
    `shape [${shape}]`,
  );
  node.require(elementCount(shape) <= 2 ** 26, `shape [${shape}] is too large`);
}

function filled(type: TensorType, value: number): Tensor {
  const tensor = makeTensor(type.dtype, type.shape);
  if (value !== 0) {
    const [one] = tensorOf(type.dtype, [1], [value]).data;
    (tensor.data as { fill(v: unknown): unknown }).fill(one);
  }
  return tensor;
}

/** The one value of a Constant node, whichever attribute holds it. */
function constantValue(node: NodeView): Tensor {
  node.require(node.node.attributes.size === 1, 'not one value');
  const tensor = node.tensor('value');
  if (tensor) return tensor;
  const lists: readonly [string, DType][] = [
    ['value_floats', 'f32'],
    ['value_ints', 'i64'],
  ];
  for (const [name, dtype] of lists) {
    const values = node.ints(name);
    if (values) return tensorOf(dtype, [values.length], values);
  }
  const value = node.int('value_float');
  if (value !== undefined) return tensorOf('f32', [], [value]);
  const int = node.int('value_int');
  if (int !== undefined) return tensorOf('i64', [], [int]);
  throw node.unsupported(`a value of kind ${[...node.node.attributes.keys()]}`);
}

function range(node: NodeView): Tensor {
  const { dtype } = node.type(0);
  const [start, limit, step] = [0, 1, 2].map((i) => node.numbers(i)?.[0] ?? 0) as [number, number, number];
  node.require(step !== 0, 'a step of 0');
  const length = Math.max(0, Math.ceil((limit - start) / step));
  checkSize(node, [length]);
  return tensorOf(
    dtype,
    [length],
    Array.from({ length }, (_, i) => start + i * step),
  );
}

function constantOfShape(node: NodeView): Tensor {
  const shape = node.knownNumbers(0);
  checkSize(node, shape);
  const value = node.tensor('value') ?? tensorOf('f32', [1], [0]);
  return filled({ dtype: value.dtype, shape }, reader(value)(0));
}

function shapeOf(node: NodeView): Tensor {
  const shape = node.shape(0);
  // Unlike axes, these are clamped.
  return ints(shape.slice(node.int('start', 0), node.int('end', shape.length)));
}

/** Dropout does nothing when a model only runs; its mask keeps everything. */
const dropout: OpRule = {
  infer(node) {
    node.ignore('seed', 'ratio', 'is_test', 'consumed_inputs');
    const training = node.has(2) && node.knownNumbers(2)[0] !== 0;
    node.require(!training || node.numbers(1)?.[0] === 0, 'training mode');
    const { dtype, shape } = node.type(0);
    return [
      { dtype, shape },
      { dtype: node.opset < 10 ? dtype : 'i1', shape },
    ];
  },
  lower(node, out) {
    out.view(node.output(0), node.input(0));
    const mask = node.output(1);
    if (mask === '') return;
    emitMap(node, out, 'ones', [], () => constant(out.type(mask).dtype, 1), { output: mask });
  },
};

const expand: OpRule = {
  infer(node) {
    const target = node.knownNumbers(1);
    node.require(
      target.every((d) => d >= 0),
      `shape [${target}]`,
    );
    return [{ dtype: node.type(0).dtype, shape: broadcastShape(node, [node.shape(0), target]) }];
  },
  lower(node, out) {
    emitMap(node, out, 'expand', [node.input(0)], ([x], at) => load(x!, broadcastAt(x!.shape, at)));
  },
};

function eye(node: NodeView): Tensor {
  const { dtype, shape } = node.type(0);
  node.require(shape.length === 2, `shape [${shape}]`);
  checkSize(node, shape);
  const [rows, columns] = shape as [number, number];
  const tensor = makeTensor(dtypeAttribute(node, 'dtype', dtype), shape);
  const write = writer(tensor);
  const k = node.int('k', 0);
  for (let row = 0; row < rows; row++) {
    if (row + k >= 0 && row + k < columns) write(row * columns + row + k, 1);
  }
  return tensor;
}

export const shapeOps: OpFamily = {
  Reshape: view(reshapeTarget),
  Flatten: view(flattened),
  Squeeze: view(squeezed),
  Unsqueeze: view(unsqueezed),
  Identity: view((node) => [...node.shape(0)]),
  Dropout: dropout,
  Shape: known(shapeOf),
  Size: known((node) => tensorOf('i64', [], [elementCount(node.shape(0))])),
  Constant: known(constantValue),
  ConstantOfShape: known(constantOfShape),
  Range: known(range),
  Expand: expand,
  EyeLike: known(eye),
};
