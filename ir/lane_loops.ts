/**
 * @file The loops that lanes share in the reduction skeleton: a point's outermost reductions and its store loops. Which elements a lane takes
 * at once, which of them it keeps from one loop to the next, and what may be read before anything is computed. Found by proof on a
 * kernel's own sizes.
 */
import { affine, formatAffine, type Index, substituteAffine } from './affine.ts';
import { volume } from './contraction.ts';
import type { Expr, Kernel, Load, Reduce, ReductionSchedule, Store } from './kernel.ts';
import { linearize, type Statement } from './linearize.ts';
import { uniqueNames } from './names.ts';
import { accessWidth } from './vector.ts';
import { freeIndices } from './walk.ts';

export interface LaneLoop {
  readonly of: Reduce | Store;
  readonly over: readonly Index[];
  /** What the elements of a vector are neighbours along: the innermost index that is more than one, if there is one. */
  readonly along: Index | undefined;
  /** True if the lanes take all of it in one step. What they read of such a loop is kept. */
  readonly isWhole: boolean;
  /** The number of the first loop that has the same extents, index by index. */
  readonly like: number;
  /** Loads that differ from step to step, in order. */
  readonly loads: readonly LaneLoad[];
  /** What is computed in each step besides. */
  readonly values: readonly Expr[];
  /** How many neighbours a store loop's store takes at once; 0 for a reduction. */
  readonly store: number;
}

export interface LaneLoad {
  readonly load: Load;
  /** How many neighbours of a vector it takes at once; all of it stands for one element where it is the same for the whole vector. */
  readonly width: number;
  readonly isSame: boolean;
  /** True if its coordinates are index arithmetic alone, so that it can come before anything is computed. */
  readonly isEarly: boolean;
  /** Loads of whole loops with the same extents that have one text read the same elements. */
  readonly text: string;
}

/** True if a lane takes more than one element at a time. */
export const usesVectorLoops = ({ vector, unroll }: ReductionSchedule): boolean => vector * unroll > 1;

/** Whether vectors and steps of several are possible: no loop has loops inside. */
export const hasPlainLoops = (kernel: Kernel): boolean =>
  linearize(kernel).statements.every(
    (s) => s.kind === 'let' || s.body.every((inner) => inner.kind === 'let'),
  );

type Loop = Exclude<Statement, { kind: 'let' }>;
const isLoop = (s: Statement): s is Loop =>
  s.kind === 'reduce' || (s.kind === 'store' && s.store.over.length > 0);

/** The loops of a kernel with plain loops, in order. */
export function laneLoops(
  kernel: Kernel,
  { lanes, vector, unroll }: Pick<ReductionSchedule, 'lanes' | 'vector' | 'unroll'>,
): LaneLoop[] {
  const free = freeIndices();
  const seen: { readonly extents: string; readonly over: readonly Index[] }[] = [];
  const name = uniqueNames((i: Index) => i.name);
  return linearize(kernel)
    .statements.filter(isLoop)
    .map((s): LaneLoop => {
      const { over } = s.kind === 'reduce' ? s.expr : s.store;
      const along = over.findLast((i) => i.extent > 1);
      const extents = over.map((i) => i.extent).join();
      seen.push({ extents, over });
      const like = seen.findIndex((loop) => loop.extents === extents);
      const loads = s.body.flatMap((inner): LaneLoad[] => {
        if (inner.kind !== 'let' || inner.expr.kind !== 'load') return [];
        const load = inner.expr;
        const isSame = !along || !free(load).has(along);
        return [
          {
            load,
            isSame,
            width: isSame ? 1 : accessWidth(load, along, vector),
            isEarly: load.at.every((c) => 'affine' in c),
            text: textOf(load, over, seen[like]!.over, name),
          },
        ];
      });
      return {
        of: s.kind === 'reduce' ? s.expr : s.store,
        over,
        along,
        isWhole: volume(over) <= lanes * vector * unroll,
        like,
        loads,
        values: s.body.flatMap((inner) =>
          inner.kind === 'let' && inner.expr.kind !== 'load' ? [inner.expr] : [],
        ),
        store: s.kind === 'reduce' ? 0 : along ? accessWidth(s.store, along, vector) : 1,
      };
    });
}

/** What a load reads, in the indices of the first loop of the same extents. */
function textOf(
  { buffer, at, pad }: Load,
  over: readonly Index[],
  first: readonly Index[],
  name: (i: Index) => string,
): string {
  const known = new Map(over.map((i, n) => [i, affine(first[n]!)]));
  const coordinates = at.map((c) =>
    'gather' in c ? 'gather' : formatAffine(substituteAffine(c.affine, known), name),
  );
  return `${buffer.name}[${coordinates.join(', ')}] pad ${pad}`;
}
