/**
 * @file Kernels and modules compared as structures: names of indices and buffers aside, and which objects are shared.
 */
import { type Affine, type Index, isQuotient } from '../../ir/affine.ts';
import type { Buffer, Expr, Kernel } from '../../ir/kernel.ts';
import type { Module } from '../../ir/module.ts';
import { bytesOf } from '../../ir/tensor.ts';

/** A kernel as plain data: indices and buffers by number. Two kernels are one structure if this is equal. */
export function structureOf(kernel: Kernel): unknown {
  const buffers = new Map<Buffer, number>([...kernel.inputs, ...kernel.outputs].map((b, n) => [b, n]));
  const indices = new Map<Index, number>();
  const loops = (over: readonly Index[]): unknown =>
    over.map((i) => {
      if (!indices.has(i)) indices.set(i, indices.size);
      return [indices.get(i), i.extent];
    });
  const affine = (a: Affine): unknown => [
    a.constant,
    a.terms.map(({ coeff, atom }) => [
      coeff,
      isQuotient(atom) ? [atom.kind, affine(atom.arg), atom.by] : indices.get(atom),
    ]),
  ];
  // Shared nodes are described once, or a chain of sums of a value with itself would have no end.
  const memo = new Map<Expr, unknown>();
  const expr = (e: Expr): unknown => {
    const known = memo.get(e);
    if (known) return known;
    const made = describe(e);
    memo.set(e, made);
    return made;
  };
  const describe = (e: Expr): unknown => {
    switch (e.kind) {
      case 'const':
        return ['const', e.dtype, e.value];
      case 'index':
        return ['index', affine(e.value)];
      case 'load':
        return [
          'load',
          e.dtype,
          buffers.get(e.buffer),
          e.at.map((c) => ('gather' in c ? ['gather', expr(c.gather)] : affine(c.affine))),
          e.pad,
        ];
      case 'op':
        return [e.op, e.dtype, e.args.map(expr)];
      case 'cast':
        return ['cast', e.dtype, expr(e.arg)];
      case 'reduce': {
        const over = loops(e.over);
        return ['reduce', e.combine, e.dtype, over, expr(e.body)];
      }
      default:
        return e satisfies never;
    }
  };
  const types = [...buffers.keys()].map((b) => [b.dtype, b.shape]);
  return {
    name: kernel.name,
    types,
    inputs: kernel.inputs.length,
    domain: loops(kernel.domain),
    stores: kernel.stores.map((s) => {
      const over = loops(s.over);
      return [buffers.get(s.buffer), over, s.at.map(affine), expr(s.value)];
    }),
    schedule: kernel.schedule,
    loc: kernel.loc,
  };
}

/** A module as plain data; the types of values that it no longer has aside. */
export function moduleStructure(module: Module): unknown {
  const used = [
    ...module.inputs,
    ...module.constants.keys(),
    ...module.outputs.map((o) => o.value),
    ...module.calls.flatMap((c) => c.outputs),
  ];
  return {
    name: module.name,
    inputs: module.inputs,
    outputs: module.outputs,
    types: used.map((v) => [v, module.types.get(v)]),
    constants: [...module.constants].map(([name, t]) => [name, t.dtype, t.shape, [...bytesOf(t)]]),
    calls: module.calls.map((c) => [structureOf(c.kernel), c.inputs, c.outputs]),
  };
}
