/**
 * @file Devices as users open them: load tenants, and run.
 */
import { availableParallelism } from 'node:os';
import { InputError } from '../compiler/errors.ts';
import type { KernelClass } from '../ir/class.ts';
import type { Program as IrProgram, Tenant, Word, WordPlan } from '../ir/program.ts';
import { coalesce, type TierChoice, tiers, timeMultiplexed } from '../passes/coalesce.ts';
import { CodeCache } from '../runtime/cache.ts';
import { loadNative, type NativeDevice, type NativeFunction, type Together } from '../runtime/native.ts';
import { type LoadedCode, LoadedProgram, type RoundResult, type Tensors } from '../runtime/program.ts';
import { type CodeResult, type Progress, prepareCode, type ReadyCode, type TenantModel } from './code.ts';
import type { Model } from './model.ts';
import { type TuneOptions, type TuneResult, tuneKernels } from './tune.ts';
import { type Tuning, TuningTable, tunedDevice } from './tuning.ts';

export type DeviceKind = 'auto' | 'cuda' | 'host';

export interface DeviceOptions {
  /** Threads of the host device; by default one a core. */
  readonly threads?: number;
  /** Which GPU. Default 0. */
  readonly ordinal?: number;
  /** Where compiled kernels are kept; by default $WIDEWORD_CACHE or the user's cache folder. */
  readonly cacheDir?: string;
}

export interface LoadOptions {
  /** Default `generic`: fewest kernels to compile, and tenants of different sizes coalesce. */
  readonly tier?: TierChoice;
  /** Most tenants that share a word. Default: as many as there are. Results do not depend on it. */
  readonly width?: number;
  /** Default true: kernels that were tuned on this device (`Device.tune`) get the schedules found, as the cache has them now. */
  readonly tuning?: boolean;
  readonly onProgress?: (p: Progress) => void;
}

/**
 * Opens a device. `auto` takes the first GPU if there is one and otherwise the host. Throws InputError, with the reason, if `cuda` is
 * asked for and there is none.
 */
export async function openDevice(kind: DeviceKind = 'auto', options: DeviceOptions = {}): Promise<Device> {
  if (!['auto', 'cuda', 'host'].includes(kind))
    throw new InputError(`no device '${kind}': auto, cuda or host`);
  const native = loadNative();
  const { cuda } = native.probe();
  const useCuda = kind === 'cuda' || (kind === 'auto' && cuda.devices.length > 0);
  if (useCuda && cuda.devices.length === 0) {
    throw new InputError(
      `no CUDA device (${cuda.problem ?? 'the driver lists none'}): use --device host, or see wideword doctor`,
    );
  }
  const device = useCuda
    ? native.openCuda(options.ordinal ?? 0)
    : native.openHost(options.threads ?? availableParallelism());
  return new Device(device, new CodeCache(options.cacheDir));
}

/** An open device. Programs loaded on it are independent: loading or closing one never disturbs another. */
export class Device {
  readonly #programs = new Set<Program>();
  /** Code that some program still uses, by where it is cached: programs of the same kernels share it. */
  readonly #functions = new Map<string, WeakRef<NativeFunction>>();

  constructor(
    private readonly native: NativeDevice,
    readonly cache: CodeCache,
  ) {}

  get kind(): 'cuda' | 'host' {
    return this.native.kind;
  }

  /** Such as `NVIDIA H100 80GB HBM3`, or the CPU with its threads. */
  get name(): string {
    return this.native.name;
  }

  /** `sm_90`, … or `host`. */
  get target(): string {
    return this.native.target;
  }

