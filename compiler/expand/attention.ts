/**
 * @file Attention: softmax(q k^T * scale + bias) v, with its masks, caches and grouped heads.
 */
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import { isFloat } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { Expander, Expansion, ExpansionFamily } from './expander.ts';

/** Inputs in order. */
const [QUERY, KEY, VALUE, MASK, PAST_KEY, PAST_VALUE, VALID_LENGTHS] = [0, 1, 2, 3, 4, 5, 6];

/** What the positions that a query may see are limited by. */
interface Limits {
  readonly queries: number;
  readonly keys: number;
  /** How many keys came before the first query's own. */
  readonly past: number;
  readonly causal: boolean;
  /** How far a query sees back and ahead; -1 for no limit. */
  readonly left: number;
  readonly right: number;
}

const attention: Expansion = (node, make) => {
  check(node);
  const flat = node.shape(QUERY).length === 3;
  const heads = (i: number, count: string): string => {
    const x = node.input(i);
    if (!flat) return x;
    const [batch, length, width] = make.shape(x) as [number, number, number];
    const n = node.int(count, 0);
    node.require(n > 0 && width % n === 0, `${count} ${n} for [${make.shape(x)}]`);
    return make.transpose(make.reshape(x, [batch, length, n, width / n]), [0, 2, 1, 3]);
  };
  const q = heads(QUERY, 'q_num_heads');
  const withPast = (i: number, past: number): string => {
    const x = heads(i, 'kv_num_heads');
    return node.has(past) ? make.concat([node.input(past), x], 2) : x;
  };
  const presentKey = withPast(KEY, PAST_KEY);
  const presentValue = withPast(VALUE, PAST_VALUE);
  const [batch, queryHeads, queries, size] = make.shape(q) as [number, number, number, number];
  const [, keyHeads, keys, keySize] = make.shape(presentKey) as [number, number, number, number];
  node.require(size === keySize && queryHeads % keyHeads === 0, `${queryHeads} heads over ${keyHeads}`);
  const k = repeated(make, presentKey, queryHeads);
  const v = repeated(make, presentValue, queryHeads);

  const scale = node.float('scale', 1 / Math.sqrt(size));
  const scaled = make.mul(q, make.like(q, scale));
  const product = make.op('Einsum', [scaled, k], { equation: 'bhqd,bhkd->bhqk' });
  const softcap = node.float('softcap', 0);
  const capped =
    softcap === 0
      ? product
      : make.mul(
          make.op('Tanh', [make.div(product, make.like(product, softcap))]),
          make.like(product, softcap),
        );
  const past = node.has(PAST_KEY) ? node.shape(PAST_KEY)[2]! : 0;
  const bias = biasOf(node, make, {
    queries,
    keys,
    past,
    causal: node.int('is_causal', 0) !== 0,
    left: node.int('left_window_size', -1),
    right: node.int('right_window_size', -1),
  });
  const biased = bias ? make.add(capped, make.cast(bias, make.dtype(capped))) : capped;
  const softmax = make.op('Softmax', [biased], { axis: -1 });
  const weights = bias && mayHideAll(node) ? zeroWhereHidden(make, softmax, bias) : softmax;
  const y = make.matmul(weights, v);
  const valueSize = make.shape(y)[3]!;
  const merged = flat
    ? make.reshape(make.transpose(y, [0, 2, 1, 3]), [batch, queries, queryHeads * valueSize])
    : y;
  const stages = [product, capped, biased, weights];
  return [merged, presentKey, presentValue, stages[node.int('qk_matmul_output_mode', 0)]!];
};

function check(node: NodeView): void {
  const rank = node.shape(QUERY).length;
  const { dtype } = node.type(QUERY);
  node.require(isFloat(dtype), `element type ${dtype}`);
  node.require([3, 4].includes(rank), `a query of shape [${node.shape(QUERY)}]`);
  for (const i of [KEY, VALUE]) {
    node.require(
      node.shape(i).length === rank && node.type(i).dtype === dtype,
      'keys or values unlike the query',
    );
  }
  node.require(node.has(PAST_KEY) === node.has(PAST_VALUE), 'only one half of a cache');
  node.require([0, 1, 2, 3].includes(node.int('qk_matmul_output_mode', 0)), 'qk_matmul_output_mode');
  // Softmax is computed in f32 whatever is asked for.
  node.ignore('softmax_precision', 'q_num_heads', 'kv_num_heads');
}

