/**
 * @file The code cache: atomic, shared, and never trusting a damaged file.
 */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compileModel, openDevice } from '../../index.ts';
import { CacheError, CodeCache } from '../../runtime/cache.ts';
import { findHostCompiler } from '../../runtime/toolchain.ts';
import { mlpModel } from '../support/models.ts';

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'wideword-cache-'))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const key = CodeCache.key('text', 'compiler');
const bytes = new TextEncoder().encode('some code');

describe('the code cache', () => {
  it('gives back what was stored, from bytes or from a producer', async () => {
    const cache = new CodeCache(dir);
    expect(await cache.find(key, 'so')).toBeUndefined();
    await cache.put(key, 'so', bytes);
    expect(await CodeCache.read((await cache.find(key, 'so'))!)).toEqual(bytes);
    const other = CodeCache.key('other');
    await cache.put(other, 'so', async (path) => writeFileSync(path, bytes));
    expect(await CodeCache.read((await cache.find(other, 'so'))!)).toEqual(bytes);
  });

  it('keys keep lists of parts apart that join to one text', () => {
    expect(CodeCache.key('ab', 'c')).not.toBe(CodeCache.key('a', 'bc'));
  });

  it('a failed producer leaves nothing', async () => {
    const cache = new CodeCache(dir);
    const fails = cache.put(key, 'so', async (path) => {
      writeFileSync(path, 'half');
      throw new Error('the compiler failed');
    });
    await expect(fails).rejects.toThrow('the compiler failed');
    expect(readdirSync(dirname(cache.path(key, 'so')))).toEqual([]);
  });

  it('a file cut short or changed is a miss, and is removed', async () => {
    const cache = new CodeCache(dir);
    for (const damage of [
      (path: string) => truncateSync(path, 20),
      (path: string) => truncateSync(path, 0),
      (path: string) => writeFileSync(path, readFileSync(path).fill(1, 2, 3)),
    ]) {
      damage(await cache.put(key, 'so', bytes));
      expect(await cache.find(key, 'so')).toBeUndefined();
      expect(readdirSync(dirname(cache.path(key, 'so')))).toEqual([]);
    }
  });

  it('many writers of one key leave one whole file', async () => {
    const cache = new CodeCache(dir);
    await Promise.all(Array.from({ length: 20 }, () => cache.put(key, 'so', bytes)));
    expect(readdirSync(dirname(cache.path(key, 'so')))).toHaveLength(1);
    expect(await CodeCache.read((await cache.find(key, 'so'))!)).toEqual(bytes);
  });

  it('that cannot be written says what to do', async () => {
    writeFileSync(join(dir, 'file'), '');
    const cache = new CodeCache(join(dir, 'file'));
    await expect(cache.put(key, 'so', bytes)).rejects.toThrow(CacheError);
    await expect(cache.put(key, 'so', bytes)).rejects.toThrow(/set WIDEWORD_CACHE/);
    if (existsSync('/proc'))
      await expect(new CodeCache('/proc/no/such').put(key, 'so', bytes)).rejects.toThrow(CacheError);
  });

  it.skipIf(!findHostCompiler())('libraries cut short are compiled again, not opened', async () => {
    const model = await compileModel(mlpModel([20, 33, 12]));
    const load = async () => {
      const device = await openDevice('host', { cacheDir: dir });
      const { stats } = await device.load([{ name: 'a', model }]);
      device.close();
      return stats;
    };
    expect(await load()).toMatchObject({ compiled: 2, cached: 0 });
    expect(await load()).toMatchObject({ compiled: 0, cached: 2 });
    for (const file of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('.so')) truncateSync(join(dir, file), 4096);
    }
    expect(await load()).toMatchObject({ compiled: 2, cached: 0 });
  });
});
