/**
 * @file Operators that move elements to or from positions that data says. Negative positions count from the end; a read
 * from outside gives 0, since a kernel must never touch what is not its own.
 */
import { type AffineLike, add, affine, type Index, index, mul } from '../../ir/affine.ts';
import { cast, constant, indexValue, load, op, reduce, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { combiners } from '../../ir/ops.ts';
import { toNumbers } from '../../ir/tensor.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { isNegative, like } from './scalar.ts';

type At = (AffineLike | Expr)[];

/** A position as data gives it, counted from the end if negative. */
const wrapped = (position: Expr, extent: number): Expr =>
  op('select', isNegative(position), op('add', position, like(position, extent)), position);

function requireIndices(node: NodeView, i: number): void {
  const { dtype } = node.type(i);
  node.require(dtype === 'i32' || dtype === 'i64', `indices of type ${dtype}`);
}

const gather: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    const { dtype, shape } = node.type(0);
    const axis = node.axis(node.int('axis', 0), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...node.shape(1), ...shape.slice(axis + 1)] }];
  },
  lower(node, out) {
    const axis = node.axis(node.int('axis', 0), node.shape(0).length);
    const extent = node.shape(0)[axis]!;
    const rank = node.shape(1).length;
    const known = node.constant(1);
    const positions = known && toNumbers(known).map((p) => (p < 0 ? p + extent : p));
    const around = (at: readonly Index[], position: AffineLike | Expr): At => [
      ...at.slice(0, axis),
      position,
      ...at.slice(axis + rank),
    ];
    // Evenly spaced positions (one position above all) need no table.
    const first = positions?.[0] ?? 0;
    const step = positions && positions.length > 1 ? positions[1]! - first : 1;
    if (positions && rank <= 1 && positions.every((p, i) => p === first + i * step && p >= 0 && p < extent)) {
      emitMap(node, out, 'slice', [node.input(0)], ([x], at) =>
        load(x!, around(at, rank === 0 ? first : add(mul(at[axis]!, step), first))),
      );
      return;
    }
    emitMap(node, out, 'gather', [node.input(0), node.input(1)], ([x, indices], at) => {
      const position = load(indices!, at.slice(axis, axis + rank));
      const inside = positions?.every((p, i) => Number(known!.data[i]) === p);
      return load(x!, around(at, inside ? position : wrapped(position, extent)), 0);
    });
  },
};

const gatherElements: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    const { dtype, shape } = node.type(0);
    const indices = node.shape(1);
    const axis = node.axis(node.int('axis', 0), shape.length);
    node.require(
      indices.length === shape.length && indices.every((d, i) => i === axis || d <= shape[i]!),
      `shapes [${shape}] and [${indices}]`,
    );
    return [{ dtype, shape: indices }];
  },
  lower(node, out) {
    const axis = node.axis(node.int('axis', 0), node.shape(0).length);
    emitMap(node, out, 'gather_elements', [node.input(0), node.input(1)], ([x, indices], at) => {
      const position = wrapped(load(indices!, at), x!.shape[axis]!);
      return load(
        x!,
        at.map((a, d) => (d === axis ? position : a)),
        0,
      );
    });
  },
};

/** GatherND: the last dimension of the indices is a position in x, after the batch dimensions. */
const gatherND: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    const { dtype, shape } = node.type(0);
    const indices = node.shape(1);
    const batch = node.int('batch_dims', 0);
    const depth = indices.at(-1) ?? 0;
    node.require(
      batch >= 0 && batch < indices.length && batch + depth <= shape.length,
      `batch_dims ${batch}`,
    );
    node.require(
      shape.slice(0, batch).every((d, i) => d === indices[i]),
      `shapes [${shape}] and [${indices}]`,
    );
    return [{ dtype, shape: [...indices.slice(0, -1), ...shape.slice(batch + depth)] }];
  },
  lower(node, out) {
    const batch = node.int('batch_dims', 0);
    const depth = node.shape(1).at(-1)!;
    const outer = node.shape(1).length - 1;
    emitMap(node, out, 'gather_nd', [node.input(0), node.input(1)], ([x, indices], at) => {
      const positions = Array.from({ length: depth }, (_, d) =>
        wrapped(load(indices!, [...at.slice(0, outer), d]), x!.shape[batch + d]!),
      );
      return load(x!, [...at.slice(0, batch), ...positions, ...at.slice(outer)], depth > 0 ? 0 : undefined);
    });
  },
};

/** How Scatter joins an update with what is there. */
const joins = { none: undefined, add: 'sum', mul: 'prod', max: 'max', min: 'min' } as const;

function reductionOf(node: NodeView) {
  const name = node.string('reduction', 'none');
  node.require(Object.hasOwn(joins, name), `reduction ${name}`);
  return joins[name as keyof typeof joins];
}

/**
 * The value of an element that updates may hit: each output element goes through all updates that could. Without a
 * reduction the last one counts.
 */
function scattered(
  node: NodeView,
  old: Expr,
  over: readonly Index[],
  hit: Expr,
  update: (at: readonly (AffineLike | Expr)[]) => Expr,
): Expr {
  const combine = reductionOf(node);
  if (combine) {
    const { op: join, start } = combiners[combine];
    const value = widen(update(over));
    const body = op('select', hit, value, like(value, start(value.dtype)));
    return op(join, widen(old), reduce(combine, over, body));
  }
  // Updates are numbered in row-major order; 0 means that none hit.
  const number = over.reduce((n, i) => add(mul(n, i.extent), i), affine(0));
  const last = reduce('max', over, op('select', hit, indexValue(add(number, 1)), constant('i32', 0)));
  let rest = op('sub', last, constant('i32', 1));
  const at: Expr[] = [];
  for (const i of over.toReversed()) {
    at.unshift(op('rem', rest, constant('i32', i.extent)));
    rest = op('div', rest, constant('i32', i.extent));
  }
  return op('select', op('eq', last, constant('i32', 0)), old, update(at));
}

