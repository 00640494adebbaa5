/**
 * @file Reductions over axes, arg-reductions, softmax and its kin, running sums.
 */
import { type AffineLike, add, affine, type Index, index, mul } from '../../ir/affine.ts';
import { cast, constant, indexValue, load, op, reduce, store, widen } from '../../ir/build.ts';
import type { Buffer, Expr } from '../../ir/kernel.ts';
import type { Combiner } from '../../ir/ops.ts';
import { combiners } from '../../ir/ops.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { Lowering, OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { like, square } from './scalar.ts';

/** Reduction axes: an attribute in old opsets, an input since; none means all (or, if so asked, none). */
function reductionAxes(node: NodeView, inputSince: number): number[] {
  const rank = node.shape(0).length;
  const given = node.opset < inputSince ? node.ints('axes') : node.numbers(1);
  const none = node.int('noop_with_empty_axes', 0) !== 0;
  if (!given || given.length === 0) return none ? [] : node.shape(0).map((_, d) => d);
  return [...new Set(given.map((a) => node.axis(a, rank)))].sort((a, b) => a - b);
}

/** An index for each of the axes, and all coordinates: `at` where not reduced. */
export function split(shape: readonly number[], axes: readonly number[], letter: string) {
  const over = axes.map((a, i) => index(axes.length > 1 ? `${letter}${i}` : letter, shape[a]!));
  const place = (outer: readonly AffineLike[]): AffineLike[] => {
    const rest = outer.values();
    return shape.map((_, d) => (axes.includes(d) ? over[axes.indexOf(d)]! : rest.next().value!));
  };
  return { over, place };
}

interface ReduceParts {
  readonly combine: Combiner;
  /** What is combined, of each element. */
  readonly body?: (x: Expr) => Expr;
  /** The result, of the combined value and the number of elements. */
  readonly finish?: (acc: Expr, count: number) => Expr;
  /** Kernel's name. */
  readonly name: string;
}

/** ReduceX: combines the elements along axes. */
function reduceOp(
  inputSince: number,
  { combine, body = (x) => x, finish = (x) => x, name }: ReduceParts,
): OpRule {
  return {
    infer(node) {
      const { dtype, shape } = node.type(0);
      const limits = combine === 'max' || combine === 'min';
      const { kind, bytes } = dtypes[dtype];
      node.require(limits || (kind !== 'bool' && bytes > 1), `element type ${dtype}`);
      node.require(kind === 'float' || !floatOnly.has(name), `element type ${dtype}`);
      const axes = reductionAxes(node, inputSince);
      const keep = node.int('keepdims', 1) !== 0;
      return [{ dtype, shape: shape.flatMap((d, i) => (axes.includes(i) ? (keep ? [1] : []) : [d])) }];
    },
    lower(node, out) {
      const { shape } = node.type(0);
      const axes = reductionAxes(node, inputSince);
      const count = axes.reduce((n, a) => n * shape[a]!, 1);
      const kept = shape.filter((_, d) => !axes.includes(d));
      // The kernel sees the result without the reduced dimensions, kept or not.
      const shapes = { [node.output(0)]: kept };
      if (count === 0) {
        const { dtype } = out.type(node.output(0));
        const start = constant(
          dtype === 'f16' || dtype === 'bf16' ? 'f32' : dtype,
          combiners[combine].start(dtype),
        );
        emitMap(node, out, 'fill', [], () => finish(start, 0), { shapes });
        return;
      }
      const { over, place } = split(shape, axes, 'r');
      emitMap(
        node,
        out,
        name,
        [node.input(0)],
        ([x], at) => {
          const element = load(x!, place(at));
          // Bools have no order in the IR; their numbers do.
          const value = element.dtype === 'i1' ? cast('i32', element) : widen(element);
          if (name === 'reduce_logsumexp') return logSumExp(x!, shape, axes, at);
          return finish(reduce(combine, over, body(value)), count);
        },
        { shapes },
      );
    },
  };
}

const floatOnly = new Set(['reduce_l2', 'reduce_logsum', 'reduce_logsumexp']);

