/**
 * @file The program verifier. Its laws:
 *   1. tenants have names of their own, and so have the inputs, and the outputs, of a model; the target is known;
 *   2. every class that no task has is sound as it stands; every task's kernel, at the task's sizes, is sound (verify.ts) and is of the task's class, so that code made for another member
 *      of the class may run it; its variants compute the same, on the same values, under schedules that one kernel may have
 *      (verify_schedule.ts);
 *   3. a task has its class's operands and scratch in place and size, and as many blocks as its kernel; outputs and scratch lie in the
 *      arena;
 *   4. every place lies in its tenant's memory, aligned; every value has one place; constants do not overlap, nor does anything
 *      overlap an input or output of the model, or scratch that keeps its zeros;
 *   5. a word has slots, and each of its classes once; its slots are of its classes, in its tier; a slot has between one block and as many as there are to run;
 *   6. each tenant's tasks run once, in order, every virtual block of one of their variants in one slot; a word that runs part of a task runs nothing else of
 *      the tenant that waits for it;
 *   7. every value is written before it is read, by an earlier word, and nobody has written over it since (so that no two live ranges
 *      overlap); no two tasks of a word write the same bytes, scratch included, and none writes what another reads.
 */
import { virtualBlocks } from './blocks.ts';
import { classOf, memberOf } from './class.ts';
import type { Kernel, WiderSchedule } from './kernel.ts';
import { collector, type Problem, type Say, textsOf } from './problem.ts';
import {
  type CompiledModel,
  overlap,
  type Place,
  type Program,
  type Task,
  type Variant,
  variantsOf,
} from './program.ts';
import { scratchBytes, scratchOf } from './scratch.ts';
import { type Target, targetOf } from './target.ts';
import { byteSize, dtypes, elementCount } from './types.ts';
import { kernelProblems } from './verify.ts';
import { verifySchedules } from './verify_schedule.ts';
import { verifyWords } from './verify_words.ts';

/** Alignment of every place, in bytes. */
const alignment = 256;

/** The broken laws of a program, as lines; empty if it is sound. */
export const verifyProgram = (program: Program): string[] => textsOf(programProblems(program));

export function programProblems(program: Program): Problem[] {
  const problems: Problem[] = [];
  const say = collector(problems, 'program');
  const target = knownTarget(program, say);
  const names = new Set<string>();
  for (const tenant of program.tenants) {
    if (names.has(tenant.name)) say(tenant, `two tenants are called "${tenant.name}"`);
    names.add(tenant.name);
  }
  for (const model of new Set(program.tenants.map((t) => t.model))) {
    const sayOf = collector(problems, `model "${model.name}"`);
    verifyMemory(model, sayOf);
    verifyKeptZeros(program, model, sayOf);
    model.tasks.forEach((task, n) => {
      const sayTask = collector(problems, `model "${model.name}" task ${n} (${task.name})`);
      verifyTask(program, task, target, sayTask);
    });
  }
  verifyOtherClasses(program, target, problems);
  // What refers to what is settled now; the order of things is looked at only where it is in order.
  if (problems.length === 0) verifyWords(program, problems);
  return problems;
}

function knownTarget(program: Program, say: Say): Target | undefined {
  try {
    return targetOf(program.target);
  } catch (error) {
    say(program, (error as Error).message);
    return undefined;
  }
}

/** Words may hold classes that none of their slots runs. What tasks run is verified at their sizes. */
function verifyOtherClasses(
  { classes, tenants }: Program,
  target: Target | undefined,
  problems: Problem[],
): void {
  const tasks = [...new Set(tenants.map((t) => t.model))].flatMap((m) => m.tasks.flatMap(variantsOf));
  const ofTasks = new Set(tasks.flatMap((v) => [v.classes.generic, v.classes.specialised]));
  for (const c of classes.values())
    if (!ofTasks.has(c.key)) problems.push(...kernelProblems(c.kernel, target));
}

/** The kernel of a variant of a task: its class's, at the task's sizes. */
export function kernelOf(program: Program, { classes, sizes }: Variant): Kernel | undefined {
  const generic = program.classes.get(classes.generic);
  return generic && memberOf(generic, sizes);
}

function verifyTask(program: Program, task: Task, target: Target | undefined, say: Say): void {
  for (const variant of variantsOf(task)) verifyVariant(program, task, variant, target, say);
  const { wider } = task;
  const [first, ...others] = variantsOf(task).map((v) => kernelOf(program, v));
  if (!wider || !first || others.some((k) => !k)) return;
  const what = (kernel: Kernel): string => classOf(withoutSchedule(kernel), 'specialised').key;
  if (others.some((k) => what(k!) !== what(first))) {
    say(task, 'its variants differ in what they compute');
    return;
  }
  const schedules = others.map((k, n): WiderSchedule => ({ from: wider[n]!.from, schedule: k!.schedule! }));
  verifySchedules({ ...first, wider: schedules }, target, (_, text) => say(task, text));
  const buffers = first.inputs.length + first.outputs.length;
  for (const { from, operands } of wider)
    if (operands.slice(0, buffers).some((place, n) => place.value !== task.operands[n]?.value))
      say(task, `its variant from ${from} reads or writes other values`);
}

