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

/** Shared memory that a block can ask for, in KB; the least of them where nothing is said. */
const mostSharedKb = new Map([
  [80, 163],
  [87, 163],
  [90, 227],
  [100, 227],
  [103, 227],
]);
const leastOfMost = 99;
/** What a block can ask for on any target, in bytes. */
export const mostSharedBytes = Math.max(...mostSharedKb.values()) * 1024;

/** The CUDA targets that `wideword compile` offers. Others of the form `sm_NN` work too, where NVRTC knows them. */
export const cudaTargets = ['sm_80', 'sm_86', 'sm_89', 'sm_90'] as const;

/** The target of a name; throws RangeError for a name that is none. */
export function targetOf(name: string): Target {
  if (name === 'host') return hostTarget;
  const version = /^sm_(\d+)a?$/.exec(name)?.[1];
  if (version === undefined || Number(version) < 80) {
    throw new RangeError(`unknown target '${name}': expected host or ${cudaTargets.join(', ')}`);
  }
  const most = (mostSharedKb.get(Number(version)) ?? leastOfMost) * 1024;
  return { name, kind: 'cuda', ...cudaLimits, mostSharedBytes: most };
}
