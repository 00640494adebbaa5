/**
 * @file Runs and times one kernel by itself under several schedules or on several numbers of blocks, for several tenants in one word, on
 * random data (kernel_memory.ts). Candidates take turns, so that whatever drifts hits all alike; each word of a round takes the next copy
 * of the weights.
 */
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type Tier } from '../ir/class.ts';
import { compare, tolerances } from '../ir/compare.ts';
import type { Kernel, Schedule } from '../ir/kernel.ts';
import type { Tensor } from '../ir/tensor.ts';
import type { NativeDevice, NativeFunction, NativeProgram, NativeWord } from '../runtime/native.ts';
import type { Launch } from '../runtime/program.ts';
import { median } from '../runtime/turns.ts';
import { constantBytes, copiesOf, KernelMemory } from './kernel_memory.ts';

/** A schedule with its code. */
export interface Candidate {
  readonly schedule: Schedule;
  readonly code: NativeFunction;
  readonly launch: Launch;
  /** Physical blocks that each slot gets; if not said as many as it has virtual ones. */
  readonly blocks?: number;
}

/** Milliseconds of rounds between two changes of the candidate, at least; one round if that is longer. */
const turn = 2;

export class KernelTimer {
  readonly #memory: KernelMemory;
  /** Of weights, and words of a round. */
  readonly #copies: number;

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
    this.#copies = copiesOf(constantBytes(kernel, isConstant) * widest, device.kind);
    this.#memory = new KernelMemory(device, kernel, isConstant, this.#copies, widest);
  }

  /**
   * What a candidate computes in the widest word: the outputs of the first tenant and of the last. All have the same inputs, and comparing
   * those of 32 takes longer than all that is timed.
   */
  async outputsOf(candidate: Candidate): Promise<Tensor[]> {
    const seen = this.widest === 1 ? [0] : [0, this.widest - 1];
    const program = this.#program(candidate, this.widest);
    try {
      for (const tenant of seen) this.#memory.spoilOutputs(tenant);
      const outputs = seen.map((tenant) => this.#memory.outputs(tenant));
      const reads = outputs.flatMap((o) => o.reads);
      await program.run({ active: everyone(this.widest), writes: [], reads });
      return outputs.flatMap((o) => o.tensors);
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
      return times.map((t) => median(t) / this.#copies);
    } finally {
      for (const p of programs) p.close();
    }
  }

  close(): void {
    this.#memory.close();
  }

  /** A word for each copy of the constants. */
  #program({ schedule, code, launch, blocks }: Candidate, width: number): NativeProgram {
    const scheduled = { ...this.kernel, schedule };
    const end = virtualBlocks(scheduled);
    const sizes = classOf(scheduled, this.tier).sizes.values;
    const { threads, sharedBytes } = launch;
    const words = Array.from(
      { length: this.#copies },
      (_, copy): NativeWord => ({
        code,
        threads,
        sharedBytes,
        slots: everyone(width).map((tenant) => ({
          tenant,
          body: 0,
          begin: 0,
          end,
          blocks: Math.min(blocks ?? end, end),
          operands: this.#memory.operands(copy, tenant, scheduled),
          sizes,
        })),
      }),
    );
    return this.device.createProgram(words);
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
