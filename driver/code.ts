/**
 * @file From words to loadable code: an image that came with a model, else the cache, else codegen and a compiler.
 */
import { emitWord, entrySymbol } from '../codegen/word.ts';
import { InputError } from '../compiler/errors.ts';
import type { KernelClass } from '../ir/class.ts';
import type { Resources } from '../ir/occupancy.ts';
import { codeKey, type Tenant, type Word } from '../ir/program.ts';
import { rowContract } from '../ir/row_contract.ts';
import { targetOf } from '../ir/target.ts';
import { CodeCache } from '../runtime/cache.ts';
import { cubinResources } from '../runtime/cubin.ts';
import { inParallel } from '../runtime/parallel.ts';
import type { Launch } from '../runtime/program.ts';
import { type Toolchain, toolchainOf } from '../runtime/toolchain.ts';
import type { CodeImage, Model } from './model.ts';

/** One step of making code ready. */
export interface Progress {
  readonly done: number;
  readonly total: number;
  /** How many of those done needed no compiler. */
  readonly cached: number;
  /** The kernel just finished. */
  readonly name: string;
}

/** A step with where its code came from and when it was made ready, in milliseconds of `performance.now()`. */
export interface CodeProgress extends Progress {
  readonly how: 'compiled' | 'cached' | 'shipped';
  readonly begin: number;
  readonly end: number;
}

/** Code of one word, ready to load: a file (in the cache), or bytes that came with a model. */
export interface ReadyCode {
  readonly key: string;
  /** The kernel's name in the source. */
  readonly entry: string;
  /** The name to look up in the loaded code. */
  readonly symbol: string;
  readonly launch: Launch;
  readonly path?: string;
  readonly image?: Uint8Array;
}

export interface CodeReport extends Resources {
  /** Of a thread, in device memory: spilled registers and arrays. */
  readonly localBytes: number;
}

export interface CodeResult {
  readonly code: readonly ReadyCode[];
  /** How many were compiled now, were found in the cache, and came with their models. */
  readonly compiled: number;
  readonly cached: number;
  readonly shipped: number;
}

/** A tenant before it is linked. */
export interface TenantModel extends Omit<Tenant, 'model'> {
  readonly model: Model;
}

/** The classes of a word, found in whichever model has them. */
export function classesOf(word: Word, models: readonly Model[], target: string): readonly KernelClass[] {
  return word.classes.map((key) => {
    const found = models.map((m) => m.classOf(target, key)).find((c) => c !== undefined);
    if (found) return found;
    const names = [...new Set(models.map((m) => m.name))].join(', ');
    throw new InputError(
      `an artefact among ${names} has no code for a word of this program: compile these models together, with the same --tier`,
    );
  });
}

/** Distinct codes that words need, each with one word that needs it. */
export function distinctCodes(words: readonly Word[]): Map<string, Word> {
  const codes = new Map<string, Word>();
  for (const word of words) if (!codes.has(codeKey(word))) codes.set(codeKey(word), word);
  return codes;
}

/** Makes the code of all words ready, compiling what is missing on all cores. */
export async function prepareCode(
  words: readonly Word[],
  tenants: readonly TenantModel[],
  target: string,
  cache: CodeCache,
  onProgress: (p: CodeProgress) => void = () => {},
): Promise<CodeResult> {
  const models = [...new Set(tenants.map((t) => t.model))];
  const wanted = [...distinctCodes(words)];
  const code: ReadyCode[] = [];
  const counts = { compiled: 0, cached: 0, shipped: 0 };
  let toolchain: Toolchain | undefined;
  const finish = (ready: ReadyCode, how: keyof typeof counts, begin: number): void => {
    code.push(ready);
    counts[how]++;
    onProgress({
      done: code.length,
      total: wanted.length,
      cached: code.length - counts.compiled,
      name: ready.entry,
      how,
      begin,
      end: performance.now(),
    });
  };

  const prepare = async ([key, word]: [string, Word]): Promise<void> => {
    const begin = performance.now();
    const shipped = models.map((m) => m.codeOf(target, key)).find((c) => c !== undefined);
    if (shipped) return finish(await fromImage(key, shipped, target, cache), 'shipped', begin);
    toolchain ??= toolchainOf(target);
    const classes = classesOf(word, models, target);
    const { cached, ...ready } = await codeOfClasses(classes, target, cache, toolchain);
    finish({ key, ...ready }, cached ? 'cached' : 'compiled', begin);
  };
  await inParallel(wanted, prepare);
  return { code, ...counts };
}

/** Code for a word of these classes, from the cache or the compiler. */
export async function codeOfClasses(
  classes: readonly KernelClass[],
  target: string,
  cache: CodeCache,
  toolchain: Toolchain,
): Promise<Omit<ReadyCode, 'key' | 'image'> & { readonly path: string; readonly cached: boolean }> {
  const { entry, source, threads, sharedBytes } = emitWord(classes, targetOf(target));
  const { identity, extension } = toolchain;
  const name = CodeCache.key(source, identity);
  const found = await cache.find(name, extension);
  const path = found ?? (await cache.put(name, extension, (file) => toolchain.compile(source, file)));
  const symbol = entrySymbol(entry, targetOf(target));
  const launch = { threads, sharedBytes, contracts: classes.map(rowContract) };
  return { entry, symbol, launch, path, cached: found !== undefined };
}

/** What a word's code takes of a multiprocessor, read from its cubin. */
export async function resourcesOf({
  entry,
  launch,
  path,
  image,
}: Pick<ReadyCode, 'entry' | 'launch' | 'path' | 'image'>): Promise<CodeReport> {
  const { registers, sharedBytes, localBytes } = cubinResources(
    image ?? (await CodeCache.read(path!)),
    entry,
  );
  return { threads: launch.threads, registers, sharedBytes: sharedBytes + launch.sharedBytes, localBytes };
}

/** An image that came with a model. A shared library must be a file to be opened, so the host's goes through the cache. */
async function fromImage(
  key: string,
  shipped: CodeImage,
  target: string,
  cache: CodeCache,
): Promise<ReadyCode> {
  const { image, launch, entry } = shipped;
  const base = { key, entry, launch, symbol: entrySymbol(entry, targetOf(target)) };
  if (target !== 'host') return { ...base, image };
  const name = CodeCache.key(Buffer.from(image).toString('base64'));
  const path = (await cache.find(name, 'so')) ?? (await cache.put(name, 'so', image));
  return { ...base, path };
}
