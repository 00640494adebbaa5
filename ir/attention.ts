/**
 * @file Recognises attention, softmax(score(q, k)) v with one kernel for all of it: what the attention skeleton can run. In the words of
 * the IR, with three indices that run over the same keys,
 *
 *     score(i)  any expression of sum over c of q[c] * k[i, c], the same at i, j and l but for the index
 *     most      max over i of score(i)
 *     total     sum over j of exp(score(j) - most)
 *     sum       sum over l of (16-bit) exp(score(l) - most) * v[l, d]
 *     y[d]      any expression of sum and total
 *
 * where the weights are rounded to the type of v, as tensor cores take them.
 */
import { type Affine, type Index, isQuotient } from './affine.ts';
import { linearOffset } from './bounds.ts';
import { type Operand, onlySum, operandOf, productOf } from './contraction.ts';
import type { Expr, Kernel, Load, Reduce, Store } from './kernel.ts';
import { dtypes } from './types.ts';
import { vectorWidth } from './vector.ts';
import { childrenOf, freeIndices } from './walk.ts';

export interface Attention {
  readonly store: Store;
  /** Indices of the domain that keys or values are indexed by, and the others. */
  readonly batch: readonly Index[];
  readonly query: readonly Index[];
  /** The score at `key`, and the sum of products in it, over `features`. */
  readonly score: Expr;
  readonly product: Reduce;
  readonly key: Index;
  readonly features: Index;
  /** The weighted sum of values, over `valueKey`, and the sum of the weights. */
  readonly sum: Reduce;
  readonly total: Reduce;
  readonly valueKey: Index;
  /** Runs over the elements of a value. */
  readonly width: Index;
  /** Positions of `q` and `k` are features and those of `v` its elements; their k are queries or keys. */
  readonly q: Operand;
  readonly k: Operand;
  readonly v: Operand;
  /** How many neighbours along `width` can be stored at once, at most 16 bytes. */
  readonly storeVector: number;
}

/** The kernel's attention, or undefined if it is none. */
export function attentionOf(kernel: Kernel): Attention | undefined {
  const [store] = kernel.stores;
  const [width] = store?.over ?? [];
  if (!store || !width || kernel.stores.length !== 1 || store.over.length !== 1) return undefined;
  const outer = outerReductions(store.value);
  const free = freeIndices();
  const sum = outer.find((r) => free(r).has(width));
  const total = outer.find((r) => r !== sum);
  if (!sum || !total || outer.length !== 2 || free(total).has(width)) return undefined;

  const weighted = weightedValue(sum);
  const [second, secondKey] = [exponentOf(total.body), onlyIndex(total)];
  if (!weighted || !second || !secondKey || !isSum(total) || second.most !== weighted.weight.most)
    return undefined;
  const most = second.most;
  const key = onlyIndex(most);
  if (most.combine !== 'max' || !key) return undefined;
  const score = most.body;
  if (!alike(score, second.score, [key, secondKey])) return undefined;
  if (!alike(score, weighted.weight.score, [key, weighted.key])) return undefined;

  const product = onlySum(score);
  const features = product && onlyIndex(product);
  const loads = product && productOf(product.body);
  if (!product || !features || !loads || loads.some((l) => !free(l).has(features))) return undefined;
  const [k, ...others] = loads.filter((l) => free(l).has(key));
  const q = loads.find((l) => l !== k);
  if (!k || !q || others.length > 0) return undefined;
  const v = weighted.value;
  if (dtypes[v.dtype].bytes !== 2 || k.dtype !== v.dtype || q.dtype !== v.dtype) return undefined;

  const shared = new Set([...free(k), ...free(v)]);
  const batch = kernel.domain.filter((i) => shared.has(i));
  const query = kernel.domain.filter((i) => !shared.has(i));
  const operands = [operandOf(q, [features], query), operandOf(k, [features], [key])];
  operands.push(operandOf(v, [width], [weighted.key]));
  const [qs, ks, vs] = operands;
  const offset = linearOffset(store.buffer, store.at);
  if (!qs || !ks || !vs || !offset) return undefined;
  const storeVector = Math.min(
    vectorWidth(offset, [width], new Set()),
    16 / dtypes[store.buffer.dtype].bytes,
  );
  const roles = { batch, query, key, features, valueKey: weighted.key, width };
  return { store, score, product, sum, total, ...roles, q: qs, k: ks, v: vs, storeVector };
}

