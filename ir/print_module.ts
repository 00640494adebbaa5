/**
 * @file The text of a module: its values, then its kernels, each with the values it is called on.
 */
import { formatData, inlineElements } from './data.ts';
import type { Module } from './module.ts';
import { quote } from './names.ts';
import { printKernel } from './print.ts';
import { formatType } from './types.ts';

export interface PrintOptions {
  /** Constants of more elements are printed without their data. */
  readonly inline?: number;
}

export function printModule(module: Module, { inline = inlineElements }: PrintOptions = {}): string {
  const typed = (name: string): string => `${quote(name)}: ${formatType(module.types.get(name)!)}`;
  const lines = [
    ...module.inputs.map((name) => `input ${typed(name)}`),
    ...[...module.constants].map(([name, data]) => `constant ${typed(name)} = ${formatData(data, inline)}`),
    ...module.outputs.map((o) => `output ${quote(o.name)} = ${typed(o.value)}`),
  ];
  for (const call of module.calls) {
    const made = call.outputs.map(typed).join(', ');
    lines.push('', printKernel(call.kernel), `call (${call.inputs.map(quote).join(', ')}) -> (${made})`);
  }
  return [`module ${quote(module.name)} {`, indented(lines.join('\n')), '}'].join('\n');
}

/** Each line that is not empty moved in by two. */
export const indented = (text: string): string => text.replace(/^(?=.)/gm, '  ');
