/**
 * @file The checks behind a figure. A figure whose outputs are wrong is no figure, so a failed check ends the benchmark.
 */
import { compare } from '../../ir/compare.ts';
import { bytesOf } from '../../ir/tensor.ts';
import type { RoundResult } from '../../runtime/program.ts';
import { toleranceOf } from '../test_data.ts';
import type { BenchTenant, Reference } from './tenants.ts';

/** An output is not what it must be; the message says which, and by how much. */
export class CheckFailed extends Error {
  override readonly name = 'CheckFailed';
}

type Outputs = RoundResult['outputs'];

/**
 * Holds all tenants' outputs against the reference and gives the largest error, relative to the largest expected value. Throws
 * CheckFailed for the first output that is further off than its model's precision allows (or than `tolerance`).
 */
export function checkAgainst(
  reference: Reference,
  tenants: readonly BenchTenant[],
  outputs: Outputs,
  where: string,
  tolerance?: number,
): number {
  let largest = 0;
  for (const { name, model } of tenants) {
    const expected = reference.outputs.get(name)!;
    for (const port of model.outputs) {
      const want = expected[port.name];
      if (!want) throw new CheckFailed(`${where}: ${reference.by} gives ${name} no output '${port.name}'`);
      const c = compare(outputs[name]![port.name]!, want, tolerance ?? toleranceOf(model));
      if (!c.ok)
        throw new CheckFailed(
          `${where}: output '${port.name}' of ${name} is wrong: largest error ${c.largest.toExponential(1)} against ${reference.by}, allowed ${c.tolerance}`,
        );
      largest = Math.max(largest, c.largest);
    }
  }
  return largest;
}

/** Throws CheckFailed unless every output has the bits that its tenant gets alone. */
export function checkSameBits(alone: Outputs, outputs: Outputs, where: string): void {
  for (const [name, tensors] of Object.entries(alone)) {
    for (const [output, tensor] of Object.entries(tensors)) {
      const [a, b] = [bytesOf(tensor), bytesOf(outputs[name]![output]!)];
      if (Buffer.compare(a, b) !== 0)
        throw new CheckFailed(
          `${where}: output '${output}' of ${name} has other bits than when it runs alone`,
        );
    }
  }
}
