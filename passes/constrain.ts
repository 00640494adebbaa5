/**
 * @file The constrain pass: gives each slot at most so many physical blocks, which stride over its virtual ones, so that other slots
 * run beside it. Which block computes what, and in which order it adds, stays the same, so the bits do.
 */
import type { Slot, Word } from '../ir/program.ts';

export const constrain = (words: readonly Word[], most: number): Word[] =>
  words.map((word) => ({
    ...word,
    slots: word.slots.map((s): Slot => ({ ...s, blocks: Math.min(s.blocks, most) })),
  }));
