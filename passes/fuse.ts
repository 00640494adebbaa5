/**
 * @file The fuse pass: puts element-wise work into the kernel that makes its input (an epilogue), and cheap reads of an
 * input into the kernel that uses it (a prologue). A fused kernel computes the very same roundings, so results stay the same
 * to the bit; what goes is a launch, and a trip of the value through memory.
 */
import {
  type Affine,
  add,
  affine,
  asIndex,
  floordiv,
  type Index,
  isPurelyAffine,
  mod,
  mul,
} from '../ir/affine.ts';
import { attentionOf } from '../ir/attention.ts';
import { buffer as makeBuffer } from '../ir/build.ts';
import { contractionOf, volume } from '../ir/contraction.ts';
import type { Buffer, Call, Expr, Kernel, Load, Store } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { elementCount, rowMajorStrides, sameShape } from '../ir/types.ts';
import { maxOperands } from '../ir/verify.ts';
import { freeIndices, loadsIn, rewriter, visitExprs } from '../ir/walk.ts';

/** Fuses calls until no rule applies. */
export function fuse(module: Module): Module {
  const keep = new Set(module.outputs.map((o) => o.value));
  const calls: (Call | undefined)[] = [...module.calls];
  const maker = new Map<string, number>();
  const users = new Map<string, Set<number>>();
  const register = (call: Call, at: number): void => {
    for (const v of call.outputs) maker.set(v, at);
    for (const v of call.inputs) users.set(v, (users.get(v) ?? new Set()).add(at));
  };
  calls.forEach((c, at) => register(c!, at));

  // In order, so that a chain grows from its head: each call tries to take in the makers of its inputs, again and again.
  for (let at = 0; at < calls.length; at++) {
    for (let again = true; again; ) {
      again = false;
      const call = calls[at]!;
      for (const value of call.inputs) {
        const from = maker.get(value);
        if (from === undefined || keep.has(value) || users.get(value)!.size !== 1) continue;
        const producer = calls[from]!;
        if (producer.outputs.length !== 1) continue;
        const fused = fuseCalls(producer, call, value);
        if (!fused) continue;
        for (const v of [...producer.inputs, ...call.inputs]) {
          users.get(v)!.delete(from);
          users.get(v)!.delete(at);
        }
        calls[from] = undefined;
        calls[at] = fused;
        register(fused, at);
        again = true;
        break;
      }
    }
  }
  return { ...module, calls: calls.filter((c) => c !== undefined) };
}

/** One call in place of a producer and the only consumer of its value, or undefined if no rule fits. */
function fuseCalls(producer: Call, consumer: Call, value: string): Call | undefined {
  const loaded = consumer.kernel.inputs[consumer.inputs.indexOf(value)]!;
  const [made] = producer.kernel.stores;
  if (producer.kernel.stores.length !== 1 || consumer.inputs.filter((v) => v === value).length !== 1)
    return undefined;
  const parts =
    asEpilogue(producer.kernel, made!, consumer.kernel, loaded) ??
    asPrologue(producer.kernel, made!, consumer.kernel, loaded);
  if (!parts || nodesOf(parts) > mostNodes) return undefined;
  return joined([producer, consumer], parts, fusedName(producer.kernel, consumer.kernel));
}

/**
 * One call in place of several, with the outputs of the last; `parts` are written with the buffers of all of them. Undefined if that
 * would be too many operands.
 */
export function joined(calls: readonly Call[], parts: Parts, name: string): Call | undefined {
  const last = calls.at(-1)!;
  const read = new Set(loadsIn(parts.stores.map((s) => s.value)).map((l) => l.buffer));
  // The operands of all, each once; what they read under one shape is one parameter.
  const inputs: { value: string; old: Buffer[] }[] = [];
  for (const call of calls) {
    call.kernel.inputs.forEach((old, i) => {
      const value = call.inputs[i]!;
      if (!read.has(old)) return;
      const known = inputs.find((x) => x.value === value && sameShape(x.old[0]!.shape, old.shape));
      if (known) known.old.push(old);
      else inputs.push({ value, old: [old] });
    });
  }
  if (inputs.length + last.outputs.length > maxOperands) return undefined;

  const renamed = new Map<Buffer, Buffer>();
  const params = inputs.map(({ old }, i) => {
    const param = makeBuffer(`x${i}`, old[0]!.dtype, old[0]!.shape);
    for (const b of old) renamed.set(b, param);
    return param;
  });
  const rename = rewriter({
    node: (e) => (e.kind === 'load' && renamed.has(e.buffer) ? { ...e, buffer: renamed.get(e.buffer)! } : e),
  });
  const kernel: Kernel = {
    name,
    inputs: params,
    outputs: last.kernel.outputs,
    domain: parts.domain,
    stores: parts.stores.map((s) => ({ ...s, value: rename(s.value) })),
    loc: [...new Set(calls.flatMap((c) => c.kernel.loc))],
  };
  return { kernel, inputs: inputs.map((x) => x.value), outputs: last.outputs };
}

