/**
 * @file From modules to a program: every kernel its classes, every value its place, every model a tenant. The words are those of time
 * multiplexing, a task each, one tenant after another; the coalesce pass makes them wide.
 */
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type KernelClass } from '../ir/class.ts';
import { kernelVariants } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { CompiledModel, Place, Port, Program, Task, Tenant, WiderVariant, Word } from '../ir/program.ts';
import { workOf } from '../ir/work.ts';
import { planMemory } from './plan_memory.ts';

/** A model for a target, with its kernels by class. */
export interface CompiledModule {
  readonly model: CompiledModel;
  readonly classes: ReadonlyMap<string, KernelClass>;
}

/** Places and classifies a module whose kernels all have a schedule. */
export function compileModule(module: Module, target: string): CompiledModule {
  const { places, scratch, weightBytes, arenaBytes } = planMemory(module);
  const classes = new Map<string, KernelClass>();
  const place = (value: string): Place => places.get(value)!;
  const tasks = module.calls.map((call, n): Task => {
    const variants = kernelVariants(call.kernel).map(({ from, kernel }, v): WiderVariant => {
      const generic = classOf(kernel, 'generic');
      const specialised = classOf(kernel, 'specialised');
      for (const c of [generic, specialised]) if (!classes.has(c.key)) classes.set(c.key, c);
      return {
        from,
        classes: { generic: generic.key, specialised: specialised.key },
        sizes: generic.sizes.values,
        blocks: virtualBlocks(kernel),
        work: workOf(kernel),
        operands: [...[...call.inputs, ...call.outputs].map(place), ...scratch[n]![v]!],
      };
    });
    const [{ from: _, ...first }, ...wider] = variants as [WiderVariant, ...WiderVariant[]];
    const { name, loc } = call.kernel;
    return { name, ...first, ...(wider.length > 0 && { wider }), loc };
  });
  const port = (name: string, value: string): Port => ({
    name,
    ...module.types.get(value)!,
    place: place(value),
  });
  const model: CompiledModel = {
    name: module.name,
    target,
    inputs: module.inputs.map((name) => port(name, name)),
    outputs: module.outputs.map(({ name, value }) => port(name, value)),
    tasks,
    weights: [...module.constants].map(([name, tensor]) => ({ name, offset: place(name).offset, tensor })),
    weightBytes,
    arenaBytes,
  };
  return { model, classes };
}

/** Tenants, one for each named module, as a program. A module given twice is compiled once. */
export function linkModules(
  tenants: readonly { readonly name: string; readonly module: Module }[],
  target: string,
): Program {
  const compiled = new Map<Module, CompiledModule>();
  for (const { module } of tenants)
    if (!compiled.has(module)) compiled.set(module, compileModule(module, target));
  const linked = tenants.map(({ name, module }): Tenant => ({ name, model: compiled.get(module)!.model }));
  return {
    target,
    classes: new Map([...compiled.values()].flatMap((c) => [...c.classes])),
    tenants: linked,
    words: linked.flatMap(({ model }, tenant) => model.tasks.map((task, n) => wordOf(task, tenant, n))),
  };
}

const wordOf = (task: Task, tenant: number, n: number): Word => ({
  tier: 'generic',
  classes: [task.classes.generic],
  slots: [{ tenant, task: n, body: 0, blocks: task.blocks }],
});
