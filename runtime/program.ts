/**
 * @file A program on a device: each tenant's buffers, the words, and rounds of requests. A round runs the words once for the tenants
 * that have a request; the blocks of the others are idle.
 */

import {
  type CompiledModel,
  codeKey,
  type Place,
  type Port,
  type Slot,
  type Task,
  type Tenant,
  type Word,
} from '../ir/program.ts';
import { breachOf, type RowContract } from '../ir/row_contract.ts';
import { bytesOf, makeArray, makeTensor, type Tensor, type TypedArray } from '../ir/tensor.ts';
import { byteSize, elementCount, formatType, sameShape } from '../ir/types.ts';
import type {
  NativeBuffer,
  NativeDevice,
  NativeFunction,
  NativeProgram,
  Operand,
  Together,
  Transfer,
} from './native.ts';

/** How the code of a word is launched. */
export interface Launch {
  /** Threads a block. */
  readonly threads: number;
  /** Shared memory that a block asks for, in bytes. */
  readonly sharedBytes: number;
  /** What slot rows must be, for each of the word's classes. */
  readonly contracts: readonly RowContract[];
}

/** Code of a word, loaded. */
export interface LoadedCode {
  readonly code: NativeFunction;
  readonly launch: Launch;
}

/** Tensors by name. */
export type Tensors = { readonly [name: string]: Tensor };

/** The outputs of one round, by tenant and name, and the time that the words took on the device. */
export interface RoundResult {
  readonly outputs: { readonly [tenant: string]: Tensors };
  readonly milliseconds: number;
}

