/**
 * @file Runs and times one kernel by itself under several schedules or on several numbers of blocks, for several tenants in one word, on
 * random data. Candidates take turns, so that whatever drifts hits all alike; constant operands have as many copies as exceed the caches, and each word of a round
 * takes the next, so that weights come from memory as they do in a model's round. Activations stay where they are: a model has just
 * written them.
 */
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type Tier } from '../ir/class.ts';
import { compare, tolerances } from '../ir/compare.ts';
import type { Buffer, Kernel, Schedule } from '../ir/kernel.ts';
import { randomInput } from '../ir/random.ts';
import { scratchBytes, scratchOf } from '../ir/scratch.ts';
import { bytesOf, makeTensor, type Tensor } from '../ir/tensor.ts';
import { byteSize } from '../ir/types.ts';
import type {
  NativeBuffer,
  NativeDevice,
  NativeFunction,
  NativeProgram,
  NativeWord,
  Operand,
} from '../runtime/native.ts';
import type { Launch } from '../runtime/program.ts';
import { median } from '../runtime/turns.ts';

/** A schedule with its code. */
export interface Candidate {
  readonly schedule: Schedule;
  readonly code: NativeFunction;
  readonly launch: Launch;
  /** Physical blocks that each slot gets; if not said as many as it has virtual ones. */
  readonly blocks?: number;
}

/** More than any cache that is common, in bytes. */
const pastCaches = 128e6;
/** Copies of the constants of all tenants: on a GPU also enough words for a round to be timed well. */
const copies = { cuda: { least: 4, most: 16 }, host: { least: 1, most: 4 } } as const;
/** Milliseconds of rounds between two changes of the candidate, at least; one round if that is longer. */
const turn = 2;

export class KernelTimer {
  readonly #buffers: NativeBuffer[] = [];
  /** Operands of each copy, of each tenant. */
  readonly #operands: readonly (readonly (readonly Operand[])[])[];
  readonly #outputs: readonly (readonly NativeBuffer[])[];
  /** Of each tenant, by which of its operands and its bytes: candidates need different ones, and take turns with those they share. */
  readonly #scratch = new Map<string, Operand>();

  /**
   * @param isConstant of each input of the kernel, whether it is a weight.
   * @param widest most tenants that will be timed.
   */
  constructor(
    private readonly device: NativeDevice,
    private readonly kernel: Kernel,
    isConstant: readonly boolean[],
    private readonly tier: Tier,
    private readonly widest: number,
  ) {
    const { inputs, outputs } = kernel;
    const constants = inputs.reduce((sum, b, n) => sum + (isConstant[n] ? byteSize(b) : 0), 0);
    const { least, most } = copies[device.kind];
    const wanted = constants > 0 ? Math.ceil(pastCaches / (constants * widest)) : 0;
    const count = Math.max(least, Math.min(most, wanted));
    // A gather's indices should reach all that it gathers from; beyond that it reads padding.
    const integers = Math.max(10, ...inputs.map((b) => b.shape[0] ?? 1));
    const data = inputs.map((b, n) => bytesOf(randomInput(b, n + 1, integers)));
    const filled = (n: number): Operand => this.#allocate(inputs[n]!, data[n]!);
    const tenants = Array.from({ length: widest }, () => ({
      fixed: inputs.map((_, n) => (isConstant[n] ? undefined : filled(n))),
      outputs: outputs.map((b) => this.#allocate(b)),
    }));
    this.#outputs = tenants.map((t) => t.outputs.map((o) => o.buffer));
    this.#operands = Array.from({ length: count }, () =>
      tenants.map((t) => [...t.fixed.map((known, n) => known ?? filled(n)), ...t.outputs]),
    );
  }

  /**
   * What a candidate computes in the widest word: the outputs of the first tenant and of the last. All have the same inputs, and comparing
   * those of 32 takes longer than all that is timed.
   */
  async outputsOf(candidate: Candidate): Promise<Tensor[]> {
    const seen = this.widest === 1 ? [0] : [0, this.widest - 1];
    const program = this.#program(candidate, this.widest);
    try {
      // What another candidate left behind must not pass for this one's.
      for (const buffer of seen.flatMap((tenant) => this.#outputs[tenant]!))
        this.device.write({ buffer, offset: 0, data: new Uint8Array(buffer.bytes).fill(0xff) });
      const tensors = seen.map((tenant) =>
        this.kernel.outputs.map((b, n) => ({
          buffer: this.#outputs[tenant]![n]!,
          tensor: makeTensor(b.dtype, b.shape),
        })),
      );
      const reads = tensors
        .flat()
        .map(({ buffer, tensor }) => ({ buffer, offset: 0, data: bytesOf(tensor) }));
      await program.run({ active: everyone(this.widest), writes: [], reads });
      return tensors.flat().map(({ tensor }) => tensor);
    } finally {
      program.close();
    }
  }

  /** Milliseconds of one word of `width` tenants under each candidate: medians of up to `rounds` rounds, fewer where they are long. */
  async time(candidates: readonly Candidate[], width: number, rounds: number): Promise<number[]> {
    const programs: NativeProgram[] = [];
    try {
      for (const c of candidates) programs.push(this.#program(c, width));
      const active = everyone(width);
      const batches: number[] = [];
      for (const p of programs) {
        const warm = await p.time(active, 2);
        batches.push(Math.max(1, Math.min(rounds, Math.round(turn / Math.max(warm[1]!, 1e-3)))));
      }
      const times: number[][] = programs.map(() => []);
      for (let turns = 0; turns < rounds; turns++) {
        for (let i = 0; i < programs.length; i++) {
          // Another goes first each time, so that none always follows the same one.
          const n = (turns + i) % programs.length;
          times[n]!.push(...(await programs[n]!.time(active, batches[n]!)));
        }
      }
      return times.map((t) => median(t) / this.#operands.length);
    } finally {
      for (const p of programs) p.close();
    }
  }

  close(): void {
    for (const b of this.#buffers.splice(0)) this.device.release(b);
  }

  /** A word for each copy of the constants. */
  #program({ schedule, code, launch, blocks }: Candidate, width: number): NativeProgram {
    const scheduled = { ...this.kernel, schedule };
    const end = virtualBlocks(scheduled);
    const sizes = classOf(scheduled, this.tier).sizes.values;
    const { threads, sharedBytes } = launch;
    const scratch = everyone(width).map((tenant) =>
      scratchOf(scheduled).map((s) => this.#scratchOf(tenant, s.name, scratchBytes(s))),
    );
    const words = this.#operands.map(
      (tenants): NativeWord => ({
        code,
        threads,
        sharedBytes,
        slots: tenants.slice(0, width).map((own, tenant) => ({
          tenant,
          body: 0,
          begin: 0,
          end,
          blocks: Math.min(blocks ?? end, end),
          operands: [...own, ...scratch[tenant]!],
          sizes,
        })),
      }),
    );
    return this.device.createProgram(words);
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

const everyone = (width: number): number[] => Array.from({ length: width }, (_, t) => t);

/**
 * The largest difference from what is expected, relative to the largest value, if it is more than another order of sums makes; undefined if
 * not.
 */
export function differenceOf(got: readonly Tensor[], expected: readonly Tensor[]): number | undefined {
  const wrong = expected
    .map((e, n) => compare(got[n]!, e, tolerances[e.dtype === 'f32' ? 'wide' : 'half']))
    .filter((c) => !c.ok);
  return wrong.length > 0 ? Math.max(...wrong.map((c) => c.largest)) : undefined;
}
