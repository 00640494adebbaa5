/**
 * @file What the sizes in a slot row must be for a kernel class to stay inside of its buffers. The proof for sizes that are bound a slot:
 * every access that codegen leaves unguarded is inside for all sizes that keep these laws, and the runtime looks after the laws when it
 * fills a row.
 */
import { type Affine, type Atom, type Index, intervalOf, isQuotient } from './affine.ts';
import { provedInside } from './bounds.ts';
import type { KernelClass } from './class.ts';
import type { Buffer, Load } from './kernel.ts';
import { scratchElementBytes, scratchOf } from './scratch.ts';
import { dtypes } from './types.ts';
import { loadsIn } from './walk.ts';

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
  /** What it is about, for messages. */
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
  /** Inputs, outputs, scratch. */
  readonly operands: readonly OperandShape[];
}

const mostInt = 2 ** 31 - 1;

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
    const what = `coordinate ${d} of %${b.name}`;
    demand(what, plus(extent, plus(times(bound(at, 'greatest', slotOf), -1), constant(-1))));
    demand(what, bound(at, 'least', slotOf));
  };
  const access = (load: Load): void =>
    load.at.forEach((c, d) => {
      // The others are compared with the extent when the kernel runs.
      if ('affine' in c && provedInside(c.affine, load.buffer.shape[d]!)) inside(load.buffer, d, c.affine);
    });
  loadsIn(kernel.stores.map((s) => s.value)).forEach(access);
  for (const store of kernel.stores) store.at.forEach((a, d) => inside(store.buffer, d, a));
  const extent = (slot: number | undefined, own: number): Extent =>
    slot === undefined ? own : { size: slot };
  return {
    sizes: sizes.values.length,
    laws: [...laws.values()],
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
  { sizes: count, laws, operands }: RowContract,
  sizes: readonly number[],
  bytes: readonly number[],
): string | undefined {
  if (sizes.length !== count) return `it has ${sizes.length} sizes, its class leaves ${count} open`;
  const odd = sizes.find((s) => !Number.isInteger(s) || s < 1 || s > mostInt);
  if (odd !== undefined) return `size ${odd} is not between 1 and ${mostInt}`;
  const broken = laws.find(({ atLeast0 }) => evaluate(atLeast0, sizes) < 0);
  if (broken) return `with sizes ${sizes.join(', ')} ${broken.what} is not inside`;
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
