/**
 * @file The text of a module: its values, then its kernels, each with the values it is called on.
 */
import type { Module } from './module.ts';
import { printKernel } from './print.ts';
import { formatType } from './types.ts';

export function printModule(module: Module): string {
  const value = (name: string): string => JSON.stringify(name);
  const typed = (name: string): string => `${value(name)}: ${formatType(module.types.get(name)!)}`;
  const lines = [
    `module ${JSON.stringify(module.name)}`,
    ...module.inputs.map((name) => `input ${typed(name)}`),
    ...[...module.constants.keys()].map((name) => `constant ${typed(name)}`),
    ...module.outputs.map((o) => `output ${JSON.stringify(o.name)} = ${typed(o.value)}`),
  ];
  for (const call of module.calls) {
    lines.push(
      '',
      printKernel(call.kernel),
      `call (${call.inputs.map(value).join(', ')}) -> (${call.outputs.map(value).join(', ')})`,
    );
  }
  return lines.join('\n');
}
