/**
 * @file The pack pass: words of unlike classes side by side (wide words), by what each kernel takes on so many blocks. List scheduling:
 * the tenant with the longest chain left leads, with all whose next task is of its class, as in the coalesce pass; then other groups join
 * its word, those with more left first, as long as a word less saves more than the slots cost each other. A task that is longer than
 * the leader's is cut by block range to what fits beside it, and goes on in the next words. Which block computes what stays the same,
 * so the bits do. A task runs under the schedule for as many slots as its word has, of whatever classes: they tell better how full the device
 * is than those of its own class. What is left of one that was cut goes on under the schedule that it began with.
 */
import type { Tier } from '../ir/class.ts';
import { most, type Resources } from '../ir/occupancy.ts';
import {
  groupKey,
  type Slot,
  type Task,
  type Tenant,
  type Variant,
  variantFor,
  variantsOf,
  type Word,
} from '../ir/program.ts';
import type { Target } from '../ir/target.ts';
import { type BlockCurve, estimateCurve, timeOn } from './block_time.ts';
import type { TierChoice } from './coalesce.ts';
import { type ClassResources, type Code, chooseCodes, type Demand, FusedCodes } from './fused_codes.ts';
import { area, fixedOf, type Load, shapeWord, type WordShape } from './word_time.ts';

/** What is known of a task before it runs. */
export interface TaskTime {
  readonly curve: BlockCurve;
  readonly resources: Resources;
  /** False if it is an estimate. */
  readonly measured: boolean;
}

/** Where nothing is measured. */
export const estimatedTimes =
  (target: Target, units: number) =>
  ({ work, blocks }: Variant): TaskTime => ({
    curve: estimateCurve(work, blocks, target, units),
    resources: work,
    measured: false,
  });

export interface PackOptions {
  readonly tier: TierChoice;
  readonly target: Target;
  /** Multiprocessors, or threads. */
  readonly units: number;
  readonly timeOf: (variant: Variant, tier: Tier) => TaskTime;
  /** Most slots of a word. */
  readonly width?: number;
  /** The codes of several classes that can be had. Default: a few that serve most. */
  readonly given?: readonly (readonly string[])[];
}

export interface Packed {
  readonly words: readonly Word[];
  /** Milliseconds that each word is expected to take. */
  readonly predicted: readonly number[];
  /** True if words would be wider if there were code for them. */
  readonly lacksCode: boolean;
}

/** Virtual blocks `from` up to `to` of a tenant's next task. */
interface Part {
  readonly tenant: number;
  readonly index: number;
  readonly task: Task;
  readonly variant: Variant;
  readonly from: number;
  readonly to: number;
}

/** True if nothing of the task has run, nor is left for later. */
const isWhole = ({ variant, from, to }: Part): boolean => from === 0 && to === variant.blocks;

/** The parts of a word, each task as it runs in one of so many slots. */
const inWord = (parts: readonly Part[]): Part[] =>
  parts.map((part) => {
    if (!isWhole(part)) return part;
    const variant = variantFor(part.task, parts.length);
    return { ...part, variant, to: variant.blocks };
  });

/** A word that could be issued next. */
interface Draft extends WordShape {
  readonly parts: readonly Part[];
  readonly loads: readonly Load[];
  readonly tier: Tier;
  readonly classes: readonly string[];
  readonly code: Code;
  /** Milliseconds that joins have saved. */
  readonly saved: number;
}

/** A join saves at least this part of the word's time; less is not told from chance. */
const leastGain = 0.03;
/** What joins may make the leader wait by this part of its own time, if it can be cut to fit. */
const tolerated = 0.1;
/** Pieces of a task are at least this part of it. */
const leastPiece = 1 / 16;

export function pack(tenants: readonly Tenant[], options: PackOptions): Packed {
  const { given } = options;
  if (given) return packedOf(new Packer(tenants, options, { generic: given, specialised: given }));
  // First as if any code could be had; what that saves says which codes are worth a compile.
  const free = new Packer(tenants, options);
  const drafts = free.run();
  const codesOf = (tier: Tier): string[][] => {
    const demands = drafts
      .filter((d) => d.tier === tier && d.classes.length > 1)
      .map((d): Demand => {
        const held = Math.max(...d.loads.map((l) => Math.ceil(l.curve.places / options.units)));
        return { classes: d.classes, gain: d.saved, held };
      });
    return chooseCodes(demands, free.known);
  };
  return packedOf(
    new Packer(tenants, options, { generic: codesOf('generic'), specialised: codesOf('specialised') }),
  );
}

