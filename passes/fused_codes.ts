/**
 * @file The codes of wide words: sets of kernel classes that are compiled together. A word may run on the code of more classes than it
 * has, so that a few codes, each compiled once, serve all words.
 */
import { blocksPerUnit, hasRegistersFor, most, type Resources } from '../ir/occupancy.ts';
import type { Target } from '../ir/target.ts';

/** A code that can be had. */
export interface Code {
  readonly classes: readonly string[];
  /** How many of its blocks a multiprocessor holds. */
  readonly blocksPerUnit: number;
}

/** Classes that a word would like to have in one code. */
export interface Demand {
  readonly classes: readonly string[];
  /** Milliseconds that it saves. */
  readonly gain: number;
  /** Blocks on a multiprocessor that it makes use of. */
  readonly held: number;
}

/** What is known of classes: what their code takes. */
export interface ClassResources {
  readonly target: Target;
  readonly resourcesOf: (key: string) => Resources;
}

const codeOf = (classes: readonly string[], { target, resourcesOf }: ClassResources): Code => ({
  classes,
  blocksPerUnit: blocksPerUnit(most(classes.map(resourcesOf)), target),
});

/** Whether bodies of these classes go into one code: the threads of one and the registers of another may be more than there is. */
const goTogether = (classes: readonly string[], { target, resourcesOf }: ClassResources): boolean =>
  classes.length === 1 || hasRegistersFor(most(classes.map(resourcesOf)), target);

/** Any code, made to measure; or one of the given ones. */
export class FusedCodes {
  readonly #given: readonly Code[] | undefined;
  /** How often there was none of the given ones. */
  refused = 0;

  constructor(
    private readonly known: ClassResources,
    given?: readonly (readonly string[])[],
  ) {
    this.#given = given?.map((classes) => codeOf(classes, known));
  }

  /** The code that holds most blocks of those that have these classes; undefined if there is none. */
  find(classes: readonly string[]): Code | undefined {
    if (!this.#given || classes.length === 1)
      return goTogether(classes, this.known) ? codeOf(classes, this.known) : undefined;
    const [found] = this.#given
      .filter((code) => classes.every((key) => code.classes.includes(key)))
      .sort((a, b) => b.blocksPerUnit - a.blocksPerUnit);
    if (!found) this.refused++;
    return found;
  }
}

/**
 * Each code is a compile, and each of its bodies makes it longer. With half as many of either, eight unlike networks are expected to take a
 * fifth longer; with twice as many, no less.
 */
const mostCodes = 16;
const mostBodies = 24;

/**
 * A few codes that serve as many demands as they can, those that save most first. A code grows as long as it holds as many blocks as
 * those that are served by it make use of.
 */
export function chooseCodes(demands: readonly Demand[], known: ClassResources): string[][] {
  const codes: { classes: readonly string[]; held: number }[] = [];
  const total = new Map<string, Demand>();
  for (const d of demands) {
    const key = [...d.classes].sort().join('+');
    const before = total.get(key);
    total.set(key, {
      classes: d.classes,
      gain: d.gain + (before?.gain ?? 0),
      held: Math.max(d.held, before?.held ?? 0),
    });
  }
  for (const { classes, held } of [...total.values()].sort((a, b) => b.gain - a.gain)) {
    const enough = Math.min(held, codeOf(classes, known).blocksPerUnit);
    const [grown] = codes
      .map((code) => ({
        code,
        union: [...new Set([...code.classes, ...classes])],
        held: Math.max(code.held, enough),
      }))
      .filter(
        ({ union, held }) =>
          union.length <= mostBodies &&
          goTogether(union, known) &&
          codeOf(union, known).blocksPerUnit >= held,
      )
      // The one that grows least.
      .sort((a, b) => a.union.length - a.code.classes.length - (b.union.length - b.code.classes.length));
    if (grown) Object.assign(grown.code, { classes: grown.union, held: grown.held });
    else if (codes.length < mostCodes && classes.length <= mostBodies) codes.push({ classes, held: enough });
  }
  // In an order of their own, so that the same set is the same code.
  return codes.map((c) => [...c.classes].sort());
}
