/**
 * @file What the sizes in a slot row must be for a kernel class to stay inside of its buffers. The proof for sizes that are bound a slot:
 * for all sizes that keep these laws every access that codegen leaves unguarded is inside, and 32 bits hold the numbers it is computed
 * from. The runtime looks after the laws when it fills a row.
 */
import { type Affine, type Atom, formatAffine, type Index, intervalOf, isQuotient } from './affine.ts';
import { mostInt, provedInside } from './bounds.ts';
import type { KernelClass } from './class.ts';
import type { Buffer } from './kernel.ts';
import { scratchElementBytes, scratchOf } from './scratch.ts';
import { dtypes } from './types.ts';
import { visitExprs } from './walk.ts';

/** A number that depends on the sizes of a row: constant + sum of coeff * (a size, or a floor-division). Plain data. */
export interface SizeExpr {
  readonly constant: number;
  readonly terms: readonly SizeTerm[];
}
type SizeTerm = { readonly coeff: number } & (
  | { readonly size: number }
  | { readonly floordiv: SizeExpr; readonly by: number }
);

/** A law: the expression is at least 0. */
export interface SizeLaw {
  /** What is the matter where it is broken. */
  readonly what: string;
  readonly atLeast0: SizeExpr;
}

/** How many elements an operand has: the product of extents, each a size of the row, a constant, or (of scratch memory) a number of tiles. */
export interface OperandShape {
  readonly dims: readonly (Extent | Tiles)[];
  readonly elementBytes: number;
}
type Extent = { readonly size: number } | number;
/** How many tiles of `by` positions a box of these extents has. */
type Tiles = { readonly box: readonly Extent[]; readonly by: number };

export interface RowContract {
  /** How many sizes a row has, each between 1 and 2^31 - 1. */
  readonly sizes: number;
  readonly laws: readonly SizeLaw[];
  /** Loops, one inside the other, whose steps are counted in 32 bits: those with open extents. */
  readonly loops: readonly (readonly Extent[])[];
  /** Inputs, outputs, scratch. */
  readonly operands: readonly OperandShape[];
}

/** The contract of a class, derived from its kernel. */
export function rowContract({ kernel, sizes }: KernelClass): RowContract {
  const laws = new Map<string, SizeLaw>();
  const demand = (what: string, atLeast0: SizeExpr): void => {
    if (atLeast0.terms.length > 0) laws.set(JSON.stringify(atLeast0), { what, atLeast0 });
  };
  const slotOf = (i: Index): number | undefined => sizes.ofExtent(i);
  const inside = (b: Buffer, d: number, at: Affine): void => {
    const slot = sizes.ofDim(b, d);
    const extent: SizeExpr =
      slot === undefined ? constant(b.shape[d]!) : { constant: 0, terms: [{ coeff: 1, size: slot }] };
    const what = `coordinate ${d} of %${b.name} is not inside`;
    demand(what, plus(extent, plus(times(bound(at, 'greatest', slotOf), -1), constant(-1))));
    demand(what, bound(at, 'least', slotOf));
  };
  /** That 32 bits hold the numbers on the way to a value; what is inside of a buffer as a whole holds no greater ones unless it subtracts. */
  const computed = (what: string, a: Affine, isInside: boolean): void => {
    const above = reach(a, 'above', slotOf);
    const below = reach(a, 'below', slotOf);
    const holds = (numbers: SizeExpr): void =>
      demand(`${what} is not computed in 32 bits`, plus(constant(mostInt), times(numbers, -1)));
    if (!(isInside && sameExpr(above, bound(a, 'greatest', slotOf))) && !isSizeAtMost(above)) holds(above);
    holds(below);
    for (const { atom } of a.terms) {
      if (!isQuotient(atom)) continue;
      computed(what, atom.arg, false);
      // A quotient of what is negative is that of -arg + by - 1, negated.
      holds(plus(reach(atom.arg, 'below', slotOf), constant(atom.by - 1)));
    }
  };
  const at = (b: Buffer, d: number, a: Affine, isInside: boolean): void => {
    if (isInside) inside(b, d, a);
    computed(`coordinate ${d} of %${b.name}`, a, isInside);
  };
  const loops: Extent[][] = [];
  const count = (over: readonly Index[]): void => {
    const extents = over.map((i) => extent(slotOf(i), i.extent));
    if (extents.length > 1 && extents.some((e) => typeof e !== 'number')) loops.push(extents);
  };
  const extent = (slot: number | undefined, own: number): Extent =>
    slot === undefined ? own : { size: slot };
  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      if (e.kind === 'index') computed(`index ${formatAffine(e.value)}`, e.value, false);
      if (e.kind === 'reduce') count(e.over);
      if (e.kind !== 'load') return;
      e.at.forEach((c, d) => {
        // Others than those that are proved inside are compared with the extent when the kernel runs.
        if ('affine' in c) at(e.buffer, d, c.affine, provedInside(c.affine, e.buffer.shape[d]!));
      });
    },
  );
  for (const store of kernel.stores) {
    count([...kernel.domain, ...store.over]);
    store.at.forEach((a, d) => at(store.buffer, d, a, true));
  }
  return {
    sizes: sizes.values.length,
    laws: [...laws.values()],
    loops,
    operands: [
      ...[...kernel.inputs, ...kernel.outputs].map((b) => ({
        dims: b.shape.map((own, d) => extent(sizes.ofDim(b, d), own)),
        elementBytes: dtypes[b.dtype].bytes,
      })),
      ...scratchOf(kernel).map(({ factors }) => ({
        dims: factors.map((f) =>
          typeof f === 'number' ? f : { ...f, box: f.box.map((i) => extent(slotOf(i), i.extent)) },
        ),
        elementBytes: scratchElementBytes,
      })),
    ],
  };
}

