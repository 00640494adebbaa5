/**
 * @file Kernels of one class as slots of one word, a tenant each: how kernels are run by themselves.
 */
import type { Tier } from '../../ir/class.ts';
import type { TensorsByTenant } from '../../ir/interpret_program.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Module } from '../../ir/module.ts';
import type { Program } from '../../ir/program.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { coalesce } from '../../passes/coalesce.ts';
import { constrain } from '../../passes/constrain.ts';
import { linkModules } from '../../passes/link.ts';
import type { Way } from './ways.ts';

export interface WordOptions {
  readonly tier?: Tier;
  /** Physical blocks of each slot; by default all. */
  readonly blocks?: number;
}

/** Runs scheduled kernels of one class, each on its tenant's inputs, all in one word. */
export async function runKernels(
  way: Way,
  kernels: readonly Kernel[],
  tenants: readonly (readonly Tensor[])[],
  options: WordOptions = {},
): Promise<Tensor[][]> {
  const program = oneWord(kernels, way.target, options);
  await way.prepare([program]);
  return runWord(way, program, kernels, tenants);
}

/** Runs a prepared program that `oneWord` made of the kernels. */
export async function runWord(
  way: Way,
  program: Program,
  kernels: readonly Kernel[],
  tenants: readonly (readonly Tensor[])[],
): Promise<Tensor[][]> {
  const inputs: TensorsByTenant = new Map(
    kernels.map((kernel, t) => [
      tenantName(t),
      new Map(kernel.inputs.map((b, n) => [b.name, { ...tenants[t]![n]!, shape: b.shape }])),
    ]),
  );
  const outputs = await way.run(program, inputs);
  return kernels.map((_, t) => [...outputs.get(tenantName(t))!.values()]);
}

const tenantName = (t: number): string => `tenant ${t}`;

/** One word of one slot a kernel. Throws if the verifier refuses a kernel, or if they are of several classes. */
export function oneWord(
  kernels: readonly Kernel[],
  target: string,
  { tier = 'generic', blocks }: WordOptions = {},
): Program {
  for (const k of kernels) {
    const problems = verifyKernel(k);
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }
  const modules = new Map(kernels.map((k) => [k, moduleOf(k)]));
  const linked = linkModules(
    kernels.map((kernel, t) => ({ name: tenantName(t), module: modules.get(kernel)! })),
    target,
  );
  const words = coalesce(linked.tenants, tier);
  if (words.length !== 1) throw new Error('the kernels are of several classes');
  return { ...linked, words: blocks === undefined ? words : constrain(words, blocks) };
}

/** A module that calls the kernel once. */
export const moduleOf = (kernel: Kernel): Module => ({
  name: kernel.name,
  types: new Map(
    [...kernel.inputs, ...kernel.outputs].map(({ name, dtype, shape }) => [name, { dtype, shape }]),
  ),
  constants: new Map(),
  inputs: kernel.inputs.map((b) => b.name),
  outputs: kernel.outputs.map((b) => ({ name: b.name, value: b.name })),
  calls: [{ kernel, inputs: kernel.inputs.map((b) => b.name), outputs: kernel.outputs.map((b) => b.name) }],
});
