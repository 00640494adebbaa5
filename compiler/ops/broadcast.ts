/**
 * @file Broadcasting: numpy's rules, which ONNX has since opset 7, and the explicit `broadcast` and `axis` attributes
 * from before.
 */
import { type AffineLike, affine, type Index } from '../../ir/affine.ts';
import type { NodeView } from '../node_view.ts';

/** The common shape of several under broadcasting; refuses shapes that do not fit. */
export function broadcastShape(node: NodeView, shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, d) => {
    const extents = shapes.map((s) => s[s.length - rank + d] ?? 1);
    const extent = extents.find((e) => e !== 1) ?? 1;
    node.require(
      extents.every((e) => e === 1 || e === extent),
      `shapes ${shapes.map((s) => `[${s}]`).join(' and ')} do not broadcast`,
    );
    return extent;
  });
}

/** Coordinates of the element of `shape` that stands at `at` of the broadcast result. */
export const broadcastAt = (shape: readonly number[], at: readonly Index[]): AffineLike[] =>
  shape.map((extent, d) => (extent === 1 ? affine(0) : at[at.length - shape.length + d]!));

/** The shapes of a node's inputs as broadcasting sees them, old attributes taken into account. */
export function operandShapes(node: NodeView): (readonly number[])[] {
  const shapes = node.inputTypes.map((t) => t.shape);
  if (node.opset >= 7 || shapes.length !== 2) return shapes;
  const broadcast = node.int('broadcast', 0) !== 0;
  const axis = node.int('axis');
  const [a, b] = shapes as [number[], number[]];
  if (!broadcast) {
    node.require(a.length === b.length && a.every((d, i) => d === b[i]), `shapes [${a}] and [${b}] differ`);
    return shapes;
  }
  if (axis === undefined) return shapes;
  // The second operand's dimensions stand at `axis` of the first's; ones follow.
  const after = a.length - node.axis(axis, a.length) - b.length;
  node.require(after >= 0, `shapes [${a}] and [${b}] do not broadcast at axis ${axis}`);
  return [a, [...b, ...new Array<number>(after).fill(1)]];
}