export type Parts = Pick<Kernel, 'domain' | 'stores'>;

/** Longer chains stay apart: every step of fusion walks the whole expression, and registers run out anyway. */
const mostNodes = 200;

function nodesOf({ stores }: Parts): number {
  let count = 0;
  visitExprs(
    stores.map((s) => s.value),
    () => void count++,
  );
  return count;
}

/**
 * The consumer works element by element: its body runs where the producer stores. Every load of the value must be at one
 * place that runs over the whole value once while the consumer's domain does.
 */
function asEpilogue(producer: Kernel, made: Store, consumer: Kernel, loaded: Buffer): Parts | undefined {
  const [result] = consumer.stores;
  if (consumer.stores.length !== 1 || result!.over.length > 0 || hasReduce(result!.value)) return undefined;
  const loads = loadsIn([result!.value]).filter((l) => l.buffer === loaded);
  const place = plainPlace(loads, loaded);
  if (!place || volume(consumer.domain) !== elementCount(loaded.shape)) return undefined;

  // Which element of the consumer's view the producer's store is about.
  const at = viewAs(made.at, made.buffer.shape, loaded.shape);
  if (!at) return undefined;
  const indices = new Map<Index, Affine>();
  for (const i of consumer.domain) if (i.extent === 1) indices.set(i, affine(0));
  place.forEach((i, d) => {
    if (i) indices.set(i, at[d]!);
  });
  if (consumer.domain.some((i) => !indices.has(i))) return undefined;
  const go = rewriter({ indices, node: (e) => (e.kind === 'load' && e.buffer === loaded ? made.value : e) });
  const target = rewriter({ indices });
  const store: Store = {
    buffer: result!.buffer,
    at: result!.at.map((a) => substituted(a, target)),
    over: made.over,
    value: go(result!.value),
  };
  return keepsSkeleton(producer, { domain: producer.domain, stores: [store] });
}

/** Affine substitution by way of an index expression, so that one rewriter serves both. */
function substituted(a: Affine, go: (e: Expr) => Expr): Affine {
  const e = go({ kind: 'index', dtype: 'i32', value: a });
  if (e.kind !== 'index') throw new Error('an index stays an index');
  return e.value;
}

/**
 * The producer only moves or computes elements one by one, and the consumer reads each of them no more than once: the reading
 * computes. A producer that merely moves (a transpose, a slice) is taken in however often it is read.
 */
function asPrologue(producer: Kernel, made: Store, consumer: Kernel, loaded: Buffer): Parts | undefined {
  if (made.over.length > 0 || hasReduce(made.value)) return undefined;
  const loads = loadsIn(consumer.stores.map((s) => s.value)).filter((l) => l.buffer === loaded);
  if (loads.some((l) => l.pad !== undefined || l.at.some((c) => 'gather' in c))) return undefined;
  const moves = isMove(made.value);
  if (!moves) {
    if (contractionOf(consumer) || loads.length !== 1) return undefined;
    if (timesRead(consumer, loads[0]!) > elementCount(loaded.shape)) return undefined;
  }

  const values = new Map<Expr, Expr>();
  for (const load of loads) {
    const value = valueAt(producer, made, load);
    if (!value) return undefined;
    values.set(load, value);
  }
  const go = rewriter({ node: (e, original) => values.get(original) ?? e });
  const stores = consumer.stores.map((s) => ({ ...s, value: go(s.value) }));
  return keepsSkeleton(consumer, { domain: consumer.domain, stores });
}

