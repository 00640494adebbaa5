/**
 * @file Compiled models and programs: what is left of a model once its kernels are scheduled, classified and placed in memory, and
 * the words that several of them run as. Plain data, so that it can be written to a file and linked anew with others.
 */
import type { KernelClass, Tier } from './class.ts';
import type { Tensor } from './tensor.ts';
import type { TensorType } from './types.ts';
import type { Work } from './work.ts';

/** A range of one of a tenant's two buffers: its weights (read only), or its arena (inputs, outputs, all between). */
export interface Place {
  /** The value that lives there. Several may, one after another. */
  readonly value: string;
  readonly space: 'weights' | 'arena';
  /** In bytes, a multiple of 256. */
  readonly offset: number;
  readonly bytes: number;
}

/** True if two places of one tenant share a byte. */
export const overlap = (a: Place, b: Place): boolean =>
  a.space === b.space && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;

/** One kernel of a model under one of its schedules, ready to issue. */
export interface Variant {
  /** Keys of the task's class in either tier. */
  readonly classes: { readonly [T in Tier]: string };
  /** The sizes that the generic class leaves open. */
  readonly sizes: readonly number[];
  /** Virtual blocks. */
  readonly blocks: number;
  /** What it takes, as far as its kernel says. */
  readonly work: Work;
  /** Inputs, outputs, scratch (ir/scratch.ts). */
  readonly operands: readonly Place[];
}

/** One kernel of a model: as words of one slot run it, and as wider words do if they do so otherwise. */
export interface Task extends Variant {
  readonly name: string;
  /** Ascending. */
  readonly wider?: readonly WiderVariant[];
  /** The model's nodes it came from. */
  readonly loc: readonly string[];
}

/**
 * For words of `from` slots and more, up to the next one's; from 1 also for words of one slot that others run beside. Inputs, outputs and
 * sizes are the task's, and so are the bits.
 */
export interface WiderVariant extends Variant {
  readonly from: number;
}

/** All variants of a task, ascending by the width they are for. */
export const variantsOf = (task: Task): readonly Variant[] => [task, ...(task.wider ?? [])];

/** The variant of a task that a word of so many slots should run, by itself or beside others. */
export const variantFor = (task: Task, slots: number, beside = false): Variant =>
  (slots > 1 || beside ? task.wider?.findLast((w) => w.from <= slots) : undefined) ?? task;

/** The variant of a task that a slot runs, as the class of its code says; undefined if the task is not of that class. */
export const variantIn = (task: Task, { tier, classes }: Word, { body }: Slot): Variant | undefined =>
  variantsOf(task).find((v) => v.classes[tier] === classes[body]);

/** What tasks have in common whose slots may stand in one coalesced word of the tier, however wide it becomes. */
export const groupKey = (task: Task, tier: Tier): string =>
  [task.classes[tier], ...(task.wider ?? []).map((w) => `${w.from}:${w.classes[tier]}`)].join(' ');

export interface Port extends TensorType {
  readonly name: string;
  readonly place: Place;
}

/** A constant, and where in the weights it lies. */
export interface Weight {
  readonly name: string;
  readonly offset: number;
  readonly tensor: Tensor;
}

/** A model compiled for a target: its tasks in order, its memory, its weights. */
export interface CompiledModel {
  readonly name: string;
  readonly target: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly tasks: readonly Task[];
  readonly weights: readonly Weight[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
}

/** One tenant's task inside a word. */
export interface Slot {
  readonly tenant: number;
  readonly task: number;
  /** Which of the word's classes it is of. */
  readonly body: number;
  /** Physical blocks, at most as many as there are virtual blocks to run. */
  readonly blocks: number;
  /** The virtual blocks to run; all of the task's if not said. A task in slices runs them over several words. */
  readonly range?: BlockRange;
}

/** Virtual blocks `from` up to, not including, `to`. */
export interface BlockRange {
  readonly from: number;
  readonly to: number;
}

/** One launch. `classes` are the keys of its kernel classes: one if it is coalesced, several if it is wide. */
export interface Word {
  readonly tier: Tier;
  readonly classes: readonly string[];
  readonly slots: readonly Slot[];
}

/** A tenant: a model of its own, with its own weights and arena. */
export interface Tenant {
  readonly name: string;
  readonly model: CompiledModel;
}

/**
 * What of a plan's words comes before what. `chain`: each word before the next. `branches`: a word only waits for the last words before it
 * that have a slot of one of its tenants.
 */
export type WordOrder = 'chain' | 'branches';

/** Words in order for a set of tenants. */
export interface WordPlan {
  readonly tenants: readonly Tenant[];
  readonly words: readonly Word[];
  /** Default `chain`. */
  readonly order?: WordOrder;
  /** Of each word, from 0 to 1: the more urgent of words that could run at the same time get places first. */
  readonly urgency?: readonly number[];
  /** Milliseconds that each word is expected to take, if it was planned by that. */
  readonly predicted?: readonly number[];
}

/** A plan with all that is needed to print it, check it and run it: the target, and the kernels of its classes by key. */
export interface Program extends WordPlan {
  readonly target: string;
  readonly classes: ReadonlyMap<string, KernelClass>;
}

/** True if every word has a tenant of the one before it, so that tenants leave words no other order than a chain. */
export const isChain = (words: readonly Word[]): boolean =>
  words.every((word, n) => {
    const before = new Set(words[n - 1]?.slots.map((s) => s.tenant));
    return n === 0 || word.slots.some((s) => before.has(s.tenant));
  });

/** What identifies the code of a word: its tier and its classes in order. */
export const codeKey = (word: Pick<Word, 'tier' | 'classes'>): string => word.classes.join('+');

/** The classes in such a key. */
export const classesIn = (key: string): string[] => key.split('+');
