/**
 * @file The kernel verifier. Its laws, each of which has a test that breaks it:
 *   1. every index used is bound by the domain, a reduction around it or its store's loops, and by one of them only; extents are at
 *      least 1;
 *   2. buffers have names of their own; those read are inputs, those written are outputs, each output is written by exactly one store;
 *   3. operand types fit their operation, stored values their buffer, loads theirs, literals their type;
 *   4. a load's coordinates are proved inside its buffer, or the load has a pad; gathers have one;
 *   5. a store writes every element of its buffer exactly once (so no element is left as it was, none written twice);
 *   6. the schedule fits its skeleton and the target's limits (verify_schedule.ts); operands fit a slot row;
 *   7. emitted code computes coordinates, offsets and numbers of loops' steps in 32 bits, so each number on the way fits them.
 * Every broken law is reported, not only the first.
 */
import { type Affine, formatAffine, type Index, intervalOf } from './affine.ts';
import { fitsInt, mostInt, provedInside, rangeOnTheWay, writesEachOnce } from './bounds.ts';
import {
  type Expr,
  type Kernel,
  kernelVariants,
  type Load,
  type Op,
  type Reduce,
  type Store,
} from './kernel.ts';
import { combiners, opInfo, takes } from './ops.ts';
import { collector, type Problem, type Say, textsOf } from './problem.ts';
import { scratchOf } from './scratch.ts';
import type { Target } from './target.ts';
import { roundTo } from './tensor.ts';
import { type DType, dtypes, elementCount, formatType, maxElements } from './types.ts';
import { verifySchedules } from './verify_schedule.ts';
import { childrenOf, freeIndices, visitExprs } from './walk.ts';

/** Most buffers of a kernel, scratch memory included: what a slot row holds (codegen/prelude/slot.h). */
export const maxOperands = 16;

/** The broken laws of one kernel, as lines; empty if it is sound. */
export const verifyKernel = (kernel: Kernel, target?: Target): string[] =>
  textsOf(kernelProblems(kernel, target));

/** The broken laws of one kernel. Without a target its limits are not looked at. */
export function kernelProblems(kernel: Kernel, target?: Target): Problem[] {
  const problems: Problem[] = [];
  const say = collector(problems, `kernel @${kernel.name}`);
  verifyBuffers(kernel, say);
  verifyLoops(kernel, kernel.domain, say);
  const free = freeIndices();
  for (const s of kernel.stores) verifyStore(kernel, s, free, say);
  for (const b of new Set(kernel.outputs)) {
    const writes = kernel.stores.filter((s) => s.buffer === b).length;
    if (writes !== 1) say(b, `output %${b.name} is written by ${writes} stores`);
  }
  verifyBinding(kernel, say);
  const inputs = new Set(kernel.inputs);
  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      if (e.kind === 'load' && !inputs.has(e.buffer))
        say(e, `load from %${e.buffer.name}, which is not an input`);
      verifyExpr(e, say);
    },
  );
  verifySchedules(kernel, target, say);
  return problems;
}

function verifyBuffers(kernel: Kernel, say: Say): void {
  const inputs = new Set(kernel.inputs);
  const outputs = new Set(kernel.outputs);
  const scratch = Math.max(...kernelVariants(kernel).map((v) => scratchOf(v.kernel).length));
  const operands = inputs.size + outputs.size + scratch;
  if (operands > maxOperands)
    say(
      kernel,
      `${operands} buffers${scratch > 0 ? ', scratch among them' : ''}, a slot row holds ${maxOperands}`,
    );
  const names = new Set<string>();
  for (const b of new Set([...inputs, ...outputs])) {
    if (b.shape.some((d) => !Number.isInteger(d) || d < 0) || elementCount(b.shape) > maxElements)
      say(b, `%${b.name}: ${formatType(b)} has more than 2^31-1 elements`);
    if (inputs.has(b) && outputs.has(b)) say(b, `%${b.name} is an input and an output`);
    if (names.has(b.name)) say(b, `two buffers are called %${b.name}`);
    names.add(b.name);
  }
}

/** Loops, one inside the other: skeletons count the steps of all of them together. */
function verifyLoops(at: object, over: readonly Index[], say: Say): void {
  for (const i of over)
    if (!(Number.isInteger(i.extent) && i.extent >= 1)) say(i, `index ${i.name} has extent ${i.extent}`);
  const steps = over.reduce((product, i) => product * i.extent, 1);
  if (steps > mostInt)
    say(
      at,
      `loops over ${over.map((i) => i.name).join(', ')} have ${steps} steps, which are counted in 32 bits`,
    );
}

/** That emitted code computes an expression without a number that 32 bits do not hold; says so and gives false if it does not. */
function computesInInt(at: object, what: string, a: Affine, say: Say): boolean {
  const range = rangeOnTheWay(a);
  if (fitsInt(range)) return true;
  const numbers = `${what}, ${formatAffine(a)}, takes numbers of ${range.min}..${range.max}`;
  say(at, `${numbers}, but offsets are computed in 32 bits`);
  return false;
}

