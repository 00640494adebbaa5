/**
 * @file Kernels with other indices and buffers in the same places. Unlike a substitution it simplifies nothing, so that the result
 * has the very structure of the original.
 */
import { type Affine, type Index, isQuotient } from './affine.ts';
import type { Buffer, Coordinate, Expr, Kernel } from './kernel.ts';
import { rewriter } from './walk.ts';

export interface Remap {
  readonly index: (i: Index) => Index;
  readonly buffer: (b: Buffer) => Buffer;
}

/** The kernel with every index and buffer replaced; the functions must give one result for one argument. */
export function remapKernel(kernel: Kernel, { index, buffer }: Remap): Kernel {
  const affine = (a: Affine): Affine => ({
    constant: a.constant,
    terms: a.terms.map(({ coeff, atom }) => ({
      coeff,
      atom: isQuotient(atom) ? { ...atom, arg: affine(atom.arg) } : index(atom),
    })),
  });
  const node = (e: Expr): Expr => {
    if (e.kind === 'index') return { ...e, value: affine(e.value) };
    if (e.kind === 'reduce') return { ...e, over: e.over.map(index) };
    if (e.kind !== 'load') return e;
    const at = e.at.map((c): Coordinate => ('gather' in c ? c : { affine: affine(c.affine) }));
    return { ...e, buffer: buffer(e.buffer), at };
  };
  const go = rewriter({ node });
  return {
    ...kernel,
    inputs: kernel.inputs.map(buffer),
    outputs: kernel.outputs.map(buffer),
    domain: kernel.domain.map(index),
    stores: kernel.stores.map((s) => ({
      buffer: buffer(s.buffer),
      at: s.at.map(affine),
      over: s.over.map(index),
      value: go(s.value),
    })),
  };
}

/** A function that calls `make` once for each argument and then gives the same result. */
export function memoised<K extends object, V>(make: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    if (!known.has(key)) known.set(key, make(key));
    return known.get(key)!;
  };
}
