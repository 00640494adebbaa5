/**
 * @file Walking and rewriting expressions: the few functions that every pass is written with.
 */
import { type Affine, type Index, indicesOf, substituteAffine } from './affine.ts';
import type { Coordinate, Expr, Load } from './kernel.ts';

/** The expressions a node is made of, gather coordinates included. */
export function childrenOf(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case 'const':
    case 'index':
      return [];
    case 'load':
      return e.at.flatMap((c) => ('gather' in c ? [c.gather] : []));
    case 'op':
      return e.args;
    case 'cast':
      return [e.arg];
    case 'reduce':
      return [e.body];
    default:
      return e satisfies never;
  }
}

/** Calls `visit` once on every node reachable from the roots, children first. */
export function visitExprs(roots: Iterable<Expr>, visit: (e: Expr) => void): void {
  const seen = new Set<Expr>();
  const go = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    for (const child of childrenOf(e)) go(child);
    visit(e);
  };
  for (const root of roots) go(root);
}

/** Every load reachable from the roots. */
export function loadsIn(roots: Iterable<Expr>): Load[] {
  const loads: Load[] = [];
  visitExprs(roots, (e) => {
    if (e.kind === 'load') loads.push(e);
  });
  return loads;
}

/** The indices a node needs from outside: those it mentions, less those it binds. Memoised per call. */
export function freeIndices(): (e: Expr) => ReadonlySet<Index> {
  const memo = new Map<Expr, ReadonlySet<Index>>();
  const free = (e: Expr): ReadonlySet<Index> => {
    const known = memo.get(e);
    if (known) return known;
    const set = new Set<Index>();
    for (const child of childrenOf(e)) for (const i of free(child)) set.add(i);
    if (e.kind === 'index') indicesOf(e.value, set);
    if (e.kind === 'load') for (const c of e.at) if ('affine' in c) indicesOf(c.affine, set);
    if (e.kind === 'reduce') for (const i of e.over) set.delete(i);
    memo.set(e, set);
    return set;
  };
  return free;
}

export interface Rewrite {
  /** Indices to replace by expressions. Must not name an index that a reduce binds. */
  readonly indices?: ReadonlyMap<Index, Affine>;
  /** Called on every node after its children were rewritten; what it gives takes the node's place. */
  readonly node?: (e: Expr, original: Expr) => Expr;
}

/**
 * A function that rewrites expressions bottom up. Sharing is kept: a node met twice (in one or several calls) gives
 * one result.
 */
export function rewriter({ indices, node }: Rewrite): (e: Expr) => Expr {
  const memo = new Map<Expr, Expr>();
  const sub = (a: Affine): Affine => (indices ? substituteAffine(a, indices) : a);
  const rebuild = (e: Expr): Expr => {
    switch (e.kind) {
      case 'const':
        return e;
      case 'index':
        return { ...e, value: sub(e.value) };
      case 'load':
        return {
          ...e,
          at: e.at.map(
            (c): Coordinate => ('gather' in c ? { gather: go(c.gather) } : { affine: sub(c.affine) }),
          ),
        };
      case 'op':
        return { ...e, args: e.args.map(go) };
      case 'cast':
        return { ...e, arg: go(e.arg) };
      case 'reduce':
        return { ...e, body: go(e.body) };
      default:
        return e satisfies never;
    }
  };
  const go = (e: Expr): Expr => {
    let out = memo.get(e);
    if (!out) {
      out = rebuild(e);
      if (node) out = node(out, e);
      memo.set(e, out);
    }
    return out;
  };
  return go;
}
