/**
 * @file Constraining words of branches: a kernel of very many blocks that wait for memory, such as one row by a large matrix, fills every
 * multiprocessor with blocks that end late, and whatever is more urgent stands before full multiprocessors meanwhile. On fewer blocks it
 * takes little longer, as memory is what it waits for. (VGG-11's 25088x4096 layer for one tenant on an H100: 74 µs on 4,096 blocks of a warp, 84 on
 * 2,048, 127 on 1,024; all others of mix B stood still for 90 µs.)
 */
import type { Measurement } from './block_time.ts';

/** What was measured of a kernel by itself. */
export interface OnBlocks {
  /** Words of one slot on some numbers of blocks. */
  readonly times: readonly Measurement[];
  /** Blocks of it that the device holds at once. */
  readonly places: number;
}

/** Milliseconds: what is shorter is over before others have waited long. */
const leastTime = 0.01;

/** A kernel may take so many times as long, at most. */
const mostSlack = 2;

/** Fewer blocks must leave others at least this part of the multiprocessors' time that the kernel takes with all. */
const leastLeft = 0.4;

/**
 * Physical blocks for a word of one slot that others run beside: of the numbers that were measured the one that takes least of places times
 * time, if that is worth it; else all. Blocks that wait for a place take none.
 * @param measured with the time on all blocks; nothing is known without.
 * @param virtual its blocks.
 * @param urgency from 0 to 1: how long the chain of words from this one on is, as a part of the longest (urgency.ts). What is not urgent may
 *   take longer by as much as it has time.
 */
export function blocksWithRoom(measured: OnBlocks | undefined, virtual: number, urgency: number): number {
  if (!measured) return virtual;
  const { times, places } = measured;
  const full = times.find((m) => m.blocks === virtual);
  if (!full || full.milliseconds < leastTime) return virtual;
  const longest = full.milliseconds * Math.min(mostSlack, 1 / Math.max(urgency, 1e-9));
  const taken = (m: Measurement): number => Math.min(m.blocks, places) * m.milliseconds;
  const least = times
    .filter((m) => m.milliseconds <= longest && taken(m) <= (1 - leastLeft) * taken(full))
    .reduce((best, m) => (taken(m) < taken(best) ? m : best), full);
  return least.blocks;
}
