/**
 * @file The plainest kernel there is: one value at every element of an output. Most operators lower to it.
 */
import type { Index } from '../../ir/affine.ts';
import { cast, indicesFor, store } from '../../ir/build.ts';
import type { Buffer, Expr } from '../../ir/kernel.ts';
import type { NodeView } from '../node_view.ts';
import type { Lowering } from '../rules.ts';

export interface MapOptions {
  /** The value to make; the node's first output if not given. */
  readonly output?: string;
  /** For inputs and outputs (by value name) the shape that the kernel sees, if not the value's own. */
  readonly shapes?: { readonly [value: string]: readonly number[] };
}

/** Emits a kernel that stores `value`, cast to the output's type, at each element of one output. */
export function emitMap(
  node: NodeView,
  out: Lowering,
  name: string,
  inputs: readonly string[],
  value: (inputs: Buffer[], at: Index[]) => Expr,
  { output = node.output(0), shapes = {} }: MapOptions = {},
): void {
  out.emit(
    node,
    name,
    inputs,
    [output],
    (xs, [y]) => {
      const domain = indicesFor(y!.shape);
      return { domain, stores: [store(y!, domain, cast(y!.dtype, value(xs, domain)))] };
    },
    shapes,
  );
}
