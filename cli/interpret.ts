/**
 * @file `wideword run FILE.ir --interpret`: the meaning of a text, without a device or a compiler. Kernels and modules run on seeded
 * random inputs; so does each tenant of a program, on its own bytes of memory.
 */
import { ElidedTensor } from '../ir/data.ts';
import { interpretKernel } from '../ir/interpret.ts';
import { interpretModule } from '../ir/interpret_module.ts';
import { interpretProgram } from '../ir/interpret_program.ts';
import type { Item } from '../ir/item.ts';
import { randomInput } from '../ir/random.ts';
import type { Tensor } from '../ir/tensor.ts';
import { formatType, type TensorType } from '../ir/types.ts';
import { readItems, readText } from './ir_text.ts';
import { exitCodes } from './output.ts';
import { formatOutput, topValues } from './values.ts';

export interface InterpretOptions {
  readonly seed: number;
  readonly top: number;
  readonly json: boolean;
}

/** What one kernel, module or tenant gave. */
export interface Interpreted {
  readonly name: string;
  readonly outputs: readonly { readonly name: string; readonly tensor: Tensor }[];
  /** How many constants the text had left out. */
  readonly elided: number;
}

export async function interpretTexts(paths: readonly string[], options: InterpretOptions): Promise<number> {
  const results: Interpreted[] = [];
  for (const path of paths) {
    const items = readItems(await readText(path), path === '-' ? '<stdin>' : path);
    for (const item of items) results.push(...interpretItem(item, options.seed + results.length));
  }
  console.log(
    options.json
      ? JSON.stringify({ results: results.map((r) => summary(r, options.top)) })
      : lines(results, options.top),
  );
  return exitCodes.ok;
}

const summary = ({ name, outputs, elided }: Interpreted, top: number): object => ({
  name,
  elided,
  outputs: outputs.map((o) => ({ name: o.name, type: formatType(o.tensor), top: topValues(o.tensor, top) })),
});

export const lines = (results: readonly Interpreted[], top: number): string =>
  results
    .flatMap(({ name, outputs, elided }) => [
      elided > 0 ? `${name} (${elided} constants are left out of the text: others stand in for them)` : name,
      ...outputs.map((o) => formatOutput(o.name, o.tensor, top)),
    ])
    .join('\n');

const countElided = (tensors: Iterable<Tensor>): number =>
  [...tensors].filter((t) => t instanceof ElidedTensor).length;

/** Runs one item; the n-th input is random by `seed` and n. */
export function interpretItem(item: Item, seed: number): Interpreted[] {
  const inputsOf = (
    ports: readonly (TensorType & { readonly name: string })[],
    at: number,
  ): Map<string, Tensor> => new Map(ports.map((p, i) => [p.name, randomInput(p, at * 31 + i)]));
  switch (item.kind) {
    case 'kernel': {
      const { name, inputs, outputs } = item.kernel;
      const tensors = interpretKernel(item.kernel, [...inputsOf(inputs, seed).values()]);
      return [{ name, elided: 0, outputs: outputs.map((b, n) => ({ name: b.name, tensor: tensors[n]! })) }];
    }
    case 'module': {
      const { name, inputs, types, constants } = item.module;
      const ports = inputs.map((value) => ({ name: value, ...types.get(value)! }));
      const outputs = interpretModule(item.module, inputsOf(ports, seed));
      return [{ name, elided: countElided(constants.values()), outputs: named(outputs) }];
    }
    case 'program': {
      const { tenants } = item.program;
      const inputs = new Map(tenants.map((t, n) => [t.name, inputsOf(t.model.inputs, seed + n)]));
      const outputs = interpretProgram(item.program, inputs, { seed });
      return tenants.map(({ name, model }) => ({
        name,
        elided: countElided(model.weights.map((w) => w.tensor)),
        outputs: named(outputs.get(name)!),
      }));
    }
    default:
      return item satisfies never;
  }
}

const named = (outputs: ReadonlyMap<string, Tensor>): Interpreted['outputs'] =>
  [...outputs].map(([name, tensor]) => ({ name, tensor }));