/** A request that does not fit its tenant's model; nothing was run. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
}

interface Memory {
  readonly weights: NativeBuffer;
  readonly arena: NativeBuffer;
}

interface Waiting {
  readonly inputs: Tensors;
  readonly resolve: (outputs: Tensors) => void;
  readonly reject: (error: unknown) => void;
}

export class LoadedProgram {
  readonly #memory: readonly Memory[];
  /** Absent if there is nothing to compute: outputs without elements. */
  readonly #words: NativeProgram | undefined;
  readonly #tenantOf: ReadonlyMap<string, number>;
  readonly #queues: Waiting[][];
  #pumping = false;
  #closed = false;

  /**
   * @param code loaded code by `codeKey` of the word.
   * Throws RangeError if two tenants share a name.
   */
  constructor(
    private readonly device: NativeDevice,
    readonly tenants: readonly Tenant[],
    words: readonly Word[],
    private readonly code: ReadonlyMap<string, LoadedCode>,
  ) {
    this.#tenantOf = new Map(tenants.map((t, n) => [t.name, n]));
    if (this.#tenantOf.size !== tenants.length) throw new RangeError('two tenants have the same name');
    this.#queues = tenants.map(() => []);
    this.#memory = tenants.map((t) => upload(device, t.model));
    this.#words = words.length > 0 ? this.#assemble(words) : undefined;
  }

  /** Runs one round of the named tenants' requests. */
  async run(requests: { readonly [tenant: string]: Tensors }): Promise<RoundResult> {
    if (this.#closed) throw new Error('the program is closed');
    const active = Object.keys(requests).map((name) => this.#number(name));
    const { outputs, reads } = this.#reads(active);
    const round = { active, writes: this.#requestWrites(requests), reads };
    const { milliseconds } = (await this.#words?.run(round)) ?? { milliseconds: 0 };
    return { outputs, milliseconds };
  }

  /** Puts inputs where the next rounds find them that are timed, without running one. */
  setInputs(requests: { readonly [tenant: string]: Tensors }): void {
    if (this.#closed) throw new Error('the program is closed');
    for (const transfer of this.#requestWrites(requests)) this.device.write(transfer);
  }

  /** What the last round left in all tenants' outputs, timed or not. */
  readOutputs(): RoundResult['outputs'] {
    if (this.#closed) throw new Error('the program is closed');
    const { outputs, reads } = this.#reads([...this.tenants.keys()]);
    for (const transfer of reads) this.device.read(transfer);
    return outputs;
  }

  /**
   * Queues one tenant's request. It joins the next round with the first waiting request of every other tenant, so requests that arrive
   * while a round runs share the one after it. Rejects at once if the request does not fit.
   */
  submit(tenant: string, inputs: Tensors): Promise<Tensors> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new Error('the program is closed');
      const t = this.#number(tenant);
      this.#writes(t, inputs); // checked now, so that a bad request never reaches a shared round
      this.#queues[t]!.push({ inputs, resolve, reject });
      if (!this.#pumping) {
        this.#pumping = true;
        // After the requests that arrive in this same turn have been queued.
        setImmediate(() => void this.#pump());
      }
    });
  }

  /** Milliseconds of each of `rounds` rounds of all tenants, on whatever the inputs hold; `words` if not the program's own. */
  async time(rounds: number, words?: readonly Word[]): Promise<number[]> {
    if (this.#closed) throw new Error('the program is closed');
    const everyone = [...this.tenants.keys()];
    if (!this.#words) return Array<number>(rounds).fill(0);
    if (!words) return [...(await this.#words.time(everyone, rounds))];
    const program = this.#assemble(words);
    try {
      return [...(await program.time(everyone, rounds))];
    } finally {
      program.close();
    }
  }

  /** Milliseconds of each word by itself, in each of `rounds` rounds of all tenants. */
  async timeWords(rounds: number): Promise<number[][]> {
    if (this.#closed) throw new Error('the program is closed');
    const times = (await this.#words?.timeWords([...this.tenants.keys()], rounds)) ?? new Float64Array();
    const words = times.length / rounds;
    return Array.from({ length: rounds }, (_, r) => [...times.subarray(r * words, (r + 1) * words)]);
  }

  /** Milliseconds of each of `rounds` rounds of several programs, from before the first launch to the end of the last. */
  static async timeTogether(
    device: NativeDevice,
    programs: readonly LoadedProgram[],
    together: Together,
    rounds: number,
  ): Promise<number[]> {
    if (programs.some((p) => p.#closed)) throw new Error('the program is closed');
    const busy = programs.flatMap((p) => p.#words ?? []);
    if (busy.length === 0) return Array<number>(rounds).fill(0);
    return [...(await device.time(busy, together, rounds))];
  }

  /** Clears and gives back the tenants' memory. Waiting requests are rejected. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const queue of this.#queues)
      for (const w of queue.splice(0)) w.reject(new Error('the program is closed'));
    this.#words?.close();
    for (const { weights, arena } of this.#memory) {
      this.device.release(weights);
      this.device.release(arena);
    }
  }

  async #pump(): Promise<void> {
    for (;;) {
      const round = this.#queues.flatMap((queue, t) =>
        queue.length > 0 ? [{ t, waiting: queue.shift()! }] : [],
      );
      if (round.length === 0 || this.#closed) break;
      try {
        const { outputs } = await this.run(
          Object.fromEntries(round.map(({ t, waiting }) => [this.tenants[t]!.name, waiting.inputs])),
        );
        for (const { t, waiting } of round) waiting.resolve(outputs[this.tenants[t]!.name]!);
      } catch (error) {
        for (const { waiting } of round) waiting.reject(error);
      }
    }
    this.#pumping = false;
  }

  #assemble(words: readonly Word[]): NativeProgram {
    return this.device.createProgram(
      words.map((word) => {
        const loaded = this.code.get(codeKey(word));
        if (!loaded) throw new Error(`no code for class ${codeKey(word)}`);
        return {
          code: loaded.code,
          threads: loaded.launch.threads,
          sharedBytes: loaded.launch.sharedBytes,
          slots: word.slots.map((slot) => {
            const task = this.tenants[slot.tenant]!.model.tasks[slot.task]!;
            const sizes = word.tier === 'generic' ? task.sizes : [];
            this.#checkRow(slot, task, loaded.launch.contracts[slot.body], sizes);
            return {
              tenant: slot.tenant,
              body: slot.body,
              begin: slot.range?.from ?? 0,
              end: slot.range?.to ?? task.blocks,
              blocks: slot.blocks,
              operands: task.operands.map((place) => this.#operand(slot.tenant, place)),
              sizes,
            };
          }),
        };
      }),
    );
  }

  /** A row that breaks its class's contract would let the kernel out of its buffers. */
  #checkRow(slot: Slot, task: Task, contract: RowContract | undefined, sizes: readonly number[]): void {
    const bytes = task.operands.map((place) => place.bytes);
    const breach = contract ? breachOf(contract, sizes, bytes) : `its word has no class ${slot.body}`;
    if (breach !== undefined)
      throw new RangeError(`tenant '${this.tenants[slot.tenant]!.name}', task ${task.name}: ${breach}`);
  }

  #operand(tenant: number, { space, offset, bytes }: Place): Operand {
    return { buffer: this.#memory[tenant]![space], offset, bytes };
  }

  #number(tenant: string): number {
    const t = this.#tenantOf.get(tenant);
    if (t === undefined)
      throw new RequestError(`no tenant '${tenant}'; there are ${[...this.#tenantOf.keys()].join(', ')}`);
    return t;
  }

  #requestWrites(requests: { readonly [tenant: string]: Tensors }): Transfer[] {
    return Object.entries(requests)
      .flatMap(([name, inputs]) => this.#writes(this.#number(name), inputs))
      .filter(hasBytes);
  }

  /** Tensors for the tenants' outputs, and the transfers that fill them. */
  #reads(tenants: readonly number[]): { outputs: RoundResult['outputs']; reads: Transfer[] } {
    const results = tenants.map((t) => this.tenants[t]!.model.outputs.map((port) => this.#read(t, port)));
    const outputs = Object.fromEntries(
      tenants.map((t, n) => [
        this.tenants[t]!.name,
        Object.fromEntries(results[n]!.map(({ name, tensor }) => [name, tensor])),
      ]),
    );
    const reads = results.flat().map((r) => r.transfer);
    return { outputs, reads: reads.filter(hasBytes) };
  }

  /** The transfers of a request's inputs; throws RequestError unless they are just what the model takes. */
  #writes(t: number, inputs: Tensors): Transfer[] {
    const { name, model } = this.tenants[t]!;
    if (typeof inputs !== 'object' || inputs === null)
      throw new RequestError(`tenant '${name}': the inputs are not an object`);
    const extra = Object.keys(inputs).find((given) => !model.inputs.some((p) => p.name === given));
    if (extra !== undefined) throw new RequestError(`tenant '${name}' has no input '${extra}'`);
    return model.inputs.map((port) => {
      const tensor = inputs[port.name];
      if (!tensor)
        throw new RequestError(`tenant '${name}': input '${port.name}' (${formatType(port)}) is missing`);
      if (!Array.isArray(tensor.shape) || typeof tensor.dtype !== 'string') {
        throw new RequestError(`tenant '${name}': input '${port.name}' is not a tensor {dtype, shape, data}`);
      }
      if (!sameShape(tensor.shape, port.shape) || tensor.dtype !== port.dtype) {
        throw new RequestError(
          `tenant '${name}': input '${port.name}' is ${formatType(tensor)}, expected ${formatType(port)}`,
        );
      }
      const expected = makeArray(port.dtype, 0).constructor as { new (): TypedArray; name: string };
      if (!(tensor.data instanceof expected) || tensor.data.length !== elementCount(port.shape)) {
        throw new RequestError(
          `tenant '${name}': the data of input '${port.name}' must be a ${expected.name} of ${elementCount(port.shape)} elements`,
        );
      }
      return { buffer: this.#memory[t]!.arena, offset: port.place.offset, data: bytesOf(tensor) };
    });
  }

  #read(t: number, port: Port): { name: string; tensor: Tensor; transfer: Transfer } {
    const tensor = makeTensor(port.dtype, port.shape, makeArray(port.dtype, elementCount(port.shape)));
    const transfer = { buffer: this.#memory[t]!.arena, offset: port.place.offset, data: bytesOf(tensor) };
    return { name: port.name, tensor, transfer };
  }
}

const hasBytes = ({ data }: Transfer): boolean => data.length > 0;

/** Allocates a tenant's buffers and copies its weights. The arena starts out as zeros: scratch memory that keeps them relies on it. */
function upload(device: NativeDevice, model: CompiledModel): Memory {
  // Neither is ever empty, so that every tenant has an address of its own.
  const weights = device.allocate(Math.max(256, model.weightBytes));
  const arena = device.allocate(Math.max(256, model.arenaBytes));
  for (const { offset, tensor } of model.weights) {
    if (byteSize(tensor) > 0) device.write({ buffer: weights, offset, data: bytesOf(tensor) });
  }
  return { weights, arena };
}
