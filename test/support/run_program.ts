/**
 * @file Runs a program of the IR on a device, as the runtime does; the other side of comparisons with the interpreter.
 */
import { codeOfClasses } from '../../driver/code.ts';
import type { TensorsByTenant } from '../../ir/interpret_program.ts';
import { codeKey, type Program } from '../../ir/program.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { CodeCache } from '../../runtime/cache.ts';
import type { NativeDevice } from '../../runtime/native.ts';
import { type LoadedCode, LoadedProgram } from '../../runtime/program.ts';
import { toolchainOf } from '../../runtime/toolchain.ts';

/** Runs a program once for all its tenants, as `interpretProgram` does. It must be for the device's target. */
export async function runProgram(
  device: NativeDevice,
  program: Program,
  inputs: TensorsByTenant,
): Promise<Map<string, Map<string, Tensor>>> {
  const code = new Map<string, LoadedCode>();
  for (const word of program.words) {
    if (!code.has(codeKey(word))) code.set(codeKey(word), await load(device, program, word.classes));
  }
  const loaded = new LoadedProgram(device, program, code);
  try {
    const requests = [...inputs].map(([tenant, tensors]) => [tenant, Object.fromEntries(tensors)]);
    const { outputs } = await loaded.run(Object.fromEntries(requests));
    return new Map(
      Object.entries(outputs).map(([tenant, tensors]) => [tenant, new Map(Object.entries(tensors))]),
    );
  } finally {
    loaded.close();
  }
}

async function load(device: NativeDevice, program: Program, classes: readonly string[]): Promise<LoadedCode> {
  const { target } = program;
  const kernelClasses = classes.map((key) => program.classes.get(key)!);
  const { path, symbol, launch } = await codeOfClasses(
    kernelClasses,
    target,
    new CodeCache(),
    toolchainOf(target),
  );
  return { code: device.load(target === 'host' ? path : await CodeCache.read(path), symbol), launch };
}