/** What a kernel stores where `load`, which has plain coordinates, reads a view of it; undefined if that takes divisions. */
export function valueAt(producer: Kernel, made: Store, load: Load): Expr | undefined {
  const loops = [...producer.domain, ...made.over];
  const place = made.at.map((a) => (a.terms.length === 0 ? undefined : (asIndex(a) ?? null)));
  if (place.includes(null) || volume(loops) !== elementCount(made.buffer.shape)) return undefined;
  const coordinates = load.at.flatMap((c) => ('affine' in c ? [c.affine] : []));
  const at = viewAs(coordinates, load.buffer.shape, made.buffer.shape);
  if (!at) return undefined;
  const indices = new Map(loops.map((i) => [i, affine(0)]));
  place.forEach((i, d) => {
    if (i) indices.set(i, at[d]!);
  });
  return rewriter({ indices })(made.value);
}

/** A contraction or attention must stay one, with operands read as wide: its skeleton is worth more than the launch. */
function keepsSkeleton(kernel: Kernel, parts: Parts): Parts | undefined {
  const attention = attentionOf(kernel);
  if (attention) {
    const after = attentionOf({ ...kernel, ...parts });
    const isAsWide = (o: 'q' | 'k' | 'v'): boolean => after![o].vector >= attention[o].vector;
    return after && isAsWide('q') && isAsWide('k') && isAsWide('v') ? parts : undefined;
  }
  if (!contractionOf(kernel)) return parts;
  return contractionOf({ ...kernel, ...parts }) ? parts : undefined;
}

/** The index of each dimension (undefined for a dimension of one), if all loads are at one place of distinct plain indices. */
function plainPlace(loads: readonly Load[], loaded: Buffer): (Index | undefined)[] | undefined {
  let common: (Index | undefined)[] | undefined;
  for (const load of loads) {
    const place: (Index | undefined)[] = [];
    for (const [d, c] of load.at.entries()) {
      if ('gather' in c) return undefined;
      const i = asIndex(c.affine);
      if (i && i.extent === loaded.shape[d] && !place.includes(i)) place.push(i);
      else if (loaded.shape[d] === 1 && c.affine.terms.length === 0) place.push(undefined);
      else return undefined;
    }
    if (common?.some((i, d) => i !== place[d])) return undefined;
    common = place;
  }
  return common;
}

/** Coordinates in a view of shape `from` as coordinates in a view of shape `to`; undefined if they need divisions. */
function viewAs(
  at: readonly Affine[],
  from: readonly number[],
  to: readonly number[],
): readonly Affine[] | undefined {
  if (sameShape(from, to)) return at;
  const strides = rowMajorStrides(from);
  const flat = add(...at.map((a, d) => mul(a, strides[d]!)));
  const steps = rowMajorStrides(to);
  const result = to.map((extent, d) => (extent === 1 ? affine(0) : mod(floordiv(flat, steps[d]!), extent)));
  return result.every(isPurelyAffine) ? result : undefined;
}

function hasReduce(value: Expr): boolean {
  let found = false;
  visitExprs([value], (e) => {
    if (e.kind === 'reduce') found = true;
  });
  return found;
}

/** True for a bare load, cast perhaps: a value that is moved, not computed. */
function isMove(value: Expr): boolean {
  const e = value.kind === 'cast' ? value.arg : value;
  return e.kind === 'load' && e.pad === undefined && e.at.every((c) => 'affine' in c);
}

/** How many times a load runs: once for every point of the domain and of the loops around it. */
function timesRead(kernel: Kernel, load: Load): number {
  const free = freeIndices();
  const loops = new Set<Index>();
  const within = (e: Expr): boolean => e === load || loadsIn([e]).includes(load);
  for (const s of kernel.stores) {
    if (!within(s.value)) continue;
    visitExprs([s.value], (e) => {
      if (e.kind === 'reduce' && within(e.body)) for (const i of e.over) loops.add(i);
    });
    if (s.over.some((i) => free(load).has(i))) for (const i of s.over) loops.add(i);
  }
  return volume([...kernel.domain, ...loops]);
}

/** Tells what is in it while it stays short; a long chain keeps the name of its head. */
function fusedName(producer: Kernel, consumer: Kernel): string {
  const name = `${producer.name}_${consumer.name}`;
  return name.length <= 40 ? name : producer.name.length >= 24 ? producer.name : `${producer.name}_and_more`;
}
