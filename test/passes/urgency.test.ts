import { expect, it } from 'vitest';
import type { Word } from '../../ir/program.ts';
import { urgencies } from '../../passes/urgency.ts';

const word = (...tenants: number[]): Word => ({
  tier: 'generic',
  classes: ['c'],
  slots: tenants.map((tenant) => ({ tenant, task: 0, body: 0, blocks: 1 })),
});

it('counts what is left of the longest chain behind a word', () => {
  expect(urgencies([word(0), word(1), word(0), word(0)], [1, 2, 1, 2])).toEqual([1, 0.5, 0.75, 0.5]);
});

it('goes on with whichever tenant of a word has more left', () => {
  // Tenant 1 meets tenant 0 in the third word, and what follows that is left of both.
  const words = [word(0), word(1), word(0, 1), word(0), word(2)];
  expect(urgencies(words, [1, 2, 4, 2, 4])).toEqual([7 / 8, 1, 6 / 8, 2 / 8, 4 / 8]);
});

it('takes slots of one tenant in a word for one, and words that take no time as they are', () => {
  expect(urgencies([word(0, 0), word(0)], [1, 1])).toEqual([1, 0.5]);
  expect(urgencies([word(0), word(1)], [0, 0])).toEqual([0, 0]);
  expect(urgencies([], [])).toEqual([]);
});
