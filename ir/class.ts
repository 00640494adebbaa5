/**
 * @file Kernel classes: kernels equal but for their names and buffers, and in the generic tier but for their sizes. The
 * canonical text of a class is its identity; two kernels with one text run on one piece of code.
 */
import { createHash } from 'node:crypto';
import type { Index } from './affine.ts';
import { attentionOf } from './attention.ts';
import { contractionOf, hasWholeSteps, type Operand } from './contraction.ts';
import {
  type AttentionSchedule,
  type Buffer,
  type Kernel,
  kernelVariants,
  type ReductionSchedule,
} from './kernel.ts';
import { laneLoops, usesVectorLoops } from './lane_loops.ts';
import { formatKernel, indicesOfKernel, namesIn, type Spelling } from './print.ts';
import { memoised, remapKernel } from './remap.ts';
import { mapAccesses, vectorIndex } from './vector.ts';
import { loadsIn } from './walk.ts';

/** `generic`: sizes come from the slot row. `specialised`: sizes are constants. */
export type Tier = 'generic' | 'specialised';

/**
 * Sizes below this stay constants in the generic tier: kernel windows and channel groups, which code is unrolled over. The
 * extent of a batch of one is among them, so generic code does no arithmetic for it.
 */
const leastOpenSize = 8;
/** As many as a slot row holds (codegen/prelude/slot.h); any further size stays a constant. */
export const maxOpenSizes = 48;

/** The sizes a class leaves open, by where they stand in a kernel, and their values in this kernel. */
export class OpenSizes {
  readonly values: number[] = [];
  /** What each size is, as a name for emitted code: `oh_size`, `x0_dim2`. */
  readonly names: string[] = [];
  readonly #extents = new Map<Index, number>();
  readonly #dims = new Map<Buffer, Map<number, number>>();

  constructor(readonly tier: Tier) {}

  /** Number of the open size that is the index's extent; undefined if the extent is a constant of the class. */
  ofExtent(i: Index): number | undefined {
    return this.#slot(this.#extents, i, i.extent, `${i.name}_size`);
  }

  /** Likewise for dimension `d` of a buffer. */
  ofDim(b: Buffer, d: number): number | undefined {
    let dims = this.#dims.get(b);
    if (!dims) this.#dims.set(b, (dims = new Map()));
    return this.#slot(dims, d, b.shape[d]!, `${b.name}_dim${d}`);
  }

  #slot<K>(known: Map<K, number>, key: K, size: number, name: string): number | undefined {
    const existing = known.get(key);
    if (existing !== undefined || this.tier === 'specialised') return existing;
    if (size < leastOpenSize || this.values.length >= maxOpenSizes) return undefined;
    const slot = this.values.push(size) - 1;
    known.set(key, slot);
    this.names.push(this.names.includes(name) ? `${name}_${slot}` : name);
    return slot;
  }
}

export interface KernelClass {
  /** sha256 of the canonical text, in hexadecimal. */
  readonly key: string;
  readonly text: string;
  readonly tier: Tier;
  /** The kernel the class was read from; any other member would give the same code. */
  readonly kernel: Kernel;
  readonly sizes: OpenSizes;
}

/** The class of a kernel under its first schedule. */
export function classOf(scheduled: Kernel, tier: Tier): KernelClass {
  const [{ kernel }] = kernelVariants(scheduled);
  const sizes = new OpenSizes(tier);
  const text = `${tier} ${formatKernel(kernel, canonicalSpelling(kernel, sizes))}${facts(kernel)}`;
  return { key: createHash('sha256').update(text).digest('hex'), text, tier, kernel, sizes };
}

/** What the open sizes of a class are, in the names of its kernel's text: `x0_dim1`, `oh_size`. */
export function openSizeNames({ kernel, sizes }: KernelClass): string[] {
  const names: string[] = [];
  const spelled = namesIn(kernel);
  const note = (slot: number | undefined, name: string): void => {
    if (slot !== undefined) names[slot] = name;
  };
  for (const b of [...kernel.inputs, ...kernel.outputs])
    for (const d of b.shape.keys()) note(sizes.ofDim(b, d), `${spelled.buffer(b)}_dim${d}`);
  for (const i of indicesOfKernel(kernel)) note(sizes.ofExtent(i), `${spelled.index(i)}_size`);
  return names;
}

/**
 * The member of a class that has the given sizes: the class's kernel with its open sizes replaced. Whether these sizes go together
 * is for the verifier to say, as of any kernel.
 */
export function memberOf({ kernel, sizes }: KernelClass, values: readonly number[]): Kernel {
  const size = (slot: number | undefined, own: number): number =>
    slot === undefined ? own : (values[slot] ?? own);
  const index = memoised((i: Index): Index => ({ ...i, extent: size(sizes.ofExtent(i), i.extent) }));
  const buffer = memoised(
    (b: Buffer): Buffer => ({ ...b, shape: b.shape.map((own, d) => size(sizes.ofDim(b, d), own)) }),
  );
  return remapKernel(kernel, { index, buffer });
}

