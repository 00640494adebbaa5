/**
 * @file Index arithmetic: whatever is simplified still has the values it stood for, and lies in the interval given for it.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  type Affine,
  add,
  floordiv,
  type Index,
  index,
  intervalOf,
  isQuotient,
  mod,
  mul,
  substituteAffine,
} from '../../ir/affine.ts';

const indices = [index('i', 5), index('j', 7), index('k', 3)];

/** A random expression beside a plain function of the same meaning. */
interface Twin {
  readonly expr: Affine;
  readonly value: (at: readonly number[]) => number;
}

const leaf = fc.oneof(
  fc.integer({ min: -9, max: 9 }).map((c): Twin => ({ expr: { constant: c, terms: [] }, value: () => c })),
  fc.constantFrom(0, 1, 2).map((n): Twin => ({ expr: add(indices[n]!), value: (at) => at[n]! })),
);
const { twin } = fc.letrec<{ twin: Twin }>((tie) => ({
  twin: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc
      .tuple(tie('twin'), tie('twin'))
      .map(([a, b]): Twin => ({ expr: add(a.expr, b.expr), value: (at) => a.value(at) + b.value(at) })),
    fc
      .tuple(tie('twin'), fc.integer({ min: -4, max: 8 }))
      .map(([a, f]): Twin => ({ expr: mul(a.expr, f), value: (at) => a.value(at) * f })),
    fc
      .tuple(tie('twin'), fc.integer({ min: 1, max: 9 }))
      .map(([a, by]): Twin => ({ expr: floordiv(a.expr, by), value: (at) => Math.floor(a.value(at) / by) })),
    fc
      .tuple(tie('twin'), fc.integer({ min: 1, max: 9 }))
      .map(([a, by]): Twin => ({ expr: mod(a.expr, by), value: (at) => ((a.value(at) % by) + by) % by })),
  ),
}));

function evaluate(a: Affine, at: ReadonlyMap<Index, number>): number {
  return a.terms.reduce((sum, { coeff, atom }) => {
    if (!isQuotient(atom)) return sum + coeff * at.get(atom)!;
    const arg = evaluate(atom.arg, at);
    return (
      sum +
      coeff * (atom.kind === 'floordiv' ? Math.floor(arg / atom.by) : ((arg % atom.by) + atom.by) % atom.by)
    );
  }, a.constant);
}

const point = fc.tuple(...indices.map((i) => fc.integer({ min: 0, max: i.extent - 1 })));

it('simplification keeps the value, and the interval holds it', () => {
  fc.assert(
    fc.property(twin, point, ({ expr, value }, at) => {
      const got = evaluate(expr, new Map(indices.map((i, n) => [i, at[n]!])));
      const { min, max } = intervalOf(expr);
      expect(got + 0).toBe(value(at) + 0); // no matter the sign of zero
      expect(got >= min && got <= max).toBe(true);
    }),
    { numRuns: 3000 },
  );
});

it('substitution is evaluation of the parts first', () => {
  fc.assert(
    fc.property(twin, twin, point, (outer, inner, at) => {
      const values = new Map(indices.map((i, n) => [i, at[n]!]));
      const replacement = evaluate(inner.expr, values);
      fc.pre(replacement >= 0 && replacement < indices[0]!.extent); // an index never leaves its extent
      const replaced = substituteAffine(outer.expr, new Map([[indices[0]!, inner.expr]]));
      const first = new Map(values).set(indices[0]!, replacement);
      expect(evaluate(replaced, values) + 0).toBe(evaluateUnsimplified(outer, first) + 0);
    }),
    { numRuns: 2000 },
  );
});

const evaluateUnsimplified = ({ value }: Twin, at: ReadonlyMap<Index, number>): number =>
  value(indices.map((i) => at.get(i)!));
