/**
 * @file What a traced round was: which blocks of which tenant's kernels ran where, and when. Plain data.
 */
import type { Tier } from '../ir/class.ts';
import type { WordPlan } from '../ir/program.ts';
import type { BlockTimes } from '../runtime/native.ts';

/** One tenant's kernel in a word. */
export interface TracedSlot {
  readonly tenant: string;
  /** The kernel's name in its model. */
  readonly task: string;
  /** The model's nodes that it came from. */
  readonly loc: readonly string[];
}

/** One launch. */
export interface TracedWord {
  readonly tier: Tier;
  /** Keys of the kernel classes that its code has bodies for. */
  readonly classes: readonly string[];
  /** For each of these that a slot is of the name of a kernel of it. */
  readonly kernels: readonly string[];
  readonly slots: readonly TracedSlot[];
  readonly blocks: BlockTimes;
}

export interface TracedProgram {
  /** Its tenants, in order. */
  readonly tenants: readonly string[];
  readonly words: readonly TracedWord[];
}

/** One round of some programs. Blocks' times count from when the first of all began. */
export interface RoundTrace {
  /** From before the first launch to the end of the last, as `Device.time` gives them. */
  readonly milliseconds: number;
  readonly programs: readonly TracedProgram[];
}

/** Puts the times of a program's words, in order, together with what the words are. */
export function tracedProgram({ tenants, words }: WordPlan, times: readonly BlockTimes[]): TracedProgram {
  return {
    tenants: tenants.map((t) => t.name),
    words: words.map(({ tier, classes, slots }, n) => {
      const tasks = slots.map((s) => tenants[s.tenant]!.model.tasks[s.task]!);
      return {
        tier,
        classes,
        kernels: classes.flatMap((_, body) => {
          const slot = slots.findIndex((s) => s.body === body);
          return slot < 0 ? [] : [tasks[slot]!.name];
        }),
        slots: slots.map((s, i) => ({
          tenant: tenants[s.tenant]!.name,
          task: tasks[i]!.name,
          loc: tasks[i]!.loc,
        })),
        blocks: times[n]!,
      };
    }),
  };
}
