/**
 * @file Index arithmetic. An access into a buffer is, dimension by dimension, a quasi-affine expression of loop
 * indices: a sum of integer multiples of indices and of floor-divisions and remainders by constants (the
 * same class as MLIR's affine maps). Kept in one normal form, so that equality is structural and an interval can
 * be computed exactly enough to prove accesses in bounds.
 */

/** A loop index with its extent: it runs over 0 .. extent-1. Identity is by object, the name is for people. */
export interface Index {
  readonly name: string;
  readonly extent: number;
}

/** What a term multiplies. */
export type Atom = Index | Quotient;

/** floor(arg / by) or arg mod by (never negative), with by > 0. */
export interface Quotient {
  readonly kind: 'floordiv' | 'mod';
  readonly arg: Affine;
  readonly by: number;
}

export interface Term {
  readonly coeff: number;
  readonly atom: Atom;
}

/** constant + sum of coeff * atom; no two terms share an atom, no coefficient is zero. */
export interface Affine {
  readonly constant: number;
  readonly terms: readonly Term[];
}

/** A closed range of integers. */
export interface Interval {
  readonly min: number;
  readonly max: number;
}

export const isQuotient = (atom: Atom): atom is Quotient => 'kind' in atom;

export const index = (name: string, extent: number): Index => ({ name, extent });

export type AffineLike = Affine | Index | number;

/** Reads an index or a number as an affine expression. */
export function affine(e: AffineLike): Affine {
  if (typeof e === 'number') return { constant: e, terms: [] };
  if ('terms' in e) return e;
  return { constant: 0, terms: [{ coeff: 1, atom: e }] };
}

const sameAtom = (a: Atom, b: Atom): boolean =>
  a === b ||
  (isQuotient(a) && isQuotient(b) && a.kind === b.kind && a.by === b.by && sameAffine(a.arg, b.arg));

export function sameAffine(a: Affine, b: Affine): boolean {
  return (
    a.constant === b.constant &&
    a.terms.length === b.terms.length &&
    a.terms.every((t) => b.terms.some((u) => u.coeff === t.coeff && sameAtom(t.atom, u.atom)))
  );
}

export function add(...parts: AffineLike[]): Affine {
  let constant = 0;
  const terms: Term[] = [];
  for (const part of parts.map(affine)) {
    constant += part.constant;
    for (const term of part.terms) {
      const at = terms.findIndex((t) => sameAtom(t.atom, term.atom));
      if (at < 0) terms.push(term);
      else terms[at] = { coeff: terms[at]!.coeff + term.coeff, atom: term.atom };
    }
  }
  return { constant, terms: terms.filter((t) => t.coeff !== 0) };
}

export function mul(e: AffineLike, factor: number): Affine {
  const a = affine(e);
  if (factor === 0) return affine(0);
  return {
    constant: a.constant * factor,
    terms: a.terms.map((t) => ({ coeff: t.coeff * factor, atom: t.atom })),
  };
}

/** floor(e / by), simplified where the interval or the coefficients allow it. */
export function floordiv(e: AffineLike, by: number): Affine {
  const a = affine(e);
  if (by === 1) return a;
  // (by*q + r) / by = q when 0 <= r < by
  const multiple = splitMultiple(a, by);
  const rest = intervalOf(multiple.rest);
  if (rest.min >= 0 && rest.max < by) return multiple.quotient;
  return { constant: 0, terms: [{ coeff: 1, atom: { kind: 'floordiv', arg: a, by } }] };
}

/** e mod by, in 0 .. by-1, simplified where the interval or the coefficients allow it. */
export function mod(e: AffineLike, by: number): Affine {
  const a = affine(e);
  if (by === 1) return affine(0);
  const { rest } = splitMultiple(a, by);
  const range = intervalOf(rest);
  if (range.min >= 0 && range.max < by) return rest;
  return { constant: 0, terms: [{ coeff: 1, atom: { kind: 'mod', arg: rest, by } }] };
}

