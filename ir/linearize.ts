/**
 * @file From expression DAGs to statements in scopes: each value is computed once, in the outermost loop where all the
 * indices it needs are bound. What the printer prints and codegen emits, so the two always agree.
 */
import type { Index } from './affine.ts';
import type { Expr, Kernel, Reduce, Store } from './kernel.ts';
import { childrenOf, freeIndices } from './walk.ts';

/** A value of a kernel by number, in the order of computing. */
export type ValueId = number;

export type Statement =
  | { readonly kind: 'let'; readonly id: ValueId; readonly expr: Exclude<Expr, Reduce> }
  | { readonly kind: 'reduce'; readonly id: ValueId; readonly expr: Reduce; readonly body: Statement[] }
  | { readonly kind: 'store'; readonly store: Store; readonly body: Statement[] };

export interface Linear {
  readonly statements: readonly Statement[];
  /** The number of a value, as seen from anywhere the value is used. */
  readonly idOf: (scope: readonly Statement[], e: Expr) => ValueId;
}

interface Scope {
  readonly bound: ReadonlySet<Index>;
  readonly statements: Statement[];
  readonly ids: Map<Expr, ValueId>;
  readonly parent?: Scope;
}

/** Orders a kernel's values. `given` are nodes that someone else computes (a skeleton's accumulator). */
export function linearize(kernel: Kernel, given: Iterable<Expr> = []): Linear {
  const free = freeIndices();
  let next = 0;
  const scopes = new Map<readonly Statement[], Scope>();
  const open = (over: readonly Index[], parent?: Scope): Scope => {
    const scope: Scope = {
      bound: new Set([...(parent?.bound ?? []), ...over]),
      statements: [],
      ids: new Map(),
      ...(parent && { parent }),
    };
    scopes.set(scope.statements, scope);
    return scope;
  };

  const find = (scope: Scope | undefined, e: Expr): ValueId | undefined =>
    scope && (scope.ids.get(e) ?? find(scope.parent, e));

  /** The outermost scope that binds all that the value needs. */
  const home = (scope: Scope, e: Expr): Scope => {
    let at = scope;
    while (at.parent && [...free(e)].every((i) => at.parent!.bound.has(i))) at = at.parent;
    return at;
  };

  const place = (e: Expr, from: Scope): ValueId => {
    const known = find(from, e);
    if (known !== undefined) return known;
    const scope = home(from, e);
    if (e.kind === 'reduce') {
      const inner = open(e.over, scope);
      place(e.body, inner);
      const id = next++;
      scope.ids.set(e, id);
      scope.statements.push({ kind: 'reduce', id, expr: e, body: inner.statements });
      return id;
    }
    for (const child of childrenOf(e)) place(child, scope);
    const id = next++;
    scope.ids.set(e, id);
    scope.statements.push({ kind: 'let', id, expr: e });
    return id;
  };

  const root = open(kernel.domain);
  for (const e of given) root.ids.set(e, next++);
  const givenCount = next;
  for (const store of kernel.stores) {
    const inner = store.over.length > 0 ? open(store.over, root) : root;
    place(store.value, inner);
    // A store with loops of its own keeps its statements; one without stands in the root's list.
    root.statements.push({ kind: 'store', store, body: inner === root ? [] : inner.statements });
  }

  // Placing goes outside in, so numbers are given again, in the order in which the statements stand.
  const numbers = new Map<ValueId, ValueId>(
    [...root.ids.values()].slice(0, givenCount).map((id) => [id, id]),
  );
  const renumber = (statements: Statement[]): void => {
    statements.forEach((s, at) => {
      if (s.kind !== 'let') renumber(s.body);
      if (s.kind === 'store') return;
      numbers.set(s.id, numbers.size);
      statements[at] = { ...s, id: numbers.get(s.id)! };
    });
  };
  renumber(root.statements);

  return {
    statements: root.statements,
    idOf(scope, e) {
      const id = numbers.get(find(scopes.get(scope) ?? root, e) ?? -1);
      if (id === undefined)
        throw new Error(`kernel ${kernel.name}: a value is used where it is not computed`);
      return id;
    },
  };
}
