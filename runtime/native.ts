/**
 * @file The native addon's interface, and its loading. Everything native is behind these types: buffers are opaque
 * handles (no address ever reaches JavaScript), and every handle, offset and size is checked on the native side, where a
 * wrong one is an Error.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { WordOrder } from '../ir/program.ts';

/** What the machine offers; each missing piece comes with the reason in one line. */
export interface Probe {
  readonly cuda: {
    readonly devices: readonly CudaInfo[];
    readonly driver?: string;
    readonly problem?: string;
  };
  readonly nvrtc: { readonly path?: string; readonly version?: string; readonly problem?: string };
}

export interface CudaInfo {
  readonly ordinal: number;
  readonly name: string;
  /** Such as `sm_90`. */
  readonly target: string;
  readonly multiprocessors: number;
  readonly memoryBytes: number;
}

/** Device memory, zeroed when allocated and again before it is given back to the system. */
export interface NativeBuffer {
  readonly bytes: number;
}

/** An entry of loaded code. */
export interface NativeFunction {
  readonly name: string;
}

/** Part of a buffer that a slot uses as an operand. `offset` and `bytes` in bytes; offset a multiple of 16. */
export interface Operand {
  readonly buffer: NativeBuffer;
  readonly offset: number;
  readonly bytes: number;
  /** True if no kernel writes it. Such a one may be read while the word before still runs. */
  readonly constant?: boolean;
}

/** One tenant's kernel in a word; see codegen/prelude/slot.h. */
export interface NativeSlot {
  readonly tenant: number;
  readonly body: number;
  readonly begin: number;
  readonly end: number;
  /** Physical blocks when every slot of the word is active, 1 .. end - begin. */
  readonly blocks: number;
  readonly operands: readonly Operand[];
  readonly sizes: readonly number[];
}

export interface NativeWord {
  readonly code: NativeFunction;
  /** Threads a block. */
  readonly threads: number;
  /** Shared memory of a block, in bytes, beside what the code declares; 0 where nothing is said. */
  readonly sharedBytes?: number;
  /** From 0 to 1, default 0: of words that could run at the same time, branches on CUDA, the more urgent get places first. */
  readonly urgency?: number;
  readonly slots: readonly NativeSlot[];
}

export interface Transfer {
  readonly buffer: NativeBuffer;
  readonly offset: number;
  readonly data: Uint8Array;
}

export interface Round {
  /** Which tenants take part, by number; the blocks of the others are idle. */
  readonly active: readonly number[];
  /** Copied to the device before the first word. */
  readonly writes: readonly Transfer[];
  /** Filled from the device after the last word. */
  readonly reads: readonly Transfer[];
}

/** Words in order, with their slot table in device memory. On CUDA captured as one graph at its first round. */
export interface NativeProgram {
  /** Runs one round off the JavaScript thread. Rounds of one device run one after another. */
  run(round: Round): Promise<{ readonly milliseconds: number }>;
  /** Runs the words `rounds` times with the given tenants active and gives each round's device milliseconds. */
  time(active: readonly number[], rounds: number): Promise<Float64Array>;
  /** Device milliseconds of each word by itself: those of the first of `rounds` rounds in order, then the next round's. */
  timeWords(active: readonly number[], rounds: number): Promise<Float64Array>;
  close(): void;
}

/** One of a tenant's tasks, as the issue engine sees it: as a word with one slot of its group runs it. */
export interface NativeEngineTask extends NativeEngineVariant {
  /** Tasks of one group run in one word under the same variant; a number below that of classes. Default: the class. */
  readonly group?: number;
  /** For words with more slots of the group, ascending; each up to the next one's. */
  readonly wider?: readonly (NativeEngineVariant & { readonly from: number })[];
}

export interface NativeEngineVariant {
  /** Tasks of one class can run on the same body of a code. */
  readonly class: number;
  /** Virtual blocks. */
  readonly blocks: number;
  /** What a virtual block is expected to take, in nanoseconds; the engine measures it as it goes. */
  readonly blockNanoseconds: number;
  readonly operands: readonly Operand[];
  readonly sizes: readonly number[];
}

