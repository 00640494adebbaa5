/**
 * @file The slice pass: no slot runs more than so many virtual blocks in one word; the rest comes in words behind it. A word then takes
 * no longer than its slices, so nobody waits longer for the next. Which block computes what stays the same, so the bits do.
 */
import { type BlockRange, type Slot, type Tenant, variantIn, type Word } from '../ir/program.ts';

/** Cuts every word's slots into slices of at most `most` virtual blocks. */
export const slice = (tenants: readonly Tenant[], words: readonly Word[], most: number): Word[] =>
  words.flatMap((word) => {
    const whole = (slot: Slot): BlockRange => slot.range ?? { from: 0, to: blocksOf(tenants, word, slot) };
    const longest = Math.max(...word.slots.map((slot) => whole(slot).to - whole(slot).from));
    if (longest <= most) return [word];
    return Array.from({ length: Math.ceil(longest / most) }, (_, n): Word => {
      const slots = word.slots.flatMap((slot): Slot[] => {
        const { from, to } = whole(slot);
        const range = { from: from + n * most, to: Math.min(to, from + (n + 1) * most) };
        if (range.from >= range.to) return [];
        // A task that fits one slice is not cut.
        if (to - from <= most) return [slot];
        return [{ ...slot, range, blocks: Math.min(slot.blocks, range.to - range.from) }];
      });
      return { ...word, slots };
    });
  });

const blocksOf = (tenants: readonly Tenant[], word: Word, slot: Slot): number =>
  variantIn(tenants[slot.tenant]!.model.tasks[slot.task]!, word, slot)!.blocks;
