/**
 * @file GridSample in two dimensions: reads an image at places that a grid of coordinates in -1 .. 1 says.
 */
import type { Index } from '../../ir/affine.ts';
import { cast, constant, load, op, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { isFloat } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { addTo, clamp, like, times } from './scalar.ts';

/** Modes by their names before and since opset 20. */
const modes = {
  bilinear: 'linear',
  linear: 'linear',
  nearest: 'nearest',
  bicubic: 'cubic',
  cubic: 'cubic',
} as const;

function modeOf(node: NodeView): 'linear' | 'nearest' | 'cubic' {
  const mode = node.string('mode', 'linear');
  node.require(Object.hasOwn(modes, mode), `mode ${mode}`);
  return modes[mode as keyof typeof modes];
}

/** A position along one dimension with its weight; a weight that is absent is 1. */
interface Tap {
  readonly at: Expr;
  readonly weight?: Expr;
}

/** The whole positions around x that count, and how much. */
function tapsOf(mode: 'linear' | 'nearest' | 'cubic', x: Expr): Tap[] {
  if (mode === 'nearest') return [{ at: op('round', x) }];
  const low = op('floor', x);
  const part = op('sub', x, low);
  const rest = op('sub', like(part, 1), part);
  if (mode === 'linear') {
    return [
      { at: low, weight: rest },
      { at: addTo(low, 1), weight: part },
    ];
  }
  const a = -0.75;
  // Keys' cubic, within one position and between one and two.
  const near = (t: Expr): Expr => addTo(op('mul', op('mul', addTo(times(t, a + 2), -(a + 3)), t), t), 1);
  const far = (t: Expr): Expr =>
    addTo(op('mul', addTo(op('mul', addTo(times(t, a), -5 * a), t), 8 * a), t), -4 * a);
  return [
    { at: addTo(low, -1), weight: far(addTo(part, 1)) },
    { at: low, weight: near(part) },
    { at: addTo(low, 1), weight: near(rest) },
    { at: addTo(low, 2), weight: far(addTo(rest, 1)) },
  ];
}

const gridSample: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const grid = node.shape(1);
    modeOf(node);
    node.ignore('align_corners');
    const padding = node.string('padding_mode', 'zeros');
    node.require(padding === 'zeros' || padding === 'border', `padding_mode ${padding}`);
    node.require(shape.length === 4 && grid.length === 4 && grid[3] === 2, `shapes [${shape}] and [${grid}]`);
    node.require(
      isFloat(dtype) && isFloat(node.type(1).dtype) && grid[0] === shape[0],
      `element type ${dtype}`,
    );
    return [{ dtype, shape: [shape[0]!, shape[1]!, grid[1]!, grid[2]!] }];
  },
  lower(node, out) {
    const mode = modeOf(node);
    const corners = node.int('align_corners', 0) !== 0;
    const border = node.string('padding_mode', 'zeros') === 'border';
    emitMap(node, out, `grid_sample_${mode}`, node.inputs, ([x, grid], at) => {
      const [n, c, row, column] = at as [Index, Index, Index, Index];
      const taps = [0, 1].map((d) => {
        // The grid holds x before y.
        const extent = x!.shape[3 - d]!;
        const given = widen(load(grid!, [n, row, column, d]));
        const unit = addTo(given, 1);
        const place = corners ? times(unit, (extent - 1) / 2) : times(addTo(times(unit, extent), -1), 0.5);
        const inside = border ? clamp(place, 0, extent - 1) : place;
        return tapsOf(mode, inside).map((tap) => ({
          ...tap,
          at: cast('i32', border ? clamp(tap.at, 0, extent - 1) : tap.at),
        }));
      });
      const terms = taps[1]!.flatMap((v) =>
        taps[0]!.map((h) => {
          const value = widen(load(x!, [n, c, v.at, h.at], 0));
          return v.weight && h.weight ? op('mul', op('mul', v.weight, h.weight), value) : value;
        }),
      );
      return terms.reduce((a, b) => op('add', a, b), constant('f32', 0));
    });
  },
};

export const gridSampleOps: OpFamily = { GridSample: gridSample };
