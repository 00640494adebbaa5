/**
 * @file Runs one kernel on a device, as one slot a tenant of one word: the other side of comparisons with the interpreter.
 */
import { emitWord, entrySymbol, type WordSource } from '../../codegen/word.ts';
import { virtualBlocks } from '../../ir/blocks.ts';
import { classOf, type Tier } from '../../ir/class.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { type Target, targetOf } from '../../ir/target.ts';
import { bytesOf, makeTensor, type Tensor } from '../../ir/tensor.ts';
import { byteSize } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { CodeCache } from '../../runtime/cache.ts';
import type { NativeDevice, NativeFunction } from '../../runtime/native.ts';
import { toolchainOf } from '../../runtime/toolchain.ts';
import { emulated } from './emulate.ts';

export interface RunOptions {
  readonly tier?: Tier;
  /** Physical blocks of each slot; by default all. */
  readonly blocks?: number;
  /** Emits for this CUDA target and emulates it on the device, a host device of one thread. */
  readonly emulate?: string;
}

/** Runs a scheduled kernel once for each tenant's inputs, all in one word. */
export async function runKernels(
  device: NativeDevice,
  kernels: readonly Kernel[],
  tenants: readonly (readonly Tensor[])[],
  { tier = 'generic', blocks = Number.POSITIVE_INFINITY, emulate }: RunOptions = {},
): Promise<Tensor[][]> {
  for (const k of kernels) {
    const problems = verifyKernel(k);
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }
  const classes = kernels.map((k) => classOf(k, tier));
  if (new Set(classes.map((c) => c.key)).size !== 1) throw new Error('the kernels are of several classes');
  const target = targetOf(emulate ?? device.target);
  const word = emitWord([classes[0]!], target);
  const { threads } = word;
  const sharedBytes = device.kind === 'cuda' ? word.sharedBytes : 0;
  const code =
    emulate === undefined ? await compiled(device, word, target) : await loadEmulated(device, word);
  const slots = kernels.map((kernel, n) => {
    const inputs = tenants[n]!.map((t) => ({
      tensor: t,
      buffer: device.allocate(Math.max(16, byteSize(t))),
    }));
    const outputs = kernel.outputs.map((b) => {
      const tensor = makeTensor(b.dtype, b.shape);
      const buffer = device.allocate(Math.max(16, byteSize(tensor)));
      // Poisoned, so that an element that nobody writes shows.
      device.write({ buffer, offset: 0, data: new Uint8Array(byteSize(tensor)).fill(0xa5) });
      return { tensor, buffer };
    });
    for (const { tensor, buffer } of inputs) device.write({ buffer, offset: 0, data: bytesOf(tensor) });
    return { kernel, inputs, outputs, sizes: classes[n]!.sizes.values };
  });
  const program = device.createProgram([
    {
      code,
      threads,
      sharedBytes,
      slots: slots.map(({ kernel, inputs, outputs, sizes }, tenant) => ({
        tenant,
        body: 0,
        begin: 0,
        end: virtualBlocks(kernel),
        blocks: Math.min(virtualBlocks(kernel), blocks),
        operands: [...inputs, ...outputs].map(({ tensor, buffer }) => ({
          buffer,
          offset: 0,
          bytes: byteSize(tensor),
        })),
        sizes,
      })),
    },
  ]);
  try {
    const reads = slots.flatMap((s) =>
      s.outputs.map(({ tensor, buffer }) => ({ buffer, offset: 0, data: bytesOf(tensor) })),
    );
    await program.run({ active: [...kernels.keys()], writes: [], reads });
    return slots.map((s) => s.outputs.map((o) => o.tensor));
  } finally {
    program.close();
    for (const s of slots) for (const { buffer } of [...s.inputs, ...s.outputs]) device.release(buffer);
  }
}

async function compiled(device: NativeDevice, word: WordSource, target: Target): Promise<NativeFunction> {
  const toolchain = toolchainOf(target.name);
  const cache = new CodeCache();
  const key = CodeCache.key(word.source, toolchain.identity);
  const path =
    (await cache.find(key, toolchain.extension)) ??
    (await cache.put(key, toolchain.extension, (file) => toolchain.compile(word.source, file)));
  return device.load(
    target.kind === 'host' ? path : await CodeCache.read(path),
    entrySymbol(word.entry, target),
  );
}

async function loadEmulated(device: NativeDevice, word: WordSource): Promise<NativeFunction> {
  const { path, symbol } = await emulated(word);
  return device.load(path, symbol);
}
