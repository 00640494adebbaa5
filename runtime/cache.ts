/**
 * @file The code cache: compiled kernels on disk under the hash of all they depend on. Written atomically, so several processes may
 * share it, and any file of it may be deleted at any time.
 */
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** $WIDEWORD_CACHE, else wideword/ in the user's cache folder. */
export const defaultCacheDir = (): string =>
  process.env.WIDEWORD_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'wideword');

/** The cache folder cannot be used; the message says what to do. */
export class CacheError extends Error {
  override readonly name = 'CacheError';
}

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

  /** The file of a key if it is there and whole; a damaged one is removed, as a library cut short can crash whoever opens it. */
  async find(key: string, extension: string): Promise<string | undefined> {
    const path = this.path(key, extension);
    const file = await readFile(path).catch(() => undefined);
    if (!file) return undefined;
    if (isWhole(file)) return path;
    await rm(path, { force: true }).catch(() => {});
    return undefined;
  }

  /** The bytes that were stored in a file of the cache. */
  static async read(path: string): Promise<Uint8Array> {
    const file = await readFile(path);
    return new Uint8Array(file.subarray(0, file.length - digestBytes));
  }

  /** Stores bytes, or what `produce` writes to the path that it is given, with a digest behind them. Throws CacheError. */
  async put(
    key: string,
    extension: string,
    produce: Uint8Array | ((path: string) => Promise<void>),
  ): Promise<string> {
    const path = this.path(key, extension);
    await writeAtomically(path, async (part) => {
      if (produce instanceof Uint8Array) await writeFile(part, produce);
      else await produce(part);
      await appendFile(part, digest(await readFile(part)));
    });
    return path;
  }
}

/** Writes a file of the cache: a text, or what `produce` writes to the path that it is given. Throws CacheError. */
export async function writeAtomically(
  path: string,
  produce: string | ((part: string) => Promise<void>),
): Promise<void> {
  const part = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.part`;
  try {
    await makeFolder(dirname(path));
    if (typeof produce === 'string') await writeFile(part, produce);
    else await produce(part);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    const { code } = error as NodeJS.ErrnoException;
    if (!code) throw error;
    throw new CacheError(
      `cannot write the cache ${dirname(path)} (${code}): set WIDEWORD_CACHE to a folder that can be written`,
    );
  }
}

/**
 * Makes a folder and those above it. Node's own recursive mkdir never returns where a folder exists but takes none (/proc, say): it
 * takes the ENOENT for a missing parent, again and again.
 */
async function makeFolder(dir: string): Promise<void> {
  const attempt = (): Promise<unknown> =>
    mkdir(dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  try {
    await attempt();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(dir) === dir) throw error;
    await makeFolder(dirname(dir));
    await attempt();
  }
}

const digestBytes = 32;
const digest = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** True if the file ends in the digest of what stands before it. Loaders of libraries do not mind bytes behind the end. */
function isWhole(file: Buffer): boolean {
  const end = file.length - digestBytes;
  return end > 0 && digest(file.subarray(0, end)).equals(file.subarray(end));
}