/** Heads of keys or values repeated until there is one for each head of the query. */
function repeated(make: Expander, x: string, heads: number): string {
  const [batch, own, length, size] = make.shape(x) as [number, number, number, number];
  if (own === heads) return x;
  const wide = make.op('Expand', [make.unsqueeze(x, 2), make.ints(batch, own, heads / own, length, size)]);
  return make.reshape(wide, [batch, heads, length, size]);
}

/** What is added to the scores: 0 where a query may look, -inf where it may not, or the mask's own numbers. */
function biasOf(node: NodeView, make: Expander, limits: Limits): string | undefined {
  const parts: string[] = [];
  if (node.has(MASK)) parts.push(maskBias(node, make, limits.keys));
  const limited = limits.causal || limits.left >= 0 || limits.right >= 0;
  if (node.has(VALID_LENGTHS)) {
    const lengths = make.reshape(make.cast(node.input(VALID_LENGTHS), 'i32'), [-1, 1, 1, 1]);
    const columns = make.constant(positions([1, 1, 1, limits.keys]));
    parts.push(choice(make, make.op('Less', [columns, lengths])));
    if (limited) {
      // The last query stands at the end of what is valid.
      const first = make.sub(lengths, make.like(lengths, limits.queries));
      const rows = make.add(make.constant(positions([1, 1, limits.queries, 1])), first);
      parts.push(...runtimeLimits(make, rows, columns, limits));
    }
  } else if (limited) parts.push(make.constant(fixedLimits(limits)));
  return parts.length === 0 ? undefined : parts.reduce(make.add);
}

const positions = (shape: readonly number[]): Tensor =>
  tensorOf(
    'i32',
    shape,
    Array.from({ length: Math.max(...shape) }, (_, i) => i),
  );

/** 0 where the condition holds, else -inf. */
const choice = (make: Expander, condition: string): string =>
  make.where(
    condition,
    make.constant(tensorOf('f32', [], [0])),
    make.constant(tensorOf('f32', [], [Number.NEGATIVE_INFINITY])),
  );

/** A mask as numbers to add, made as wide as there are keys. */
function maskBias(node: NodeView, make: Expander, keys: number): string {
  const mask = node.input(MASK);
  const bias = make.dtype(mask) === 'i1' ? choice(make, mask) : make.cast(mask, 'f32');
  const shape = make.shape(bias);
  const missing = keys - shape.at(-1)!;
  if (missing === 0 || shape.at(-1) === 1) return bias;
  node.require(missing > 0, `a mask of shape [${shape}] for ${keys} keys`);
  const pads = [...shape.map(() => 0), ...shape.map((_, d) => (d === shape.length - 1 ? missing : 0))];
  const hidden = make.constant(tensorOf('f32', [], [Number.NEGATIVE_INFINITY]));
  return make.op('Pad', [bias, make.ints(...pads), hidden]);
}

function fixedLimits({ queries, keys, past, causal, left, right }: Limits): Tensor {
  const values = Array.from({ length: queries * keys }, (_, i) => {
    const back = Math.floor(i / keys) + past - (i % keys);
    const hidden = (causal && back < 0) || (left >= 0 && back > left) || (right >= 0 && -back > right);
    return hidden ? Number.NEGATIVE_INFINITY : 0;
  });
  return tensorOf('f32', [queries, keys], values);
}

function runtimeLimits(
  make: Expander,
  rows: string,
  columns: string,
  { causal, left, right }: Limits,
): string[] {
  const back = make.sub(rows, columns);
  const atMost = (a: string, limit: number): string =>
    choice(make, make.op('LessOrEqual', [a, make.like(a, limit)]));
  const ahead = make.op('Neg', [back]);
  return [
    ...(causal ? [atMost(ahead, 0)] : []),
    ...(left >= 0 ? [atMost(back, left)] : []),
    ...(right >= 0 ? [atMost(ahead, right)] : []),
  ];
}

/** Whether a query may end up seeing nothing; under the causal rule alone it always sees itself. */
const mayHideAll = (node: NodeView): boolean =>
  [MASK, VALID_LENGTHS].some((i) => node.has(i)) ||
  node.int('left_window_size', -1) >= 0 ||
  node.int('right_window_size', -1) >= 0;

/** A row of which nothing may be seen gives zeros, not the NaN that softmax makes of it. */
function zeroWhereHidden(make: Expander, softmax: string, bias: string): string {
  const top = make.op('ReduceMax', [bias, make.ints(-1)], { keepdims: 1 });
  const hidden = make.op('Equal', [top, make.like(top, Number.NEGATIVE_INFINITY)]);
  return make.where(hidden, make.like(softmax, 0), softmax);
}

export const attentionOps: ExpansionFamily = { Attention: attention };