function verifyStore(kernel: Kernel, s: Store, free: (e: Expr) => ReadonlySet<Index>, say: Say): void {
  const { buffer, at, over, value } = s;
  verifyLoops(s, over, say);
  const bound = new Set([...kernel.domain, ...over]);
  for (const i of free(value))
    if (!bound.has(i)) say(value, `index ${i.name} is not bound in the value of %${buffer.name}`);
  if (!kernel.outputs.includes(buffer)) say(s, `store to %${buffer.name}, which is not an output`);
  if (value.dtype !== buffer.dtype)
    say(s, `%${buffer.name} holds ${buffer.dtype}, the value is ${value.dtype}`);
  if (at.length !== buffer.shape.length) {
    say(s, `store %${buffer.name}: ${at.length} coordinates of ${formatType(buffer)}`);
    return;
  }
  at.forEach((a, d) => {
    const extent = buffer.shape[d]!;
    if (!computesInInt(s, `store %${buffer.name}: coordinate ${d}`, a, say)) return;
    if (!provedInside(a, extent)) say(s, `store %${buffer.name}: ${outside(a, d, extent)}`);
  });
  if (!writesEachOnce(kernel.domain, s))
    say(s, `store %${buffer.name} does not write every element exactly once`);
}

function outside(a: Affine, d: number, extent: number): string {
  const { min, max } = intervalOf(a);
  return `coordinate ${d}, ${formatAffine(a)}, runs over ${min}..${max} of 0..${extent - 1}`;
}

/** A loop within a loop over the same index would leave no name for the outer one. */
function verifyBinding(kernel: Kernel, say: Say): void {
  const memo = new Map<Expr, ReadonlySet<Index>>();
  const bindersIn = (e: Expr): ReadonlySet<Index> => {
    const known = memo.get(e);
    if (known) return known;
    const inner = new Set(childrenOf(e).flatMap((c) => [...bindersIn(c)]));
    if (e.kind === 'reduce') {
      twice(e, e.over, inner);
      for (const i of e.over) inner.add(i);
    }
    memo.set(e, inner);
    return inner;
  };
  const twice = (at: object, over: readonly Index[], inner: ReadonlySet<Index>): void => {
    for (const [n, i] of over.entries())
      if (inner.has(i) || over.indexOf(i) !== n) say(at, `index ${i.name} is bound twice`);
  };
  for (const s of kernel.stores) twice(s, [...kernel.domain, ...s.over], bindersIn(s.value));
}

function verifyExpr(e: Expr, say: Say): void {
  switch (e.kind) {
    case 'const':
      if (!isOf(e.dtype, e.value)) say(e, `${e.value} is no ${e.dtype}`);
      break;
    case 'index': {
      const { min, max } = intervalOf(e.value);
      if (min < dtypes.i32.min || max > dtypes.i32.max)
        say(e, `index ${formatAffine(e.value)} runs over ${min}..${max}, which is more than i32`);
      else computesInInt(e, 'index', e.value, say);
      break;
    }
    case 'load':
      verifyLoad(e, say);
      break;
    case 'op':
      verifyOp(e, say);
      break;
    case 'cast':
      break;
    case 'reduce':
      verifyReduce(e, say);
      break;
    default:
      e satisfies never;
  }
}

const isOf = (dtype: DType, value: number): boolean =>
  Number.isNaN(value) ? dtypes[dtype].kind === 'float' : roundTo(dtype, value) === value;

function verifyLoad(e: Load, say: Say): void {
  const { buffer, at, pad } = e;
  if (e.dtype !== buffer.dtype)
    say(e, `load of ${e.dtype} from %${buffer.name}, which holds ${buffer.dtype}`);
  if (at.length !== buffer.shape.length) {
    say(e, `load %${buffer.name}: ${at.length} coordinates of ${formatType(buffer)}`);
    return;
  }
  for (const c of at) {
    if ('gather' in c && !['i32', 'i64'].includes(c.gather.dtype))
      say(e, `load %${buffer.name}: a gathered coordinate is ${c.gather.dtype}, not i32 or i64`);
  }
  const computed = at.map(
    (c, d) => 'gather' in c || computesInInt(e, `load %${buffer.name}: coordinate ${d}`, c.affine, say),
  );
  if (pad !== undefined) {
    if (!isOf(e.dtype, pad)) say(e, `load %${buffer.name}: the pad ${pad} is no ${e.dtype}`);
    return;
  }
  at.forEach((c, d) => {
    const extent = buffer.shape[d]!;
    if ('gather' in c) say(e, `load %${buffer.name}: coordinate ${d} is gathered, but there is no pad`);
    else if (computed[d] && !provedInside(c.affine, extent))
      say(e, `load %${buffer.name}: ${outside(c.affine, d, extent)}, without a pad`);
  });
}

function verifyOp(e: Op, say: Say): void {
  const info = opInfo(e.op);
  const operands = e.op === 'select' ? e.args.slice(1) : e.args;
  const dtype = operands[0]?.dtype;
  if (e.args.length !== info.arity || dtype === undefined) {
    say(e, `${e.op} has ${e.args.length} operands, not ${info.arity}`);
    return;
  }
  if (e.op === 'select' && e.args[0]!.dtype !== 'i1') say(e, `select's condition is ${e.args[0]!.dtype}`);
  if (operands.some((a) => a.dtype !== dtype) || !takes(e.op, dtype))
    say(e, `${e.op} of ${operands.map((a) => a.dtype).join(', ')}`);
  if (e.dtype !== (info.gives === 'same' ? dtype : info.gives))
    say(e, `${e.op} of ${dtype} does not give ${e.dtype}`);
}

function verifyReduce(e: Reduce, say: Say): void {
  verifyLoops(e, e.over, say);
  if (e.dtype !== e.body.dtype) say(e, `${e.combine} of ${e.body.dtype} does not give ${e.dtype}`);
  if (!takes(combiners[e.combine].op, e.dtype)) say(e, `${e.combine} of ${e.dtype}`);
}
