/**
 * @file The text of programs: kernel classes, models with their memory plans and tasks, tenants, and words. It stands alone: reading
 * it gives a program that can be checked and interpreted.
 */
import { type KernelClass, openSizeNames } from './class.ts';
import { formatData, inlineElements } from './data.ts';
import { word as bareOrQuoted, quote, symbol, uniqueNames } from './names.ts';
import { formatLoc, printKernel } from './print.ts';
import { indented, type PrintOptions } from './print_module.ts';
import {
  type CompiledModel,
  type Place,
  type Program,
  type Slot,
  type Task,
  type Variant,
  variantIn,
  variantsOf,
  type Word,
} from './program.ts';
import { formatLaw, rowContract } from './row_contract.ts';
import { byteSize, formatType } from './types.ts';

export function printProgram(program: Program, { inline = inlineElements }: PrintOptions = {}): string {
  const models = [...new Set(program.tenants.map((t) => t.model))];
  const tier = tiersOf(program, models);
  const classesOfTask = (task: Task): KernelClass[] =>
    variantsOf(task).map((v) => classAt(program, v.classes[tier(task)]));
  const classes = new Set<KernelClass>();
  for (const model of models) for (const c of model.tasks.flatMap(classesOfTask)) classes.add(c);
  for (const word of program.words) for (const key of word.classes) classes.add(classAt(program, key));
  const name = uniqueNames((c: KernelClass) => c.kernel.name);
  const classSymbol = (c: KernelClass): string => symbol('@', name(c));

  const parts = [
    ...[...classes].map((c) => {
      const names = openSizeNames(c).map(bareOrQuoted);
      const sizes = names.length > 0 ? ` sizes (${names.join(', ')})` : '';
      // What the sizes must be follows from the kernel, so it is said to people only.
      const laws = rowContract(c).laws.map((law) => `; ${formatLaw(law, names)}\n`);
      return `class ${classSymbol(c)} ${c.tier}${sizes}\n${laws.join('')}${printKernel(c.kernel)}`;
    }),
    ...models.map((m, n) => printModel(m, n, inline, classesOfTask, classSymbol)),
    program.tenants.map((t) => `tenant ${quote(t.name)} = model ${models.indexOf(t.model)}`).join('\n'),
    ...program.words.map((w, n) => printWord(program, w, n, (key) => classSymbol(classAt(program, key)))),
  ].filter((part) => part !== '');
  return [`program target ${program.target} {`, indented(parts.join('\n\n')), '}'].join('\n');
}

function classAt(program: Program, key: string): KernelClass {
  const found = program.classes.get(key);
  if (!found) throw new Error(`the program has no kernel class ${key}`);
  return found;
}

/** A task is printed with its specialised class if no word runs it in another: then the class is there in any case. */
function tiersOf(program: Program, models: readonly CompiledModel[]): (task: Task) => keyof Task['classes'] {
  const specialised = new Set<Task>();
  const generic = new Set<Task>();
  for (const word of program.words) {
    for (const slot of word.slots) {
      const task = program.tenants[slot.tenant]!.model.tasks[slot.task]!;
      (word.tier === 'specialised' ? specialised : generic).add(task);
    }
  }
  const all = models.flatMap((m) => m.tasks);
  const only = new Set(all.filter((t) => specialised.has(t) && !generic.has(t)));
  return (task) => (only.has(task) ? 'specialised' : 'generic');
}

function printModel(
  model: CompiledModel,
  number: number,
  inline: number,
  classesOf: (task: Task) => KernelClass[],
  classSymbol: (c: KernelClass) => string,
): string {
  const value = (place: Place): string => symbol('%', place.value);
  const values = (places: readonly Place[]): string => `(${places.map(value).join(', ')})`;
  const at = (from: number, bytes: number): string => `at ${from}..${from + bytes}`;
  const places = new Map<string, Place>();
  for (const p of [...model.inputs, ...model.outputs]) places.set(p.place.value, p.place);
  for (const p of model.tasks.flatMap(variantsOf).flatMap((v) => v.operands)) places.set(p.value, p);
  const lines = [
    ...model.inputs.map((p) => `input ${quote(p.name)}: ${formatType(p)} = ${value(p.place)}`),
    ...model.outputs.map((p) => `output ${quote(p.name)}: ${formatType(p)} = ${value(p.place)}`),
    ...model.weights.map(({ name, offset, tensor }) => {
      const place = at(offset, byteSize(tensor));
      return `constant ${symbol('%', name)}: ${formatType(tensor)} ${place} = ${formatData(tensor, inline)}`;
    }),
    ...[...places.values()]
      .filter((p) => p.space === 'arena')
      .map((p) => `value ${value(p)} ${at(p.offset, p.bytes)}`),
    ...model.tasks.map((task, n) => {
      const [c, ...wider] = classesOf(task) as [KernelClass, ...KernelClass[]];
      const sizes = c.tier === 'generic' && task.sizes.length > 0 ? ` sizes (${task.sizes.join(', ')})` : '';
      const inputs = task.operands.slice(0, c.kernel.inputs.length);
      const buffers = c.kernel.inputs.length + c.kernel.outputs.length;
      const outputs = task.operands.slice(c.kernel.inputs.length, buffers);
      const run = ({ blocks, operands }: Variant, between = ''): string => {
        const parts = operands.slice(buffers);
        return `blocks ${blocks}${between}${parts.length > 0 ? ` scratch ${values(parts)}` : ''}`;
      };
      const loc = task.loc.length > 0 ? ` ${formatLoc(task.loc)}` : '';
      const others = (task.wider ?? []).map((w, v) => ` from ${w.from} ${classSymbol(wider[v]!)} ${run(w)}`);
      const first = run(task, ` ${values(inputs)} -> ${values(outputs)}`);
      return `task ${n} ${quote(task.name)} ${classSymbol(c)}${sizes} ${first}${others.join('')}${loc}`;
    }),
  ];
  const head = `model ${number} ${quote(model.name)} weights ${model.weightBytes} arena ${model.arenaBytes} {`;
  return [head, indented(lines.join('\n')), '}'].join('\n');
}

function printWord(program: Program, word: Word, n: number, classSymbol: (key: string) => string): string {
  const slot = (s: Slot): string => {
    const tenant = program.tenants[s.tenant]!;
    const { blocks } = variantIn(tenant.model.tasks[s.task]!, word, s)!;
    const range = s.range ? ` range ${s.range.from}..${s.range.to}` : '';
    const kernelClass = classSymbol(word.classes[s.body]!);
    return `  slot ${quote(tenant.name)} task ${s.task} ${kernelClass} blocks ${s.blocks} of ${blocks}${range}`;
  };
  const classes = word.classes.map(classSymbol).join(', ');
  return [`word @w${n} ${word.tier} (${classes}) {`, ...word.slots.map(slot), '}'].join('\n');
}
