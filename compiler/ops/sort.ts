/**
 * @file TopK, by rank: an element's place in order is the number of elements that come before it.
 */
import { index } from '../../ir/affine.ts';
import { cast, indexValue, load, op, reduce, store, widen } from '../../ir/build.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { like } from './scalar.ts';

function planOf(node: NodeView): { axis: number; k: number } {
  const shape = node.shape(0);
  const axis = node.axis(node.int('axis', -1), shape.length);
  const k = node.opset < 10 ? node.int('k', 0) : (node.numbers(1)?.[0] ?? 0);
  node.require(k >= 0 && k <= shape[axis]!, `k ${k} of ${shape[axis]}`);
  // Sorted is what we always give.
  node.ignore('sorted', 'largest');
  return { axis, k };
}

const topK: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.require(dtypes[dtype].kind !== 'bool', `element type ${dtype}`);
    const { axis, k } = planOf(node);
    const to = shape.with(axis, k);
    return [
      { dtype, shape: to },
      { dtype: 'i64', shape: to },
    ];
  },
  lower(node, out) {
    const { axis } = planOf(node);
    const { shape } = node.type(0);
    const largest = node.opset < 11 || node.int('largest', 1) !== 0;
    const ranks = out.temporary(`${node.output(0) || node.output(1)}.rank`, { dtype: 'i32', shape });
    emitMap(
      node,
      out,
      'rank',
      [node.input(0)],
      ([x], at) => {
        const j = index('j', shape[axis]!);
        const [mine, other] = [load(x!, at), load(x!, at.with(axis, j))].map(widen);
        const ahead = largest ? op('lt', mine!, other!) : op('lt', other!, mine!);
        // Of equal elements the first comes first.
        const earlier = op('and', op('eq', mine!, other!), op('lt', indexValue(j), indexValue(at[axis]!)));
        return reduce('sum', [j], cast('i32', op('or', ahead, earlier)));
      },
      { output: ranks },
    );
    const outputs = [0, 1].filter((i) => node.output(i) !== '');
    out.emit(
      node,
      'top_k',
      [node.input(0), ranks],
      outputs.map((i) => node.output(i)),
      ([x, rank], ys) => {
        const domain = ys[0]!.shape.map((extent, d) => index(`i${d}`, extent));
        const stores = ys.map((y, n) => {
          const j = index('j', shape[axis]!);
          const at = domain.with(axis, j);
          const value = outputs[n] === 0 ? widen(load(x!, at)) : indexValue(j);
          const hit = op('eq', load(rank!, at), indexValue(domain[axis]!));
          // One element has the rank, so the sum is that element.
          const picked = reduce('sum', [j], op('select', hit, value, like(value, 0)));
          return store(y, domain, cast(y.dtype, picked));
        });
        return { domain, stores };
      },
    );
  },
};

export const sortOps: OpFamily = { TopK: topK };
