/**
 * @file Normalizations: layer, RMS, instance, group and batch norm, LRN, mean-variance.
 */
import { type AffineLike, add, type Index, index } from '../../ir/affine.ts';
import { cast, constant, load, op, reduce, store, widen } from '../../ir/build.ts';
import type { Buffer, Expr } from '../../ir/kernel.ts';
import { reader, tensorOf } from '../../ir/tensor.ts';
import { dtypes, type TensorType } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { broadcastAt, broadcastShape } from './broadcast.ts';
import { emitMap } from './map.ts';
import { split } from './reduction.ts';
import { addTo, like, square, times } from './scalar.ts';

/** 1 / sqrt(x + epsilon) */
const inverseRoot = (x: Expr, epsilon: number): Expr => op('div', like(x, 1), op('sqrt', addTo(x, epsilon)));

/** Mean and variance (by its definition, which cancels least) of elements at fresh indices. */
function moments(element: (letter: string) => { over: readonly Index[]; value: Expr }): {
  mean: Expr;
  variance: Expr;
} {
  const a = element('m');
  const count = a.over.reduce((n, i) => n * i.extent, 1);
  const mean = op('div', reduce('sum', a.over, a.value), like(a.value, count));
  const b = element('v');
  const variance = op('div', reduce('sum', b.over, square(op('sub', b.value, mean))), like(b.value, count));
  return { mean, variance };
}

function requireFloat(node: NodeView): TensorType {
  const type = node.type(0);
  node.require(dtypes[type.dtype].kind === 'float', `element type ${type.dtype}`);
  for (const other of node.inputTypes)
    node.require(other.dtype === type.dtype, `element types ${type.dtype} and ${other.dtype}`);
  return type;
}

/** The axes from the node's `axis` on. */
function trailingAxes(node: NodeView): number[] {
  const rank = node.shape(0).length;
  const axis = node.axis(node.int('axis', -1), rank);
  return Array.from({ length: rank - axis }, (_, i) => axis + i);
}

/** LayerNormalization, with the mean and the inverse deviation as further outputs if they are wanted. */
const layerNorm: OpRule = {
  infer(node) {
    const { dtype, shape } = requireFloat(node);
    const axes = trailingAxes(node);
    node.require(node.int('stash_type', 1) === 1, 'stash_type other than float');
    for (let i = 1; i < node.inputs.length; i++) {
      const fits = broadcastShape(node, [shape, node.shape(i)]);
      node.require(
        fits.length === shape.length && fits.every((d, k) => d === shape[k]),
        `scale of shape [${node.shape(i)}]`,
      );
    }
    const row: TensorType = { dtype: 'f32', shape: shape.map((d, i) => (axes.includes(i) ? 1 : d)) };
    return [{ dtype, shape }, row, row];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const axes = trailingAxes(node);
    const outputs = [0, 1, 2].filter((i) => node.output(i) !== '');
    const epsilon = node.float('epsilon', 1e-5);
    out.emit(
      node,
      'layer_norm',
      node.inputs,
      outputs.map((i) => node.output(i)),
      ([x, scale, bias], ys) => {
        const domain = rowDomain(shape, axes);
        const { mean, variance } = moments((letter) => {
          const { over, place } = split(shape, axes, letter);
          return { over, value: widen(load(x!, place(domain))) };
        });
        const inverse = inverseRoot(variance, epsilon);
        const { over, place } = split(shape, axes, 'j');
        const at = place(domain);
        const centred = op('mul', op('sub', widen(load(x!, at)), mean), inverse);
        const value = shifted(centred, at, scale, bias);
        const rowAt = shape.map((_, d) => (axes.includes(d) ? 0 : at[d]!));
        const stores = ys.map((y, i) => {
          if (outputs[i] === 0) return store(y, at, cast(y.dtype, value), over);
          return store(y, rowAt, outputs[i] === 1 ? mean : inverse);
        });
        return { domain, stores };
      },
    );
  },
};

const rowDomain = (shape: readonly number[], axes: readonly number[]): Index[] =>
  shape.flatMap((extent, d) => (axes.includes(d) ? [] : [index(`i${d}`, extent)]));

/** x * scale + bias, both broadcast to x. */
function shifted(x: Expr, at: readonly AffineLike[], scale?: Buffer, bias?: Buffer): Expr {
  const parameter = (p: Buffer): Expr => widen(load(p, broadcastAt(p.shape, at as readonly Index[])));
  const scaled = scale ? op('mul', x, parameter(scale)) : x;
  return bias ? op('add', scaled, parameter(bias)) : scaled;
}

