/**
 * @file How long a word takes whose slots have curves of their own, and how many physical blocks each of them should get.
 */
import type { BlockCurve } from './block_time.ts';

/** A slot to be: so many virtual blocks of a kernel. */
export interface Load {
  readonly virtual: number;
  readonly curve: BlockCurve;
}

export interface WordShape {
  readonly milliseconds: number;
  /** Physical blocks of each slot. */
  readonly blocks: readonly number[];
}

/** Milliseconds that a slot keeps the whole device busy for; or as long on half of it for twice the time. */
export const area = ({ virtual, curve }: Load): number => (curve.round * virtual) / curve.places;

/** What a word takes besides its blocks: the longest of what its kernels do. */
export const fixedOf = (loads: readonly Load[]): number => Math.max(...loads.map((l) => l.curve.fixed));

/** Shares are for those that gain by them: a device that is not quite what the curves say deals out blocks better than a plan does. */
const leastGain = 0.02;

/**
 * Either every slot gets all its blocks, and the device runs them as places come free; or each gets a share of the places, so that all
 * end together.
 */
export function shapeWord(loads: readonly Load[]): WordShape {
  const fixed = fixedOf(loads);
  const free = fixed + timeUnconstrained(loads);
  const shares = endTogether(loads);
  if (shares && fixed + shares.milliseconds <= (1 - leastGain) * free)
    return { ...shares, milliseconds: fixed + shares.milliseconds };
  return { milliseconds: free, blocks: loads.map((l) => l.virtual) };
}

function timeUnconstrained(loads: readonly Load[]): number {
  const [{ curve: first }] = loads as [Load];
  const longest = Math.max(...loads.map((l) => l.curve.round));
  const filled = loads.reduce((sum, l) => sum + l.virtual / l.curve.places, 0);
  if (filled <= 1) return longest;
  if (loads.every(({ curve }) => curve.round === first.round && curve.places === first.places))
    return first.round * Math.ceil(filled - 1e-9);
  // Blocks of different length leave no common waves: at the end half a block of the shortest kind is lost.
  const busy = loads.reduce((sum, l) => sum + area(l), 0);
  const shortest = Math.min(...loads.map((l) => l.curve.round));
  return Math.max(longest, busy + shortest / 2);
}

/** The shares with which the last slot ends first; undefined if there are fewer places than slots. */
export function endTogether(loads: readonly Load[]): WordShape | undefined {
  const blocksIn = ({ virtual, curve }: Load, milliseconds: number): number =>
    Math.ceil(virtual / Math.max(1, Math.floor(milliseconds / Math.max(curve.round, 1e-9) + 1e-9)));
  const fits = (milliseconds: number): boolean =>
    loads.reduce((sum, l) => sum + blocksIn(l, milliseconds) / l.curve.places, 0) <= 1 + 1e-9;
  let enough = Math.max(...loads.map((l) => l.virtual * l.curve.round));
  if (!fits(enough)) return undefined;
  let short = Math.max(...loads.map((l) => l.curve.round));
  if (fits(short)) enough = short;
  for (let n = 0; n < 40 && enough - short > 1e-4 * enough; n++) {
    const middle = (short + enough) / 2;
    if (fits(middle)) enough = middle;
    else short = middle;
  }
  const blocks = loads.map((l) => blocksIn(l, enough));
  const times = loads.map((l, n) => l.curve.round * Math.ceil(l.virtual / blocks[n]!));
  return { blocks, milliseconds: Math.max(...times) };
}