/** What is wrong with a row of these sizes on operands of so many bytes; undefined if it keeps the contract. */
export function breachOf(
  { sizes: count, laws, loops, operands }: RowContract,
  sizes: readonly number[],
  bytes: readonly number[],
): string | undefined {
  if (sizes.length !== count) return `it has ${sizes.length} sizes, its class leaves ${count} open`;
  const odd = sizes.find((s) => !Number.isInteger(s) || s < 1 || s > mostInt);
  if (odd !== undefined) return `size ${odd} is not between 1 and ${mostInt}`;
  const broken = laws.find(({ atLeast0 }) => evaluate(atLeast0, sizes) < 0);
  if (broken) return `with sizes ${sizes.join(', ')} ${broken.what}`;
  for (const extents of loops) {
    const steps = extents.reduce<number>((product, e) => product * lengthOf(e, sizes), 1);
    if (steps > mostInt)
      return `with sizes ${sizes.join(', ')} loops have ${steps} steps, more than 32 bits count`;
  }
  if (bytes.length !== operands.length) return `it has ${bytes.length} operands, not ${operands.length}`;
  for (const [n, { dims, elementBytes }] of operands.entries()) {
    const elements = dims.reduce<number>((product, d) => product * lengthOf(d, sizes), 1);
    if (elements > mostInt) return `operand ${n} has ${elements} elements, more than offsets reach`;
    if (elements * elementBytes !== bytes[n])
      return `operand ${n} takes ${elements * elementBytes} bytes, its place has ${bytes[n]}`;
  }
  return undefined;
}

function lengthOf(d: Extent | Tiles, sizes: readonly number[]): number {
  if (typeof d === 'number') return d;
  if ('size' in d) return sizes[d.size]!;
  return Math.ceil(d.box.reduce<number>((product, e) => product * lengthOf(e, sizes), 1) / d.by);
}

const constant = (value: number): SizeExpr => ({ constant: value, terms: [] });
const times = ({ constant, terms }: SizeExpr, factor: number): SizeExpr => ({
  constant: constant * factor,
  terms: terms.map((t) => ({ ...t, coeff: t.coeff * factor })),
});
/** The sum, with terms of one size put together. */
function plus(a: SizeExpr, b: SizeExpr): SizeExpr {
  const terms: SizeTerm[] = [...a.terms];
  for (const term of b.terms) {
    const at = terms.findIndex((t) => 'size' in t && 'size' in term && t.size === term.size);
    if (at < 0) terms.push(term);
    else terms[at] = { ...term, coeff: terms[at]!.coeff + term.coeff };
  }
  return { constant: a.constant + b.constant, terms: terms.filter((t) => t.coeff !== 0) };
}