/** log(sum(e^x)), with the maximum taken out so that nothing overflows. */
function logSumExp(x: Buffer, shape: readonly number[], axes: readonly number[], at: readonly Index[]): Expr {
  const first = split(shape, axes, 'm');
  const second = split(shape, axes, 's');
  const top = reduce('max', first.over, widen(load(x, first.place(at))));
  // Where all elements are -inf (or one is inf) the difference would be NaN.
  const finite = op('lt', op('abs', top), like(top, Number.POSITIVE_INFINITY));
  const safe = op('select', finite, top, like(top, 0));
  const sum = reduce('sum', second.over, op('exp', op('sub', widen(load(x, second.place(at))), safe)));
  return op('add', op('log', sum), safe);
}

const mean = (acc: Expr, count: number): Expr => op('div', acc, like(acc, count));

/** ArgMax and ArgMin: the extreme value, then the first (or last) place that has it. */
const argOp = (combine: 'max' | 'min'): OpRule => ({
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.require(dtypes[dtype].kind !== 'bool', `element type ${dtype}`);
    const axis = node.axis(node.int('axis', 0), shape.length);
    const keep = node.int('keepdims', 1) !== 0;
    node.require(shape[axis]! > 0, 'an axis without elements');
    return [{ dtype: 'i64', shape: keep ? shape.with(axis, 1) : shape.toSpliced(axis, 1) }];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const axis = node.axis(node.int('axis', 0), shape.length);
    const last = node.int('select_last_index', 0) !== 0;
    emitMap(
      node,
      out,
      `arg${combine}`,
      [node.input(0)],
      ([x], at) => {
        const first = split(shape, [axis], 'm');
        const second = split(shape, [axis], 'j');
        const extreme = reduce(combine, first.over, widen(load(x!, first.place(at))));
        const hit = op('eq', widen(load(x!, second.place(at))), extreme);
        const j = indexValue(second.over[0]!);
        const none = like(j, last ? 0 : shape[axis]! - 1);
        return reduce(last ? 'max' : 'min', second.over, op('select', hit, j, none));
      },
      { shapes: { [node.output(0)]: shape.toSpliced(axis, 1) } },
    );
  },
});

/**
 * Softmax's axes: one axis since opset 13; before, the tensor was a matrix of everything before the axis by
 * everything from it on.
 */
function softmaxAxes(node: NodeView): number[] {
  const rank = node.shape(0).length;
  const given = node.int('axis', node.opset < 13 ? 1 : -1);
  const axis = node.opset < 13 && given === rank ? rank : node.axis(given, rank);
  return node.opset < 13 ? node.shape(0).flatMap((_, d) => (d >= axis ? [d] : [])) : [axis];
}

/** An operator whose rows (along softmax's axes) are normalised by values of the whole row. */
const rowwise = (name: string, value: (row: Row) => Expr): OpRule => ({
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.require(dtypes[dtype].kind === 'float', `element type ${dtype}`);
    softmaxAxes(node);
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const axes = softmaxAxes(node);
    emitRows(node, out, name, axes, value);
  },
});

/** A row: its elements at fresh indices, to reduce over, and the element to be stored. */
export interface Row {
  /** Combines a function of the row's elements. */
  fold(combine: Combiner, body: (x: Expr, position: Expr) => Expr): Expr;
  readonly element: Expr;
  /** Row-major number of the element within its row. */
  readonly position: Expr;
}

/** Emits a kernel with a row a domain point: values of the row are shared, its elements stored one by one. */
export function emitRows(
  node: NodeView,
  out: Lowering,
  name: string,
  axes: readonly number[],
  value: (row: Row) => Expr,
): void {
  const { shape } = node.type(0);
  out.emit(node, name, [node.input(0)], [node.output(0)], ([x], [y]) => {
    const domain = shape.flatMap((extent, d) => (axes.includes(d) ? [] : [index(`i${d}`, extent)]));
    const stored = split(shape, axes, 'j');
    let made = 0;
    const row: Row = {
      fold(combine, body) {
        const { over, place } = split(shape, axes, 'mstuvw'[made++]!);
        return reduce(combine, over, body(widen(load(x!, place(domain))), positionOf(over)));
      },
      element: widen(load(x!, stored.place(domain))),
      position: positionOf(stored.over),
    };
    return { domain, stores: [store(y!, stored.place(domain), cast(y!.dtype, value(row)), stored.over)] };
  });
}

const positionOf = (over: readonly Index[]): Expr =>
  indexValue(over.reduce((n, i) => add(mul(n, i.extent), i), affine(0)));

