/**
 * @file A program on a device: each tenant's buffers, the words, and rounds of requests. A round runs the words once for the tenants
 * that have a request; the blocks of the others are idle.
 */

import { codeKey, type Tenant, variantIn, type Word, type WordPlan } from '../ir/program.ts';
import type { RowContract } from '../ir/row_contract.ts';
import type { BlockTimes, NativeDevice, NativeFunction, NativeProgram, Together } from './native.ts';
import { LoadedTenants, type Tensors } from './tenants.ts';
import { timeInTurns } from './turns.ts';

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

/** The outputs of one round, by tenant and name, and the time that the words took on the device. */
export interface RoundResult {
  readonly outputs: { readonly [tenant: string]: Tensors };
  readonly milliseconds: number;
}

/** Words as a program runs them. */
export type Ordered = Pick<WordPlan, 'words' | 'order' | 'urgency'>;

interface Waiting {
  readonly inputs: Tensors;
  readonly resolve: (outputs: Tensors) => void;
  readonly reject: (error: unknown) => void;
}

export class LoadedProgram {
  /** Absent if there is nothing to compute: outputs without elements. */
  #words: NativeProgram | undefined;
  readonly #queues: Waiting[][];
  #pumping = false;
  #closed = false;
  readonly tenants: readonly Tenant[];
  readonly memory: LoadedTenants;

  /**
   * @param code loaded code by `codeKey` of the word.
   * Throws RangeError if two tenants share a name.
   */
  constructor(
    private readonly device: NativeDevice,
    plan: WordPlan,
    private readonly code: ReadonlyMap<string, LoadedCode>,
  ) {
    this.tenants = plan.tenants;
    this.memory = new LoadedTenants(device, plan.tenants);
    this.#queues = plan.tenants.map(() => []);
    this.#words = plan.words.length > 0 ? this.#assemble(plan) : undefined;
  }

