/**
 * @file The tuning table: the schedules that were measured to be best for a kernel on a device, a JSON file each in the cache folder:
 *
 *     tuning/<target>/<sha256 of the kernel without its schedule>/<device>.json
 *
 * A schedule never changes what a kernel computes, and one that the verifier refuses is not used, so a stale file can make a kernel slow
 * and no more.
 */
import { join } from 'node:path';
import { classOf, type Tier } from '../ir/class.ts';
import type { Kernel, Schedules } from '../ir/kernel.ts';
import { parseSchedules } from '../ir/parse/index.ts';
import { targetOf } from '../ir/target.ts';
import { verifySchedules } from '../ir/verify_schedule.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { cpuIdentity } from '../runtime/toolchain.ts';
import { type Measured, Measurements } from './measurements.ts';

/** Raised whenever old measurements mean nothing any more. */
const format = 2;

/** What was measured of a kernel at one width. */
export interface WidthTimes {
  /** Tenants in the word. */
  readonly width: number;
  /** Milliseconds of the word under the default schedule, and under the one that was chosen; medians. */
  readonly before: number;
  readonly after: number;
}

export interface TuningEntry extends Measured {
  readonly format: typeof format;
  readonly tier: Tier;
  /** How many schedules were measured. */
  readonly candidates: number;
  readonly before: string;
  /** The schedules as the IR's text has them: of words of one slot, and of wider ones. */
  readonly schedule: string;
  readonly times: readonly WidthTimes[];
}

/** Where a compiled model's schedules come from, if not from the default. */
export interface Tuning {
  /** The schedules of a kernel that has none yet; undefined if the kernel was never tuned. */
  schedulesOf(kernel: Kernel): Schedules | undefined;
}

const keys = new WeakMap<Kernel, string>();

/** What a kernel is told by: its text without names and schedule, all sizes constant. */
export function tuningKey(kernel: Kernel): string {
  const { schedule: _, wider: __, ...unscheduled } = kernel;
  const key = keys.get(kernel) ?? classOf(unscheduled, 'specialised').key;
  keys.set(kernel, key);
  return key;
}

/** What a device's measurements are kept under; for the host the CPU, which decides more than its threads. */
export const tunedDevice = ({ kind, name }: Pick<NativeDevice, 'kind' | 'name'>): string =>
  kind === 'host' ? cpuIdentity() : name;

/** The table of one target. What it has read it remembers, so that all models of a program see one state of the files. */
export class TuningTable implements Tuning {
  readonly #entries: Measurements<TuningEntry>;
  readonly #schedules = new Map<string, Schedules | undefined>();

  /**
   * @param cacheDir the folder of the code cache.
   * @param device what `tunedDevice` says; without it (compiling for a device that is not here) the newest entry of any device counts.
   */
  constructor(
    cacheDir: string,
    private readonly target: string,
    device: string | undefined = target === 'host' ? cpuIdentity() : undefined,
  ) {
    this.#entries = new Measurements(join(cacheDir, 'tuning', target), device, isEntry);
  }

  schedulesOf(kernel: Kernel): Schedules | undefined {
    const key = tuningKey(kernel);
    if (!this.#schedules.has(key)) this.#schedules.set(key, this.#lawful(kernel, this.find(key)));
    return this.#schedules.get(key);
  }

  find(key: string): TuningEntry | undefined {
    return this.#entries.find(key);
  }

  /** Throws CacheError if the folder cannot be written. */
  async put(key: string, entry: Omit<TuningEntry, 'format' | 'device' | 'date'>): Promise<TuningEntry> {
    const whole = await this.#entries.put(key, { format, ...entry });
    this.#schedules.delete(key);
    return whole;
  }

  #lawful(kernel: Kernel, entry: TuningEntry | undefined): Schedules | undefined {
    const schedules = entry && parseSchedules(entry.schedule);
    if (!schedules) return undefined;
    const problems: string[] = [];
    verifySchedules({ ...kernel, ...schedules }, targetOf(this.target), (_, text) => problems.push(text));
    return problems.length === 0 ? schedules : undefined;
  }
}

function isEntry(value: unknown): value is TuningEntry {
  if (typeof value !== 'object' || value === null) return false;
  const entry = value as Partial<TuningEntry>;
  const texts = [entry.kernel, entry.device, entry.date, entry.tier, entry.before, entry.schedule];
  return (
    entry.format === format &&
    texts.every((t) => typeof t === 'string') &&
    parseSchedules(entry.schedule!) !== undefined &&
    Array.isArray(entry.times) &&
    entry.times.every((t: Partial<WidthTimes>) =>
      [t?.width, t?.before, t?.after].every((n) => typeof n === 'number'),
    )
  );
}
