/**
 * @file Pooling: a reduction over a sliding window, or over everything.
 */
import { type Affine, add, affine, type Index, index, mul } from '../../ir/affine.ts';
import { cast, constant, indexValue, load, op, reduce, store, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { combiners } from '../../ir/ops.ts';
import { tensorOf } from '../../ir/tensor.ts';
import { dtypes, elementCount } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { like, powerOf } from './scalar.ts';
import { type Window, windowOf } from './window.ts';

function poolWindow(node: NodeView): Window {
  const x = node.shape(0);
  const kernel = node.ints('kernel_shape');
  node.require(x.length >= 3 && kernel !== undefined, `shape [${x}] or no kernel_shape`);
  return windowOf(node, x.slice(2), kernel!);
}

/** Where a window position reads: its spatial coordinates, and whether they may lie outside. */
function windowAt(window: Window, spatial: readonly number[], at: readonly Index[]) {
  const over = window.map((d, i) => index(`k${i}`, d.kernel));
  const inside = window.map(
    (d, i): Affine => add(mul(at[i]!, d.stride), mul(over[i]!, d.dilation), -d.padBegin),
  );
  return { over, inside, outside: window.some((d, i) => leavesBounds(d, spatial[i]!)) };
}

const leavesBounds = (d: Window[number], extent: number): boolean =>
  d.padBegin > 0 || (d.out - 1) * d.stride + (d.kernel - 1) * d.dilation - d.padBegin >= extent;

function inferPool(node: NodeView, takes: (kind: string) => boolean) {
  const { dtype, shape } = node.type(0);
  node.require(takes(dtypes[dtype].kind), `element type ${dtype}`);
  const window = poolWindow(node);
  return { dtype, shape: [shape[0]!, shape[1]!, ...window.map((d) => d.out)] };
}

const maxPool: OpRule = {
  infer(node) {
    const type = inferPool(node, (kind) => kind !== 'bool');
    node.require(node.int('storage_order', 0) === 0 || node.output(1) === '', 'column-major indices');
    return [type, { dtype: 'i64', shape: type.shape }];
  },
  lower(node, out) {
    const window = poolWindow(node);
    const spatial = node.shape(0).slice(2);
    const outputs = node.node.outputs.filter((name) => name !== '');
    out.emit(node, 'max_pool', [node.input(0)], outputs, ([x], ys) => {
      const domain = domainOf(ys[0]!.shape);
      const at = domain.slice(2);
      const lowest = combiners.max.start(x!.dtype);
      const element = () => {
        const { over, inside, outside } = windowAt(window, spatial, at);
        return {
          over,
          inside,
          value: load(x!, [domain[0]!, domain[1]!, ...inside], outside ? lowest : undefined),
        };
      };
      const first = element();
      const top = reduce('max', first.over, widen(first.value));
      const stores = ys.map((y, i) => {
        const isIndices = outputs[i] !== node.output(0);
        return store(
          y,
          domain,
          isIndices ? cast('i64', indexOf(element(), domain, top)) : cast(y.dtype, top),
        );
      });
      return { domain, stores };
    });

    /** The first position (numbered through the whole tensor) where the window has its maximum. */
    function indexOf(
      { over, inside, value }: { over: Index[]; inside: Affine[]; value: Expr },
      [batch, channel]: Index[],
      top: Expr,
    ): Expr {
      const [n, c] = node.shape(0);
      // Which of several equal elements counts must not be one in the padding.
      const real = inside.map((a, d) => {
        const here = indexValue(a);
        return op('and', op('le', constant('i32', 0), here), op('lt', here, constant('i32', spatial[d]!)));
      });
      const hit = [op('eq', widen(value), top), ...real].reduce((a, b) => op('and', a, b));
      const within = inside.reduce((sum, a, d) => add(mul(sum, spatial[d]!), a), affine(0));
      const none = constant('i32', 2 ** 31 - 1);
      const best = reduce('min', over, op('select', hit, indexValue(within), none));
      const plane = add(mul(batch!, c!), channel!);
      node.require(n! * c! * elementCount(spatial) < 2 ** 31, 'indices beyond 32 bits');
      return op('add', best, indexValue(mul(plane, elementCount(spatial))));
    }
  },
};

const letters = (rank: number): string[] => [
  'n',
  'c',
  ...(rank - 2 <= 3
    ? ['od', 'oh', 'ow'].slice(-(rank - 2))
    : Array.from({ length: rank - 2 }, (_, d) => `o${d}`)),
];

const domainOf = (shape: readonly number[]): Index[] => {
  const names = letters(shape.length);
  return shape.map((extent, d) => index(names[d]!, extent));
};

/** How many elements a window position averages over, per dimension. */
function averageCounts(d: Window[number], extent: number, includePad: boolean): number[] {
  return Array.from({ length: d.out }, (_, o) => {
    let count = 0;
    for (let k = 0; k < d.kernel; k++) {
      const at = o * d.stride + k * d.dilation - d.padBegin;
      // A window hanging over the padded end (ceil_mode) never counts what is beyond.
      const low = includePad ? -d.padBegin : 0;
      const high = includePad ? extent + d.padEnd : extent;
      if (at >= low && at < high) count++;
    }
    return count;
  });
}

const averagePool: OpRule = {
  infer(node) {
    node.int('count_include_pad', 0);
    return [inferPool(node, (kind) => kind === 'float')];
  },
  lower(node, out) {
    const window = poolWindow(node);
    const spatial = node.shape(0).slice(2);
    const includePad = node.int('count_include_pad', 0) !== 0;
    const counts = window.map((d, i) => averageCounts(d, spatial[i]!, includePad));
    // Only dimensions where the count varies need a table of it.
    const fixed = counts.reduce((n, c) => (isUniform(c) ? n * c[0]! : n), 1);
    const varying = counts.flatMap((c, d) => (isUniform(c) ? [] : [d]));
    const tables = varying.map((d) =>
      out.constant(`${node.output(0)}.count${d}`, tensorOf('f32', [counts[d]!.length], counts[d]!)),
    );
    out.emit(
      node,
      'average_pool',
      [node.input(0), ...tables],
      [node.output(0)],
      ([x, ...tableBuffers], [y]) => {
        const domain = domainOf(y!.shape);
        const at = domain.slice(2);
        const { over, inside, outside } = windowAt(window, spatial, at);
        const value = widen(load(x!, [domain[0]!, domain[1]!, ...inside], outside ? 0 : undefined));
        const count = tableBuffers.reduce<Expr>(
          (n, table, i) => op('mul', n, load(table, [at[varying[i]!]!])),
          constant('f32', fixed),
        );
        return {
          domain,
          stores: [store(y!, domain, cast(y!.dtype, op('div', reduce('sum', over, value), count)))],
        };
      },
    );
  },
};

const isUniform = (counts: readonly number[]): boolean => counts.every((c) => c === counts[0]);

/** LpPool: the p-norm of each window. */
const lpPool: OpRule = {
  infer(node) {
    node.require(node.int('p', 2) >= 1, `p ${node.int('p', 2)}`);
    return [inferPool(node, (kind) => kind === 'float')];
  },
  lower(node, out) {
    const window = poolWindow(node);
    const p = node.int('p', 2);
    out.emit(node, 'lp_pool', [node.input(0)], [node.output(0)], ([x], [y]) => {
      const domain = domainOf(y!.shape);
      const { over, inside, outside } = windowAt(window, node.shape(0).slice(2), domain.slice(2));
      const element = op(
        'abs',
        widen(load(x!, [domain[0]!, domain[1]!, ...inside], outside ? 0 : undefined)),
      );
      const sum = reduce('sum', over, powerOf(element, p) ?? op('pow', element, like(element, p)));
      const root = p === 1 ? sum : p === 2 ? op('sqrt', sum) : op('pow', sum, like(sum, 1 / p));
      return { domain, stores: [store(y!, domain, cast(y!.dtype, root))] };
    });
  },
};

/** Pooling over all of the spatial extent. */
const globalPool = (
  name: string,
  combine: 'sum' | 'max',
  finish: (acc: Expr, count: number) => Expr,
): OpRule => ({
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.ignore('consumed_inputs');
    node.require(
      dtypes[dtype].kind === 'float' && shape.length >= 3,
      `element type ${dtype}, shape [${shape}]`,
    );
    return [{ dtype, shape: shape.map((d, i) => (i < 2 ? d : 1)) }];
  },
  lower(node, out) {
    const shape = node.shape(0);
    const spatial = shape.slice(2);
    emitMap(
      node,
      out,
      name,
      [node.input(0)],
      ([x], at) => {
        const over = spatial.map((extent, d) => index(`s${d}`, extent));
        const acc = reduce(combine, over, widen(load(x!, [...at, ...over])));
        return finish(acc, elementCount(spatial));
      },
      { shapes: { [node.output(0)]: shape.slice(0, 2) } },
    );
  },
});

export const poolOps: OpFamily = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  LpPool: lpPool,
  GlobalAveragePool: globalPool('global_average_pool', 'sum', (acc, count) =>
    op('div', acc, like(acc, count)),
  ),
  GlobalMaxPool: globalPool('global_max_pool', 'max', (acc) => acc),
};
