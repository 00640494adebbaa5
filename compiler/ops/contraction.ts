/**
 * @file Convolution, matrix product and Gemm: kernels whose heart is a sum of products.
 */
import { add, index, mul } from '../../ir/affine.ts';
import { cast, constant, load, op, reduce, store, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { dtypes, sameShape } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { broadcastAt, broadcastShape } from './broadcast.ts';
import { convTranspose } from './conv_transpose.ts';
import { einsum } from './einsum.ts';
import { type Window, windowOf } from './window.ts';

/** Conv: x[n,c,spatial…] with w[oc, c/group, kernel…] and an optional bias[oc]. */
const conv: OpRule = {
  infer(node) {
    requireNumbers(node);
    const x = node.shape(0);
    const w = node.shape(1);
    const window = convWindow(node);
    const groups = node.int('group', 1);
    node.require(
      x[1] === w[1]! * groups && w[0]! % groups === 0,
      `${x[1]} channels, weights [${w}], ${groups} groups`,
    );
    return [{ dtype: node.type(0).dtype, shape: [x[0]!, w[0]!, ...window.map((d) => d.out)] }];
  },

  lower(node, out) {
    const window = convWindow(node);
    const groups = node.int('group', 1);
    const letters =
      window.length <= 3 ? ['d', 'h', 'w'].slice(-window.length) : window.map((_, d) => `s${d}`);
    const inputs = node.node.inputs.filter((name) => name !== '');
    const name = `conv${window.map((d) => d.kernel).join('x')}`;
    out.emit(node, name, inputs, [node.node.outputs[0]!], ([x, w, bias], [y]) => {
      const [batch, channels] = y!.shape;
      const perGroup = channels! / groups;
      const n = index('n', batch!);
      // An index that would run over one value only is left out: a depthwise convolution has no `oc`.
      const group = groups > 1 ? [index('g', groups)] : [];
      const inGroup = perGroup > 1 || groups === 1 ? [index('oc', perGroup)] : [];
      const ic = index('ic', w!.shape[1]!);
      const at = window.map((d, i) => index(`o${letters[i]}`, d.out));
      const k = window.map((d, i) => index(`k${letters[i]}`, d.kernel));
      const channel = add(...group.map((g) => mul(g, perGroup)), ...inGroup);
      const inside = window.map((d, i) => add(mul(at[i]!, d.stride), mul(k[i]!, d.dilation), -d.padBegin));
      const padded = window.some((d) => d.padBegin > 0 || d.padEnd > 0);
      const xAt = [n, add(...group.map((g) => mul(g, ic.extent)), ic), ...inside];
      const product = op(
        'mul',
        widen(load(x!, xAt, padded ? 0 : undefined)),
        widen(load(w!, [channel, ic, ...k])),
      );
      const sum = reduce('sum', [ic, ...k], product);
      const value = bias ? op('add', sum, widen(load(bias, [channel]))) : sum;
      const domain = [n, ...group, ...inGroup, ...at];
      return { domain, stores: [store(y!, [n, channel, ...at], cast(y!.dtype, value))] };
    });
  },
};

function convWindow(node: NodeView): Window {
  const x = node.shape(0);
  const w = node.shape(1);
  node.require(x.length >= 3 && w.length === x.length, `shapes [${x}] and [${w}]`);
  const kernel = node.ints('kernel_shape') ?? w.slice(2);
  node.require(sameShape(kernel, w.slice(2)), `kernel_shape [${kernel}], weights [${w}]`);
  return windowOf(node, x.slice(2), kernel);
}

/** MatMul with numpy's rules: leading dimensions broadcast, a vector is a row or a column. */
const matmul: OpRule = {
  infer(node) {
    requireNumbers(node);
    const { batch, m, n, a, b } = matmulShapes(node);
    const shape = [...batch, ...(a.length === 1 ? [] : [m]), ...(b.length === 1 ? [] : [n])];
    return [{ dtype: node.type(0).dtype, shape }];
  },

  lower(node, out) {
    const { batch, m, n, k, a, b } = matmulShapes(node);
    const [av, bv] = node.node.inputs;
    const yv = node.node.outputs[0]!;
    const asMatrix = { [yv]: [...batch, m, n] };
    out.emit(
      node,
      'matmul',
      [av!, bv!],
      [yv],
      ([x, w], [y]) => {
        const over = batch.map((extent, d) => index(`b${d}`, extent));
        const row = index('m', m);
        const column = index('n', n);
        const inner = index('k', k);
        const xAt = [...broadcastAt(a.slice(0, -2), over), ...(a.length === 1 ? [] : [row]), inner];
        const wAt = [...broadcastAt(b.slice(0, -2), over), inner, ...(b.length === 1 ? [] : [column])];
        const sum = reduce('sum', [inner], op('mul', widen(load(x!, xAt)), widen(load(w!, wAt))));
        const domain = [...over, row, column];
        return { domain, stores: [store(y!, domain, cast(y!.dtype, sum))] };
      },
      asMatrix,
    );
  },
};

function matmulShapes(node: NodeView) {
  const a = node.shape(0);
  const b = node.shape(1);
  node.require(a.length > 0 && b.length > 0, 'a scalar operand');
  const k = a.at(-1)!;
  node.require(k === (b.length === 1 ? b[0] : b.at(-2)), `shapes [${a}] and [${b}]`);
  const batch = broadcastShape(node, [a.slice(0, -2), b.slice(0, -2)]);
  return { a, b, batch, k, m: a.length === 1 ? 1 : a.at(-2)!, n: b.length === 1 ? 1 : b.at(-1)! };
}

/** Gemm: alpha * op(a) op(b) + beta * c. */
const gemm: OpRule = {
  infer(node) {
    requireNumbers(node);
    const { m, n } = gemmSizes(node);
    if (node.has(2)) {
      const [rows, columns] = broadcastShape(node, [node.shape(2), [m, n]]).slice(-2);
      node.require(
        node.shape(2).length <= 2 && rows === m && columns === n,
        `bias of shape [${node.shape(2)}]`,
      );
    }
    if (node.opset < 7) node.ignore('broadcast');
    return [{ dtype: node.type(0).dtype, shape: [m, n] }];
  },

  lower(node, out) {
    const { m, n, k, transA, transB } = gemmSizes(node);
    const inputs = node.node.inputs.filter((name) => name !== '');
    out.emit(node, 'gemm', inputs, [node.node.outputs[0]!], ([a, b, c], [y]) => {
      const row = index('m', m);
      const column = index('n', n);
      const inner = index('k', k);
      const x = load(a!, transA ? [inner, row] : [row, inner]);
      const w = load(b!, transB ? [column, inner] : [inner, column]);
      const scaled = (e: Expr, by: number): Expr => (by === 1 ? e : op('mul', e, constant(e.dtype, by)));
      const sum = scaled(reduce('sum', [inner], op('mul', widen(x), widen(w))), node.float('alpha', 1));
      const domain = [row, column];
      const value = c
        ? op('add', sum, scaled(widen(load(c, broadcastAt(c.shape, domain))), node.float('beta', 1)))
        : sum;
      return { domain, stores: [store(y!, domain, cast(y!.dtype, value))] };
    });
  },
};

function gemmSizes(node: NodeView) {
  const a = node.shape(0);
  const b = node.shape(1);
  node.require(a.length === 2 && b.length === 2, `shapes [${a}] and [${b}]`);
  const transA = node.int('transA', 0) !== 0;
  const transB = node.int('transB', 0) !== 0;
  const [m, k] = transA ? [a[1]!, a[0]!] : [a[0]!, a[1]!];
  const [kb, n] = transB ? [b[1]!, b[0]!] : [b[0]!, b[1]!];
  node.require(k === kb, `shapes [${a}] and [${b}]`);
  return { m, n, k, transA, transB };
}

/** Floats, or the i32 that products of quantized values are summed in. */
function requireNumbers(node: NodeView): void {
  const { dtype } = node.type(0);
  node.require(dtypes[dtype].kind === 'float' || dtype === 'i32', `element type ${dtype}`);
  node.require(node.type(1).dtype === dtype, `element types ${dtype} and ${node.type(1).dtype}`);
}

export const contractionOps: OpFamily = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MatMul: matmul,
  Gemm: gemm,
  Einsum: einsum,
};
