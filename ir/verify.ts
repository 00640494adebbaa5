/**
 * @file The kernel verifier. Its laws, each of which has a test that breaks it:
 *   1. every index used is bound by the domain, a reduction around it or its store's loops; extents are at least 1;
 *   2. buffers read are inputs, buffers written are outputs, each output is written by exactly one store;
 *   3. operand types fit their operation, stored values their buffer;
 *   4. a load's coordinates are proved inside its buffer, or the load has a pad; gathers have one;
 *   5. a store writes every element of its buffer exactly once (so no element is left as it was, none written twice);
 *   6. the schedule fits the target's limits; offsets fit 32 bits; operands fit a slot row.
 * Every broken law is reported, not only the first.
 */
import { formatAffine, type Index, intervalOf } from './affine.ts';
import { provedInside, writesEachOnce } from './bounds.ts';
import { contractionOf, multiplies16Bit } from './contraction.ts';
import type { Expr, Kernel, Load } from './kernel.ts';
import { maxSharedBytes, mmaSharedBytes } from './mma.ts';
import { opInfo, takes } from './ops.ts';
import { elementCount, formatType } from './types.ts';
import { freeIndices, visitExprs } from './walk.ts';

/** Most buffers of a kernel: what a slot row holds (codegen/prelude/slot.h). */
export const maxOperands = 16;
/** Most elements of a buffer: offsets are 32-bit. */
export const maxElements = 2 ** 31 - 1;

/** The broken laws of one kernel, as lines; empty if it is sound. */
export function verifyKernel(kernel: Kernel): string[] {
  const problems: string[] = [];
  const say = (text: string): void => void problems.push(`kernel @${kernel.name}: ${text}`);
  const inputs = new Set(kernel.inputs);
  const outputs = new Set(kernel.outputs);
  const free = freeIndices();

  if (inputs.size + outputs.size > maxOperands)
    say(`${inputs.size + outputs.size} buffers, a slot row holds ${maxOperands}`);
  for (const b of [...inputs, ...outputs]) {
    if (elementCount(b.shape) > maxElements)
      say(`%${b.name}: ${formatType(b)} has more than 2^31-1 elements`);
    if (inputs.has(b) && outputs.has(b)) say(`%${b.name} is an input and an output`);
  }
  const loops = (over: readonly Index[]): void => {
    for (const i of over)
      if (!(Number.isInteger(i.extent) && i.extent >= 1)) say(`index ${i.name} has extent ${i.extent}`);
  };
  loops(kernel.domain);

  for (const s of kernel.stores) {
    loops(s.over);
    const bound = new Set([...kernel.domain, ...s.over]);
    for (const i of free(s.value))
      if (!bound.has(i)) say(`index ${i.name} is not bound in the value of %${s.buffer.name}`);
    if (!outputs.has(s.buffer)) say(`store to %${s.buffer.name}, which is not an output`);
    if (s.value.dtype !== s.buffer.dtype)
      say(`%${s.buffer.name} holds ${s.buffer.dtype}, the value is ${s.value.dtype}`);
    s.at.forEach((a, d) => {
      if (!provedInside(a, s.buffer.shape[d]!)) {
        const { min, max } = intervalOf(a);
        say(
          `store %${s.buffer.name}: coordinate ${d}, ${formatAffine(a)}, runs over ${min}..${max} of 0..${s.buffer.shape[d]! - 1}`,
        );
      }
    });
    if (!writesEachOnce(kernel.domain, s))
      say(`store %${s.buffer.name} does not write every element exactly once`);
  }
  for (const b of outputs) {
    const writes = kernel.stores.filter((s) => s.buffer === b).length;
    if (writes !== 1) say(`output %${b.name} is written by ${writes} stores`);
  }

  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      if (e.kind === 'load') {
        if (!inputs.has(e.buffer)) say(`load from %${e.buffer.name}, which is not an input`);
        verifyLoad(e, say);
      }
      if (e.kind === 'reduce') loops(e.over);
      if (e.kind === 'op') verifyOp(e, say);
    },
  );
  verifySchedule(kernel, say);
  return problems;
}

function verifyLoad(e: Load, say: (text: string) => void): void {
  const { buffer, at, pad } = e;
  if (at.length !== buffer.shape.length) {
    say(`load %${buffer.name}: ${at.length} coordinates of ${formatType(buffer)}`);
    return;
  }
  if (pad !== undefined) return;
  at.forEach((c, d) => {
    const extent = buffer.shape[d]!;
    if ('gather' in c) return say(`load %${buffer.name}: coordinate ${d} is gathered, but there is no pad`);
    if (provedInside(c.affine, extent)) return;
    const { min, max } = intervalOf(c.affine);
    say(
      `load %${buffer.name}: coordinate ${d}, ${formatAffine(c.affine)}, runs over ${min}..${max} of 0..${extent - 1}, without a pad`,
    );
  });
}

function verifyOp(e: Extract<Expr, { kind: 'op' }>, say: (text: string) => void): void {
  const info = opInfo(e.op);
  const operands = e.op === 'select' ? e.args.slice(1) : e.args;
  const dtype = operands[0]?.dtype;
  if (e.args.length !== info.arity || dtype === undefined) {
    say(`${e.op} has ${e.args.length} operands`);
    return;
  }
  if (e.op === 'select' && e.args[0]!.dtype !== 'i1') say(`select's condition is ${e.args[0]!.dtype}`);
  if (operands.some((a) => a.dtype !== dtype) || !takes(e.op, dtype)) {
    say(`${e.op} of ${operands.map((a) => a.dtype).join(', ')}`);
  }
  if (e.dtype !== (info.gives === 'same' ? dtype : info.gives))
    say(`${e.op} of ${dtype} does not give ${e.dtype}`);
}

function verifySchedule(kernel: Kernel, say: (text: string) => void): void {
  const { schedule } = kernel;
  if (!schedule) return;
  const { threads } = schedule;
  if (threads !== 1 && (threads % 32 !== 0 || threads > 1024)) say(`${threads} threads a block`);
  if (schedule.skeleton === 'reduction' && threads % schedule.lanes !== 0)
    say(`${schedule.lanes} lanes of ${threads} threads`);
  if (schedule.skeleton === 'contraction') {
    const { tile, perThread } = schedule;
    if ((tile.m / perThread.m) * (tile.n / perThread.n) !== threads)
      say(`the tile's threads are not ${threads}`);
  }
  if (schedule.skeleton === 'mma') {
    const { tile, warps, stages, segments } = schedule;
    const group = 32 * warps.m * warps.n;
    const bytes = mmaSharedBytes(schedule);
    if (group * segments !== threads)
      say(`${segments} segments of ${group} threads are not ${threads} threads`);
    if (segments < 1 || segments > 14 || stages < 2) say(`${segments} segments, ${stages} stages`);
    if (tile.m % (16 * warps.m) !== 0 || tile.n % (16 * warps.n) !== 0 || tile.k % 16 !== 0)
      say(
        `a tile of ${tile.m}x${tile.n}x${tile.k} is not made of 16x16x16 for each of ${warps.m}x${warps.n} warps`,
      );
    if ([tile.m, tile.n, tile.k].some((side) => group % Math.min(group, side / 2) !== 0 || side / 2 > group))
      say(`${group} threads cannot share out the rows of a tile of ${tile.m}x${tile.n}x${tile.k}`);
    if (bytes > maxSharedBytes) say(`${bytes} bytes of shared memory, a block has ${maxSharedBytes}`);
    const c = contractionOf(kernel);
    if (!c || !multiplies16Bit(c))
      say('only contractions of two f16 or two bf16 operands run on tensor cores');
  }
}
