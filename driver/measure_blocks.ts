/**
 * @file What constraining costs: one kernel's time on fewer and fewer physical blocks, each of which strides over more of the virtual
 * ones. The bits must not change with it.
 */
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type Tier } from '../ir/class.ts';
import type { Kernel } from '../ir/kernel.ts';
import { targetOf } from '../ir/target.ts';
import { bytesOf } from '../ir/tensor.ts';
import type { Measurement } from '../passes/block_time.ts';
import { CodeCache } from '../runtime/cache.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { type Toolchain, toolchainOf } from '../runtime/toolchain.ts';
import type { BlockTable } from './block_table.ts';
import { codeOfClasses, type Progress, resourcesOf } from './code.ts';
import { type DistinctKernel, distinctKernels, scheduledBy } from './distinct_kernels.ts';
import { type Candidate, KernelTimer } from './kernel_timer.ts';
import type { Model } from './model.ts';
import type { Tuning } from './tuning.ts';

export interface BlockOptions {
  /** Which of the models' kernels to measure, in order; they have their schedules. Default: all. */
  readonly choose?: (kernels: readonly Kernel[]) => readonly Kernel[];
  /** Numbers of physical blocks, besides all; those that a kernel has not are left out. Default: `blockCounts`. */
  readonly blocks?: readonly number[];
  /** Tenants in the word. Default 1. */
  readonly width?: number;
  /** Of the code that is measured. Default `specialised`. */
  readonly tier?: Tier;
  /** Default true: kernels have the schedules that tuning found on this device. */
  readonly tuning?: boolean;
  readonly onProgress?: (p: Progress) => void;
}

export interface KernelBlocks {
  readonly kernel: string;
  /** The model's nodes that the first call came from. */
  readonly loc: readonly string[];
  /** Calls of the kernel in all the models. */
  readonly calls: number;
  readonly virtualBlocks: number;
  /** By number of blocks, ascending. None if there is a problem. */
  readonly times: readonly Measurement[];
  /** Set if the results are not bitwise the same at every number of blocks, which would be a bug. */
  readonly problem?: string;
}

/** Powers of two, the first multiples of the device's units (multiprocessors, threads), and all: where a kernel's time is measured. */
export function blockCounts(virtual: number, units: number): number[] {
  const powers = Array.from({ length: Math.floor(Math.log2(virtual)) + 1 }, (_, n) => 2 ** n);
  return upTo(virtual, [...powers, ...[1, 2, 3, 4].map((n) => n * units)]);
}

/** The counts that are no more than all, and all. */
const upTo = (all: number, counts: readonly number[]): number[] =>
  [...new Set([...counts.filter((b) => b < all), all])].sort((a, b) => a - b);

/** The least number of blocks whose time is within a tenth of the best; undefined of none. */
export function plateau(times: readonly Measurement[]): number | undefined {
  const best = Math.min(...times.map((t) => t.milliseconds));
  return times.find((t) => t.milliseconds <= 1.1 * best)?.blocks;
}

/** See `Device.measureBlocks`. */
export async function measureBlocks(
  device: NativeDevice,
  models: readonly Model[],
  cache: CodeCache,
  tuning: Tuning | undefined,
  blocks: BlockTable,
  options: BlockOptions,
): Promise<KernelBlocks[]> {
  const { choose = (all) => all, tier = 'specialised', onProgress = () => {} } = options;
  const target = targetOf(device.target);
  const known = new Map<Kernel, DistinctKernel>();
  for (const found of distinctKernels(models, target.name))
    known.set(scheduledBy(tuning, found.kernel, target), found);
  const chosen = choose([...known.keys()]);
  const lab = { device, cache, toolchain: toolchainOf(target.name), tier, blocks };
  const results: KernelBlocks[] = [];
  let cached = 0;
  for (const kernel of chosen) {
    const { isConstant, calls } = known.get(kernel)!;
    const { wasCached, ...measured } = await measureKernel(lab, kernel, isConstant, options);
    if (wasCached) cached++;
    results.push({ kernel: kernel.name, loc: kernel.loc, calls, ...measured });
    onProgress({ done: results.length, total: chosen.length, cached, name: kernel.name });
  }
  return results;
}

/** Where and how kernels are measured. */
interface Lab {
  readonly device: NativeDevice;
  readonly cache: CodeCache;
  readonly toolchain: Toolchain;
  readonly tier: Tier;
  /** Gets what was measured of words of one slot at the usual numbers of blocks. */
  readonly blocks: BlockTable;
}

/** Measures one scheduled kernel. */
export async function measureKernel(
  { device, cache, toolchain, tier, blocks }: Lab,
  kernel: Kernel,
  isConstant: readonly boolean[],
  { width = 1, blocks: counts }: Pick<BlockOptions, 'width' | 'blocks'> = {},
): Promise<Pick<KernelBlocks, 'virtualBlocks' | 'times' | 'problem'> & { readonly wasCached: boolean }> {
  const kernelClass = classOf(kernel, tier);
  const ready = await codeOfClasses([kernelClass], device.target, cache, toolchain);
  const { path, symbol, launch } = ready;
  const code = device.load(device.kind === 'host' ? path : await CodeCache.read(path), symbol);
  const virtual = virtualBlocks(kernel);
  const timer = new KernelTimer(device, kernel, isConstant, tier, width);
  try {
    const measured = await timeBlocks(
      timer,
      { schedule: kernel.schedule!, code, launch },
      width,
      counts ? upTo(virtual, counts) : blockCounts(virtual, device.units),
    );
    if (width === 1 && !counts && measured.problem === undefined) {
      const resources = device.kind === 'cuda' ? await resourcesOf(ready) : undefined;
      await blocks.put(kernelClass.key, sizesOf(kernel), {
        kernel: kernel.name,
        tier,
        virtualBlocks: virtual,
        times: measured.times,
        ...(resources && { resources }),
      });
    }
    return { virtualBlocks: virtual, ...measured, wasCached: ready.cached };
  } finally {
    timer.close();
  }
}

/** True if a scheduled kernel was measured before. */
export const hasBlockTimes = (blocks: BlockTable, kernel: Kernel, tier: Tier): boolean => {
  const key = classOf(kernel, tier).key;
  return (
    blocks.find({ classes: { generic: key, specialised: key }, sizes: sizesOf(kernel) }, tier) !== undefined
  );
};

/** As tasks have them. */
const sizesOf = (kernel: Kernel): readonly number[] => classOf(kernel, 'generic').sizes.values;

/** Rounds between two changes of the number of blocks add up to so many. */
const rounds = 11;

/** Times a kernel at each number of blocks, if its results are the same at each. */
export async function timeBlocks(
  timer: KernelTimer,
  candidate: Candidate,
  width: number,
  counts: readonly number[],
): Promise<Pick<KernelBlocks, 'times' | 'problem'>> {
  const expected = (await timer.outputsOf(candidate)).map(bytesOf);
  const candidates = counts.map((blocks): Candidate => ({ ...candidate, blocks }));
  for (const constrained of candidates) {
    const outputs = (await timer.outputsOf(constrained)).map(bytesOf);
    if (outputs.some((bytes, n) => Buffer.compare(bytes, expected[n]!) !== 0))
      return { times: [], problem: `other bits on ${constrained.blocks} blocks than on all` };
  }
  const times = await timer.time(candidates, width, rounds);
  return { times: counts.map((blocks, n) => ({ blocks, milliseconds: times[n]! })) };
}
