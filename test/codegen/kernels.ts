/**
 * @file Kernels that between them use every skeleton and every part of it, as lowering makes them.
 */
import { type AffineLike, add, floordiv, type Index, index, mod, mul } from '../../ir/affine.ts';
import {
  buffer,
  cast,
  constant,
  indexValue,
  indicesFor,
  kernel,
  load,
  op,
  reduce,
  store,
  widen,
} from '../../ir/build.ts';
import type { Expr, Kernel } from '../../ir/kernel.ts';
import type { DType } from '../../ir/types.ts';

export interface ConvShape {
  readonly batch?: number;
  readonly channels: number;
  readonly outChannels: number;
  readonly size: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly stride?: number;
  readonly pad?: number;
  readonly residual?: boolean;
  /** Sums over channels inside of taps, with weights laid out so. */
  readonly channelsInner?: boolean;
  /** Pictures are NHWC. */
  readonly channelsLast?: boolean;
  readonly dtype?: DType;
}

/** conv + bias (+ residual) + relu on NCHW or NHWC. */
export function convKernel(shape: ConvShape): Kernel {
  const { batch = 1, channels, outChannels, size, stride = 1, pad = 0, dtype = 'f32' } = shape;
  const [h, w] = size.map((extent, d) => Math.floor((extent + 2 * pad - shape.kernel[d]!) / stride) + 1) as [
    number,
    number,
  ];
  /** A picture's dimensions, or coordinates, in its layout. */
  const laidOut = <T>([n, c, ...pixel]: readonly T[]): T[] =>
    (shape.channelsLast ? [n, ...pixel, c] : [n, c, ...pixel]) as T[];
  const x = buffer('x0', dtype, laidOut([batch, channels, ...size]));
  const inner = shape.channelsInner ?? false;
  const taps = inner ? [...shape.kernel, channels] : [channels, ...shape.kernel];
  const weights = buffer('x1', dtype, [outChannels, ...taps]);
  const bias = buffer('x2', dtype, [outChannels]);
  const residual = buffer('x3', dtype, laidOut([batch, outChannels, h, w]));
  const y = buffer('y0', dtype, residual.shape);
  const domain = indicesFor(y.shape, laidOut(['n', 'oc', 'oh', 'ow']));
  const [n, oc, oh, ow] = ['n', 'oc', 'oh', 'ow'].map((name) => domain.find((i) => i.name === name)!) as [
    Index,
    Index,
    Index,
    Index,
  ];
  const ic = index('ic', channels);
  const kh = index('kh', shape.kernel[0]);
  const kw = index('kw', shape.kernel[1]);
  const over = inner ? [kh, kw, ic] : [ic, kh, kw];
  const at = laidOut<AffineLike>([n, ic, add(mul(oh, stride), kh, -pad), add(mul(ow, stride), kw, -pad)]);
  const product = op('mul', widen(load(x, at, pad > 0 ? 0 : undefined)), widen(load(weights, [oc, ...over])));
  let value = op('add', reduce('sum', over, product), widen(load(bias, [oc])));
  if (shape.residual) value = op('add', value, widen(load(residual, domain)));
  value = op('max', value, constant('f32', 0));
  const inputs = [x, weights, bias, ...(shape.residual ? [residual] : [])];
  return kernel('conv_relu', inputs, [y], domain, [store(y, domain, cast(dtype, value))]);
}

/** y[b,m,n] = sum_k a[b,m,k] w[b,k,n] (or w[n,k] without batch). */
export function matmulKernel(
  batch: number,
  m: number,
  n: number,
  k: number,
  transposed = false,
  dtype: DType = 'f32',
): Kernel {
  const a = buffer('x0', dtype, [batch, m, k]);
  const w = buffer('x1', dtype, transposed ? [n, k] : [batch, k, n]);
  const y = buffer('y0', dtype, [batch, m, n]);
  const domain = indicesFor(y.shape, ['b', 'm', 'n']);
  const [bi, mi, ni] = domain;
  const ki = index('k', k);
  const right = transposed ? load(w, [ni!, ki]) : load(w, [bi!, ki, ni!]);
  const sum = reduce('sum', [ki], op('mul', widen(load(a, [bi!, mi!, ki])), widen(right)));
  return kernel('matmul', [a, w], [y], domain, [store(y, domain, cast(dtype, sum))]);
}

