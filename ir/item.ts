/**
 * @file What a text of the IR holds: kernels, modules and programs, in any number and order.
 */
import type { Kernel } from './kernel.ts';
import type { Module } from './module.ts';
import { printKernel } from './print.ts';
import { printModule } from './print_module.ts';
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

/** What a text had in full stays in full. */
const everything = { inline: Number.POSITIVE_INFINITY };

export function printItem(item: Item): string {
  switch (item.kind) {
    case 'kernel':
      return printKernel(item.kernel);
    case 'module':
      return printModule(item.module, everything);
    case 'program':
      return printProgram(item.program, everything);
    default:
      return item satisfies never;
  }
}

/** The text of a file of items. */
export const printItems = (items: readonly Item[]): string =>
  items.map((item) => `${printItem(item)}\n`).join('\n');

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