export interface NativeEngineTenant {
  /** Its share of the device's time, relative to the others'. */
  readonly weight: number;
  /**
   * Buffers of one size, up to 16, as many for each tenant: operands that lie in the first lie at the same offset in another one for a request
   * that runs there. So many requests of the tenant can run at the same time; without arenas one.
   */
  readonly arenas?: readonly NativeBuffer[];
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
  /** In order: a request is a chain. */
  readonly tasks: readonly NativeEngineTask[];
}

/** Code that the engine can issue words on: for each class that it serves, the body that computes it. */
export interface NativeEngineCode {
  readonly code: NativeFunction;
  readonly threads: number;
  readonly sharedBytes: number;
  readonly classes: readonly number[];
  readonly bodies: readonly number[];
  /** How much longer blocks are expected to take than on the first code of their class, until it has been measured. Default 1. */
  readonly factor?: number;
}

export interface NativeEngineSpec {
  /** How many classes there are; they are numbered from 0. */
  readonly classes: number;
  readonly tenants: readonly NativeEngineTenant[];
  /** At least one for each class of a task. */
  readonly codes: readonly NativeEngineCode[];
  /** A program of all tenants (by their numbers here), whose rounds the engine may run where all of them have a request. */
  readonly program?: NativeProgram;
  /**
   * Requests of tenants whose tasks have the same groups, classes and blocks run in cohorts, from the first task to the last, so many of them
   * side by side (up to 16) where the device can. Not where weights differ. Default 0, no cohorts.
   */
  readonly lanes?: number;
  /** What no word is to be expected to take longer than; longer tasks are sliced. */
  readonly boundNanoseconds: number;
  /** How many times as long as its first request needs by itself a word may take, to serve others as well; at least 1. */
  readonly stretch: number;
  /** What a launch takes beside its blocks. */
  readonly launchNanoseconds: number;
  /** Words that wait on the device or run, at most. */
  readonly ahead: number;
}

export interface NativeEngineStats {
  readonly words: number;
  readonly slots: number;
  /** Slots that were only part of a task. */
  readonly slices: number;
  /** Rounds of the program. */
  readonly rounds: number;
  readonly requests: number;
  /** What the device's thread spent on choosing and launching all these words. */
  readonly issueNanoseconds: number;
  /** Cohorts, the requests in them, and what the device's thread spent on launching all these cohorts. */
  readonly cohorts: number;
  readonly cohortRequests: number;
  readonly cohortIssueNanoseconds: number;
  /** Triples: two classes that were ready at the same time and that no code serves both of, and how often. */
  readonly wishes: Float64Array;
  /** Slots of each class. */
  readonly slotsOf: Float64Array;
  /** Words on each code, and how much longer their blocks take than on the first code of their class. */
  readonly wordsOn: Float64Array;
  readonly factors: Float64Array;
}

/** Issued words, rounds and cohorts. */
export interface NativeJournal {
  /** Four numbers each: when it was issued and seen to end (nanoseconds of the machine's steady clock), what was expected, code (-1: a round, -2: a cohort). */
  readonly words: Float64Array;
  /** Five numbers each: the word, tenant, task, first virtual block, and the one behind the last (-1, 0, 0 in a round or cohort). */
  readonly slots: Float64Array;
  /** Requests that went well, four numbers each: tenant, and when it was taken in, its first word was issued (0 if it had none), and it was over. */
  readonly requests: Float64Array;
}