/** Softmax over the last dimension: two reductions and a store loop that share values. */
export function softmaxKernel(rows: number, columns: number, dtype: DType = 'f32'): Kernel {
  const x = buffer('x0', dtype, [rows, columns]);
  const y = buffer('y0', dtype, [rows, columns]);
  const r = index('r', rows);
  const at = (name: string) => index(name, columns);
  const [j, k, l] = [at('j'), at('k'), at('l')];
  const most = reduce('max', [j], widen(load(x, [r, j])));
  const total = reduce('sum', [k], op('exp', op('sub', widen(load(x, [r, k])), most)));
  const value = op('div', op('exp', op('sub', widen(load(x, [r, l])), most)), total);
  return kernel('softmax', [x], [y], [r], [store(y, [r, l], cast(dtype, value), [l])]);
}

/** Layer normalisation of rows, with a scale and a bias for each column. */
export function layerNormKernel(rows: number, columns: number, dtype: DType): Kernel {
  const [x, y] = [buffer('x0', dtype, [rows, columns]), buffer('y0', dtype, [rows, columns])];
  const [scale, bias] = [buffer('x1', dtype, [columns]), buffer('x2', dtype, [columns])];
  const r = index('r', rows);
  const [j, k, l] = [index('j', columns), index('k', columns), index('l', columns)];
  const count = constant('f32', columns);
  const mean = op('div', reduce('sum', [j], widen(load(x, [r, j]))), count);
  const distance = op('sub', widen(load(x, [r, k])), mean);
  const variance = op('div', reduce('sum', [k], op('mul', distance, distance)), count);
  const deviation = op('sqrt', op('add', variance, constant('f32', 1e-5)));
  const normal = op('div', op('sub', widen(load(x, [r, l])), mean), deviation);
  const value = op('add', op('mul', normal, widen(load(scale, [l]))), widen(load(bias, [l])));
  return kernel('layer_norm', [x, scale, bias], [y], [r], [store(y, [r, l], cast(dtype, value), [l])]);
}

/** Mean and variance of each row, as two outputs without store loops. */
export function momentsKernel(rows: number, columns: number): Kernel {
  const x = buffer('x0', 'f32', [rows, columns]);
  const mean = buffer('y0', 'f32', [rows]);
  const variance = buffer('y1', 'f32', [rows]);
  const r = index('r', rows);
  const [j, k] = [index('j', columns), index('k', columns)];
  const scale = constant('f32', 1 / columns);
  const m = op('mul', reduce('sum', [j], load(x, [r, j])), scale);
  const d = op('sub', load(x, [r, k]), m);
  const v = op('mul', reduce('sum', [k], op('mul', d, d)), scale);
  return kernel('moments', [x], [mean, variance], [r], [store(mean, [r], m), store(variance, [r], v)]);
}

/** Depth-to-space-like index arithmetic with floor-division and remainder, and index values. */
export function shuffleKernel(n: number): Kernel {
  const x = buffer('x0', 'i32', [4, n]);
  const y = buffer('y0', 'i32', [4 * n]);
  const i = index('i', 4 * n);
  const value = op('add', load(x, [mod(i, 4), floordiv(i, 4)]), indexValue(add(mul(i, 2), -7)));
  return kernel('shuffle', [x], [y], [i], [store(y, [i], value)]);
}

/** y[i,j] = table[ids[i], j], 0 where the id is out of range. */
export function gatherKernel(rows: number, ids: number, width: number): Kernel {
  const table = buffer('x0', 'f32', [rows, width]);
  const index64 = buffer('x1', 'i64', [ids]);
  const y = buffer('y0', 'f32', [ids, width]);
  const domain = indicesFor(y.shape, ['i', 'j']);
  const value = load(table, [load(index64, [domain[0]!]), domain[1]!], 0);
  return kernel('gather', [table, index64], [y], domain, [store(y, domain, value)]);
}

export interface AttentionShape {
  readonly batch?: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys?: number;
  readonly features: number;
  /** Elements of a value; as many as features if left out. */
  readonly width?: number;
  /** Adds x3[batch, 0, query, key], of -inf where it hides, to the scores. */
  readonly mask?: boolean;
  /** Rows of which all is hidden give zeros. */
  readonly zeroHidden?: boolean;
  /** Operands lie as [batch, head, feature, query or key]. */
  readonly queriesLast?: boolean;
  readonly keysLast?: boolean;
  readonly valuesLast?: boolean;
  /** All heads share keys and values. */
  readonly sharedKeys?: boolean;
  readonly dtype?: DType;
}

