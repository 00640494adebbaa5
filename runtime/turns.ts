/**
 * @file Comparing ways to run the same thing: in turns, so that whatever drifts (clocks, other users of the machine) hits all of them alike.
 */

/** Milliseconds of each of so many rounds. */
export type TimeRounds = (rounds: number) => Promise<Iterable<number>>;

/** In each turn every way runs for about so long, or one round. */
const turnMilliseconds = 3;
const leastTurns = 9;

/** Milliseconds of a round of each way: medians, after a warm-up. At least nine turns, and as many as take about so long in each way. */
export async function timeInTurns(ways: readonly TimeRounds[], seconds = 0): Promise<number[]> {
  const batches: number[] = [];
  let longest = turnMilliseconds;
  for (const way of ways) {
    const warm = median([...(await way(3))]);
    batches.push(Math.max(1, Math.min(100, Math.round(turnMilliseconds / Math.max(warm, 1e-3)))));
    longest = Math.max(longest, warm);
  }
  const turns = Math.max(leastTurns, Math.round((seconds * 1e3) / longest));
  const times = ways.map((): number[] => []);
  for (let turn = 0; turn < turns; turn++) {
    for (let i = 0; i < ways.length; i++) {
      // Another one goes first each time, so that none always follows the same one.
      const n = (turn + i) % ways.length;
      times[n]!.push(...(await ways[n]!(batches[n]!)));
    }
  }
  return times.map(median);
}

/** The middle one; the greater of two middle ones; NaN of none. */
export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
