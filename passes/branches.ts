/**
 * @file The words of branches: coalesced ones, of which those of different tenants run side by side, ordered only as tenants demand. Decides
 * what each kernel runs as beside others, which word gets places first, and who leaves room for others.
 */
import type { Tier } from '../ir/class.ts';
import { isChain, type Tenant, type Variant, variantIn, type Word } from '../ir/program.ts';
import { beside } from './beside.ts';
import { type BlockCurve, timeOn } from './block_time.ts';
import { coalesce, type TierChoice } from './coalesce.ts';
import { blocksWithRoom, type OnBlocks } from './leave_room.ts';
import type { TaskTime } from './pack.ts';
import { urgencies } from './urgency.ts';
import { type Load, shapeWord } from './word_time.ts';

export interface BranchOptions {
  readonly tier: TierChoice;
  /** Most slots of a word. Default: any number. */
  readonly width?: number;
  readonly timeOf: (task: Variant, tier: Tier) => TaskTime;
  /** What was measured of a task on some numbers of blocks, if it was. Without it none leaves room. */
  readonly onBlocks?: (task: Variant, tier: Tier) => OnBlocks | undefined;
}

/**
 * A tenant whose chain of kernels takes at least this part of what all chains take together is what the round waits for, however well the
 * others share (eight chains of mix B side by side took 0.4 of what they take one after another on an H100). It runs as is best alone.
 */
const longChain = 0.2;

/** Words with how urgent each is (urgency.ts). */
export interface Branches {
  readonly words: Word[];
  readonly urgency: number[];
}

/** Undefined if each word needs the one before it, so that there are no branches. */
export function branches(tenants: readonly Tenant[], options: BranchOptions): Branches | undefined {
  const words = coalesce(tenants, options.tier, options.width);
  return isChain(words) ? undefined : asBranches(tenants, words, options);
}

/** These words, which may be wide, side by side. */
export function asBranches(
  tenants: readonly Tenant[],
  given: readonly Word[],
  { tier, timeOf, onBlocks = () => undefined }: Omit<BranchOptions, 'width'>,
): Branches {
  const curveOf = perVariant((variant, t): BlockCurve => timeOf(variant, t).curve);
  const aloneIn = tier === 'auto' ? 'specialised' : tier;
  const chains = tenants.map(({ model }) =>
    sum(model.tasks.map((task) => timeOn(curveOf(task, aloneIn), task.blocks, task.blocks))),
  );
  const long = longChain * sum(chains);
  const words = beside(tenants, given, (tenant) => chains[tenant]! < long);
  const measured = perVariant(onBlocks);
  const variants = words.map((word) =>
    word.slots.map((slot) => variantIn(tenants[slot.tenant]!.model.tasks[slot.task]!, word, slot)!),
  );
  const times = words.map(({ tier: t, slots }, n) => {
    const loads = variants[n]!.map((v, s): Load => {
      const { from, to } = slots[s]!.range ?? { from: 0, to: v.blocks };
      return { virtual: to - from, curve: curveOf(v, t) };
    });
    return shapeWord(loads).milliseconds;
  });
  const urgency = urgencies(words, times);
  return {
    // Most get all of their blocks: a GPU gives places to the blocks of other branches as they come free, and shares that are set too small
    // cost more than good ones gain.
    words: words.map((word, n) => {
      const [slot, ...others] = word.slots;
      if (!slot || others.length > 0 || slot.range) return word;
      const variant = variants[n]![0]!;
      const blocks = blocksWithRoom(measured(variant, word.tier), variant.blocks, urgency[n]!);
      return { ...word, slots: [{ ...slot, blocks }] };
    }),
    urgency,
  };
}

/** Every layer of every tenant asks, and each asks for a look into a table. */
function perVariant<T>(look: (task: Variant, tier: Tier) => T): (task: Variant, tier: Tier) => T {
  const known = new Map<Variant, T>();
  return (task, tier) => {
    if (!known.has(task)) known.set(task, look(task, tier));
    return known.get(task)!;
  };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