const rmsNorm: OpRule = {
  infer(node) {
    const { dtype, shape } = requireFloat(node);
    trailingAxes(node);
    node.require(node.int('stash_type', 1) === 1, 'stash_type other than float');
    const fits = broadcastShape(node, [shape, node.shape(1)]);
    node.require(
      fits.length === shape.length && fits.every((d, k) => d === shape[k]),
      `scale of shape [${node.shape(1)}]`,
    );
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const axes = trailingAxes(node);
    const epsilon = node.float('epsilon', 1e-5);
    const count = axes.reduce((n, a) => n * shape[a]!, 1);
    out.emit(node, 'rms_norm', node.inputs, [node.output(0)], ([x, scale], [y]) => {
      const domain = rowDomain(shape, axes);
      const rows = split(shape, axes, 'm');
      const sum = reduce('sum', rows.over, square(widen(load(x!, rows.place(domain)))));
      const inverse = inverseRoot(op('div', sum, like(sum, count)), epsilon);
      const { over, place } = split(shape, axes, 'j');
      const at = place(domain);
      const value = shifted(op('mul', widen(load(x!, at)), inverse), at, scale);
      return { domain, stores: [store(y!, at, cast(y!.dtype, value), over)] };
    });
  },
};

/** MeanVarianceNormalization: like instance norm over any axes, without scale and bias. */
const meanVariance: OpRule = {
  infer(node) {
    const type = requireFloat(node);
    mvnAxes(node);
    return [type];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const axes = mvnAxes(node);
    out.emit(node, 'mvn', [node.input(0)], [node.output(0)], ([x], [y]) => {
      const domain = rowDomain(shape, axes);
      const { mean, variance } = moments((letter) => {
        const { over, place } = split(shape, axes, letter);
        return { over, value: widen(load(x!, place(domain))) };
      });
      const { over, place } = split(shape, axes, 'j');
      const value = op('sub', widen(load(x!, place(domain))), mean);
      // The specification adds 1e-9 to the deviation itself.
      const normal = op('div', value, addTo(op('sqrt', variance), 1e-9));
      return { domain, stores: [store(y!, place(domain), cast(y!.dtype, normal), over)] };
    });
  },
};

const mvnAxes = (node: NodeView): number[] =>
  (node.ints('axes') ?? [0, 2, 3]).map((a) => node.axis(a, node.shape(0).length)).sort((a, b) => a - b);

/** Instance norm and group norm: channels in groups, each normalised with its spatial extent. */
const groupNorm = (groupsOf: (node: NodeView) => number, name: string): OpRule => ({
  infer(node) {
    const { dtype, shape } = requireFloat(node);
    node.ignore('consumed_inputs', 'stash_type');
    const groups = groupsOf(node);
    node.require(
      shape.length >= 2 && groups > 0 && shape[1]! % groups === 0,
      `${shape[1]} channels in ${groups} groups`,
    );
    for (const i of [1, 2]) {
      const [length] = node.shape(i);
      node.require(
        node.shape(i).length === 1 && (length === shape[1] || length === groups),
        `scale of shape [${node.shape(i)}]`,
      );
    }
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const groups = groupsOf(node);
    const size = shape[1]! / groups;
    // Channels are seen as groups by channels of a group; a group of one channel has no index for it.
    const inner = size > 1 ? [size] : [];
    const seen = [shape[0]!, groups, ...inner, ...shape.slice(2)];
    const axes = seen.flatMap((_, d) => (d >= 2 ? [d] : []));
    const parameter = (i: number): readonly number[] =>
      node.shape(i)[0] === groups ? [groups] : [groups, ...inner];
    out.emit(
      node,
      name,
      node.inputs,
      [node.output(0)],
      ([x, scale, bias], [y]) => {
        const domain = [index('n', shape[0]!), index('g', groups)];
        const { mean, variance } = moments((letter) => {
          const { over, place } = split(seen, axes, letter);
          return { over, value: widen(load(x!, place(domain))) };
        });
        const { over, place } = split(seen, axes, 'j');
        const at = place(domain);
        const parameterAt = (p: Buffer): Expr => widen(load(p, at.slice(1, 1 + p.shape.length)));
        const normal = op(
          'mul',
          op('sub', widen(load(x!, at)), mean),
          inverseRoot(variance, node.float('epsilon', 1e-5)),
        );
        const value = op('add', op('mul', normal, parameterAt(scale!)), parameterAt(bias!));
        return { domain, stores: [store(y!, at, cast(y!.dtype, value), over)] };
      },
      {
        [node.input(0)]: seen,
        [node.output(0)]: seen,
        [node.input(1)]: parameter(1),
        [node.input(2)]: parameter(2),
      },
    );
  },
});

