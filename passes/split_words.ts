/** @file Wide words taken apart: one word for each class, for where those run beside one another as branches. The bits stay the same. */
import { groupKey, type Slot, type Tenant, variantFor, type Word } from '../ir/program.ts';

export const isWide = (word: Word): boolean => word.classes.length > 1;

/**
 * The words in order, without the wide ones but for those that stay: in their place a word for each class, of slots with all of their blocks, under the
 * schedule for so many slots. What was cut goes on as it began.
 */
export function splitWords(
  tenants: readonly Tenant[],
  words: readonly Word[],
  stays: (word: Word) => boolean = () => false,
): Word[] {
  return words.flatMap((word) => {
    if (!isWide(word) || stays(word)) return [word];
    const taskOf = (slot: Slot) => tenants[slot.tenant]!.model.tasks[slot.task]!;
    const groups = new Map<string, Slot[]>();
    for (const slot of word.slots) {
      const key = slot.range
        ? `cut ${word.classes[slot.body]}`
        : `whole ${groupKey(taskOf(slot), word.tier)}`;
      groups.set(key, [...(groups.get(key) ?? []), slot]);
    }
    return [...groups.values()].map(([first, ...others]): Word => {
      const slots = [first!, ...others];
      if (first!.range) {
        const whole = slots.map((s) => ({ ...s, body: 0, blocks: s.range!.to - s.range!.from }));
        return { ...word, classes: [word.classes[first!.body]!], slots: whole };
      }
      const variantOf = (slot: Slot) => variantFor(taskOf(slot), slots.length);
      return {
        ...word,
        classes: [variantOf(first!).classes[word.tier]],
        slots: slots.map((s) => ({ ...s, body: 0, blocks: variantOf(s).blocks })),
      };
    });
  });
}