const scatterElements: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    checkScatter(node);
    const { dtype, shape } = node.type(0);
    node.axis(node.int('axis', 0), shape.length);
    const [indices, updates] = [node.shape(1), node.shape(2)];
    node.require(
      indices.length === shape.length &&
        indices.every((d, i) => d === updates[i]) &&
        updates.length === shape.length,
      `shapes [${shape}], [${indices}] and [${updates}]`,
    );
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const axis = node.axis(node.int('axis', 0), node.shape(0).length);
    emitMap(node, out, 'scatter_elements', node.inputs, ([x, indices, updates], at) => {
      const extent = x!.shape[axis]!;
      const j = index('j', indices!.shape[axis]!);
      const where = at.with(axis, j);
      // Beyond the indices' own shape nothing hits: `extent` is no position.
      const position = wrapped(load(indices!, where, extent), extent);
      const hit = op('eq', cast('i32', position), indexValue(at[axis]!));
      const old = load(x!, at);
      return scattered(node, old, [j], hit, ([p]) => load(updates!, (at as At).with(axis, p!), 0));
    });
  },
};

const scatterND: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    checkScatter(node);
    const { dtype, shape } = node.type(0);
    const indices = node.shape(1);
    const depth = indices.at(-1) ?? 0;
    const wanted = [...indices.slice(0, -1), ...shape.slice(depth)];
    const updates = node.shape(2);
    node.require(
      depth > 0 &&
        depth <= shape.length &&
        updates.length === wanted.length &&
        wanted.every((d, i) => d === updates[i]),
      `shapes [${shape}], [${indices}] and [${updates}]`,
    );
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const depth = node.shape(1).at(-1)!;
    emitMap(node, out, 'scatter_nd', node.inputs, ([x, indices, updates], at) => {
      const over = indices!.shape.slice(0, -1).map((extent, d) => index(`u${d}`, extent));
      const hits = Array.from({ length: depth }, (_, d) => {
        const position = wrapped(load(indices!, [...over, d]), x!.shape[d]!);
        return op('eq', cast('i32', position), indexValue(at[d]!));
      });
      const hit = hits.reduce((a, b) => op('and', a, b));
      const rest = at.slice(depth);
      const old = load(x!, at);
      if (over.length === 0) {
        return scattered(node, old, [index('u', 1)], hit, () => load(updates!, rest));
      }
      return scattered(node, old, over, hit, (p) => load(updates!, [...p, ...rest], 0));
    });
  },
};

function checkScatter(node: NodeView): void {
  const { dtype } = node.type(0);
  node.require(node.type(2).dtype === dtype, `updates of type ${node.type(2).dtype}`);
  node.require(
    reductionOf(node) === undefined || (dtype !== 'i1' && dtype !== 'i64'),
    `reduction of ${dtype}`,
  );
}

const oneHot: OpRule = {
  infer(node) {
    const depth = node.numbers(1)?.[0] ?? 0;
    const indices = node.type(0);
    const axis = node.axis(node.int('axis', -1), indices.shape.length, true);
    node.require(
      dtypes[indices.dtype].kind !== 'bool' && node.shape(2)[0] === 2,
      'indices or values of another kind',
    );
    node.require(Number.isInteger(depth) && depth > 0, `depth ${depth}`);
    return [{ dtype: node.type(2).dtype, shape: indices.shape.toSpliced(axis, 0, depth) }];
  },
  lower(node, out) {
    const axis = node.axis(node.int('axis', -1), node.shape(0).length, true);
    const depth = node.knownNumbers(1)[0]!;
    emitMap(node, out, 'one_hot', [node.input(0), node.input(2)], ([indices, values], at) => {
      const given = load(indices!, at.toSpliced(axis, 1));
      const position = cast('i32', given);
      const wrappedPosition = wrapped(position, depth);
      const on = op('eq', wrappedPosition, indexValue(at[axis]!));
      return op('select', on, load(values!, [1]), load(values!, [0]));
    });
  },
};

const reverseSequence: OpRule = {
  infer(node) {
    requireIndices(node, 1);
    const { batch, time } = sequenceAxes(node);
    const shape = node.shape(0);
    node.require(
      shape.length >= 2 && batch !== time && node.shape(1)[0] === shape[batch],
      `axes ${batch} and ${time}`,
    );
    return [node.type(0)];
  },
  lower(node, out) {
    const { batch, time } = sequenceAxes(node);
    emitMap(node, out, 'reverse_sequence', node.inputs, ([x, lengths], at) => {
      const length = cast('i32', load(lengths!, [at[batch]!]));
      const here = indexValue(at[time]!);
      const mirrored = op('sub', op('sub', length, constant('i32', 1)), here);
      const from = op('select', op('lt', here, length), mirrored, here);
      return load(
        x!,
        at.map((a, d) => (d === time ? from : a)),
        0,
      );
    });
  },
};

const sequenceAxes = (node: NodeView) => ({
  batch: node.int('batch_axis', 1),
  time: node.int('time_axis', 0),
});

export const gatherOps: OpFamily = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  Scatter: scatterElements,
  ScatterElements: scatterElements,
  ScatterND: scatterND,
  OneHot: oneHot,
  ReverseSequence: reverseSequence,
};