const withoutSchedule = ({ schedule: _, wider: __, ...kernel }: Kernel): Kernel => kernel;

function verifyVariant(
  program: Program,
  at: Task,
  task: Variant,
  target: Target | undefined,
  sayAt: Say,
): void {
  const say = (_: object, text: string): void => sayAt(at, text);
  const kernel = kernelOf(program, task);
  if (!kernel) {
    say(task, 'the program does not have its kernel class');
    return;
  }
  const found = kernelProblems(kernel, target);
  for (const { text } of found) say(task, text);
  if (found.length > 0) return;
  if (classOf(kernel, 'generic').key !== task.classes.generic)
    say(task, 'with its sizes the kernel is of another class');
  const buffers = [
    ...[...kernel.inputs, ...kernel.outputs].map((b) => ({ name: `%${b.name}`, bytes: byteSize(b) })),
    ...scratchOf(kernel).map((s) => ({ name: `its scratch of ${s.name}`, bytes: scratchBytes(s) })),
  ];
  if (task.operands.length !== buffers.length)
    say(task, `${task.operands.length} operands, the kernel has ${buffers.length} buffers`);
  buffers.forEach(({ name, bytes }, n) => {
    const place = task.operands[n];
    if (!place) return;
    if (place.bytes !== bytes)
      say(task, `${name} takes ${bytes} bytes, the place of %${place.value} has ${place.bytes}`);
    if (n >= kernel.inputs.length && place.space === 'weights')
      say(task, `it writes the constant %${place.value}`);
  });
  const blocks = virtualBlocks(kernel);
  if (task.blocks !== blocks) say(task, `${task.blocks} blocks, the kernel has ${blocks}`);
}

/** What blocks count in is zero when a task begins only if nobody else ever writes there. */
function verifyKeptZeros(program: Program, { tasks }: CompiledModel, say: Say): void {
  const uses = tasks.flatMap(variantsOf).flatMap((task) => {
    const kernel = kernelOf(program, task);
    const scratch = kernel ? scratchOf(kernel) : [];
    const first = task.operands.length - scratch.length;
    return task.operands.map((place, n) => ({ place, keepsZeros: scratch[n - first]?.keepsZeros ?? false }));
  });
  for (const zeros of uses) {
    const clash = zeros.keepsZeros && uses.find((u) => u !== zeros && overlap(u.place, zeros.place));
    if (clash)
      say(zeros.place, `%${zeros.place.value} is to stay zero, %${clash.place.value} shares bytes with it`);
  }
}

function verifyMemory(model: CompiledModel, say: Say): void {
  const { weightBytes, arenaBytes } = model;
  const check = (place: Place): void => {
    const limit = place.space === 'weights' ? weightBytes : arenaBytes;
    const end = place.offset + place.bytes;
    if (place.offset < 0 || place.bytes < 0 || end > limit)
      say(place, `%${place.value} lies at ${place.offset}..${end} of ${limit} bytes of ${place.space}`);
    if (place.offset % alignment !== 0)
      say(place, `%${place.value} lies at ${place.offset}, which is no multiple of ${alignment}`);
  };
  const places = new Map<string, Place>();
  const ports = [...model.inputs, ...model.outputs];
  for (const place of [
    ...ports.map((p) => p.place),
    ...model.tasks.flatMap(variantsOf).flatMap((v) => v.operands),
  ]) {
    const known = places.get(place.value);
    if (!known) check(place);
    else if (known.space !== place.space || known.offset !== place.offset || known.bytes !== place.bytes)
      say(place, `%${place.value} has two places`);
    places.set(place.value, place);
  }
  for (const [way, some] of [
    ['inputs', model.inputs],
    ['outputs', model.outputs],
  ] as const) {
    const names = new Set<string>();
    for (const p of some) {
      if (names.has(p.name)) say(p, `two ${way} are called "${p.name}"`);
      names.add(p.name);
    }
  }
  for (const p of ports) {
    const bytes = elementCount(p.shape) * dtypes[p.dtype].bytes;
    if (p.place.bytes !== bytes)
      say(p, `port "${p.name}" takes ${bytes} bytes, the place of %${p.place.value} has ${p.place.bytes}`);
    if (p.place.space !== 'arena') say(p, `port "${p.name}" lies in the weights`);
    for (const other of places.values()) {
      if (other.value !== p.place.value && overlap(other, p.place))
        say(p, `port "${p.name}" shares bytes with %${other.value}`);
    }
  }
  const constants = model.weights.map(
    ({ name, offset, tensor }): Place => ({ value: name, space: 'weights', offset, bytes: byteSize(tensor) }),
  );
  constants.forEach((c, n) => {
    const placed = places.get(c.value);
    if (!placed) check(c);
    else if (placed.offset !== c.offset || placed.bytes !== c.bytes)
      say(placed, `%${c.value} takes ${c.bytes} bytes at ${c.offset}, its place is another`);
    for (const other of constants.slice(n + 1))
      if (overlap(c, other)) say(model.weights[n]!, `constants %${c.value} and %${other.value} share bytes`);
  });
}
