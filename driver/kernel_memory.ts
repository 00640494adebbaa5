/**
 * @file Random data for one kernel that is timed by itself: for several tenants, and with so many copies of its weights that those of one
 * word after another come from memory, as they do in a model's round. Activations stay where they are: a model has just written them.
 */
import type { Buffer, Kernel } from '../ir/kernel.ts';
import { randomInput } from '../ir/random.ts';
import { scratchBytes, scratchOf } from '../ir/scratch.ts';
import { bytesOf, makeTensor, type Tensor } from '../ir/tensor.ts';
import { byteSize } from '../ir/types.ts';
import type { NativeBuffer, NativeDevice, Operand, Transfer } from '../runtime/native.ts';

/** More than any cache that is common, in bytes. */
const pastCaches = 128e6;
/** Copies of the constants of all tenants: on a GPU also enough words for a round to be timed well. */
const limits = { cuda: { least: 4, most: 16 }, host: { least: 1, most: 4 } } as const;

/** How many copies of weights of so many bytes in all there should be. */
export function copiesOf(bytes: number, kind: NativeDevice['kind']): number {
  const { least, most } = limits[kind];
  return Math.max(least, Math.min(most, bytes > 0 ? Math.ceil(pastCaches / bytes) : 0));
}

/** @param isConstant of each input of the kernel, whether it is a weight. */
export const constantBytes = ({ inputs }: Kernel, isConstant: readonly boolean[]): number =>
  inputs.reduce((sum, b, n) => sum + (isConstant[n] ? byteSize(b) : 0), 0);

export class KernelMemory {
  readonly #buffers: NativeBuffer[] = [];
  /** Operands of each copy, of each tenant. */
  readonly #operands: readonly (readonly (readonly Operand[])[])[];
  readonly #outputs: readonly (readonly NativeBuffer[])[];
  /** Of each tenant, by which of its operands and its bytes: schedules need different ones, and take turns with those they share. */
  readonly #scratch = new Map<string, Operand>();

  constructor(
    private readonly device: NativeDevice,
    private readonly kernel: Kernel,
    isConstant: readonly boolean[],
    copies: number,
    tenants: number,
  ) {
    const { inputs, outputs } = kernel;
    // A gather's indices should reach all that it gathers from; beyond that it reads padding.
    const integers = Math.max(10, ...inputs.map((b) => b.shape[0] ?? 1));
    const data = inputs.map((b, n) => bytesOf(randomInput(b, n + 1, integers)));
    const filled = (n: number): Operand => this.#allocate(inputs[n]!, data[n]!);
    const fixed = Array.from({ length: tenants }, () => ({
      inputs: inputs.map((_, n) => (isConstant[n] ? undefined : filled(n))),
      outputs: outputs.map((b) => this.#allocate(b)),
    }));
    this.#outputs = fixed.map((t) => t.outputs.map((o) => o.buffer));
    this.#operands = Array.from({ length: copies }, () =>
      fixed.map((t) => [...t.inputs.map((known, n) => known ?? filled(n)), ...t.outputs]),
    );
  }

  /** Inputs, outputs and scratch of the kernel under a schedule. */
  operands(copy: number, tenant: number, scheduled: Kernel): Operand[] {
    const scratch = scratchOf(scheduled).map((s) => this.#scratchOf(tenant, s.name, scratchBytes(s)));
    return [...this.#operands[copy]![tenant]!, ...scratch];
  }

  /** What was left in a tenant's outputs must not pass for what is computed next. */
  spoilOutputs(tenant: number): void {
    for (const buffer of this.#outputs[tenant]!)
      this.device.write({ buffer, offset: 0, data: new Uint8Array(buffer.bytes).fill(0xff) });
  }

  /** Tensors for a tenant's outputs, and the reads that fill them. */
  outputs(tenant: number): { readonly tensors: Tensor[]; readonly reads: Transfer[] } {
    const tensors = this.kernel.outputs.map((b) => makeTensor(b.dtype, b.shape));
    const reads = tensors.map((tensor, n) => ({
      buffer: this.#outputs[tenant]![n]!,
      offset: 0,
      data: bytesOf(tensor),
    }));
    return { tensors, reads };
  }

  close(): void {
    for (const b of this.#buffers.splice(0)) this.device.release(b);
  }

  /** Zeros at first, as all new memory; the kernels keep them where it matters. */
  #scratchOf(tenant: number, name: string, bytes: number): Operand {
    const key = `${tenant} ${name} ${bytes}`;
    let found = this.#scratch.get(key);
    if (!found) this.#scratch.set(key, (found = this.#allocateBytes(bytes)));
    return found;
  }

  #allocate(b: Buffer, data?: Uint8Array): Operand {
    return this.#allocateBytes(byteSize(b), data);
  }

  #allocateBytes(bytes: number, data?: Uint8Array): Operand {
    const buffer = this.device.allocate(Math.max(16, bytes));
    this.#buffers.push(buffer);
    if (data) this.device.write({ buffer, offset: 0, data });
    return { buffer, offset: 0, bytes };
  }
}