const evaluate = ({ constant, terms }: SizeExpr, sizes: readonly number[]): number =>
  terms.reduce(
    (sum, t) =>
      sum + t.coeff * ('size' in t ? sizes[t.size]! : Math.floor(evaluate(t.floordiv, sizes) / t.by)),
    constant,
  );

type End = 'greatest' | 'least';

/** The greatest or least value of index arithmetic, as a function of the sizes. */
function bound(a: Affine, end: End, slotOf: (i: Index) => number | undefined): SizeExpr {
  let sum = constant(a.constant);
  for (const { coeff, atom } of a.terms) {
    const which = coeff > 0 === (end === 'greatest') ? 'greatest' : 'least';
    sum = plus(sum, times(boundOfAtom(atom, which, slotOf), coeff));
  }
  if (sum.terms.length > 0) return sum;
  // Without open sizes the interval says all there is to say.
  const { min, max } = intervalOf(a);
  return constant(end === 'greatest' ? max : min);
}

function boundOfAtom(atom: Atom, end: End, slotOf: (i: Index) => number | undefined): SizeExpr {
  if (!isQuotient(atom)) {
    const slot = end === 'greatest' ? slotOf(atom) : undefined;
    if (slot !== undefined) return { constant: -1, terms: [{ coeff: 1, size: slot }] };
    return constant(end === 'greatest' ? atom.extent - 1 : 0);
  }
  const { arg, by, kind } = atom;
  if (kind === 'mod') return constant(end === 'greatest' ? by - 1 : 0);
  const of = bound(arg, end, slotOf);
  if (of.terms.length === 0) return constant(Math.floor(of.constant / by));
  return { constant: 0, terms: [{ coeff: 1, floordiv: of, by }] };
}

/**
 * How far above or below 0 an expression's terms get, some or all of them added up in any order, as a function of the sizes: what
 * bounds.ts computes for sizes that are known.
 */
function reach(a: Affine, way: 'above' | 'below', slotOf: (i: Index) => number | undefined): SizeExpr {
  let sum = constant(Math.max(0, way === 'above' ? a.constant : -a.constant));
  for (const { coeff, atom } of a.terms) {
    const which = coeff > 0 === (way === 'above') ? 'above' : 'below';
    sum = plus(sum, times(reachOfAtom(atom, which, slotOf), Math.abs(coeff)));
  }
  return sum;
}

function reachOfAtom(atom: Atom, way: 'above' | 'below', slotOf: (i: Index) => number | undefined): SizeExpr {
  if (!isQuotient(atom)) return way === 'above' ? boundOfAtom(atom, 'greatest', slotOf) : constant(0);
  const { arg, by, kind } = atom;
  if (kind === 'mod') return constant(way === 'above' ? by - 1 : 0);
  const of = plus(reach(arg, way, slotOf), constant(way === 'above' ? 0 : by - 1));
  if (of.terms.length === 0) return constant(Math.floor(of.constant / by));
  return { constant: 0, terms: [{ coeff: 1, floordiv: of, by }] };
}

const sameExpr = (a: SizeExpr, b: SizeExpr): boolean => JSON.stringify(a) === JSON.stringify(b);

/** True of a size, or less than that: 32 bits hold it in any case. */
const isSizeAtMost = ({ constant, terms: [first, ...others] }: SizeExpr): boolean =>
  constant <= 0 && others.length === 0 && first?.coeff === 1 && 'size' in first;

/** A law as text: `x0_dim2 - oh_size*2 - 1 >= 0`. */
export function formatLaw({ atLeast0 }: SizeLaw, names: readonly string[]): string {
  const format = ({ constant, terms }: SizeExpr): string => {
    const parts = terms.map((t) => {
      const atom = 'size' in t ? names[t.size]! : `((${format(t.floordiv)}) floordiv ${t.by})`;
      const size = Math.abs(t.coeff) === 1 ? atom : `${atom}*${Math.abs(t.coeff)}`;
      return `${t.coeff < 0 ? '- ' : '+ '}${size}`;
    });
    if (constant !== 0) parts.push(`${constant < 0 ? '-' : '+'} ${Math.abs(constant)}`);
    return parts.join(' ').replace(/^\+ /, '').replace(/^- /, '-') || '0';
  };
  return `${format(atLeast0)} >= 0`;
}