function canonicalSpelling(kernel: Kernel, sizes: OpenSizes): Spelling {
  const names = new Map<Index, string>(kernel.domain.map((i, n) => [i, `i${n}`]));
  const buffers = new Map<Buffer, string>([
    ...kernel.inputs.map((b, n) => [b, `%x${n}`] as const),
    ...kernel.outputs.map((b, n) => [b, `%y${n}`] as const),
  ]);
  const open = (slot: number | undefined, size: number): string =>
    slot === undefined ? String(size) : `?${slot}`;
  return {
    index(i) {
      let name = names.get(i);
      if (name === undefined) names.set(i, (name = `i${names.size}`));
      return name;
    },
    extent: (i) => open(sizes.ofExtent(i), i.extent),
    buffer: (b) => buffers.get(b) ?? `%${b.name}`,
    dim: (b, d) => open(sizes.ofDim(b, d), b.shape[d]!),
    name: '@class',
    guards: true,
  };
}

/** What codegen may rely on beyond the text, so it belongs to the class: found by proof on this kernel's own sizes. */
function facts(kernel: Kernel): string {
  const { schedule } = kernel;
  switch (schedule?.skeleton) {
    case 'map':
      return schedule.vector > 1 ? vectorFacts(kernel, schedule.vector) : '';
    case 'reduction':
      return usesVectorLoops(schedule) ? loopFacts(kernel, schedule) : '';
    case 'contraction':
      return contractionFacts(kernel, schedule.threads > 1);
    case 'mma':
      return contractionFacts(kernel, true, schedule.tile.k);
    case 'attention':
      return attentionFacts(kernel, schedule);
    default:
      return '';
  }
}

/** Of an operand; with `vectors` if neighbours are moved at once, and the step of k if whole steps matter. */
const operandFacts = (o: Operand, vectors: boolean, step?: number): string =>
  [
    o.positionFast && 'positions fast',
    o.positionsContiguous && 'positions contiguous',
    o.kContiguous && 'k contiguous',
    vectors && `vector ${o.vector}`,
    step !== undefined && hasWholeSteps(o, step) && 'whole steps',
    `guards ${o.guards.join('/')}`,
  ]
    .filter(Boolean)
    .join(', ');

function attentionFacts(kernel: Kernel, { tile }: AttentionSchedule): string {
  const a = attentionOf(kernel);
  if (!a) return '';
  const operands = `q: ${operandFacts(a.q, true, tile.queries)}; k: ${operandFacts(a.k, true, tile.keys)}; v: ${operandFacts(a.v, true, tile.keys)}`;
  return `\n; ${rolesOf(kernel, [a.query, a.batch])}; ${operands}; store vector ${a.storeVector}`;
}

const rolesOf = (kernel: Kernel, roles: readonly (readonly Index[])[]): string =>
  roles.map((r) => r.map((i) => kernel.domain.indexOf(i)).join('/')).join(' x ');

function contractionFacts(kernel: Kernel, vectors: boolean, step?: number): string {
  const c = contractionOf(kernel);
  if (!c) return '';
  const roles = rolesOf(kernel, [c.m, c.n, c.batch]);
  const sides = `a: ${operandFacts(c.a, vectors, step)}; b: ${operandFacts(c.b, vectors, step)}`;
  const accesses = [...loadsIn([c.store.value]), c.store];
  const contiguous = accesses.map((x) => (c.contiguous.has(x) ? 1 : 0)).join('');
  return `\n; ${roles}; ${sides}; contiguous ${contiguous}${c.epilogueContiguous ? ', all' : ''}${vectors ? `, vector ${c.epilogueVector}` : ''}`;
}

function vectorFacts(kernel: Kernel, vector: number): string {
  const widths = mapAccesses(kernel, vector);
  const accesses = [...loadsIn(kernel.stores.map((s) => s.value)), ...kernel.stores];
  return `\n; along ${kernel.domain.indexOf(vectorIndex(kernel)!)}: ${accesses.map((x) => widths.get(x) ?? 'once').join(', ')}`;
}

function loopFacts(kernel: Kernel, schedule: ReductionSchedule): string {
  const loops = laneLoops(kernel, schedule).map(
    ({ like, isWhole, loads, store }, n) =>
      `loop ${n} like ${like}${isWhole ? ', whole' : ''}: ${[...loads.map((l) => (l.isSame ? 'once' : l.width)), ...(store ? [store] : [])].join(', ')}`,
  );
  return `\n; ${loops.join('; ')}`;
}
