/**
 * @file What a text of the IR holds: kernels, modules and programs, in any number and order.
 */
import { ElidedTensor, inlineElements } from './data.ts';
import type { Kernel } from './kernel.ts';
import type { Module } from './module.ts';
import { printKernel } from './print.ts';
import { type PrintOptions, printModule } from './print_module.ts';
import { printProgram } from './print_program.ts';
import type { Problem } from './problem.ts';
import type { Program } from './program.ts';
import type { Target } from './target.ts';
import { kernelProblems } from './verify.ts';
import { moduleProblems } from './verify_module.ts';
import { programProblems } from './verify_program.ts';

export type Item =
  | { readonly kind: 'kernel'; readonly kernel: Kernel }
  | { readonly kind: 'module'; readonly module: Module }
  | { readonly kind: 'program'; readonly program: Program };

export function printItem(item: Item, options: PrintOptions = {}): string {
  switch (item.kind) {
    case 'kernel':
      return printKernel(item.kernel);
    case 'module':
      return printModule(item.module, options);
    case 'program':
      return printProgram(item.program, options);
    default:
      return item satisfies never;
  }
}

/** The text of a file of items. */
export const printItems = (items: readonly Item[], options: PrintOptions = {}): string =>
  items.map((item) => `${printItem(item, options)}\n`).join('\n');

/** How to print what was read, and what passes made of it: constants that stood in full stay so. */
export function asRead(items: readonly Item[]): PrintOptions {
  const tensors = items.flatMap((item) => {
    if (item.kind === 'kernel') return [];
    if (item.kind === 'module') return [...item.module.constants.values()];
    return item.program.tenants.flatMap((t) => t.model.weights.map((w) => w.tensor));
  });
  const full = tensors.filter((t) => !(t instanceof ElidedTensor));
  return { inline: full.reduce((most, t) => Math.max(most, t.data.length), inlineElements) };
}

/** The broken laws of an item. A program knows its own target. */
export function itemProblems(item: Item, target?: Target): Problem[] {
  switch (item.kind) {
    case 'kernel':
      return kernelProblems(item.kernel, target);
    case 'module':
      return moduleProblems(item.module, target);
    case 'program':
      return programProblems(item.program);
    default:
      return item satisfies never;
  }
}