/** The reductions of an expression that stand in no other. */
function outerReductions(value: Expr): Reduce[] {
  const found = new Set<Reduce>();
  const go = (e: Expr): void => {
    if (e.kind === 'reduce') found.add(e);
    else for (const child of childrenOf(e)) go(child);
  };
  go(value);
  return [...found];
}

const isSum = (r: Reduce): boolean => r.combine === 'sum' && r.dtype === 'f32';
const onlyIndex = (r: Reduce): Index | undefined => (r.over.length === 1 ? r.over[0] : undefined);

/** Of exp(score - most), the score and the maximum. */
function exponentOf(e: Expr): { score: Expr; most: Reduce } | undefined {
  if (e.kind !== 'op' || e.op !== 'exp') return undefined;
  const [difference] = e.args;
  if (difference?.kind !== 'op' || difference.op !== 'sub') return undefined;
  const [score, most] = difference.args;
  return most?.kind === 'reduce' ? { score: score!, most } : undefined;
}

/** A sum over keys of a weight, rounded to the type of the value, times that value. */
function weightedValue(sum: Reduce) {
  const { body } = sum;
  const key = onlyIndex(sum);
  if (!isSum(sum) || !key || body.kind !== 'op' || body.op !== 'mul') return undefined;
  const rounded = body.args.map((arg) => (arg.kind === 'cast' ? arg.arg : undefined));
  const value = rounded.find((e): e is Load => e?.kind === 'load');
  const cast = rounded.find((e) => e?.kind === 'cast');
  if (value === undefined || cast?.kind !== 'cast' || cast.dtype !== value.dtype) return undefined;
  if (value.pad !== undefined && value.pad !== 0) return undefined;
  const weight = exponentOf(cast.arg);
  return weight && { key, value, weight };
}

/** True if two expressions are the same but for a pair of indices of theirs, and those that their reductions bind. */
function alike(left: Expr, right: Expr, [from, to]: readonly [Index, Index]): boolean {
  if (from.extent !== to.extent) return false;
  const paired = new Map([[from, to]]);
  const known = new Map<Expr, Expr>();
  const same = (a: Expr, b: Expr): boolean => {
    if (known.get(a) === b) return true;
    if (a.kind !== b.kind || a.dtype !== b.dtype || !sameHere(a, b)) return false;
    const others = childrenOf(b);
    if (!childrenOf(a).every((child, n) => same(child, others[n]!))) return false;
    known.set(a, b);
    return true;
  };
  /** Compares all but the expressions within. */
  const sameHere = (a: Expr, b: Expr): boolean => {
    switch (a.kind) {
      case 'const':
        return b.kind === 'const' && Object.is(a.value, b.value);
      case 'index':
        return b.kind === 'index' && sameAffine(a.value, b.value);
      case 'load':
        if (b.kind !== 'load' || a.buffer !== b.buffer || !Object.is(a.pad, b.pad)) return false;
        return a.at.every((c, d) => {
          const other = b.at[d]!;
          return 'affine' in c ? 'affine' in other && sameAffine(c.affine, other.affine) : 'gather' in other;
        });
      case 'op':
        return b.kind === 'op' && a.op === b.op;
      case 'cast':
        return true;
      case 'reduce':
        if (b.kind !== 'reduce' || a.combine !== b.combine || a.over.length !== b.over.length) return false;
        a.over.forEach((i, n) => void paired.set(i, b.over[n]!));
        return a.over.every((i, n) => i.extent === b.over[n]!.extent);
      default:
        return a satisfies never;
    }
  };
  const sameAffine = (a: Affine, b: Affine): boolean =>
    a.constant === b.constant &&
    a.terms.length === b.terms.length &&
    a.terms.every(({ coeff, atom }) =>
      b.terms.some((other) => {
        if (other.coeff !== coeff) return false;
        if (!isQuotient(atom)) return other.atom === (paired.get(atom) ?? atom);
        const { atom: quotient } = other;
        if (!isQuotient(quotient) || quotient.kind !== atom.kind || quotient.by !== atom.by) return false;
        return sameAffine(atom.arg, quotient.arg);
      }),
    );
  return same(left, right);
}
