/**
 * @file Compiled models and programs: what is left of a model once its kernels are scheduled, classified and placed in memory, and
 * the words that several of them run as. Plain data, so that it can be written to a file and linked anew with others.
 */
import type { Tier } from './class.ts';
import type { Tensor } from './tensor.ts';
import type { TensorType } from './types.ts';

/** A range of one of a tenant's two buffers: its weights (read only), or its arena (inputs, outputs, all between). */
export interface Place {
  readonly space: 'weights' | 'arena';
  /** In bytes, a multiple of 256. */
  readonly offset: number;
  readonly bytes: number;
}

/** One kernel of a model, ready to issue. */
export interface Task {
  readonly name: string;
  /** Keys of the task's class in either tier. */
  readonly classes: { readonly [T in Tier]: string };
  /** The sizes that the generic class leaves open. */
  readonly sizes: readonly number[];
  /** Virtual blocks. */
  readonly blocks: number;
  /** Inputs, then outputs. */
  readonly operands: readonly Place[];
  /** The model's nodes it came from. */
  readonly loc: readonly string[];
}

export interface Port extends TensorType {
  readonly name: string;
  readonly place: Place;
}

/** A model compiled for a target: its tasks in order, its memory, its weights. */
export interface CompiledModel {
  readonly name: string;
  readonly target: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly tasks: readonly Task[];
  readonly weights: readonly { readonly offset: number; readonly tensor: Tensor }[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
}

/** One tenant's task inside a word. */
export interface Slot {
  readonly tenant: number;
  readonly task: number;
  /** Which of the word's classes it is of. */
  readonly body: number;
  /** Physical blocks, at most the task's virtual blocks. */
  readonly blocks: number;
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

/** Words in order for a set of tenants. */
export interface WordPlan {
  readonly tenants: readonly Tenant[];
  readonly words: readonly Word[];
}

/** What identifies the code of a word: its tier and its classes in order. */
export const codeKey = (word: Pick<Word, 'tier' | 'classes'>): string => word.classes.join('+');

/** Prints a plan's words, one slot a line. */
export function printPlan(plan: WordPlan): string {
  return plan.words
    .map((word, n) => {
      const slots = word.slots.map((s) => {
        const task = plan.tenants[s.tenant]!.model.tasks[s.task]!;
        return `  slot @${task.name} tenant ${JSON.stringify(plan.tenants[s.tenant]!.name)} blocks ${s.blocks} of ${task.blocks}`;
      });
      const classes = word.classes.map((key) => key.slice(0, 12)).join(', ');
      return [`word @w${n} ${word.tier} class ${classes} {`, ...slots, '}'].join('\n');
    })
    .join('\n');
}
