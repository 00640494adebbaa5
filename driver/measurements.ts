/**
 * @file Measurements on disk, a JSON file each in the cache folder, under what was measured and the device:
 *
 *     <folder>/<target>/<hash of what was measured>/<device>.json
 *
 * Files are written atomically and may be deleted at any time.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomically } from '../runtime/cache.ts';

/** What every file says. */
export interface Measured {
  /** The kernel's name, for people. */
  readonly kernel: string;
  readonly device: string;
  /** When it was measured, ISO 8601. */
  readonly date: string;
}

/** What it has read it remembers, so that all models of a program see one state of the files. */
export class Measurements<E extends Measured> {
  readonly #known = new Map<string, E | undefined>();

  /**
   * @param device without it (compiling for a device that is not here) the newest entry of any device counts.
   * @param isEntry tells an entry from what a damaged file may hold.
   */
  constructor(
    private readonly dir: string,
    private readonly device: string | undefined,
    private readonly isEntry: (value: unknown) => value is E,
  ) {}

  find(key: string): E | undefined {
    if (!this.#known.has(key)) {
      const entries = this.#files(key).flatMap((path) => this.#read(path) ?? []);
      this.#known.set(key, entries.sort((a, b) => a.date.localeCompare(b.date)).at(-1));
    }
    return this.#known.get(key);
  }

  /** Throws CacheError if the folder cannot be written. */
  async put(key: string, entry: Omit<E, 'device' | 'date'>): Promise<E> {
    const { device } = this;
    if (device === undefined) throw new Error('a measurement is of a device');
    const whole = { device, date: new Date().toISOString(), ...entry } as unknown as E;
    await writeAtomically(this.#path(key, device), `${JSON.stringify(whole, undefined, 2)}\n`);
    this.#known.set(key, whole);
    return whole;
  }

  #path(key: string, device: string): string {
    // A device's name may hold anything; the digest keeps two apart that are spelled alike.
    const digest = createHash('sha256').update(device).digest('hex').slice(0, 8);
    return join(this.dir, key, `${device.replace(/[^\w.-]+/g, '_')}-${digest}.json`);
  }

  #files(key: string): string[] {
    if (this.device !== undefined) return [this.#path(key, this.device)];
    try {
      const dir = join(this.dir, key);
      return readdirSync(dir).flatMap((name) => (name.endsWith('.json') ? join(dir, name) : []));
    } catch {
      return [];
    }
  }

  /** Reads a file. One that is damaged is removed, as the cache does: nothing is lost but a measurement. */
  #read(path: string): E | undefined {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
    try {
      const entry: unknown = JSON.parse(text);
      if (this.isEntry(entry)) return entry;
    } catch {}
    rmSync(path, { force: true });
    return undefined;
  }
}
