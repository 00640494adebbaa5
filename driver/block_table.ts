/**
 * @file How long kernels took on numbers of blocks, kept in the cache beside the tuning table, and the curves through that: what words of
 * unlike kernels are planned by. A stale file makes a plan worse and no more.
 *
 *     blocks/<target>/<sha256 of the kernel's class and sizes>/<device>.json
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Tier } from '../ir/class.ts';
import { blocksPerUnit, type Resources } from '../ir/occupancy.ts';
import type { Variant } from '../ir/program.ts';
import { targetOf } from '../ir/target.ts';
import { estimateCurve, fitCurve, type Measurement } from '../passes/block_time.ts';
import type { OnBlocks } from '../passes/leave_room.ts';
import type { TaskTime } from '../passes/pack.ts';
import { cpuIdentity } from '../runtime/toolchain.ts';
import { type Measured, Measurements } from './measurements.ts';

/** Raised whenever old measurements mean nothing any more. */
const format = 1;

export interface BlockEntry extends Measured {
  readonly format: typeof format;
  readonly tier: Tier;
  readonly virtualBlocks: number;
  /** Multiprocessors, or threads, that it was measured with. */
  readonly units: number;
  /** Of a word of one slot. */
  readonly times: readonly Measurement[];
  /** What its code took, on a GPU. */
  readonly resources?: Resources;
}

/** The table of one target. */
export class BlockTable {
  readonly #entries: Measurements<BlockEntry>;

  /**
   * @param cacheDir the folder of the code cache.
   * @param device what `tunedDevice` says; without it (compiling for a device that is not here) the newest entry of any device counts.
   * @param units of the device.
   */
  constructor(
    cacheDir: string,
    private readonly target: string,
    device: string | undefined = target === 'host' ? cpuIdentity() : undefined,
    private readonly units: number = targetOf(target).units,
  ) {
    this.#entries = new Measurements(join(cacheDir, 'blocks', target), device, isEntry);
  }

  /** What is known of a task's kernel in a tier, or else in the other: their times differ less than either from an estimate. */
  find({ classes, sizes }: Pick<Variant, 'classes' | 'sizes'>, tier: Tier): BlockEntry | undefined {
    const other: Tier = tier === 'generic' ? 'specialised' : 'generic';
    return (
      this.#entries.find(blockKey(classes[tier], sizes)) ??
      this.#entries.find(blockKey(classes[other], sizes))
    );
  }

  /** Throws CacheError if the folder cannot be written. */
  put(
    classKey: string,
    sizes: readonly number[],
    entry: Omit<BlockEntry, 'format' | 'device' | 'date' | 'units'>,
  ): Promise<BlockEntry> {
    return this.#entries.put(blockKey(classKey, sizes), { format, units: this.units, ...entry });
  }

  /** What was measured of a task on this many units; undefined if nothing was. */
  onBlocks(task: Variant, tier: Tier): OnBlocks | undefined {
    const entry = this.#entryOf(task, tier);
    if (!entry) return undefined;
    const held = blocksPerUnit(entry.resources ?? task.work, targetOf(this.target));
    return { times: entry.times, places: held * this.units };
  }

  timeOf(task: Variant, tier: Tier): TaskTime {
    const estimate = estimateCurve(task.work, task.blocks, targetOf(this.target), this.units);
    const entry = this.#entryOf(task, tier);
    if (!entry) return { curve: estimate, resources: task.work, measured: false };
    const curve = fitCurve(entry.times, task.blocks, this.units, estimate);
    return { curve, resources: entry.resources ?? task.work, measured: true };
  }

  /** On other units, or another grid, it is another curve. */
  #entryOf(task: Variant, tier: Tier): BlockEntry | undefined {
    const entry = this.find(task, tier);
    return entry?.units === this.units && entry.virtualBlocks === task.blocks ? entry : undefined;
  }
}

/** Of a specialised class the sizes say nothing new, and do no harm: both sides have those of the generic class. */
const blockKey = (classKey: string, sizes: readonly number[]): string =>
  createHash('sha256')
    .update(`${classKey} ${sizes.join(',')}`)
    .digest('hex');

function isEntry(value: unknown): value is BlockEntry {
  if (typeof value !== 'object' || value === null) return false;
  const entry = value as Partial<BlockEntry>;
  const isCount = (n: unknown): boolean => Number.isInteger(n) && (n as number) >= 1;
  const { resources } = entry;
  return (
    entry.format === format &&
    [entry.kernel, entry.device, entry.date, entry.tier].every((t) => typeof t === 'string') &&
    isCount(entry.virtualBlocks) &&
    isCount(entry.units) &&
    Array.isArray(entry.times) &&
    entry.times.length > 0 &&
    entry.times.every((t: Partial<Measurement>) => isCount(t?.blocks) && t.milliseconds! > 0) &&
    (resources === undefined ||
      [resources?.threads, resources?.registers, resources?.sharedBytes].every((n) => n! >= 0))
  );
}
