/**
 * @file Devices as users open them: load tenants, and run.
 */
import { availableParallelism } from 'node:os';
import { InputError } from '../compiler/errors.ts';
import type { Tier } from '../ir/class.ts';
import type { Tenant, Word } from '../ir/program.ts';
import { type TierChoice, tiers, timeMultiplexed } from '../passes/coalesce.ts';
import { CodeCache } from '../runtime/cache.ts';
import { type EngineCode, type EngineOptions, LoadedEngine, usableVariants } from '../runtime/engine.ts';
import { loadNative, type NativeDevice, type NativeFunction, type Together } from '../runtime/native.ts';
import { type LoadedCode, LoadedProgram, type RoundResult } from '../runtime/program.ts';
import type { Tensors } from '../runtime/tenants.ts';
import { BlockTable } from './block_table.ts';
import { type CodeProgress, type CodeResult, prepareCode, type ReadyCode, type TenantModel } from './code.ts';
import { Engine, type ServeOptions } from './engine.ts';
import { loadFastest } from './fastest_words.ts';
import { type BlockOptions, type KernelBlocks, measureBlocks } from './measure_blocks.ts';
import type { Model } from './model.ts';
import { type Choices, link, linkAll, type Plan, type WordKind, wordKinds } from './plan.ts';
import { type RoundTrace, tracedProgram } from './trace.ts';
import { type TuneOptions, type TuneResult, tuneKernels } from './tune.ts';
import { TuningTable, tunedDevice } from './tuning.ts';
import { measureUnlike, type UnlikeOptions, type UnlikeResult } from './unlike.ts';

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
  /** Default `coalesced`. Results do not depend on it. With `measured` loading takes longer: the code of all kinds, and some rounds. */
  readonly words?: WordKind;
  /** Default true: kernels that were tuned on this device (`Device.tune`) get the schedules found, as the cache has them now. */
  readonly tuning?: boolean;
  readonly onProgress?: (p: CodeProgress) => void;
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
  readonly #engines = new Set<Engine>();
  /** Code that some program still uses, by where it is cached: programs of the same kernels share it. */
  readonly #functions = new Map<string, WeakRef<NativeFunction>>();

  constructor(
    private readonly native: NativeDevice,
    readonly cache: CodeCache,
  ) {}

  /** Multiprocessors, or threads of the host. */
  get units(): number {
    return this.native.units;
  }

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
    if (options.words && !wordKinds.includes(options.words))
      throw new RangeError(`no words '${options.words}': ${wordKinds.join(', ')}`);
    const { tier, width, words } = options;
    const planning = {
      tuning,
      blocks: this.#blockTable(),
      units: this.native.units,
      ...(tier && { tier }),
      ...(width !== undefined && { width }),
    };
    const choices: Choices =
      words === 'measured'
        ? linkAll(tenants, this.target, planning)
        : { plans: [link(tenants, this.target, { ...planning, ...(words && { words }) })] };
    const { plans, mix } = choices;
    const all = [...plans, ...(mix ? [mix.plan(mix.wide.words)] : [])].flatMap((p) => p.words);
    const { code, result } = await this.#codeOf(all, tenants, options.onProgress);
    const kernelsLowered = tenants.reduce((n, t) => n + t.model.kernelsLowered, 0);
    const { plan, loaded } = await loadFastest(this.native, choices, code);
    const program = new Program(
      this.native,
      plan,
      loaded,
      result,
      kernelsLowered,
      async (words) => (await this.#codeOf(words, tenants)).code,
      () => this.#programs.delete(program),
    );
    this.#programs.add(program);
    return program;
  }

  /**
   * Loads tenants to be served one request at a time, whenever requests arrive. Takes what `load` takes, and throws what it throws; also
   * RangeError for options out of range, and for a weight of a tenant that is not there.
   */
  async serve(tenants: readonly TenantModel[], options: ServeOptions = {}): Promise<Engine> {
    const host = this.kind === 'host';
    const {
      weights = {},
      stretch = 4,
      boundMilliseconds = host ? 20 : 1,
      rounds = true,
      lanes: most = 12,
      atOnce: given,
      tier,
    } = options;
    const names = new Set(tenants.map((t) => t.name));
    for (const [name, weight] of Object.entries(weights)) {
      if (!names.has(name)) throw new RangeError(`a weight for '${name}', which is no tenant`);
      if (!(weight >= 1e-6 && weight <= 1e6))
        throw new RangeError(`the weight of '${name}' must be from 1e-6 to 1e6, not ${weight}`);
    }
    if (!(stretch >= 1)) throw new RangeError(`stretch must be at least 1, not ${stretch}`);
    if (!(boundMilliseconds > 0))
      throw new RangeError(`boundMilliseconds must be positive, not ${boundMilliseconds}`);
    if (!(Number.isInteger(most) && most >= 0 && most <= 16))
      throw new RangeError(`lanes must be a whole number from 0 to 16, not ${most}`);
    if (given !== undefined && !(Number.isInteger(given) && given >= 1 && given <= 16))
      throw new RangeError(`atOnce must be a whole number from 1 to 16, not ${given}`);
    const program = await this.load(tenants, options);
    try {
      const blocks = this.#blockTable();
      const linked = program.plan.tenants;
      const weightOf = (name: string): number => weights[name] ?? 1;
      const equal = tenants.every((t) => weightOf(t.name) === weightOf(tenants[0]!.name));
      // Who has several slots in words of few gets more than its share.
      const atOnce = program.addArenas(given ?? (equal ? this.#atOnceFor(linked) : 1), given !== undefined);
      // A cohort gives each tenant as much as it asks for, and takes as long as it takes.
      const mayHaveLanes = rounds && options.boundMilliseconds === undefined && equal;
      const lanes = mayHaveLanes ? most : 0;
      const words = singleWords(linked, tier === 'specialised' ? tier : 'generic', atOnce);
      // Slots of a cohort's words are of equal sizes. A model from an artefact may have no such code; then the generic one serves.
      if (lanes > 0 && tier === 'auto') {
        const has = (key: string) => (t: TenantModel) =>
          t.model.classOf(this.target, key) ?? t.model.codeOf(this.target, key);
        words.push(
          ...singleWords(linked, 'specialised', atOnce).filter(({ classes }) =>
            tenants.some(has(classes[0]!)),
          ),
        );
      }
      const { code } = await this.#codeOf(words, tenants, options.onProgress);
      const loaded = program.engine(
        [...code].map(([key, c]) => ({ ...c, classes: [key] })),
        {
          weights: linked.map((t) => weightOf(t.name)),
          boundMilliseconds,
          stretch,
          // On the host a word is over when its launch is.
          ahead: host ? 1 : 2,
          rounds,
          ...{ lanes, atOnce },
          blockMilliseconds: (variant) => blocks.timeOf(variant, 'generic').curve.round,
          launchMilliseconds: host ? 4e-3 : 2e-3,
        },
      );
      const classes = loaded.classes.map(({ specialised, generic, task }) => ({
        specialised,
        generic,
        name: task.name,
      }));
      const models = [...new Set(tenants.map((t) => t.model))];
      const add = async (keys: readonly string[]): Promise<void> => {
        const word: Word = { tier: 'generic', classes: keys, slots: [] };
        const fused = await this.#codeOf(
          [word],
          models.map((model) => ({ name: model.name, model })),
        );
        for (const c of fused.code.values()) loaded.addCode({ ...c, classes: keys }, fusedFactor);
      };
      const forget = (): void => void this.#engines.delete(engine);
      const engine = new Engine(loaded, program, classes, add, { ...options, atOnce }, forget);
      this.#engines.add(engine);
      return engine;
    } catch (error) {
      program.close();
      throw error;
    }
  }

  /** How many requests of each tenant an engine runs at once if nobody says: other arenas than the first are to take no more than this. */
  #atOnceFor(tenants: readonly Tenant[]): number {
    const bytes = tenants.reduce((sum, { model }) => sum + model.arenaBytes, 0);
    const most = this.kind === 'host' ? 2 ** 30 : 2 ** 32;
    return Math.max(1, Math.min(4, 1 + Math.floor(most / Math.max(1, bytes))));
  }

  /**
   * Device milliseconds of each of `rounds` rounds of distinct programs, one behind the other or side by side, each on a stream of its
   * own; from before the first launch to the end of the last. Every tenant computes on whatever its inputs hold.
   */
  time(programs: readonly Program[], together: Together, rounds = 10): Promise<number[]> {
    return Program.timeTogether(this.native, programs, together, rounds);
  }

  /**
   * One such round, with when and where every block ran. Noting it costs a block some instructions. Throws RangeError for programs of more
   * than 2^22 physical blocks in all.
   */
  trace(programs: readonly Program[], together: Together): Promise<RoundTrace> {
    return Program.traceTogether(this.native, programs, together);
  }

  /**
   * Measures schedules of the models' kernels on this device and keeps the best of each in the cache, for programs loaded and artefacts
   * saved from then on; programs that are loaded stay as they are. Of what is best it also keeps the times on fewer blocks
   * (`measureBlocks`). The device should have nothing else to do. Throws InputError for a model that came from an artefact, RangeError for
   * widths that are no positive integers.
   */
  tune(models: readonly Model[], options: TuneOptions = {}): Promise<TuneResult> {
    return tuneKernels(this.native, models, this.cache, this.#tuningTable(), this.#blockTable(), options);
  }

  /**
   * Measures how long kernels of the models take on fewer physical blocks than they have virtual ones (constraining), and keeps it in the
   * cache (with the default numbers of blocks and width), for plans of wide words. The device should have nothing else to do. Throws InputError for a model that came from an artefact, RangeError for numbers that are no positive
   * integers.
   */
  async measureBlocks(models: readonly Model[], options: BlockOptions = {}): Promise<KernelBlocks[]> {
    const { blocks = [], width = 1, tuning = true } = options;
    for (const n of [...blocks, width])
      if (!Number.isInteger(n) || n < 1) throw new RangeError(`expected a whole number from 1, not ${n}`);
    const table = tuning ? this.#tuningTable() : undefined;
    return measureBlocks(this.native, models, this.cache, table, this.#blockTable(), options);
  }

  /**
   * Times one kernel of each model, all of unlike classes, together: one after the other, in one wide word, and as branches of a graph. Block
   * times that are not in the cache are measured first and kept there. The device should have nothing else to do. Throws InputError for a
   * model that came from an artefact, that has no kernel of the name, or none whose class is its own.
   */
  async measureUnlike(models: readonly Model[], options: UnlikeOptions = {}): Promise<UnlikeResult> {
    const table = (options.tuning ?? true) ? this.#tuningTable() : undefined;
    return measureUnlike(this.native, models, this.cache, table, this.#blockTable(), options);
  }

  /** Makes the code of words ready and loads it; by `codeKey`. */
  async #codeOf(
    words: readonly Word[],
    tenants: readonly TenantModel[],
    onProgress?: (p: CodeProgress) => void,
  ): Promise<{ code: Map<string, LoadedCode>; result: CodeResult }> {
    const result = await prepareCode(words, tenants, this.target, this.cache, onProgress);
    const code = new Map<string, LoadedCode>();
    for (const ready of result.code) {
      const { key, launch } = ready;
      code.set(key, { code: await this.#loaded(ready), launch });
    }
    return { code, result };
  }

  #tuningTable(): TuningTable {
    return new TuningTable(this.cache.dir, this.target, tunedDevice(this.native));
  }

  #blockTable(): BlockTable {
    const { target, units } = this.native;
    return new BlockTable(this.cache.dir, target, tunedDevice(this.native), units);
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

  /** Closes the device and every program and engine on it. */
  close(): void {
    for (const engine of [...this.#engines]) engine.close();
    for (const program of [...this.#programs]) program.close();
    this.native.close();
  }
}

/** What blocks of fused code take, against code of their own, until it has been measured: they may have fewer neighbours. */
const fusedFactor = 1.05;

/** A word for each class that words of the tenants' tasks may be of, by itself, without slots. */
function singleWords(tenants: readonly Tenant[], tier: Tier, atOnce: number): Word[] {
  const usable = usableVariants(tenants, atOnce);
  const keys = new Set(
    tenants.flatMap((t) => t.model.tasks.flatMap(usable).map((variant) => variant.classes[tier])),
  );
  return [...keys].map((key) => ({ tier, classes: [key], slots: [] }));
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
    private readonly native: NativeDevice,
    readonly plan: Plan,
    loaded: LoadedProgram,
    ready: CodeResult,
    kernelsLowered: number,
    /** Makes the code of words of its tenants ready that are not its own. */
    private readonly codeOf: (words: readonly Word[]) => Promise<ReadonlyMap<string, LoadedCode>>,
    private readonly onClose: () => void,
  ) {
    this.#loaded = loaded;
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

  /**
   * Gives every tenant so many arenas in all, and says how many they have then: fewer, if it is not `required`, where the device has no memory
   * for all of them.
   */
  addArenas(count: number, required: boolean): number {
    const { memory } = this.#loaded;
    while (memory.arenas < count) {
      try {
        memory.addArena();
      } catch (error) {
        if (required) throw error;
        break;
      }
    }
    return memory.arenas;
  }

  /** An engine that serves this program's tenants; the program is then the engine's. */
  engine(codes: readonly EngineCode[], options: EngineOptions): LoadedEngine {
    return new LoadedEngine(this.native, this.#loaded, codes, options);
  }

  /** One round of the given tenants' requests; the other tenants' blocks are idle. Throws RequestError for one that does not fit. */
  run(requests: { readonly [tenant: string]: Tensors }): Promise<RoundResult> {
    return this.#loaded.run(requests);
  }

  /** One tenant's request, in the next round with whatever else is waiting then. */
  submit(tenant: string, inputs: Tensors): Promise<Tensors> {
    return this.#loaded.submit(tenant, inputs);
  }

  /**
   * Device milliseconds of each of `rounds` rounds of all tenants, coalesced, or one tenant after another with the same kernels; those that
   * run otherwise by themselves than in its words are compiled when this is first asked for.
   */
  async time(mode: TimeMode = 'coalesced', rounds = 10): Promise<number[]> {
    if (mode === 'coalesced') return this.#loaded.time(rounds);
    const words = timeMultiplexed(this.plan.tenants, this.plan.words);
    return this.#loaded.time(rounds, { words, code: await this.codeOf(words) });
  }

  /** Device milliseconds of each word (`plan.words`) by itself, in each of `rounds` rounds of all tenants. */
  timeWords(rounds = 10): Promise<number[][]> {
    return this.#loaded.timeWords(rounds);
  }

  /** Puts inputs where timed rounds find them, without running one. Throws RequestError for one that does not fit. */
  setInputs(requests: { readonly [tenant: string]: Tensors }): void {
    this.#loaded.setInputs(requests);
  }

  /** What the last round, timed or not, left in all tenants' outputs; or an engine's last requests that ran in another arena. */
  readOutputs(arena = 0): RoundResult['outputs'] {
    return this.#loaded.readOutputs(arena);
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

  static async traceTogether(
    native: NativeDevice,
    programs: readonly Program[],
    together: Together,
  ): Promise<RoundTrace> {
    const loaded = programs.map((p) => p.#loaded);
    const { milliseconds, words } = await LoadedProgram.traceTogether(native, loaded, together);
    return { milliseconds, programs: programs.map((p, n) => tracedProgram(p.plan, words[n]!)) };
  }

  close(): void {
    this.#loaded.close();
    this.onClose();
  }
}
