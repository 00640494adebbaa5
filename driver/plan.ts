/**
 * @file From tenants to words: which models, which plan. Plain planning: nothing is compiled.
 */

import { isDeepStrictEqual } from 'node:util';
import type { KernelClass } from '../ir/class.ts';
import { codeKey, type Program, type Tenant, variantsOf, type Word, type WordPlan } from '../ir/program.ts';
import { targetOf } from '../ir/target.ts';
import { asBranches, type BranchOptions, branches } from '../passes/branches.ts';
import { coalesce, type TierChoice } from '../passes/coalesce.ts';
import { estimatedTimes, type PackOptions, pack } from '../passes/pack.ts';
import { isWide, splitWords } from '../passes/split_words.ts';
import type { BlockTable } from './block_table.ts';
import type { TenantModel } from './code.ts';
import type { Model } from './model.ts';
import type { Tuning } from './tuning.ts';

/**
 * `coalesced`: a word's slots are of one class. `wide`: unlike classes run side by side where what was measured of them (`Device.tune`,
 * `Device.measureBlocks`), or else an estimate, says that it pays. `branches`: coalesced words, ordered only as tenants demand; those of
 * different tenants run side by side on a GPU.
 */
export const plannedKinds = ['coalesced', 'wide', 'branches'] as const;
export type PlannedKind = (typeof plannedKinds)[number];

/**
 * `measured`: of these, and of branches of which some words are wide, the kind whose rounds turn out fastest on the device when a program is
 * loaded. Which words are wide is measured word by word, against branches of the same kernels.
 */
export const wordKinds = [...plannedKinds, 'measured'] as const;
export type WordKind = (typeof wordKinds)[number];

/** Those that a program may come to run in. */
export const kindsOf = (kind: WordKind): readonly PlannedKind[] =>
  kind === 'measured' ? plannedKinds : [kind];

export interface PlanOptions {
  /** Default `generic`. */
  readonly tier?: TierChoice;
  /** Most slots of a word. Default: any number. */
  readonly width?: number;
  /** Default `coalesced`. */
  readonly words?: PlannedKind;
  readonly tuning?: Tuning | undefined;
  /** Times of kernels, for wide words; without it all are estimated. */
  readonly blocks?: BlockTable | undefined;
  /** Multiprocessors, or threads; default: of a usual device. */
  readonly units?: number;
}

export interface Plan extends WordPlan {
  /** Which may not be the one that was asked for. `mixed`: branches of which some words are wide. */
  readonly kind: PlannedKind | 'mixed';
  /** What could not be done as asked, and what was chosen by measuring, a sentence each. */
  readonly notes: readonly string[];
}

/** What a program may run in, to choose from by measuring. */
export interface Choices {
  /** Of all kinds, without those that are as one before. */
  readonly plans: readonly [Plan, ...Plan[]];
  /** If a plan has words of unlike classes: the same as branches, with those wide that stay so. */
  readonly mix?: {
    readonly wide: Plan;
    readonly plan: (words: readonly Word[], stays?: (word: Word) => boolean) => Plan;
  };
}

/** Plans tenants in every kind of words, and how words of unlike classes are mixed with branches. */
export function linkAll(
  tenants: readonly TenantModel[],
  target: string,
  options: Omit<PlanOptions, 'words'>,
): Choices {
  const [first, ...others] = plannedKinds.map((words) => link(tenants, target, { ...options, words })) as [
    Plan,
    ...Plan[],
  ];
  const plans: [Plan, ...Plan[]] = [first];
  const isSame = (a: Plan, b: Plan): boolean => a.order === b.order && isDeepStrictEqual(a.words, b.words);
  for (const plan of others) if (!plans.some((p) => isSame(p, plan))) plans.push(plan);
  const wide = plans.find((p) => p.words.some(isWide));
  if (!wide) return { plans };
  const { timeOf, onBlocks } = knownTimes(target, options);
  const plan = (words: readonly Word[], stays?: (word: Word) => boolean): Plan => ({
    tenants: wide.tenants,
    ...asBranches(wide.tenants, splitWords(wide.tenants, words, stays), {
      ...{ tier: options.tier ?? 'generic', timeOf },
      ...(onBlocks && { onBlocks }),
    }),
    ...{ kind: 'mixed', order: 'branches', notes: [] },
  });
  const models = [...new Set(tenants.map((t) => t.model))];
  return plan(wide.words).words.every((word) => codeIsThere(models, target, word))
    ? { plans, mix: { wide, plan } }
    : { plans };
}