  /**
   * Links tenants into one program, makes its code ready and loads it. Each tenant gets weights and activations of its own, also when
   * several are given the same model. Throws RangeError for a name used twice or an empty list.
   */
  async load(tenants: readonly TenantModel[], options: LoadOptions = {}): Promise<Program> {
    if (tenants.length === 0) throw new RangeError('a program needs at least one tenant');
    if (options.tier && !tiers.includes(options.tier))
      throw new RangeError(`no tier '${options.tier}': ${tiers.join(', ')}`);
    if (options.width !== undefined && !(options.width >= 1))
      throw new RangeError(`a word has at least one slot, not ${options.width}`);
    const tuning = options.tuning === false ? undefined : this.#tuningTable();
    const plan = link(tenants, this.target, options.tier, options.width, tuning);
    const result = await prepareCode(plan.words, tenants, this.target, this.cache, options.onProgress);
    const code = new Map<string, LoadedCode>();
    for (const ready of result.code) {
      const { key, launch } = ready;
      code.set(key, { code: await this.#loaded(ready), launch });
    }
    const kernelsLowered = tenants.reduce((n, t) => n + t.model.kernelsLowered, 0);
    const program = new Program(this.native, plan, code, result, kernelsLowered, () =>
      this.#programs.delete(program),
    );
    this.#programs.add(program);
    return program;
  }

  /**
   * Device milliseconds of each of `rounds` rounds of distinct programs, one behind the other or side by side, each on a stream of its
   * own; from before the first launch to the end of the last. Every tenant computes on whatever its inputs hold.
   */
  time(programs: readonly Program[], together: Together, rounds = 10): Promise<number[]> {
    return Program.timeTogether(this.native, programs, together, rounds);
  }

  /**
   * Measures schedules of the models' kernels on this device and keeps the best of each in the cache, for programs loaded and artefacts
   * saved from then on; programs that are loaded stay as they are. The device should have nothing else to do. Throws InputError for a
   * model that came from an artefact, RangeError for widths that are no positive integers.
   */
  tune(models: readonly Model[], options: TuneOptions = {}): Promise<TuneResult> {
    return tuneKernels(this.native, models, this.cache, this.#tuningTable(), options);
  }

  #tuningTable(): TuningTable {
    return new TuningTable(this.cache.dir, this.target, tunedDevice(this.native));
  }

  async #loaded(ready: ReadyCode): Promise<NativeFunction> {
    const known = ready.path === undefined ? undefined : this.#functions.get(ready.path)?.deref();
    if (known) return known;
    const made = this.native.load(await this.#loadable(ready), ready.symbol);
    if (ready.path !== undefined) this.#functions.set(ready.path, new WeakRef(made));
    return made;
  }

  /** The host opens a library by its path; the CUDA driver takes a cubin's bytes. */
  async #loadable({ path, image }: ReadyCode): Promise<string | Uint8Array> {
    if (this.kind === 'host') return path!;
    return image ?? CodeCache.read(path!);
  }

  /** Closes the device and every program on it. */
  close(): void {
    for (const program of [...this.#programs]) program.close();
    this.native.close();
  }
}

/** Tenants as words, in order. Plain planning: nothing is compiled. */
export function link(
  tenants: readonly TenantModel[],
  target: string,
  tier: TierChoice = 'generic',
  width?: number,
  tuning?: Tuning,
): WordPlan {
  const linked = tenants.map(
    ({ name, model }): Tenant => ({ name, model: model.compiledFor(target, tuning) }),
  );
  return { tenants: linked, words: coalesce(linked, tier, width) };
}

/** The same with the kernels of all classes, to print or to interpret. Every tenant's model must be compiled from its source. */
export function linkWithKernels(
  tenants: readonly TenantModel[],
  target: string,
  tier: TierChoice = 'generic',
): IrProgram {
  const plan = link(tenants, target, tier);
  const classes = new Map<string, KernelClass>();
  tenants.forEach(({ model }, n) => {
    const keys = plan.tenants[n]!.model.tasks.flatMap((t) => Object.values(t.classes));
    for (const key of keys) {
      const found = classes.get(key) ?? model.classOf(target, key);
      if (found) classes.set(key, found);
    }
  });
  return { ...plan, target, classes };
}

export interface ProgramStats {
  /** Kernels of all tenants as lowered from their graphs, before fusion. */
  readonly kernelsLowered: number;
  /** Kernels of all tenants after fusion: the launches of time multiplexing. */
  readonly kernels: number;
  readonly words: number;
  /** Most slots of a word. */
  readonly widest: number;
  /** Pieces of code compiled now, found in the cache, and shipped with an artefact. */
  readonly compiled: number;
  readonly cached: number;
  readonly shipped: number;
}

export type TimeMode = 'coalesced' | 'time-multiplexed';

/** Tenants loaded on a device. */
export class Program {
  readonly stats: ProgramStats;
  readonly #loaded: LoadedProgram;

  constructor(
    native: NativeDevice,
    readonly plan: WordPlan,
    code: ReadonlyMap<string, LoadedCode>,
    ready: CodeResult,
    kernelsLowered: number,
    private readonly onClose: () => void,
  ) {
    this.#loaded = new LoadedProgram(native, plan.tenants, plan.words, code);
    const { compiled, cached, shipped } = ready;
    this.stats = {
      kernelsLowered,
      kernels: plan.words.reduce((n, w) => n + w.slots.length, 0),
      words: plan.words.length,
      widest: Math.max(0, ...plan.words.map((w) => w.slots.length)),
      compiled,
      cached,
      shipped,
    };
  }

  /** One round of the given tenants' requests; the other tenants' blocks are idle. Throws RequestError for one that does not fit. */
  run(requests: { readonly [tenant: string]: Tensors }): Promise<RoundResult> {
    return this.#loaded.run(requests);
  }

  /** One tenant's request, in the next round with whatever else is waiting then. */
  submit(tenant: string, inputs: Tensors): Promise<Tensors> {
    return this.#loaded.submit(tenant, inputs);
  }

  /** Device milliseconds of each of `rounds` rounds of all tenants, coalesced or with the same code one tenant after another. */
  time(mode: TimeMode = 'coalesced', rounds = 10): Promise<number[]> {
    return this.#loaded.time(rounds, mode === 'coalesced' ? undefined : this.#inTurn());
  }

  /** Device milliseconds of each word (`plan.words`) by itself, in each of `rounds` rounds of all tenants. */
  timeWords(rounds = 10): Promise<number[][]> {
    return this.#loaded.timeWords(rounds);
  }

  /** Puts inputs where timed rounds find them, without running one. Throws RequestError for one that does not fit. */
  setInputs(requests: { readonly [tenant: string]: Tensors }): void {
    this.#loaded.setInputs(requests);
  }

  /** What the last round, timed or not, left in all tenants' outputs. */
  readOutputs(): RoundResult['outputs'] {
    return this.#loaded.readOutputs();
  }

  static timeTogether(
    native: NativeDevice,
    programs: readonly Program[],
    together: Together,
    rounds: number,
  ): Promise<number[]> {
    return LoadedProgram.timeTogether(
      native,
      programs.map((p) => p.#loaded),
      together,
      rounds,
    );
  }

  close(): void {
    this.#loaded.close();
    this.onClose();
  }

  #inTurn(): Word[] {
    return timeMultiplexed(this.plan.words);
  }
}
