/**
 * @file Resize and Upsample. Where an output element reads and how much each place weighs depends on its position
 * only, so both become constant tables, one pair a dimension; the kernel sums over the taps.
 */
import { type AffineLike, floordiv, type Index, index } from '../../ir/affine.ts';
import { cast, constant, load, op, reduce, store, widen } from '../../ir/build.ts';
import { tensorOf } from '../../ir/tensor.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { Lowering, OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { coordinate, cubicTaps, linearTaps, nearestTap, type Taps } from './resize_taps.ts';

interface ResizeDim {
  readonly from: number;
  readonly to: number;
  readonly scale: number;
}

interface Plan {
  readonly mode: string;
  readonly dims: readonly ResizeDim[];
}

const modes = ['nearest', 'linear', 'cubic'];
const transforms = [
  'half_pixel',
  'half_pixel_symmetric',
  'pytorch_half_pixel',
  'align_corners',
  'asymmetric',
];

/** Sizes and scales, wherever the opset keeps them. */
function planOf(node: NodeView): Plan {
  const shape = node.shape(0);
  const isUpsample = node.node.op === 'Upsample';
  const mode = node.string('mode', 'nearest');
  node.require(modes.includes(mode), `mode ${mode}`);
  node.require(node.int('antialias', 0) === 0, 'antialias');
  const axes = node.ints('axes')?.map((a) => node.axis(a, shape.length)) ?? shape.map((_, d) => d);
  const old = isUpsample || node.opset < 11;
  const scales = isUpsample && node.opset < 9 ? node.ints('scales') : list(node, old ? 1 : 2);
  const sizes = old ? undefined : list(node, 3);
  node.require((scales === undefined) !== (sizes === undefined), 'scales and sizes, or neither');
  node.require((scales ?? sizes)!.length === axes.length, 'scales or sizes of another rank');
  const policy = node.string('keep_aspect_ratio_policy', 'stretch');
  node.require(policy === 'stretch' || sizes !== undefined, `keep_aspect_ratio_policy ${policy}`);
  node.require(
    ['stretch', 'not_larger', 'not_smaller'].includes(policy),
    `keep_aspect_ratio_policy ${policy}`,
  );
  const ratios = sizes?.map((s, i) => s / shape[axes[i]!]!);
  const kept = policy === 'stretch' ? undefined : Math[policy === 'not_larger' ? 'min' : 'max'](...ratios!);
  const dims = shape.map((from, d): ResizeDim => {
    const i = axes.indexOf(d);
    if (i < 0) return { from, to: from, scale: 1 };
    if (kept !== undefined) {
      // Halves round up, as the reference implementation has it.
      return { from, to: Math.floor(kept * from + 0.5), scale: kept };
    }
    if (sizes) return { from, to: sizes[i]!, scale: ratios![i]! };
    return { from, to: Math.floor(from * scales![i]!), scale: scales![i]! };
  });
  node.require(
    dims.every((d) => d.scale > 0 && d.to > 0 && d.from > 0),
    'a size or scale that is not positive',
  );
  return { mode, dims };
}

/** An optional list input; an empty one is as good as none. */
function list(node: NodeView, i: number): readonly number[] | undefined {
  const values = node.numbers(i);
  return values?.length === 0 ? undefined : values;
}

/** The taps of every output position of a dimension. */
function tapsOf(node: NodeView, mode: string, dim: ResizeDim): Taps[] {
  const old = node.node.op === 'Upsample' || node.opset < 11;
  const transform = old ? 'asymmetric' : node.string('coordinate_transformation_mode', 'half_pixel');
  const rounding = old ? 'floor' : node.string('nearest_mode', 'round_prefer_floor');
  const a = node.float('cubic_coeff_a', -0.75);
  const excludeOutside = node.int('exclude_outside', 0) !== 0;
  return Array.from({ length: dim.to }, (_, o) => {
    const x = coordinate(transform, o, dim.scale, dim.from, dim.to);
    if (mode === 'nearest') return nearestTap(rounding, x, dim.from);
    if (mode === 'linear') return linearTaps(x, dim.from);
    return cubicTaps(x, dim.from, a, excludeOutside);
  });
}

