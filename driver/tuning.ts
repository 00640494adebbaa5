/**
 * @file The tuning table: the schedule that was measured to be best for a kernel on a device, a JSON file each in the cache folder:
 *
 *     tuning/<target>/<sha256 of the kernel without its schedule>/<device>.json
 *
 * Files are written atomically and may be deleted at any time. A schedule never changes what a kernel computes, and one that the
 * verifier refuses is not used, so a stale file can make a kernel slow and no more.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { classOf, type Tier } from '../ir/class.ts';
import type { Kernel, Schedule } from '../ir/kernel.ts';
import { parseSchedule } from '../ir/parse/index.ts';
import { targetOf } from '../ir/target.ts';
import { verifySchedule } from '../ir/verify_schedule.ts';
import { writeAtomically } from '../runtime/cache.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { cpuIdentity } from '../runtime/toolchain.ts';

/** Raised whenever old measurements mean nothing any more. */
const format = 1;

/** What was measured of a kernel at one width. */
export interface WidthTimes {
  /** Tenants in the word. */
  readonly width: number;
  /** Milliseconds of the word under the default schedule, and under the one that was chosen; medians. */
  readonly before: number;
  readonly after: number;
}

export interface TuningEntry {
  readonly format: typeof format;
  /** The kernel's name, for people. */
  readonly kernel: string;
  readonly device: string;
  /** When it was measured, ISO 8601. */
  readonly date: string;
  readonly tier: Tier;
  /** How many schedules were measured. */
  readonly candidates: number;
  readonly before: string;
  /** The schedule as the IR's text has it. */
  readonly schedule: string;
  readonly times: readonly WidthTimes[];
}

/** Where a compiled model's schedules come from, if not from the default. */
export interface Tuning {
  /** The schedule of a kernel that has none yet; undefined if the kernel was never tuned. */
  scheduleOf(kernel: Kernel): Schedule | undefined;
}

const keys = new WeakMap<Kernel, string>();

/** What a kernel is told by: its text without names and schedule, all sizes constant. */
export function tuningKey(kernel: Kernel): string {
  const { schedule: _, ...unscheduled } = kernel;
  const key = keys.get(kernel) ?? classOf(unscheduled, 'specialised').key;
  keys.set(kernel, key);
  return key;
}

/** What a device's measurements are kept under; for the host the CPU, which decides more than its threads. */
export const tunedDevice = ({ kind, name }: Pick<NativeDevice, 'kind' | 'name'>): string =>
  kind === 'host' ? cpuIdentity() : name;

/** The table of one target. What it has read it remembers, so that all models of a program see one state of the files. */
export class TuningTable implements Tuning {
  readonly #dir: string;
  readonly #known = new Map<string, TuningEntry | undefined>();
  readonly #schedules = new Map<string, Schedule | undefined>();

  /**
   * @param cacheDir the folder of the code cache.
   * @param device what `tunedDevice` says; without it (compiling for a device that is not here) the newest entry of any device counts.
   */
  constructor(
    cacheDir: string,
    private readonly target: string,
    private readonly device: string | undefined = target === 'host' ? cpuIdentity() : undefined,
  ) {
    this.#dir = join(cacheDir, 'tuning', target);
  }

  scheduleOf(kernel: Kernel): Schedule | undefined {
    const key = tuningKey(kernel);
    if (!this.#schedules.has(key)) this.#schedules.set(key, this.#lawful(kernel, this.find(key)));
    return this.#schedules.get(key);
  }

  find(key: string): TuningEntry | undefined {
    if (!this.#known.has(key)) {
      const entries = this.#files(key).flatMap((path) => readEntry(path) ?? []);
      this.#known.set(key, entries.sort((a, b) => a.date.localeCompare(b.date)).at(-1));
    }
    return this.#known.get(key);
  }

  /** Throws CacheError if the folder cannot be written. */
  async put(key: string, entry: Omit<TuningEntry, 'format' | 'device' | 'date'>): Promise<TuningEntry> {
    const { device } = this;
    if (device === undefined) throw new Error('a measurement is of a device');
    const whole = { format, device, date: new Date().toISOString(), ...entry } as const;
    await writeAtomically(this.#path(key, device), `${JSON.stringify(whole, undefined, 2)}\n`);
    this.#known.set(key, whole);
    this.#schedules.delete(key);
    return whole;
  }

  #path(key: string, device: string): string {
    // A device's name may hold anything; the digest keeps two apart that are spelled alike.
    const digest = createHash('sha256').update(device).digest('hex').slice(0, 8);
    return join(this.#dir, key, `${device.replace(/[^\w.-]+/g, '_')}-${digest}.json`);
  }

  #files(key: string): string[] {
    if (this.device !== undefined) return [this.#path(key, this.device)];
    try {
      const dir = join(this.#dir, key);
      return readdirSync(dir).flatMap((name) => (name.endsWith('.json') ? join(dir, name) : []));
    } catch {
      return [];
    }
  }

  #lawful(kernel: Kernel, entry: TuningEntry | undefined): Schedule | undefined {
    const schedule = entry && parseSchedule(entry.schedule);
    if (!schedule) return undefined;
    const problems: string[] = [];
    verifySchedule(kernel, schedule, targetOf(this.target), (_, text) => problems.push(text));
    return problems.length === 0 ? schedule : undefined;
  }
}

/** Reads a file of the table. One that is damaged is removed, as the cache does: nothing is lost but a measurement. */
function readEntry(path: string): TuningEntry | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
  try {
    const entry: unknown = JSON.parse(text);
    if (isEntry(entry)) return entry;
  } catch {}
  rmSync(path, { force: true });
  return undefined;
}

function isEntry(value: unknown): value is TuningEntry {
  if (typeof value !== 'object' || value === null) return false;
  const entry = value as Partial<TuningEntry>;
  const texts = [entry.kernel, entry.device, entry.date, entry.tier, entry.before, entry.schedule];
  return (
    entry.format === format &&
    texts.every((t) => typeof t === 'string') &&
    parseSchedule(entry.schedule!) !== undefined &&
    Array.isArray(entry.times) &&
    entry.times.every((t: Partial<WidthTimes>) =>
      [t?.width, t?.before, t?.after].every((n) => typeof n === 'number'),
    )
  );
}
