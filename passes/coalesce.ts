/**
 * @file The coalesce pass: puts tasks of one class, from different tenants, into one word. Works on class keys alone, so models
 * that were compiled apart (from a file, say) coalesce as well as ones compiled together.
 */
import type { Tier } from '../ir/class.ts';
import { groupKey, type Slot, type Task, type Tenant, variantFor, type Word } from '../ir/program.ts';

/**
 * `generic` leaves sizes open in every word, `specialised` in none (so only kernels of equal sizes coalesce). `auto` coalesces over
 * sizes, and specialises the words whose slots turn out equal.
 */
export const tiers = ['generic', 'specialised', 'auto'] as const satisfies readonly (Tier | 'auto')[];
export type TierChoice = (typeof tiers)[number];

/**
 * List scheduling, longest remaining chain first: the next word is the class of the task whose tenant has most left to do, with
 * every other tenant's next task of that class. So tenants of one model march in step, and the tails of different models that
 * end alike are lined up. A word has at most `width` slots; those with most left to do come first.
 */
export function coalesce(
  tenants: readonly Tenant[],
  tier: TierChoice,
  width = Number.POSITIVE_INFINITY,
): Word[] {
  const grouping: Tier = tier === 'specialised' ? 'specialised' : 'generic';
  const next = tenants.map(() => 0);
  const left = (tenant: number): number => tenants[tenant]!.model.tasks.length - next[tenant]!;
  const words: Word[] = [];
  for (;;) {
    const waiting = tenants.map((_, t) => t).filter((t) => left(t) > 0);
    if (waiting.length === 0) return words;
    const keyOf = (t: number): string => groupKey(tenants[t]!.model.tasks[next[t]!]!, grouping);
    const leader = waiting.reduce((best, t) => (left(t) > left(best) ? t : best));
    const members = waiting
      .filter((t) => keyOf(t) === keyOf(leader))
      .sort((a, b) => left(b) - left(a))
      .slice(0, width)
      .sort((a, b) => a - b);
    words.push(
      wordOf(
        tenants,
        members.map((tenant) => ({ tenant, task: next[tenant]!++ })),
        tier,
      ),
    );
  }
}

type Member = Pick<Slot, 'tenant' | 'task'>;

/** A coalesced word. With `auto` it is specialised if all its slots have one specialised class. */
function wordOf(tenants: readonly Tenant[], members: readonly Member[], tier: TierChoice): Word {
  const tasks = members.map((m) => tenants[m.tenant]!.model.tasks[m.task]!);
  const keyOf = (t: Task): string => groupKey(t, 'specialised');
  const alike = tasks.every((t) => keyOf(t) === keyOf(tasks[0]!));
  const chosen: Tier = tier === 'auto' ? (alike ? 'specialised' : 'generic') : tier;
  const variants = tasks.map((t) => variantFor(t, tasks.length));
  return {
    tier: chosen,
    classes: [variants[0]!.classes[chosen]],
    slots: members.map((m, i) => ({ ...m, body: 0, blocks: variants[i]!.blocks })),
  };
}

/**
 * Time multiplexing: the same kernels, a word each, one tenant after another. Each runs as it does best by itself; a task in slices goes on
 * as it was cut.
 */
export function timeMultiplexed(tenants: readonly Tenant[], words: readonly Word[]): Word[] {
  const alone = (word: Word, slot: Slot): Word => {
    const task = tenants[slot.tenant]!.model.tasks[slot.task]!;
    if (slot.range) return { ...word, slots: [slot] };
    if (!task.wider) return { ...word, slots: [{ ...slot, blocks: task.blocks }] };
    return {
      ...word,
      classes: [task.classes[word.tier]],
      slots: [{ ...slot, body: 0, blocks: task.blocks }],
    };
  };
  return words
    .flatMap((word) => word.slots.map((slot) => alone(word, slot)))
    .sort((a, b) => a.slots[0]!.tenant - b.slots[0]!.tenant || a.slots[0]!.task - b.slots[0]!.task);
}