function packedOf(packer: Packer): Packed {
  const drafts = packer.run();
  return {
    words: drafts.map(wordOf),
    predicted: drafts.map((d) => d.milliseconds),
    lacksCode: packer.lacksCode,
  };
}

function wordOf({ parts, loads, tier, blocks, code: { classes } }: Draft): Word {
  const slots = parts.map(({ tenant, index, variant, from, to }, n) => ({
    round: loads[n]!.curve.round,
    slot: {
      tenant,
      task: index,
      body: classes.indexOf(variant.classes[tier]),
      blocks: blocks[n]!,
      ...(to - from < variant.blocks && { range: { from, to } }),
    } satisfies Slot,
  }));
  // Long blocks first, so that what ends last is short.
  slots.sort((a, b) => b.round - a.round || a.slot.tenant - b.slot.tenant);
  return { tier, classes, slots: slots.map((s) => s.slot) };
}

const areaOf = (loads: readonly Load[]): number => loads.reduce((sum, l) => sum + area(l), 0);

const nothing: Resources = { threads: 1, registers: 0, sharedBytes: 0 };

type Sets = { readonly [T in Tier]: readonly (readonly string[])[] };

class Packer {
  /** The next task of each tenant, and how many of its virtual blocks have run under which schedule. */
  readonly #next: { task: number; done: number; begun?: Variant }[];
  readonly #chains = new Map<Tenant['model'], number[]>();
  readonly #times = new Map<Variant, Map<Tier, TaskTime>>();
  readonly #codes: { readonly [T in Tier]: FusedCodes };
  readonly #resources = new Map<string, Resources>();
  readonly #grouping: Tier;
  readonly known: ClassResources;

  /** @param sets the codes that there are; any if not said. A word's classes are all of one tier. */
  constructor(
    private readonly tenants: readonly Tenant[],
    private readonly options: PackOptions,
    sets?: Sets,
  ) {
    const { tier, target } = options;
    this.#grouping = tier === 'specialised' ? 'specialised' : 'generic';
    this.#next = tenants.map(() => ({ task: 0, done: 0 }));
    for (const variant of new Set(tenants.flatMap((t) => t.model.tasks).flatMap(variantsOf)))
      for (const t of ['generic', 'specialised'] as const) {
        const { resources } = this.#time(variant, t);
        const before = this.#resources.get(variant.classes[t]);
        this.#resources.set(variant.classes[t], before ? most([before, resources]) : resources);
      }
    // A given code may have classes of other tenants, which say nothing of what it takes.
    this.known = { target, resourcesOf: (key) => this.#resources.get(key) ?? nothing };
    this.#codes = {
      generic: new FusedCodes(this.known, sets?.generic),
      specialised: new FusedCodes(this.known, sets?.specialised),
    };
  }