  /** Runs one round of the named tenants' requests. */
  async run(requests: { readonly [tenant: string]: Tensors }): Promise<RoundResult> {
    if (this.#closed) throw new Error('the program is closed');
    const active = Object.keys(requests).map((name) => this.memory.number(name));
    const { outputs, reads } = this.memory.reads(active);
    const round = { active, writes: this.memory.writesOf(requests), reads };
    const { milliseconds } = (await this.#words?.run(round)) ?? { milliseconds: 0 };
    return { outputs, milliseconds };
  }

  /** Puts inputs where the next rounds find them that are timed, without running one. */
  setInputs(requests: { readonly [tenant: string]: Tensors }): void {
    if (this.#closed) throw new Error('the program is closed');
    for (const transfer of this.memory.writesOfAll(requests)) this.device.write(transfer);
  }

  /** What the last round left in all tenants' outputs, timed or not; or the last request of an engine in another arena. */
  readOutputs(arena = 0): RoundResult['outputs'] {
    if (this.#closed) throw new Error('the program is closed');
    const { outputs, reads } = this.memory.reads([...this.tenants.keys()], arena);
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
      const t = this.memory.number(tenant);
      this.memory.writes(t, inputs); // checked now, so that a bad request never reaches a shared round
      this.#queues[t]!.push({ inputs, resolve, reject });
      if (!this.#pumping) {
        this.#pumping = true;
        // After the requests that arrive in this same turn have been queued.
        setImmediate(() => void this.#pump());
      }
    });
  }

  /**
   * Milliseconds of each of `rounds` rounds of all tenants, on whatever the inputs hold; of other words, on their own code, if not the
   * program's.
   */
  async time(
    rounds: number,
    other?: { readonly words: readonly Word[]; readonly code: ReadonlyMap<string, LoadedCode> },
  ): Promise<number[]> {
    if (this.#closed) throw new Error('the program is closed');
    const everyone = [...this.tenants.keys()];
    if (!this.#words) return Array<number>(rounds).fill(0);
    if (!other) return [...(await this.#words.time(everyone, rounds))];
    const program = this.#assemble(other, other.code);
    try {
      return [...(await program.time(everyone, rounds))];
    } finally {
      program.close();
    }
  }

  /**
   * Goes on with whichever of these plans of the same tenants runs rounds fastest, all tenants active, on whatever the inputs hold; to be
   * asked before any request. Gives its place, and the milliseconds of a round of each: medians.
   */
  async keepFastest(plans: readonly WordPlan[]): Promise<{ best: number; milliseconds: number[] }> {
    return this.#timed(plans, (milliseconds, programs) => {
      const best = milliseconds.indexOf(Math.min(...milliseconds));
      this.#words?.close();
      this.#words = programs[best]!;
      return { best, milliseconds };
    });
  }

  /** Milliseconds of a round of each of some words in order, of the tenants that these have, in turns. */
  compare(plans: readonly Ordered[]): Promise<number[]> {
    return this.#timed(plans, (milliseconds) => milliseconds);
  }

  /** Closes those programs that are not the one of all rounds then. */
  async #timed<T>(
    plans: readonly Ordered[],
    use: (milliseconds: number[], programs: readonly NativeProgram[]) => T,
  ): Promise<T> {
    if (this.#closed) throw new Error('the program is closed');
    const programs: NativeProgram[] = [];
    try {
      for (const plan of plans) programs.push(this.#assemble(plan));
      const ways = programs.map((program, n) => {
        const everyone = [...new Set(plans[n]!.words.flatMap((w) => w.slots.map((s) => s.tenant)))];
        return (rounds: number) => program.time(everyone, rounds);
      });
      return use(await timeInTurns(ways), programs);
    } finally {
      for (const program of programs) if (program !== this.#words) program.close();
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

  /** One such round of all tenants, with the times of each word's blocks, in order, for each program. */
  static async traceTogether(
    device: NativeDevice,
    programs: readonly LoadedProgram[],
    together: Together,
  ): Promise<{ readonly milliseconds: number; readonly words: readonly (readonly BlockTimes[])[] }> {
    if (programs.some((p) => p.#closed)) throw new Error('the program is closed');
    const busy = programs.flatMap((p) => p.#words ?? []);
    const trace = busy.length > 0 ? await device.trace(busy, together) : { milliseconds: 0, programs: [] };
    const times = trace.programs.values();
    return {
      milliseconds: trace.milliseconds,
      words: programs.map((p) => (p.#words ? times.next().value! : [])),
    };
  }

  /** The words on the device, for an engine that runs rounds of them. */
  get native(): NativeProgram | undefined {
    return this.#words;
  }

  /** Clears and gives back the tenants' memory. Waiting requests are rejected. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const queue of this.#queues)
      for (const w of queue.splice(0)) w.reject(new Error('the program is closed'));
    this.#words?.close();
    this.memory.close();
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

  #assemble({ words, order = 'chain', urgency }: Ordered, code = this.code): NativeProgram {
    return this.device.createProgram(
      words.map((word, n) => {
        const loaded = code.get(codeKey(word));
        if (!loaded) throw new Error(`no code for class ${codeKey(word)}`);
        return {
          code: loaded.code,
          threads: loaded.launch.threads,
          sharedBytes: loaded.launch.sharedBytes,
          urgency: urgency?.[n] ?? 0,
          slots: word.slots.map((slot) => {
            const task = this.tenants[slot.tenant]!.model.tasks[slot.task]!;
            const variant = variantIn(task, word, slot);
            if (!variant) throw new Error(`task ${task.name} is not of the class of its slot`);
            const sizes = word.tier === 'generic' ? variant.sizes : [];
            const contract = loaded.launch.contracts[slot.body];
            return {
              tenant: slot.tenant,
              body: slot.body,
              begin: slot.range?.from ?? 0,
              end: slot.range?.to ?? variant.blocks,
              blocks: slot.blocks,
              operands: this.memory.operandsOf(slot.tenant, task.name, variant, contract, sizes),
              sizes,
            };
          }),
        };
      }),
      { order },
    );
  }
}
