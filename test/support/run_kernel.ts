/**
 * @file Runs one kernel on a device, as one slot a tenant of one word: the other side of comparisons with the interpreter.
 */
import { emitWord, entrySymbol, virtualBlocks } from '../../codegen/word.ts';
import { classOf, type Tier } from '../../ir/class.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, makeTensor, type Tensor } from '../../ir/tensor.ts';
import { byteSize } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { CodeCache } from '../../runtime/cache.ts';
import type { NativeDevice } from '../../runtime/native.ts';
import { toolchainOf } from '../../runtime/toolchain.ts';

export interface RunOptions {
  readonly tier?: Tier;
  /** Physical blocks of each slot; by default all. */
  readonly blocks?: number;
}

/** Runs a scheduled kernel once for each tenant's inputs, all in one word. */
export async function runKernels(
  device: NativeDevice,
  kernels: readonly Kernel[],
  tenants: readonly (readonly Tensor[])[],
  { tier = 'generic', blocks = Number.POSITIVE_INFINITY }: RunOptions = {},
): Promise<Tensor[][]> {
  for (const k of kernels) {
    const problems = verifyKernel(k);
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }
  const classes = kernels.map((k) => classOf(k, tier));
  if (new Set(classes.map((c) => c.key)).size !== 1) throw new Error('the kernels are of several classes');
  const target = targetOf(device.target);
  const { entry, source, threads } = emitWord([classes[0]!], target);
  const toolchain = toolchainOf(device.target);
  const cache = new CodeCache();
  const key = CodeCache.key(source, toolchain.identity);
  const path =
    (await cache.find(key, toolchain.extension)) ??
    (await cache.put(key, toolchain.extension, (file) => toolchain.compile(source, file)));
  const code = device.load(
    target.kind === 'host' ? path : await CodeCache.read(path),
    entrySymbol(entry, target),
  );
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