const resize: OpRule = {
  infer(node) {
    const { dtype } = node.type(0);
    const { mode, dims } = planOf(node);
    node.ignore('extrapolation_value');
    const transform = node.string('coordinate_transformation_mode', 'half_pixel');
    node.require(transforms.includes(transform), `coordinate_transformation_mode ${transform}`);
    const rounding = node.string('nearest_mode', 'round_prefer_floor');
    node.require(
      ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'].includes(rounding),
      `nearest_mode ${rounding}`,
    );
    node.ignore('cubic_coeff_a', 'exclude_outside');
    node.require(mode === 'nearest' || dtypes[dtype].kind === 'float', `element type ${dtype}`);
    return [{ dtype, shape: dims.map((d) => d.to) }];
  },
  lower(node, out) {
    const { mode, dims } = planOf(node);
    if (dims.every((d) => d.scale === 1 && d.from === d.to)) return out.view(node.output(0), node.input(0));
    if (mode === 'nearest') nearest(node, out, dims);
    else weighted(node, out, mode, dims);
  },
};

/** A factor f such that position o reads o / f (rounded down), as plain enlarging does. */
function wholeFactor(positions: readonly number[], from: number): number | undefined {
  const f = positions.length / from;
  return Number.isInteger(f) && positions.every((p, o) => p === Math.floor(o / f)) ? f : undefined;
}

function nearest(node: NodeView, out: Lowering, dims: readonly ResizeDim[]): void {
  const positions = dims.map((dim) => tapsOf(node, 'nearest', dim).map((t) => t[0]!.at));
  const factors = dims.map((dim, d) => wholeFactor(positions[d]!, dim.from));
  const tables = dims.map((dim, d) =>
    factors[d] === undefined
      ? out.constant(`${node.output(0)}.from${d}`, tensorOf('i32', [dim.to], positions[d]!))
      : '',
  );
  const names = tables.filter((t) => t !== '');
  emitMap(node, out, 'resize_nearest', [node.input(0), ...names], ([x, ...buffers], at) => {
    const from = at.map((a, d) =>
      factors[d] === undefined ? load(buffers[names.indexOf(tables[d]!)]!, [a]) : floordiv(a, factors[d]!),
    );
    return load(x!, from, names.length > 0 ? 0 : undefined);
  });
}

function weighted(node: NodeView, out: Lowering, mode: string, dims: readonly ResizeDim[]): void {
  const resized = dims.flatMap((d, i) => (d.scale === 1 && d.from === d.to ? [] : [i]));
  const taps = resized.map((d) => tapsOf(node, mode, dims[d]!));
  const table = (kind: 'at' | 'weight', d: number, i: number): string => {
    const count = Math.max(...taps[i]!.map((t) => t.length));
    const values = taps[i]!.flatMap((t) => Array.from({ length: count }, (_, k) => t[k]?.[kind] ?? 0));
    const tensor = tensorOf(kind === 'at' ? 'i32' : 'f32', [taps[i]!.length, count], values);
    return out.constant(`${node.output(0)}.${kind}${d}`, tensor);
  };
  const places = resized.map((d, i) => table('at', d, i));
  const weights = resized.map((d, i) => table('weight', d, i));
  out.emit(
    node,
    `resize_${mode}`,
    [node.input(0), ...places, ...weights],
    [node.output(0)],
    ([x, ...buffers], [y]) => {
      const domain = dims.map((d, i) => index(`i${i}`, d.to));
      const over = resized.map((d, i) => index(`t${d}`, buffers[i]!.shape[1]!));
      const weight = resized
        .map((d, i) => load(buffers[resized.length + i]!, [domain[d]!, over[i]!]))
        .reduce((a, b) => op('mul', a, b), constant('f32', 1));
      const from = domain.map((a: Index, d): AffineLike | ReturnType<typeof load> => {
        const i = resized.indexOf(d);
        return i < 0 ? a : load(buffers[i]!, [a, over[i]!]);
      });
      const sum = reduce('sum', over, op('mul', weight, widen(load(x!, from, 0))));
      return { domain, stores: [store(y!, domain, cast(y!.dtype, sum))] };
    },
  );
}

export const resizeOps: OpFamily = { Resize: resize, Upsample: resize };