const softmax = ({ fold, element }: Row): Expr => {
  const top = fold('max', (x) => x);
  const sum = fold('sum', (x) => op('exp', op('sub', x, top)));
  return op('div', op('exp', op('sub', element, top)), sum);
};

const logSoftmax = ({ fold, element }: Row): Expr => {
  const top = fold('max', (x) => x);
  const sum = fold('sum', (x) => op('exp', op('sub', x, top)));
  return op('sub', op('sub', element, top), op('log', sum));
};

/** 1 at the first greatest element of the row, else 0. */
const hardmax = ({ fold, element, position }: Row): Expr => {
  const top = fold('max', (x) => x);
  const first = fold('min', (x, at) => op('select', op('eq', x, top), at, like(at, 2 ** 31 - 1)));
  return cast(element.dtype, op('eq', position, first));
};

/** CumSum and CumProd: each element combines those before it. */
const cumulative = (combine: 'sum' | 'prod'): OpRule => ({
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.require(dtypes[dtype].kind !== 'bool' && dtypes[dtype].bytes > 1, `element type ${dtype}`);
    node.require(node.has(1), 'no axis');
    node.axis(node.numbers(1)?.[0] ?? Number.NaN, shape.length);
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const { shape } = node.type(0);
    const axis = node.axis(node.knownNumbers(1)[0]!, shape.length);
    const exclusive = node.int('exclusive', 0) !== 0;
    const reverse = node.int('reverse', 0) !== 0;
    emitMap(node, out, `cum${combine}`, [node.input(0)], ([x], at) => {
      const j = index('j', shape[axis]!);
      const value = widen(load(x!, at.with(axis, j)));
      const [a, b] = reverse
        ? [indexValue(at[axis]!), indexValue(j)]
        : [indexValue(j), indexValue(at[axis]!)];
      const counts = op(exclusive ? 'lt' : 'le', a, b);
      return reduce(combine, [j], op('select', counts, value, like(value, combine === 'sum' ? 0 : 1)));
    });
  },
});

/** LpNormalization: divides by the length of the vector along an axis. */
const lpNormalization: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.require(dtypes[dtype].kind === 'float', `element type ${dtype}`);
    node.axis(node.int('axis', -1), shape.length);
    node.require([1, 2].includes(node.int('p', 2)), `p ${node.int('p', 2)}`);
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const axis = node.axis(node.int('axis', -1), node.shape(0).length);
    const p = node.int('p', 2);
    emitRows(node, out, 'lp_normalization', [axis], ({ fold, element }) => {
      const length = p === 1 ? fold('sum', (x) => op('abs', x)) : op('sqrt', fold('sum', square));
      // A zero vector stays zero.
      const zero = op('eq', length, like(length, 0));
      return op('select', zero, like(element, 0), op('div', element, length));
    });
  },
};

export const reductionOps: OpFamily = {
  ReduceSum: reduceOp(13, { name: 'reduce_sum', combine: 'sum' }),
  ReduceMean: reduceOp(18, { name: 'reduce_mean', combine: 'sum', finish: mean }),
  ReduceProd: reduceOp(18, { name: 'reduce_prod', combine: 'prod' }),
  ReduceMax: reduceOp(18, { name: 'reduce_max', combine: 'max' }),
  ReduceMin: reduceOp(18, { name: 'reduce_min', combine: 'min' }),
  ReduceL1: reduceOp(18, { name: 'reduce_l1', combine: 'sum', body: (x) => op('abs', x) }),
  ReduceL2: reduceOp(18, { name: 'reduce_l2', combine: 'sum', body: square, finish: (x) => op('sqrt', x) }),
  ReduceSumSquare: reduceOp(18, { name: 'reduce_sumsquare', combine: 'sum', body: square }),
  ReduceLogSum: reduceOp(18, { name: 'reduce_logsum', combine: 'sum', finish: (x) => op('log', x) }),
  ReduceLogSumExp: reduceOp(18, { name: 'reduce_logsumexp', combine: 'sum', finish: (x) => op('log', x) }),
  ArgMax: argOp('max'),
  ArgMin: argOp('min'),
  Softmax: rowwise('softmax', softmax),
  LogSoftmax: rowwise('log_softmax', logSoftmax),
  Hardmax: rowwise('hardmax', hardmax),
  CumSum: cumulative('sum'),
  CumProd: cumulative('prod'),
  LpNormalization: lpNormalization,
};
