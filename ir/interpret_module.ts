/**
 * @file The meaning of a module: its calls, interpreted in order.
 */
import { type InterpretOptions, interpretKernel } from './interpret.ts';
import type { Module } from './module.ts';
import { makeTensor, reshaped, type Tensor } from './tensor.ts';
import { formatType, sameShape } from './types.ts';

/**
 * Runs a module on tensors.
 * @param inputs by name; each of the type that the module says. Others are ignored.
 * @param disturbance see InterpretOptions.
 * @returns the outputs by name.
 */
export function interpretModule(
  module: Module,
  inputs: ReadonlyMap<string, Tensor>,
  disturbance: Pick<InterpretOptions, 'noise' | 'disturbRoundings'> = {},
): Map<string, Tensor> {
  const values = new Map(module.constants);
  for (const name of module.inputs) {
    const tensor = inputs.get(name);
    const type = module.types.get(name)!;
    if (!tensor) throw new TypeError(`input ${name} is missing`);
    if (tensor.dtype !== type.dtype || !sameShape(tensor.shape, type.shape)) {
      throw new TypeError(`input ${name} is ${formatType(type)}, got ${formatType(tensor)}`);
    }
    values.set(name, tensor);
  }
  // Values are dropped after their last use, so that large models fit into memory.
  const lastUse = new Map<string, number>();
  module.calls.forEach((call, at) => {
    for (const name of call.inputs) lastUse.set(name, at);
  });
  const kept = new Set(module.outputs.map((o) => o.value));
  module.calls.forEach((call, at) => {
    const made = interpretKernel(
      call.kernel,
      call.inputs.map((name) => values.get(name)!),
      disturbance,
    );
    made.forEach((tensor, i) => void values.set(call.outputs[i]!, tensor));
    for (const name of call.inputs) if (lastUse.get(name) === at && !kept.has(name)) values.delete(name);
  });
  return new Map(
    module.outputs.map(({ name, value }) => {
      const { dtype, shape } = module.types.get(value)!;
      return [name, reshaped(values.get(value) ?? makeTensor(dtype, shape), shape)];
    }),
  );
}
