/**
 * @file The memory plan: a place in the tenant's arena for every value, reusing the bytes of values that are no longer needed.
 * A tenant's kernels run in their order, one a word, so a value lives from the call that makes it to the last that reads it. Scratch
 * memory lives during its call, but for what must stay as the call leaves it, which lives throughout.
 */
import { kernelVariants } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Place } from '../ir/program.ts';
import { scratchBytes, scratchOf } from '../ir/scratch.ts';
import { byteSize } from '../ir/types.ts';

/** Alignment of every value: a cache line, and more than any vector load asks for. */
const alignment = 256;
const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

export interface MemoryPlan {
  readonly places: ReadonlyMap<string, Place>;
  /** Of each call, and of each of its kernel's variants, the places of its scratch memory. */
  readonly scratch: readonly (readonly (readonly Place[])[])[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
}

/** Calls between which a value lives, both included. */
export interface LiveRange {
  readonly from: number;
  readonly to: number;
}

/** Live ranges of the values in the arena. Inputs and outputs live throughout: the caller reads and writes them between rounds. */
export function liveRanges(module: Module): Map<string, LiveRange> {
  const ranges = new Map<string, LiveRange>();
  const whole = { from: 0, to: module.calls.length };
  module.calls.forEach((call, at) => {
    for (const v of call.inputs) {
      const range = ranges.get(v);
      if (range) ranges.set(v, { ...range, to: at });
    }
    for (const v of call.outputs) ranges.set(v, { from: at, to: at });
  });
  for (const v of [...module.inputs, ...module.outputs.map((o) => o.value)]) ranges.set(v, whole);
  return ranges;
}

/**
 * Places the largest values first, each at the lowest offset where no value that lives at the same time lies ("greedy by
 * size", which comes within a few percent of the lower bound on networks; Pisarchyk and Lee, arXiv 2001.03288).
 */
export function planMemory(module: Module): MemoryPlan {
  const places = new Map<string, Place>();
  let weightBytes = 0;
  for (const [name, tensor] of module.constants) {
    const bytes = byteSize(tensor);
    places.set(name, { value: name, space: 'weights', offset: weightBytes, bytes });
    weightBytes += aligned(bytes);
  }

  const values = [...liveRanges(module)].map(([name, range]) => ({
    name,
    range,
    bytes: byteSize(module.types.get(name)!),
  }));
  const whole = { from: 0, to: module.calls.length };
  const scratch = module.calls.map(({ kernel }, at) =>
    kernelVariants(kernel).map(({ from, kernel: variant }, v) =>
      scratchOf(variant).map((s) => {
        const range = s.keepsZeros ? whole : { from: at, to: at };
        const name = v === 0 ? `${s.name}.${at}` : `${s.name}.${at}.from${from}`;
        return { name: unusedName(module, name), range, bytes: scratchBytes(s) };
      }),
    ),
  );
  values.push(...scratch.flat(2));
  values.sort((a, b) => b.bytes - a.bytes);
  const placed: { readonly range: LiveRange; readonly offset: number; readonly end: number }[] = [];
  let arenaBytes = 0;
  for (const { name, range, bytes } of values) {
    const alive = placed
      .filter((p) => p.range.from <= range.to && range.from <= p.range.to)
      .sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const p of alive) {
      if (offset + bytes <= p.offset) break;
      offset = Math.max(offset, p.end);
    }
    const end = offset + aligned(Math.max(bytes, 1));
    placed.push({ range, offset, end });
    arenaBytes = Math.max(arenaBytes, end);
    places.set(name, { value: name, space: 'arena', offset, bytes });
  }
  return {
    places,
    scratch: scratch.map((variants) => variants.map((parts) => parts.map(({ name }) => places.get(name)!))),
    weightBytes,
    arenaBytes,
  };
}

/** The name, or one that begins so, if the module has a value that is called this. */
const unusedName = (module: Module, name: string): string =>
  module.types.has(name) || module.constants.has(name) ? unusedName(module, `${name}_`) : name;