/** y[b, m, h, d] = softmax over k of (q[b, m, h] . k[b, k, h] / sqrt(features) (+ mask)) times v[b, k, h, d]. */
export function attentionKernel(s: AttentionShape): Kernel {
  const { batch = 1, heads, queries, keys = queries, features, width = features, dtype = 'f16' } = s;
  const shared = s.sharedKeys ? 1 : heads;
  const laidOut = <T>(last: boolean | undefined, [n, row, head, column]: readonly [T, T, T, T]): T[] =>
    last ? [n, head, column, row] : [n, row, head, column];
  const x0 = buffer('x0', dtype, laidOut(s.queriesLast, [batch, queries, heads, features]));
  const x1 = buffer('x1', dtype, laidOut(s.keysLast, [batch, keys, shared, features]));
  const x2 = buffer('x2', dtype, laidOut(s.valuesLast, [batch, keys, shared, width]));
  const x3 = buffer('x3', dtype, [batch, 1, queries, keys]);
  const y = buffer('y0', dtype, [batch, queries, heads, width]);
  const [b, h, m, d] = [index('b', batch), index('h', heads), index('m', queries), index('d', width)];
  const at = s.sharedKeys ? 0 : h;
  const score = (k: Index): Expr => {
    const c = index('c', features);
    const query = load(x0, laidOut<AffineLike>(s.queriesLast, [b, m, h, c]));
    const key = load(x1, laidOut<AffineLike>(s.keysLast, [b, k, at, c]));
    const sum = reduce('sum', [c], op('mul', widen(query), widen(key)));
    const scaled = op('mul', sum, constant('f32', 1 / Math.sqrt(features)));
    return s.mask ? op('add', scaled, widen(load(x3, [b, 0, m, k]))) : scaled;
  };
  const [k1, k2, k3] = [index('k', keys), index('k', keys), index('k', keys)];
  const most = reduce('max', [k1], score(k1));
  const weight = (k: Index): Expr => op('exp', op('sub', score(k), most));
  const total = reduce('sum', [k2], weight(k2));
  const rounded = widen(cast(dtype, weight(k3)));
  const element = load(x2, laidOut<AffineLike>(s.valuesLast, [b, k3, at, d]));
  const sum = reduce('sum', [k3], op('mul', rounded, widen(element)));
  const plain = op('div', sum, total);
  const value = s.zeroHidden ? op('select', op('isnan', total), constant('f32', 0), plain) : plain;
  const inputs = [x0, x1, x2, ...(s.mask ? [x3] : [])];
  return kernel('attention', inputs, [y], [b, h, m], [store(y, [b, m, h, d], cast(dtype, value), [d])]);
}

/** depthwise conv + bias + relu: each channel with a window of its own. Channels-last weights are [kh, kw, c]. */
export function depthwiseKernel(
  shape: Omit<ConvShape, 'outChannels' | 'residual' | 'channelsInner'>,
): Kernel {
  const { batch = 1, channels, size, stride = 1, pad = 0, dtype = 'f32', channelsLast = false } = shape;
  const pixels = size.map((extent, d) => Math.floor((extent + 2 * pad - shape.kernel[d]!) / stride) + 1);
  const order = channelsLast ? [0, 2, 3, 1] : [0, 1, 2, 3];
  const laidOut = <T>(list: readonly T[]): T[] => order.map((d) => list[d]!);
  const c = index('c', channels);
  const [n, oh, ow] = [index('n', batch), index('oh', pixels[0]!), index('ow', pixels[1]!)];
  const [kh, kw] = [index('kh', shape.kernel[0]), index('kw', shape.kernel[1])];
  const x = buffer('x0', dtype, laidOut([batch, channels, ...size]));
  const tap = channelsLast ? [kh, kw, c] : [c, kh, kw];
  const weights = buffer(
    'x1',
    dtype,
    tap.map((i) => i.extent),
  );
  const bias = buffer('x2', dtype, [channels]);
  const domain = laidOut([n, c, oh, ow]);
  const y = buffer(
    'y0',
    dtype,
    domain.map((i) => i.extent),
  );
  const at = laidOut<AffineLike>([n, c, add(mul(oh, stride), kh, -pad), add(mul(ow, stride), kw, -pad)]);
  const product = op('mul', widen(load(x, at, pad > 0 ? 0 : undefined)), widen(load(weights, tap)));
  const sum = op('add', reduce('sum', [kh, kw], product), widen(load(bias, [c])));
  const value = op('max', sum, constant('f32', 0));
  return kernel('depthwise_relu', [x, weights, bias], [y], domain, [store(y, domain, cast(dtype, value))]);
}