  get lacksCode(): boolean {
    return Object.values(this.#codes).some((c) => c.refused > 0);
  }

  /** The words in order. */
  run(): Draft[] {
    const drafts: Draft[] = [];
    for (;;) {
      const groups = this.#groups();
      if (groups.length === 0) return drafts;
      const draft = this.#nextWord(groups);
      drafts.push(draft);
      for (const part of draft.parts) this.#advance(part);
    }
  }

  /** The next tasks by class; in each group and among groups those with most left first. */
  #groups(): Part[][] {
    const left = new Map<number, number>();
    const groups = new Map<string, Part[]>();
    this.tenants.forEach(({ model }, tenant) => {
      const { task: index, done, begun } = this.#next[tenant]!;
      const task = model.tasks[index];
      if (!task) return;
      left.set(tenant, this.#left(tenant));
      const variant = begun ?? task;
      // What is left of a task has no choice of schedules any more.
      const key = begun ? begun.classes[this.#grouping] : groupKey(task, this.#grouping);
      const part = { tenant, index, task, variant, from: done, to: variant.blocks };
      groups.set(key, [...(groups.get(key) ?? []), part]);
    });
    const byLeft = (a: Part, b: Part): number => left.get(b.tenant)! - left.get(a.tenant)!;
    return [...groups.values()].map((g) => g.sort(byLeft)).sort((a, b) => byLeft(a[0]!, b[0]!));
  }

  #nextWord([leaders, ...others]: readonly Part[][]): Draft {
    const { width = Number.POSITIVE_INFINITY } = this.options;
    let word = this.#draft(leaders!.slice(0, width))!;
    for (const group of others) {
      const members = group.slice(0, width - word.parts.length);
      if (members.length > 0) word = this.#join(word, members) ?? word;
    }
    return word;
  }

  /** The word with these parts in it, too, whole or cut; undefined if they are better off in a word of their own. */
  #join(word: Draft, members: readonly Part[]): Draft | undefined {
    const whole = this.#draft([...word.parts, ...members]);
    if (!whole) return undefined;
    // The joined word with what it saves; undefined if that is too little.
    const gained = (joined: Draft, otherwise: number): Draft | undefined => {
      const gain = word.milliseconds + otherwise - joined.milliseconds;
      return gain >= leastGain * joined.milliseconds ? { ...joined, saved: word.saved + gain } : undefined;
    };
    const longest = word.milliseconds * (1 + tolerated);
    if (whole.milliseconds > longest) {
      const cut = this.#cut(word, whole);
      const joined = cut && this.#draft([...word.parts, ...cut]);
      // What is left of the task takes less by the work that is done, more or less.
      const found =
        joined && joined.milliseconds <= longest && gained(joined, areaOf(this.#draft(cut)!.loads));
      if (found) return found;
    }
    return gained(whole, this.#draft(members)!.milliseconds);
  }

  /**
   * As many blocks of each part that `whole` has more as the device has time for beside a word; undefined if that is next to none of
   * them, or all.
   */
  #cut(word: Draft, whole: Draft): Part[] | undefined {
    // As long as they are on the code that the joined word would run on.
    const own = areaOf(whole.loads.slice(0, word.parts.length));
    const theirs = areaOf(whole.loads.slice(word.parts.length));
    const share = (word.milliseconds - fixedOf(whole.loads) - own) / theirs;
    if (!(share >= leastPiece && share <= 1 - leastPiece)) return undefined;
    const cut = whole.parts
      .slice(word.parts.length)
      .map((p) => ({ ...p, to: p.from + Math.floor((p.to - p.from) * share) }));
    return cut.every((p) => p.to > p.from) ? cut : undefined;
  }

  /** A word of these parts; undefined if there is no code for their classes. */
  #draft(given: readonly Part[]): Draft | undefined {
    const { target, units } = this.options;
    const parts = inWord(given);
    const tier = this.#tierOf(parts);
    const classes = [...new Set(parts.map((p) => p.variant.classes[tier]))];
    const code = this.#codes[tier].find(classes);
    if (!code) return undefined;
    const loads = parts.map(({ variant, from, to }): Load => {
      const { curve } = this.#time(variant, tier);
      const places =
        classes.length > 1 && target.kind === 'cuda'
          ? Math.min(curve.places, units * code.blocksPerUnit)
          : curve.places;
      return { virtual: to - from, curve: { ...curve, places } };
    });
    return { parts, loads, tier, classes, code, saved: 0, ...shapeWord(loads) };
  }

  /** With `auto` specialised if all parts of one generic class are of one specialised class. */
  #tierOf(parts: readonly Part[]): Tier {
    const { tier } = this.options;
    if (tier !== 'auto') return tier;
    const known = new Map<string, string>();
    for (const { generic, specialised } of parts.map((p) => p.variant.classes)) {
      if ((known.get(generic) ?? specialised) !== specialised) return 'generic';
      known.set(generic, specialised);
    }
    return 'specialised';
  }

  #advance({ tenant, variant, to }: Part): void {
    const next = this.#next[tenant]!;
    if (to < variant.blocks) this.#next[tenant] = { task: next.task, done: to, begun: variant };
    else this.#next[tenant] = { task: next.task + 1, done: 0 };
  }

  /** Milliseconds that a tenant would need alone for what it has left. */
  #left(tenant: number): number {
    const { model } = this.tenants[tenant]!;
    let chain = this.#chains.get(model);
    if (!chain) {
      chain = [0];
      for (const task of [...model.tasks].reverse())
        chain.unshift(chain[0]! + this.#alone(task, task.blocks));
      this.#chains.set(model, chain);
    }
    const { task: index, done, begun } = this.#next[tenant]!;
    const variant = begun ?? model.tasks[index]!;
    return chain[index + 1]! + this.#alone(variant, variant.blocks - done);
  }

  #alone(variant: Variant, virtual: number): number {
    return timeOn(this.#time(variant, this.#grouping).curve, virtual, virtual);
  }

  #time(variant: Variant, tier: Tier): TaskTime {
    let known = this.#times.get(variant);
    if (!known) this.#times.set(variant, (known = new Map()));
    let time = known.get(tier);
    if (!time) known.set(tier, (time = this.options.timeOf(variant, tier)));
    return time;
  }
}