/** Takes requests at any time and runs them in cohorts, or packs what can go on into words, on the device's thread. */
export interface NativeEngine {
  /**
   * Runs one request. `writes` are copied to the inputs, `reads` filled from the outputs, in the order of the ports. Of a tenant's requests
   * one is under way in each of its arenas, and one more that waits, at most.
   */
  submit(
    tenant: number,
    writes: readonly Uint8Array[],
    reads: readonly Uint8Array[],
  ): Promise<{ readonly milliseconds: number }>;
  /**
   * Lets requests arrive at these times (ascending, from now), on the device's thread and without copies, and gives the milliseconds from
   * each one's arrival to its end. For measurements.
   */
  drive(milliseconds: Float64Array, tenants: Uint32Array): Promise<Float64Array>;
  /** From the next word on. */
  addCode(code: NativeEngineCode): void;
  stats(): NativeEngineStats;
  keepJournal(keep: boolean): void;
  /** What has been issued and has ended since the last call, if the journal is kept: up to 65,536 words, and as many requests. */
  takeJournal(): NativeJournal;
  /** Requests under way are rejected. */
  close(): void;
}

/** One behind the other, or each on a stream (on the host: threads) of its own at the same time. */
export type Together = 'in turn' | 'side by side';

/** When and where the blocks of a word ran, an entry a physical block, in their order; without those that were idle. */
export interface BlockTimes {
  /** In nanoseconds since the round's first block began. */
  readonly begin: Float64Array;
  readonly end: Float64Array;
  /** Multiprocessor, or thread of the host: side by side, each program's are numbered on from those of the one before. */
  readonly unit: Uint32Array;
  /** Which of the word's slots. */
  readonly slot: Uint32Array;
}

/** One round in which every block noted when it ran. */
export interface NativeTrace {
  /** As `NativeDevice.time` gives them. */
  readonly milliseconds: number;
  /** The words of each program. */
  readonly programs: readonly (readonly BlockTimes[])[];
}

export interface NativeDevice {
  readonly kind: 'cuda' | 'host';
  readonly name: string;
  /** `sm_90`, or `host`. */
  readonly target: string;
  /** Multiprocessors, or threads of the pool. */
  readonly units: number;
  allocate(bytes: number): NativeBuffer;
  release(buffer: NativeBuffer): void;
  write(transfer: Transfer): void;
  read(transfer: Transfer): void;
  /** Loads a cubin (its bytes) or a shared library (its path) and finds the named entry. */
  load(code: Uint8Array | string, entry: string): NativeFunction;
  /**
   * With `branches` for an order tenants must not write each other's memory. Words with nothing between them then run side by side on
   * CUDA, as branches of the graph; the host runs them in order all the same. Default `chain`; with `strict` no word begins while the one
   * before it ends, which words of a chain may do where the GPU lets them.
   */
  createProgram(
    words: readonly NativeWord[],
    options?: { readonly order?: WordOrder | 'strict' },
  ): NativeProgram;
  createEngine(spec: NativeEngineSpec): NativeEngine;
  /**
   * Runs one round of distinct programs with all their tenants, `rounds` times, and gives the device milliseconds of each from
   * before the first launch to the end of the last; launching is part of them.
   */
  time(programs: readonly NativeProgram[], together: Together, rounds: number): Promise<Float64Array>;
  /** Runs one such round with every block noting when it ran. The programs may have 2^22 physical blocks in all. */
  trace(programs: readonly NativeProgram[], together: Together): Promise<NativeTrace>;
  close(): void;
}

export interface NativeAddon {
  probe(): Probe;
  /** CUDA C to a cubin (target `sm_90`) or to PTX (target `compute_90`), on a worker thread. */
  compileCuda(source: string, target: string): Promise<{ readonly image: Uint8Array; readonly log: string }>;
  openCuda(ordinal: number): NativeDevice;
  openHost(threads: number): NativeDevice;
}

let loaded: NativeAddon | undefined;

/** The addon; throws one clear line if it was not built. */
export function loadNative(): NativeAddon {
  if (loaded) return loaded;
  const here = dirname(fileURLToPath(import.meta.url));
  // From the sources (runtime/) and from dist/runtime/ alike.
  const path = ['..', '../..'].map((up) => join(here, up, 'build/Release/wideword.node')).find(existsSync);
  if (!path)
    throw new Error(
      'the native addon is not built: run `npm run build:native` (needs CMake and a C++ compiler)',
    );
  loaded = createRequire(import.meta.url)(path) as NativeAddon;
  return loaded;
}
