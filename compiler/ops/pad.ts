/**
 * @file Pad: constant, edge, reflected or wrapped elements around (or, with negative pads, less of) a tensor.
 */
import { add, affine, type Index, mod } from '../../ir/affine.ts';
import { constant, indexValue, load, op } from '../../ir/build.ts';
import type { Buffer, Expr } from '../../ir/kernel.ts';
import { tensorOf } from '../../ir/tensor.ts';
import type { NodeView } from '../node_view.ts';
import type { Lowering, OpFamily, OpRule } from '../rules.ts';
import { scalarOf } from './convert.ts';
import { emitMap } from './map.ts';

interface Pads {
  readonly begin: readonly number[];
  readonly end: readonly number[];
}

function padsOf(node: NodeView): Pads {
  const rank = node.shape(0).length;
  const given =
    node.opset < 2 ? node.ints('paddings') : node.opset < 11 ? node.ints('pads') : node.numbers(1);
  const axes =
    (node.opset >= 18 ? node.numbers(3) : undefined)?.map((a) => node.axis(a, rank)) ??
    node.shape(0).map((_, d) => d);
  node.require(given?.length === 2 * axes.length, `pads [${given ?? ''}] for axes [${axes}]`);
  const begin = new Array<number>(rank).fill(0);
  const end = new Array<number>(rank).fill(0);
  axes.forEach((axis, i) => {
    begin[axis] = given![i]!;
    end[axis] = given![i + axes.length]!;
  });
  return { begin, end };
}

/** The position in 0 .. extent-1 that a padded position stands for. */
const sources: { readonly [mode: string]: (at: number, extent: number) => number } = {
  edge: (at, extent) => Math.min(Math.max(at, 0), extent - 1),
  wrap: (at, extent) => ((at % extent) + extent) % extent,
  reflect(at, extent) {
    if (extent === 1) return 0;
    const period = 2 * (extent - 1);
    const phase = ((at % period) + period) % period;
    return Math.min(phase, period - phase);
  },
};

const pad: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const { begin, end } = padsOf(node);
    const mode = node.string('mode', 'constant');
    node.require(mode === 'constant' || Object.hasOwn(sources, mode), `mode ${mode}`);
    if (mode === 'constant' && node.has(2)) {
      node.require(
        node.type(2).dtype === dtype && node.shape(2).every((d) => d === 1),
        'a pad value that is no scalar of its type',
      );
    }
    const padded = shape.map((d, i) => d + begin[i]! + end[i]!);
    node.require(
      padded.every((d) => d >= 0),
      `pads [${begin}], [${end}] of [${shape}]`,
    );
    node.require(!shape.includes(0), 'an input without elements');
    return [{ dtype, shape: padded }];
  },
  lower(node, out) {
    const mode = node.string('mode', 'constant');
    if (mode === 'constant') padConstant(node, out);
    else padByTable(node, out, sources[mode]!);
  },
};

function padConstant(node: NodeView, out: Lowering): void {
  const { begin } = padsOf(node);
  const known = node.has(2) && node.opset >= 11 ? node.constant(2) : undefined;
  const attribute = node.opset < 11 ? node.float('value', 0) : 0;
  const atRunTime = node.opset >= 11 && node.has(2) && !known;
  const value = known ? node.knownNumbers(2)[0]! : attribute;
  const from = (at: readonly Index[]) => at.map((a, d) => add(a, -begin[d]!));
  if (!atRunTime) {
    emitMap(node, out, 'pad', [node.input(0)], ([x], at) => load(x!, from(at), value));
    return;
  }
  emitMap(node, out, 'pad', [node.input(0), node.input(2)], ([x, filler], at) => {
    const inside = from(at)
      .map((a, d) => {
        const here = indexValue(a);
        return op('and', op('le', constant('i32', 0), here), op('lt', here, constant('i32', x!.shape[d]!)));
      })
      .reduce<Expr>((a, b) => op('and', a, b), constant('i1', 1));
    return op('select', inside, load(x!, from(at), 0), scalarOf(filler!));
  });
}

/** Reads through a table of positions for each padded dimension; whole wraps are remainders. */
function padByTable(node: NodeView, out: Lowering, source: (at: number, extent: number) => number): void {
  const { begin, end } = padsOf(node);
  const shape = node.shape(0);
  const wraps = node.string('mode', '') === 'wrap';
  const padded = shape.map((_, d) => begin[d] !== 0 || end[d] !== 0);
  const tables = shape.map((extent, d) => {
    if (!padded[d] || wraps) return undefined;
    const length = extent + begin[d]! + end[d]!;
    const positions = Array.from({ length }, (_, i) => source(i - begin[d]!, extent));
    return out.constant(`${node.output(0)}.from${d}`, tensorOf('i32', [length], positions));
  });
  const names = tables.filter((t) => t !== undefined);
  emitMap(node, out, 'pad', [node.input(0), ...names], ([x, ...buffers], at) => {
    const tableOf = (d: number): Buffer => buffers[names.indexOf(tables[d]!)]!;
    const from = at.map((a, d) => {
      if (!padded[d]) return affine(a);
      return wraps ? mod(add(a, -begin[d]!), shape[d]!) : load(tableOf(d), [a]);
    });
    return load(x!, from, names.length > 0 ? 0 : undefined);
  });
}

export const padOps: OpFamily = { Pad: pad };