/** What is known of how long tasks take: measured, or estimated. */
function knownTimes(
  target: string,
  { units = targetOf(target).units, blocks }: Pick<PlanOptions, 'units' | 'blocks'>,
): Pick<BranchOptions, 'timeOf' | 'onBlocks'> {
  const limits = targetOf(target);
  return {
    timeOf: blocks ? (task, t) => blocks.timeOf(task, t) : estimatedTimes(limits, units),
    // The host runs branches in order: nobody would have the room.
    ...(blocks && limits.kind === 'cuda' && { onBlocks: (task, t) => blocks.onBlocks(task, t) }),
  };
}

/** Whether a word's code came with an artefact, or there are kernels to emit it from. */
const codeIsThere = (models: readonly Model[], target: string, word: Word): boolean =>
  models.some((m) => m.codeOf(target, codeKey(word))) ||
  word.classes.every((key) => models.some((m) => m.classOf(target, key)));

/** Tenants as words, in order. */
export function link(tenants: readonly TenantModel[], target: string, options: PlanOptions = {}): Plan {
  const { tier = 'generic', width, words = 'coalesced', tuning } = options;
  const linked = tenants.map(
    ({ name, model }): Tenant => ({ name, model: model.compiledFor(target, tuning) }),
  );
  const coalesced = (...notes: string[]): Plan => ({
    tenants: linked,
    words: coalesce(linked, tier, width),
    kind: 'coalesced',
    notes,
  });
  if (words === 'coalesced') return coalesced();
  const limits = targetOf(target);
  const { units = limits.units } = options;
  const { timeOf, onBlocks } = knownTimes(target, options);
  if (words === 'branches') {
    const branched = branches(linked, {
      ...{ tier, timeOf },
      ...(width !== undefined && { width }),
      ...(onBlocks && { onBlocks }),
    });
    if (!branched)
      return coalesced('words have no branches: each needs the one before it, as a tenant is in both');
    return { tenants: linked, ...branched, kind: 'branches', order: 'branches', notes: [] };
  }
  const models = [...new Set(tenants.map((t) => t.model))];
  // What comes from an artefact has no kernels to emit other code from.
  const given = models.some((m) => m.isCompiled) ? models.flatMap((m) => m.fusedCodes(target)) : undefined;
  const packing: PackOptions = {
    tier,
    target: limits,
    units,
    timeOf,
    ...(given && { given }),
    ...(width !== undefined && { width }),
  };
  const { words: packed, predicted, lacksCode } = pack(linked, packing);
  if (!packed.every((word) => codeIsThere(models, target, word)))
    return coalesced('words stay coalesced: the artefact has not the code for other ones');
  const notes =
    given && lacksCode
      ? ['some words are narrower than they could be: the artefact has no code for all of their classes']
      : [];
  return { tenants: linked, words: packed, kind: 'wide', predicted, notes };
}

/** The same with the kernels of all classes, to print or to interpret. Every tenant's model must be compiled from its source. */
export function linkWithKernels(
  tenants: readonly TenantModel[],
  target: string,
  options: PlanOptions = {},
): Program {
  const plan = link(tenants, target, options);
  const classes = new Map<string, KernelClass>();
  tenants.forEach(({ model }, n) => {
    const keys = plan.tenants[n]!.model.tasks.flatMap(variantsOf).flatMap((v) => Object.values(v.classes));
    for (const key of keys) {
      const found = classes.get(key) ?? model.classOf(target, key);
      if (found) classes.set(key, found);
    }
  });
  return { ...plan, target, classes };
}
