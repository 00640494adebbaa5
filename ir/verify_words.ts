/**
 * @file The laws of a program's words (5 to 7 of verify_program.ts): what is issued when, and what it finds in memory.
 */
import { collector, type Problem, type Say } from './problem.ts';
import {
  overlap,
  type Place,
  type Program,
  type Slot,
  type Variant,
  variantIn,
  type Word,
} from './program.ts';

/** How far a tenant is, and what its arena holds. */
interface Progress {
  /** The next task, and how many of its virtual blocks have run, of which variant. */
  task: number;
  blocks: number;
  begun?: Variant | undefined;
  /** Values that are in their places, whole. */
  readonly held: Map<string, Place>;
  /** Which task wrote over a value. */
  readonly lost: Map<string, string>;
}

export function verifyWords(program: Program, problems: Problem[]): void {
  const progress = program.tenants.map(({ model }): Progress => {
    const places = [
      ...model.inputs.map((p) => p.place),
      ...model.weights.map((w): Place => ({ value: w.name, space: 'weights', offset: w.offset, bytes: 0 })),
    ];
    return { task: 0, blocks: 0, held: new Map(places.map((p) => [p.value, p])), lost: new Map() };
  });
  program.words.forEach((word, n) => {
    const say = collector(problems, `word @w${n}`);
    if (word.slots.length === 0) say(word, 'it has no slots');
    if (new Set(word.classes).size < word.classes.length) say(word, 'it has one class twice');
    for (const slot of word.slots) verifySlot(program, word, slot, say);
    verifyOrder(program, word, progress, say);
  });
  const say = collector(problems, 'program');
  program.tenants.forEach((tenant, n) => {
    const { task, blocks, held } = progress[n]!;
    const left = tenant.model.tasks.length - task;
    if (left > 0) {
      const part = blocks > 0 ? `, the first of them in part (${blocks} blocks)` : '';
      say(tenant, `${left} tasks of tenant "${tenant.name}" do not run${part}`);
    }
    for (const port of tenant.model.outputs) {
      if (left === 0 && port.place.bytes > 0 && !held.has(port.place.value))
        say(port, `output "${port.name}" of tenant "${tenant.name}" is not there at the end`);
    }
  });
}

function verifySlot(program: Program, word: Word, slot: Slot, say: Say): void {
  const task = program.tenants[slot.tenant]?.model.tasks[slot.task];
  if (!task) return say(slot, `no task ${slot.task} of tenant ${slot.tenant}`);
  const variant = variantIn(task, word, slot);
  if (!variant) return say(slot, `task ${slot.task} (${task.name}) is of another class than the slot`);
  const { from, to } = slot.range ?? { from: 0, to: variant.blocks };
  if (from < 0 || to > variant.blocks || from >= to)
    say(slot, `range ${from}..${to} of ${variant.blocks} virtual blocks`);
  else if (slot.blocks < 1 || slot.blocks > to - from)
    say(slot, `${slot.blocks} blocks for ${to - from} virtual blocks`);
}

/** One word: what its slots read must be there before it, and each must leave the others' bytes alone. */
function verifyOrder(program: Program, word: Word, progress: readonly Progress[], say: Say): void {
  const written: { readonly slot: Slot; readonly place: Place; readonly done: boolean }[] = [];
  for (const slot of word.slots) {
    const tenant = program.tenants[slot.tenant];
    const task = tenant?.model.tasks[slot.task];
    if (!tenant || !task) continue;
    // A slot of another class has been told of.
    const variant = variantIn(task, word, slot) ?? task;
    const mine = progress[slot.tenant]!;
    const name = `task ${slot.task} (${task.name}) of "${tenant.name}"`;
    const done = advance(mine, slot, variant, name, say);
    const { inputs, outputs, scratch } = operandsOf(program, variant);
    for (const place of inputs) {
      if (mine.held.has(place.value) || place.bytes === 0) continue;
      const by = mine.lost.get(place.value);
      say(
        slot,
        `${name} reads %${place.value}, which ${by ? `${by} has written over` : 'is not written before'}`,
      );
    }
    for (const place of scratch) {
      const hit = [...outputs, ...scratch].find((other) => other !== place && overlap(other, place));
      if (hit) say(slot, `${name} has scratch memory %${place.value} where it writes %${hit.value}`);
    }
    for (const place of [...outputs, ...scratch]) {
      for (const input of inputs)
        if (overlap(place, input))
          say(slot, `${name} writes %${place.value} over %${input.value}, which it reads`);
      for (const other of word.slots) {
        if (other === slot || other.tenant !== slot.tenant || other.task === slot.task) continue;
        const reads = operandsOf(program, tenant.model.tasks[other.task]!).inputs;
        const hit = reads.find((r) => overlap(r, place));
        if (hit) say(slot, `${name} writes %${place.value} over %${hit.value}, which another slot reads`);
      }
      const clash = written.find((w) => w.slot.tenant === slot.tenant && overlap(w.place, place));
      if (clash && clash.slot.task !== slot.task)
        say(slot, `${name} writes %${place.value} over %${clash.place.value}, which another slot writes`);
      // Nobody finds anything in scratch memory afterwards.
      written.push({ slot, place, done: done && !scratch.includes(place) });
    }
  }
  // What the word wrote is there for the next one; what lay in those bytes is not.
  for (const { slot, place, done } of written) {
    const { held, lost } = progress[slot.tenant]!;
    for (const [value, other] of held) {
      if (value === place.value || !overlap(other, place)) continue;
      held.delete(value);
      lost.set(value, `task ${slot.task}`);
    }
    if (done) held.set(place.value, place);
    else held.delete(place.value);
  }
}

/** Notes that a slot runs; true if its task is then complete. */
function advance(mine: Progress, slot: Slot, variant: Variant, name: string, say: Say): boolean {
  const { from, to } = slot.range ?? { from: 0, to: variant.blocks };
  if (slot.task !== mine.task) {
    const due = slot.task < mine.task ? 'runs again' : `runs before task ${mine.task} is complete`;
    say(slot, `${name} ${due}`);
    return true;
  }
  if (from !== mine.blocks) say(slot, `${name} goes on at block ${from}, ${mine.blocks} have run`);
  if (mine.begun && mine.begun !== variant)
    say(slot, `${name} goes on under another schedule than it began with`);
  const complete = to >= variant.blocks;
  mine.begun = complete ? undefined : variant;
  mine.task = complete ? mine.task + 1 : mine.task;
  mine.blocks = complete ? 0 : to;
  return complete;
}

/** All variants of a task read and write the same, scratch aside. */
function operandsOf(
  program: Program,
  { classes, operands }: Variant,
): { readonly [K in 'inputs' | 'outputs' | 'scratch']: readonly Place[] } {
  const { inputs, outputs } = program.classes.get(classes.generic)!.kernel;
  const [first, end] = [inputs.length, inputs.length + outputs.length];
  return {
    inputs: operands.slice(0, first),
    outputs: operands.slice(first, end),
    scratch: operands.slice(end),
  };
}
