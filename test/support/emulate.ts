/**
 * @file Runs emitted CUDA, text for text, on the CPU: the part of the prelude that is CUDA's is exchanged for one that emulates a block's
 * threads, so the code that goes to the GPU is tested where there is none.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { preludeOf } from '../../codegen/prelude.ts';
import type { WordSource } from '../../codegen/word.ts';
import { CodeCache } from '../../runtime/cache.ts';
import { findHostCompiler } from '../../runtime/toolchain.ts';

const read = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8');
const prelude = (name: string): string => read(`../../codegen/prelude/${name}`);

/** Compiles a word for a CUDA target as a shared library that a host device with one thread can run; `symbol` is its entry. */
export async function emulated({
  entry,
  source,
  threads,
}: WordSource): Promise<{ path: string; symbol: string }> {
  const symbol = `${entry}_blocks`;
  const text = [
    // In this order: the emulation knows slots, and scalar helpers need its keywords.
    prelude('slot.h'),
    read('emulated_cuda.h'),
    prelude('scalar.h'),
    prelude('mma.h'),
    prelude('attention.h'),
    source.slice(preludeOf('cuda').length),
    `extern "C" void ${symbol}(const SlotRow* rows, const unsigned* block_slot, unsigned first, unsigned last) {`,
    `  for (unsigned block = first; block < last; block++) emulated::run_block(${entry}, rows, block_slot, block, ${threads});`,
    '}',
  ].join('\n');
  const [compiler, ...first] = findHostCompiler()!.command;
  const flags = ['-O1', '-std=c++17', '-march=native', '-ffp-contract=off', '-fPIC', '-shared', '-w'];
  const cache = new CodeCache();
  const key = CodeCache.key(text, ['emulated', compiler, ...first, ...flags].join(' '));
  const compile = async (file: string): Promise<void> => {
    const running = promisify(execFile)(compiler!, [...first, ...flags, '-x', 'c++', '-', '-o', file]);
    running.child.stdin!.end(text);
    await running;
  };
  return { path: (await cache.find(key, 'so')) ?? (await cache.put(key, 'so', compile)), symbol };
}
