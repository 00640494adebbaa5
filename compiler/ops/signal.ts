/**
 * @file Window functions of signal processing: tables that are known at compile time.
 */
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import { isFloat } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { dtypeAttribute } from './convert.ts';
import { known } from './shape.ts';

/** A sum of cosines: c0 - c1 cos(x) + c2 cos(2x), with x from 0 to a whole turn. */
const cosines = (...coefficients: readonly number[]): OpRule =>
  known((node: NodeView): Tensor => {
    const size = node.numbers(0)?.[0] ?? 0;
    node.require(size > 0 && size <= 2 ** 24, `size ${size}`);
    const dtype = dtypeAttribute(node, 'output_datatype', 'f32');
    node.require(isFloat(dtype), `element type ${dtype}`);
    const turn = node.int('periodic', 1) !== 0 ? size : size - 1;
    const at = (i: number): number =>
      coefficients.reduce((sum, c, k) => sum + (-1) ** k * c * Math.cos((2 * Math.PI * k * i) / turn), 0);
    return tensorOf(
      dtype,
      [size],
      Array.from({ length: size }, (_, i) => at(i)),
    );
  });

export const signalOps: OpFamily = {
  HannWindow: cosines(0.5, 0.5),
  HammingWindow: cosines(25 / 46, 21 / 46),
  BlackmanWindow: cosines(0.42, 0.5, 0.08),
};
