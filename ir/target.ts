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
  /** Has those of warpgroups, too, which other generations have not, before or after (sm_90). */
  readonly wgmma: boolean;
  /** Most threads of a block. */
  readonly maxThreads: number;
  /** Shared memory that a block has without asking for more. */
  readonly sharedBytes: number;
  /** The most that it can ask for. */
  readonly mostSharedBytes: number;
  /** Registers that a thread can name. */
  readonly registers: number;
  /** Multiprocessors (on the host threads) of a usual device, where it is not at hand to be asked. */
  readonly units: number;
  /** What the blocks on one of them share. */
  readonly unit: {
    readonly threads: number;
    readonly blocks: number;
    readonly registers: number;
    readonly sharedBytes: number;
  };
}

const unlimited = Number.POSITIVE_INFINITY;

export const hostTarget: Target = {
  name: 'host',
  kind: 'host',
  threads: 1,
  warp: 1,
  mma: false,
  wgmma: false,
  maxThreads: 1,
  sharedBytes: unlimited,
  mostSharedBytes: unlimited,
  registers: unlimited,
  units: 4,
  unit: { threads: 1, blocks: 1, registers: unlimited, sharedBytes: unlimited },
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
 * What differs between GPUs: shared memory of a multiprocessor in KB, its threads and blocks; and how many the largest data-center GPU of its
 * kind has (A100, A10, L40, H100, B200, B300), or the only one (Orin).
 */
interface Generation {
  readonly sharedKb: number;
  readonly threads: number;
  readonly blocks: number;
  readonly units: number;
}
const generations = new Map<number, Generation>([
  [80, { sharedKb: 164, threads: 2048, blocks: 32, units: 108 }],
  [86, { sharedKb: 100, threads: 1536, blocks: 16, units: 72 }],
  [87, { sharedKb: 164, threads: 1536, blocks: 16, units: 16 }],
  [89, { sharedKb: 100, threads: 1536, blocks: 24, units: 142 }],
  [90, { sharedKb: 228, threads: 2048, blocks: 32, units: 132 }],
  [100, { sharedKb: 228, threads: 2048, blocks: 32, units: 148 }],
  [103, { sharedKb: 228, threads: 2048, blocks: 32, units: 148 }],
]);
/** Of one that is not known: the least of each multiprocessor. */
const unknown: Generation = { sharedKb: 100, threads: 1536, blocks: 16, units: 132 };
/** One KB of a multiprocessor's shared memory is the system's. */
const askable = ({ sharedKb }: Generation): number => (sharedKb - 1) * 1024;
/** What a block can ask for on any target, in bytes. */
export const mostSharedBytes = Math.max(...[...generations.values()].map(askable));

/** The CUDA targets that `wideword compile` offers. Others of the form `sm_NN` work too, where NVRTC knows them. */
export const cudaTargets = ['sm_80', 'sm_86', 'sm_89', 'sm_90'] as const;

/** A name that is no target's. */
export class TargetError extends RangeError {
  override readonly name = 'TargetError';
}

/** The target of a name; throws TargetError for a name that is none. */
export function targetOf(name: string): Target {
  if (name === 'host') return hostTarget;
  const version = /^sm_(\d+)a?$/.exec(name)?.[1];
  if (version === undefined || Number(version) < 80) {
    throw new TargetError(`unknown target '${name}': expected host or ${cudaTargets.join(', ')}`);
  }
  const g = generations.get(Number(version)) ?? unknown;
  return {
    name,
    kind: 'cuda',
    ...cudaLimits,
    wgmma: Number(version) === 90,
    mostSharedBytes: askable(g),
    units: g.units,
    unit: { threads: g.threads, blocks: g.blocks, registers: 65536, sharedBytes: g.sharedKb * 1024 },
  };
}
