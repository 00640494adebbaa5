/**
 * @file The issue engine as users have it: `Device.serve`. Requests of loaded tenants arrive at any time and share the device by weight. They
 * run in cohorts, or join at the next word; then what is often ready together gets code of its own in the background.
 */

import type { LoadedEngine } from '../runtime/engine.ts';
import type { NativeEngineStats } from '../runtime/native.ts';
import type { Tensors } from '../runtime/tenants.ts';
import type { LoadOptions, Program } from './device.ts';
import { Jit, type JitClass, type JitEvent, type JitOptions } from './jit.ts';

export interface ServeOptions extends Omit<LoadOptions, 'words'> {
  /** Each tenant's share of the device's time, by name, where not 1. */
  readonly weights?: { readonly [tenant: string]: number };
  /**
   * Latency against throughput: how many times as long as the request that leads it needs by itself a word may take, to serve others as
   * well. 1 is the lowest latency for who is first; more serves more at once. Default 4.
   */
  readonly stretch?: number;
  /**
   * No word is planned to take longer; longer kernels are sliced. By default there is no such promise: requests run in cohorts, from the first
   * kernel to the last. Where they do not, as weights differ or without rounds, the default is 1 on a GPU, 20 on the host.
   */
  readonly boundMilliseconds?: number;
  /**
   * Default true: where all tenants always have a request, they run as rounds of one captured program; otherwise, where weights are equal and
   * no bound is set, those of one model that are ready run as a cohort, one launch for all their kernels.
   */
  readonly rounds?: boolean;
  /**
   * Latency against throughput: how many cohorts run side by side, from 0 (word by word) to 16. With fewer of them requests wait longer until they begin, and
   * cohorts are wider. Default 12; the host has one.
   */
  readonly lanes?: number;
  /**
   * How many requests of one tenant run at the same time, from 1 to 16, each with activations of its own. Where three quarters of the tenants have
   * a request each gets one, however many it has sent. Default 4, or fewer where what others than the first need, of all tenants
   * together, is more than 4 GiB (host: 1 GiB) or than there is; 1 where weights differ.
   */
  readonly atOnce?: number;
  /** Default true: compile code for what is often ready together. */
  readonly jit?: boolean | JitOptions;
  readonly onJit?: (event: JitEvent) => void;
}

/** What an engine has done so far. */
export interface EngineStats {
  readonly requests: number;
  readonly words: number;
  /** Tasks, or parts of them, in these words. */
  readonly slots: number;
  readonly slices: number;
  readonly rounds: number;
  readonly cohorts: number;
  readonly cohortRequests: number;
  /** Of the thread that issues: from the choice of a word to its launch, the mean. On the host a launch is the word itself. */
  readonly issueMicroseconds: number;
  /** Likewise of cohorts. */
  readonly cohortMicroseconds: number;
}

/** A word, round or cohort that was issued, in milliseconds since the engine was made. */
export interface JournalWord {
  readonly issued: number;
  readonly ended: number;
  /** Milliseconds that it was expected to take; 0 for a round or cohort. */
  readonly expected: number;
  /** Kernels that the code it ran on serves, one for each class; none for a round or cohort. */
  readonly kernels: readonly string[];
  /** A round of the captured program, of these tenants. */
  readonly isRound: boolean;
  /** A cohort: all kernels of these tenants' requests. */
  readonly isCohort: boolean;
  readonly slots: readonly {
    readonly tenant: string;
    /** The kernel; undefined in a round or cohort, which runs all of the tenant's. */
    readonly task?: string;
    readonly from: number;
    readonly to: number;
  }[];
}

/** A request that was served, in milliseconds since the engine was made. */
export interface JournalRequest {
  readonly tenant: string;
  /** When it came to the engine's thread; from then on it waits for a free arena of its tenant's, its inputs and its turn. */
  readonly queued: number;
  /** When its first word was issued. */
  readonly started: number;
  readonly ended: number;
}

/** What an engine did; words and requests in the order in which they ended. */
export interface Journal {
  readonly words: readonly JournalWord[];
  readonly requests: readonly JournalRequest[];
}

/** Tenants that are served. */
export class Engine {
  readonly #jit: Jit | undefined;
  readonly #start = Number(process.hrtime.bigint());
  /** How many requests of one tenant run at the same time. */
  readonly atOnce: number;

  constructor(
    private readonly loaded: LoadedEngine,
    private readonly program: Program,
    private readonly classes: readonly JitClass[],
    add: (classes: readonly string[]) => Promise<void>,
    { jit = true, onJit = () => {}, atOnce = 1 }: ServeOptions,
    private readonly onClose: () => void,
  ) {
    this.atOnce = atOnce;
    if (jit) {
      const host = { classes, stats: () => loaded.stats(), now: () => this.now(), add, tell: onJit };
      this.#jit = new Jit(host, jit === true ? {} : jit);
    }
  }

