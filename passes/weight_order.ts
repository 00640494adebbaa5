/**
 * @file The weight order pass, for contractions on the host: lays constant weights out with their positions (output channels, columns)
 * innermost, as a tile of them is. A row of the tile is then copied and not gathered, for every tile of pixels anew.
 */
import { asIndex } from '../ir/affine.ts';
import { contractionOf } from '../ir/contraction.ts';
import type { Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { type Relay, relayWeights } from './relay.ts';

/** Fewer positions do not fill a vector. */
const leastPositions = 8;

export const orderWeights = (module: Module, target: Target): Module =>
  target.kind === 'host' ? relayWeights(module, (call) => planOrder(call, module)) : module;

function planOrder({ kernel, inputs }: Call, module: Module): Relay | undefined {
  const contraction = contractionOf(kernel);
  if (!contraction) return undefined;
  for (const o of [contraction.a, contraction.b]) {
    const weights = o.load.buffer;
    const value = inputs[kernel.inputs.indexOf(weights)]!;
    const isReadOnce = inputs.filter((v) => v === value).length === 1;
    const [position, ...others] = o.positions.filter((i) => i.extent > 1);
    if (!isReadOnce || !module.constants.has(value)) continue;
    if (o.positionFast || !position || others.length > 0 || position.extent < leastPositions) continue;
    const d = o.at.findIndex((a) => asIndex(a) === position);
    if (d < 0) continue;
    return { value, weights, dims: [...o.at.keys()].filter((n) => n !== d).concat(d) };
  }
  return undefined;
}
