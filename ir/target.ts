/**
 * @file What passes and codegen know about a target: a few limits, in one record.
 */
export interface Target {
  /** `sm_90`, … or `host`. */
  readonly name: string;
  readonly kind: 'cuda' | 'host';
  /** Threads of a block where nothing says otherwise; 1 on the host, whose blocks are single threads. */
  readonly threads: number;
  /** Lanes that exchange values without a barrier. */
  readonly warp: number;
  /** Has matrix instructions for 16-bit floats (sm_80 and later). */
  readonly mma: boolean;
  /** Most threads of a block. */
  readonly maxThreads: number;
  /** Shared memory that a block has without asking for more. */
  readonly sharedBytes: number;
  /** The most that it can ask for. */
  readonly mostSharedBytes: number;
  /** Registers that a thread can name. */
  readonly registers: number;
  /** How many blocks run at once where one takes all of a multiprocessor: what work is to be spread over. */
  readonly multiprocessors: number;
}

const unlimited = Number.POSITIVE_INFINITY;

export const hostTarget: Target = {
  name: 'host',
  kind: 'host',
  threads: 1,
  warp: 1,
  mma: false,
  maxThreads: 1,
  sharedBytes: unlimited,
  mostSharedBytes: unlimited,
  registers: unlimited,
  multiprocessors: 1,
};

/** The same on every GPU that is served (CUDA C++ Programming Guide, technical specifications per compute capability). */
const cudaLimits = {
  threads: 256,
  warp: 32,
  mma: true,
  maxThreads: 1024,
  sharedBytes: 48 * 1024,
  registers: 255,
};

/**
 * By compute capability: shared memory that a block can ask for, in KB, and the multiprocessors of the largest data-center GPU of its kind
 * (A100, A10, L40, H100, B200, B300) or of the only one (Orin).
 */
const chips = new Map([
  [80, { sharedKb: 163, multiprocessors: 108 }],
  [86, { sharedKb: 99, multiprocessors: 72 }],
  [87, { sharedKb: 163, multiprocessors: 16 }],
  [89, { sharedKb: 99, multiprocessors: 142 }],
  [90, { sharedKb: 227, multiprocessors: 132 }],
  [100, { sharedKb: 227, multiprocessors: 148 }],
  [103, { sharedKb: 227, multiprocessors: 148 }],
]);
/** Of one that is not in the list: the least shared memory. */
const unknownChip = { sharedKb: 99, multiprocessors: 132 };
/** What a block can ask for on any target, in bytes. */
export const mostSharedBytes = Math.max(...[...chips.values()].map((c) => c.sharedKb)) * 1024;

/** The CUDA targets that `wideword compile` offers. Others of the form `sm_NN` work too, where NVRTC knows them. */
export const cudaTargets = ['sm_80', 'sm_86', 'sm_89', 'sm_90'] as const;

/** The target of a name; throws RangeError for a name that is none. */
export function targetOf(name: string): Target {
  if (name === 'host') return hostTarget;
  const version = /^sm_(\d+)a?$/.exec(name)?.[1];
  if (version === undefined || Number(version) < 80) {
    throw new RangeError(`unknown target '${name}': expected host or ${cudaTargets.join(', ')}`);
  }
  const { sharedKb, multiprocessors } = chips.get(Number(version)) ?? unknownChip;
  return { name, kind: 'cuda', ...cudaLimits, mostSharedBytes: sharedKb * 1024, multiprocessors };
}