  /**
   * One tenant's request. A tenant's requests begin in the order in which they were submitted, as many at once as `atOnce` says; those of different
   * tenants run together. The inputs' arrays must be left alone until it ends. Rejects with RequestError, at once, for one that does not fit the model.
   */
  submit(tenant: string, inputs: Tensors): Promise<Tensors> {
    return this.loaded.submit(tenant, inputs);
  }

  /**
   * For measurements: requests that arrive at these milliseconds from now (ascending), each of a tenant, by its place in the list. They
   * compute on whatever the inputs hold. Gives the milliseconds from each arrival to its end. What is submitted meanwhile may be refused.
   */
  drive(milliseconds: readonly number[], tenants: readonly number[]): Promise<Float64Array> {
    return this.loaded.drive(Float64Array.from(milliseconds), Uint32Array.from(tenants));
  }

  stats(): EngineStats {
    const {
      requests,
      words,
      slots,
      slices,
      rounds,
      cohorts,
      cohortRequests,
      ...nanoseconds
    }: NativeEngineStats = this.loaded.stats();
    const mean = (all: number, count: number): number => (count > 0 ? all / count / 1e3 : 0);
    return {
      ...{ requests, words, slots, slices, rounds, cohorts, cohortRequests },
      issueMicroseconds: mean(nanoseconds.issueNanoseconds, words),
      cohortMicroseconds: mean(nanoseconds.cohortIssueNanoseconds, cohorts),
    };
  }

  /** Milliseconds since the engine was made. */
  now(): number {
    return this.#since(Number(process.hrtime.bigint()));
  }

  /** Whether code is being compiled in the background now. */
  get isCompiling(): boolean {
    return this.#jit?.isBusy ?? false;
  }

  /** Puts inputs where driven requests find them, once what is under way has ended. Throws RequestError for one that does not fit. */
  setInputs(requests: { readonly [tenant: string]: Tensors }): void {
    this.program.setInputs(requests);
  }

  /**
   * What requests left in the outputs of one of each tenant's arenas, of which there are `atOnce`: of those that ran in it the last, driven or
   * not; zeros if none did. Requests take the first arena that is free, so where a tenant sends one at a time all are in the first.
   */
  readOutputs(arena = 0): { readonly [tenant: string]: Tensors } {
    if (!(Number.isInteger(arena) && arena >= 0 && arena < this.atOnce))
      throw new RangeError(`arenas are numbered from 0 to ${this.atOnce - 1}, not ${arena}`);
    return this.program.readOutputs(arena);
  }

  /** Keeps a journal of words from here on, or no longer. It takes memory and time. */
  keepJournal(keep: boolean): void {
    this.loaded.keepJournal(keep);
  }

  /** What has ended since the last call: up to 65,536 words and as many requests. */
  takeJournal(): Journal {
    const { words, slots, requests } = this.loaded.takeJournal();
    const { tenants } = this.program.plan;
    const nameOf = new Map(
      this.classes.flatMap((c) => [c.specialised, c.generic].map((key) => [key, c.name])),
    );
    const { codes } = this.loaded;
    const issued = Array.from({ length: words.length / 4 }, (_, n) => ({
      issued: this.#since(words[4 * n]!),
      ended: this.#since(words[4 * n + 1]!),
      expected: words[4 * n + 2]! / 1e6,
      kernels: (codes[words[4 * n + 3]!] ?? []).map((key) => nameOf.get(key)!),
      isRound: words[4 * n + 3] === -1,
      isCohort: words[4 * n + 3] === -2,
      slots: [] as JournalWord['slots'][number][],
    }));
    for (let n = 0; n < slots.length; n += 5) {
      const [word, t, task, from, to] = slots.subarray(n, n + 5) as unknown as [
        number,
        number,
        number,
        number,
        number,
      ];
      const { name, model } = tenants[t]!;
      issued[word]!.slots.push({
        tenant: name,
        ...(task >= 0 && { task: model.tasks[task]!.name }),
        from,
        to,
      });
    }
    const served = Array.from({ length: requests.length / 4 }, (_, n) => {
      const [queued, started, ended] = [1, 2, 3].map((i) => requests[4 * n + i]!) as [number, number, number];
      return {
        tenant: tenants[requests[4 * n]!]!.name,
        queued: this.#since(queued),
        started: this.#since(started > 0 ? started : ended),
        ended: this.#since(ended),
      };
    });
    return { words: issued, requests: served };
  }

  /** Of the steady clock of the machine. */
  #since(nanoseconds: number): number {
    return (nanoseconds - this.#start) / 1e6;
  }

  /** Rejects what is under way and gives the tenants' memory back. */
  close(): void {
    this.#jit?.stop();
    this.loaded.close();
    this.program.close();
    this.onClose();
  }
}