/** BatchNormalization as models run it: with the statistics it was trained to. */
const batchNorm: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.ignore('momentum', 'consumed_inputs', 'is_test');
    node.require(dtypes[dtype].kind === 'float' && shape.length >= 1, `element type ${dtype}`);
    node.require(
      node.int('training_mode', 0) === 0 && node.int('spatial', 1) === 1,
      'training mode or spatial 0',
    );
    node.require(
      node.node.outputs.slice(1).every((o) => o === ''),
      'statistics as outputs',
    );
    const channels = shape[1] ?? 1;
    for (const i of [1, 2, 3, 4]) {
      node.require(
        node.shape(i).length === 1 && node.shape(i)[0] === channels,
        `parameters of shape [${node.shape(i)}]`,
      );
      node.require(dtypes[node.type(i).dtype].kind === 'float', `parameters of type ${node.type(i).dtype}`);
    }
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const folded = batchNormFactors(node);
    const channel = (at: readonly Index[]): AffineLike => (at.length > 1 ? at[1]! : 0);
    if (folded) {
      const names = Object.entries(folded).map(([hint, values]) =>
        out.constant(`${node.output(0)}.${hint}`, tensorOf('f32', [values.length], values)),
      );
      emitMap(node, out, 'batch_norm', [node.input(0), ...names], ([x, scale, bias], at) => {
        const scaled = op('mul', widen(load(x!, at)), load(scale!, [channel(at)]));
        return op('add', scaled, load(bias!, [channel(at)]));
      });
      return;
    }
    emitMap(node, out, 'batch_norm', node.inputs, ([x, ...parameters], at) => {
      const [scale, bias, mean, variance] = parameters.map((p) => widen(load(p, [channel(at)])));
      const factor = op('mul', scale!, inverseRoot(variance!, node.float('epsilon', 1e-5)));
      return op('add', op('mul', op('sub', widen(load(x!, at)), mean!), factor), bias!);
    });
  },
};

/** A batch norm with known statistics as x * scale + bias; undefined if they are not known. */
export function batchNormFactors(node: NodeView): { scale: number[]; bias: number[] } | undefined {
  const parameters = [1, 2, 3, 4].map((i) => node.constant(i));
  if (!parameters.every((p) => p !== undefined)) return undefined;
  const [gamma, beta, mean, variance] = parameters.map(reader);
  const epsilon = node.float('epsilon', 1e-5);
  const channels = parameters[0]!.data.length;
  const scale = Array.from({ length: channels }, (_, c) => gamma!(c) / Math.sqrt(variance!(c) + epsilon));
  return { scale, bias: scale.map((s, c) => beta!(c) - mean!(c) * s) };
}

/** LRN: divides by a power of the sum of squares of neighbouring channels. */
const lrn: OpRule = {
  infer(node) {
    const type = requireFloat(node);
    node.require(node.int('size', 0) > 0 && type.shape.length >= 2, `size ${node.int('size', 0)}`);
    return [type];
  },
  lower(node, out) {
    const size = node.int('size', 0);
    const alpha = node.float('alpha', 1e-4);
    const beta = node.float('beta', 0.75);
    emitMap(node, out, 'lrn', [node.input(0)], ([x], at) => {
      const j = index('j', size);
      const neighbour = load(
        x!,
        at.map((a, d) => (d === 1 ? add(a, j, -Math.floor((size - 1) / 2)) : a)),
        0,
      );
      const sum = reduce('sum', [j], square(widen(neighbour)));
      const base = addTo(times(sum, alpha / size), node.float('bias', 1));
      return op('div', widen(load(x!, at)), op('pow', base, constant('f32', beta)));
    });
  },
};

export const normalizationOps: OpFamily = {
  LayerNormalization: layerNorm,
  RMSNormalization: rmsNorm,
  MeanVarianceNormalization: meanVariance,
  InstanceNormalization: groupNorm((node) => node.shape(0)[1]!, 'instance_norm'),
  GroupNormalization: groupNorm((node) => node.int('num_groups', 0), 'group_norm'),
  BatchNormalization: batchNorm,
  LRN: lrn,
};
