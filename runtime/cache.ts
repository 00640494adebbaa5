/**
 * @file The code cache: compiled kernels on disk under the hash of all they depend on. Written atomically, so several processes may
 * share it, and any file of it may be deleted at any time.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** $WIDEWORD_CACHE, else wideword/ in the user's cache folder. */
export const defaultCacheDir = (): string =>
  process.env.WIDEWORD_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'wideword');

export class CodeCache {
  constructor(readonly dir: string = defaultCacheDir()) {}

  /** The key of code: a hash over every part it depends on. */
  static key(...parts: readonly string[]): string {
    const hash = createHash('sha256');
    // Lengths keep two lists of parts with the same concatenation apart.
    for (const part of parts) hash.update(`${part.length}:`).update(part);
    return hash.digest('hex');
  }

  path(key: string, extension: string): string {
    return join(this.dir, key.slice(0, 2), `${key}.${extension}`);
  }

  has(key: string, extension: string): boolean {
    return existsSync(this.path(key, extension));
  }

  async read(key: string, extension: string): Promise<Uint8Array> {
    return new Uint8Array(await readFile(this.path(key, extension)));
  }

  /** Stores bytes, or what `produce` writes to the path that it is given. */
  async put(
    key: string,
    extension: string,
    produce: Uint8Array | ((path: string) => Promise<void>),
  ): Promise<string> {
    const path = this.path(key, extension);
    const part = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.part`;
    await mkdir(join(path, '..'), { recursive: true });
    try {
      if (produce instanceof Uint8Array) await writeFile(part, produce);
      else await produce(part);
      await rename(part, path);
    } catch (error) {
      await rm(part, { force: true });
      throw error;
    }
    return path;
  }
}