/** e = by * quotient + rest, where quotient takes every term whose coefficient is a multiple of `by`. */
function splitMultiple(a: Affine, by: number): { quotient: Affine; rest: Affine } {
  const whole = a.terms.filter((t) => t.coeff % by === 0);
  const whole0 = Math.floor(a.constant / by);
  return {
    quotient: { constant: whole0, terms: whole.map((t) => ({ coeff: t.coeff / by, atom: t.atom })) },
    rest: { constant: a.constant - whole0 * by, terms: a.terms.filter((t) => t.coeff % by !== 0) },
  };
}

/** The range of values an expression takes while its indices run over their extents (never too narrow). */
export function intervalOf(a: Affine): Interval {
  let { constant: min, constant: max } = a;
  for (const { coeff, atom } of a.terms) {
    const range = atomInterval(atom);
    min += coeff > 0 ? coeff * range.min : coeff * range.max;
    max += coeff > 0 ? coeff * range.max : coeff * range.min;
  }
  return { min, max };
}

function atomInterval(atom: Atom): Interval {
  if (!isQuotient(atom)) return { min: 0, max: atom.extent - 1 };
  if (atom.kind === 'mod') return { min: 0, max: atom.by - 1 };
  const arg = intervalOf(atom.arg);
  return { min: Math.floor(arg.min / atom.by), max: Math.floor(arg.max / atom.by) };
}

/** Replaces indices by expressions (or other indices); what the map does not name stays. */
export function substituteAffine(a: Affine, map: ReadonlyMap<Index, Affine>): Affine {
  return add(
    a.constant,
    ...a.terms.map(({ coeff, atom }) => {
      if (!isQuotient(atom)) return mul(map.get(atom) ?? atom, coeff);
      const arg = substituteAffine(atom.arg, map);
      return mul(atom.kind === 'mod' ? mod(arg, atom.by) : floordiv(arg, atom.by), coeff);
    }),
  );
}

/** Every index an expression mentions. */
export function indicesOf(a: Affine, into = new Set<Index>()): Set<Index> {
  for (const { atom } of a.terms) {
    if (isQuotient(atom)) indicesOf(atom.arg, into);
    else into.add(atom);
  }
  return into;
}

/** The index if the expression is just that index. */
export function asIndex(a: Affine): Index | undefined {
  const [term] = a.terms;
  if (a.constant !== 0 || a.terms.length !== 1 || term!.coeff !== 1 || isQuotient(term!.atom))
    return undefined;
  return term!.atom;
}

/** True if no floor-division or remainder occurs: offsets are then sums of one part per index. */
export const isPurelyAffine = (a: Affine): boolean => a.terms.every((t) => !isQuotient(t.atom));

/** Coefficient of an index in a purely affine expression; 0 where it does not occur. */
export const coefficientOf = (a: Affine, i: Index): number => a.terms.find((t) => t.atom === i)?.coeff ?? 0;

/** Prints with the given spelling of indices: `oh*2 + kh - 3`, `(i floordiv 4)`. */
export function formatAffine(a: Affine, nameOf: (i: Index) => string = (i) => i.name): string {
  const parts = a.terms.map(({ coeff, atom }, at) => {
    const text = isQuotient(atom)
      ? `(${formatAffine(atom.arg, nameOf)} ${atom.kind} ${atom.by})`
      : nameOf(atom);
    const size = Math.abs(coeff) === 1 ? text : `${text}*${Math.abs(coeff)}`;
    if (at === 0) return coeff < 0 ? `-${size}` : size;
    return coeff < 0 ? ` - ${size}` : ` + ${size}`;
  });
  if (parts.length === 0) return String(a.constant);
  if (a.constant !== 0) parts.push(a.constant < 0 ? ` - ${-a.constant}` : ` + ${a.constant}`);
  return parts.join('');
}
