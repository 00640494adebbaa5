/**
 * @file Which words of branches should have places first: those with most left to do behind them. A GPU that has places for one of several
 * words gives them to the most urgent, so the longest chain, which the round cannot be shorter than, is held up least.
 */
import type { Word } from '../ir/program.ts';

/**
 * Of each word the longest time from its begin to the end of all words that must follow it, as a part of the longest of all: from 0 to 1.
 * @param milliseconds that each word is expected to take.
 */
export function urgencies(words: readonly Word[], milliseconds: readonly number[]): number[] {
  // By tenant, from its next word on.
  const left = new Map<number, number>();
  const chains = words.map(() => 0);
  for (let n = words.length - 1; n >= 0; n--) {
    const tenants = words[n]!.slots.map((s) => s.tenant);
    chains[n] = milliseconds[n]! + Math.max(...tenants.map((t) => left.get(t) ?? 0));
    for (const t of tenants) left.set(t, chains[n]!);
  }
  const longest = Math.max(...chains);
  return chains.map((chain) => (longest > 0 ? chain / longest : 0));
}
