/**
 * @file Vectors: which accesses can take several neighbours at once. Found by proof on a kernel's own sizes.
 */
import { type Affine, affine, type Index, index, indicesOf, isQuotient } from './affine.ts';
import { guardedDims, type LinearOffset, linearOffset } from './bounds.ts';
import type { Kernel, Load, Store } from './kernel.ts';
import { dtypes } from './types.ts';
import { freeIndices, loadsIn } from './walk.ts';

/** How many neighbours an access takes at once, where it takes several. */
export const vectorWidths = [8, 4, 2] as const;
/** The most bytes of one access. */
const widestBytes = 16;

/**
 * How many neighbours along `axis` can be accessed at once: they are neighbours in memory, aligned to their size, and all of them inside the
 * buffer or none; `apart` are indices that are guarded one by one.
 */
export function vectorWidth(
  { constant, coefficients }: LinearOffset,
  axis: readonly Index[],
  apart: ReadonlySet<Index>,
): number {
  // The innermost indices of the axis over which the offset grows by one.
  const run = new Set<Index>();
  let length = 1;
  for (const i of [...axis].reverse()) {
    if (i.extent > 1) {
      if (apart.has(i) || coefficients.get(i) !== length) break;
      length *= i.extent;
    }
    run.add(i);
  }
  const steps = [...coefficients].flatMap(([i, step]) => (run.has(i) || i.extent === 1 ? [] : [step]));
  return vectorWidths.find((w) => [length, constant, ...steps].every((s) => s % w === 0)) ?? 1;
}

/** How many neighbours in m all of the accesses can take at once. */
export function widestAccess(accesses: Iterable<Load | Store>, m: readonly Index[]): number {
  const each = [...accesses].map((access) => {
    const at = access.at.flatMap((c) => ('terms' in c ? [c] : 'affine' in c ? [c.affine] : []));
    const offset = linearOffset(access.buffer, at)!;
    const { bytes } = dtypes[access.buffer.dtype];
    return Math.min(vectorWidth(offset, m, new Set()), widestBytes / bytes);
  });
  return Math.min(8, ...each);
}

/**
 * True if a map with vectors writes the steps of a window one after another, so that all their reads are under way together: as long as that is
 * little text.
 */
export const isUnrolled = (over: readonly Index[], vector: number): boolean =>
  over.reduce((steps, i) => steps * i.extent, vector) <= 256;

/** What the points of a map's vector are neighbours along: the innermost index of the domain that is more than one. */
export const vectorIndex = (kernel: Kernel): Index | undefined => kernel.domain.findLast((i) => i.extent > 1);

/** The most points of a vector that an access to the type takes at once. */
export const widestOf = (vector: number, { dtype }: { readonly dtype: keyof typeof dtypes }): number =>
  Math.min(vector, widestBytes / dtypes[dtype].bytes);

/**
 * How many points of a vector each access takes at once, for all accesses that differ from point to point: 1 where they are taken one by one.
 * A load that is not in the map is the same for the whole vector.
 */
export function mapAccesses(kernel: Kernel, vector: number): ReadonlyMap<Load | Store, number> {
  const along = vectorIndex(kernel);
  const free = freeIndices();
  const accesses = new Map<Load | Store, number>();
  if (!along) return accesses;
  for (const load of loadsIn(kernel.stores.map((s) => s.value)))
    if (free(load).has(along)) accesses.set(load, accessWidth(load, along, vector, free));
  for (const store of kernel.stores) accesses.set(store, accessWidth(store, along, vector, free));
  return accesses;
}

/** How many points of a vector along an index an access takes at once. */
export function accessWidth(
  access: Load | Store,
  along: Index,
  vector: number,
  free: ReturnType<typeof freeIndices> = freeIndices(),
): number {
  // Whatever is the same for the whole vector counts as an index of its own: a gathered coordinate, a quotient.
  const apart = (extent: number): Index => index('', extent);
  const at: (Affine | undefined)[] = access.at.map((c, d) => {
    if ('gather' in c) return free(c.gather).has(along) ? undefined : affine(apart(access.buffer.shape[d]!));
    const { constant, terms } = 'terms' in c ? c : c.affine;
    if (terms.some(({ atom }) => isQuotient(atom) && indicesOf(atom.arg).has(along))) return undefined;
    return {
      constant,
      terms: terms.map(({ coeff, atom }) => ({ coeff, atom: isQuotient(atom) ? apart(2) : atom })),
    };
  });
  const known = at.filter((a) => a !== undefined);
  const offset = known.length === at.length ? linearOffset(access.buffer, known) : undefined;
  if (!offset) return 1;
  const guards = 'kind' in access ? guardedDims(access) : [];
  const guarded = new Set(guards.flatMap((d) => [...indicesOf(known[d]!)]));
  return Math.min(vectorWidth(offset, [along], guarded), widestOf(vector, access.buffer));
}
