/**
 * @file The issue engine for loaded tenants: requests go in as tensors at any time, and words come from whatever is ready. What is
 * native about it is behind native.ts; here are the tenants' rows, the queues beyond what it takes, and its codes.
 */
import {
  groupKey,
  type Task,
  type Tenant,
  type Variant,
  variantsOf,
  type WiderVariant,
} from '../ir/program.ts';
import type { RowContract } from '../ir/row_contract.ts';
import type {
  NativeEngine,
  NativeEngineCode,
  NativeEngineStats,
  NativeEngineTask,
  NativeEngineVariant,
  NativeJournal,
} from './native.ts';
import type { LoadedCode, LoadedProgram } from './program.ts';
import type { Tensors } from './tenants.ts';

export interface EngineOptions {
  /** Each tenant's share of the device's time, relative to the others'. */
  readonly weights: readonly number[];
  readonly boundMilliseconds: number;
  readonly stretch: number;
  readonly ahead: number;
  /** Whether rounds of the program's own words may be run where all tenants are there all the time. */
  readonly rounds: boolean;
  /** How many cohorts of requests of tenants of one model may run side by side; see NativeEngineSpec. */
  readonly lanes: number;
  /** How many requests of one tenant may run at the same time, each in an arena of its own, which the tenants have. */
  readonly atOnce: number;
  /** Milliseconds that a virtual block of a task is expected to take, and that a word takes besides. */
  readonly blockMilliseconds: (variant: Variant) => number;
  readonly launchMilliseconds: number;
}

/** Code of one or several classes (keys of either tier), in the order of its bodies. */
export interface EngineCode extends LoadedCode {
  readonly classes: readonly string[];
}

interface Waiting {
  readonly writes: readonly Uint8Array[];
  readonly resolve: (outputs: Tensors) => void;
  readonly reject: (error: unknown) => void;
}

/** Which of a code's bodies serves a class: one of its own sizes before one of all; -1 if none does. */
function bodyOf(
  classes: readonly string[],
  { specialised, generic }: { readonly specialised: string; readonly generic: string },
): number {
  const own = classes.indexOf(specialised);
  return own >= 0 ? own : classes.indexOf(generic);
}

/** The variants of a task that words can be wide enough for: a tenant has a slot in a word for each request that it can run at once. */
export function usableVariants(
  tenants: readonly Tenant[],
  atOnce = 1,
): (task: Task) => readonly [Variant, ...WiderVariant[]] {
  const widest = new Map<string, number>();
  for (const { model } of tenants)
    for (const key of new Set(model.tasks.map((t) => groupKey(t, 'generic'))))
      widest.set(key, (widest.get(key) ?? 0) + 1);
  return (task) => {
    const slots = atOnce * (widest.get(groupKey(task, 'generic')) ?? 1);
    // Nothing runs beside a request that is alone.
    const narrowest = atOnce * tenants.length > 1 ? 1 : 2;
    return [task, ...(task.wider ?? []).filter((w) => w.from >= narrowest && w.from <= slots)];
  };
}

const widerOf = ([_, ...wider]: readonly [Variant, ...WiderVariant[]]): readonly WiderVariant[] => wider;

export class LoadedEngine {
  readonly #native: NativeEngine;
  /** Tasks' variants are numbered by their specialised class: the finest that any code goes by. */
  readonly classes: readonly {
    readonly specialised: string;
    readonly generic: string;
    readonly task: Task;
  }[];
  /** Keys of the classes that each code serves, by its number. */
  readonly codes: (readonly string[])[];
  readonly #waiting: Waiting[][];
  readonly #underWay: number[];
  /** So many of a tenant's requests are at the native engine: those that run, and one that is next. */
  readonly #most: number;
  #closed = false;

  /**
   * @param program whose tenants are served; rounds of it may be run. It is not to be used by itself meanwhile.
   * @param codes at least one for the generic or specialised class of each task. Cohorts run on the last one of a class.
   */
  constructor(
    private readonly device: { createEngine: import('./native.ts').NativeDevice['createEngine'] },
    private readonly program: LoadedProgram,
    codes: readonly EngineCode[],
    options: EngineOptions,
  ) {
    const tenants = program.memory.all;
    const usable = usableVariants(tenants, options.atOnce);
    const known = new Map<string, { specialised: string; generic: string; task: Task }>();
    for (const task of tenants.flatMap((t) => t.model.tasks))
      for (const { classes } of usable(task))
        if (!known.has(classes.specialised)) known.set(classes.specialised, { ...classes, task });
    this.classes = [...known.values()];
    const number = new Map([...known.keys()].map((key, n) => [key, n]));
    const groups = new Map<string, number>();
    const groupOf = (task: Task): number => {
      const key = groupKey(task, 'generic');
      if (!groups.has(key)) groups.set(key, groups.size);
      return groups.get(key)!;
    };
    const contracts = new Map(codes.flatMap((c) => c.classes.map((key, n) => [key, c.launch.contracts[n]!])));
    const variantOf = (tenant: number, task: Task, variant: Variant): NativeEngineVariant => {
      const { generic, specialised } = variant.classes;
      const operandsFor = (contract: RowContract | undefined, sizes: readonly number[]) =>
        program.memory.operandsOf(tenant, task.name, variant, contract, sizes);
      // Checked against all code that may run it.
      const own = contracts.get(specialised);
      const open = contracts.get(generic);
      const operands = own ? operandsFor(own, []) : operandsFor(open, variant.sizes);
      if (own && open) operandsFor(open, variant.sizes);
      return {
        class: number.get(specialised)!,
        blocks: variant.blocks,
        blockNanoseconds: Math.max(1, 1e6 * options.blockMilliseconds(variant)),
        operands,
        sizes: variant.sizes,
      };
    };
    const taskOf = (tenant: number, task: Task): NativeEngineTask => ({
      ...variantOf(tenant, task, task),
      group: groupOf(task),
      wider: widerOf(usable(task)).map((v) => ({ from: v.from, ...variantOf(tenant, task, v) })),
    });
    this.codes = codes.map((c) => c.classes);
    this.#waiting = tenants.map(() => []);
    this.#underWay = tenants.map(() => 0);
    this.#most = options.atOnce + 1;
    this.#native = this.device.createEngine({
      classes: Math.max(1, this.classes.length),
      tenants: tenants.map(({ model }, t) => ({
        weight: options.weights[t]!,
        arenas: program.memory.arenasOf(t),
        inputs: model.inputs.map(({ place }) => program.memory.operand(t, place)),
        outputs: model.outputs.map(({ place }) => program.memory.operand(t, place)),
        tasks: model.tasks.map((task) => taskOf(t, task)),
      })),
      codes: codes.map((c) => this.#nativeCode(c)),
      ...(options.rounds && program.native && { program: program.native }),
      lanes: options.lanes,
      boundNanoseconds: 1e6 * options.boundMilliseconds,
      stretch: options.stretch,
      launchNanoseconds: 1e6 * options.launchMilliseconds,
      ahead: options.ahead,
    });
  }

  /** Runs one tenant's request among all others'. Rejects with RequestError if it does not fit the model. */
  submit(tenant: string, inputs: Tensors): Promise<Tensors> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new Error('the engine is closed');
      const t = this.program.memory.number(tenant);
      // Copied at once where the native engine can take it; else when it can, and until then the caller must leave the arrays alone.
      const writes = this.program.memory.writes(t, inputs).map(({ data }) => data);
      this.#waiting[t]!.push({ writes, resolve, reject });
      this.#send(t);
    });
  }

  /** From the next word on. Throws RangeError for code whose contract some task's row breaks. */
  addCode(code: EngineCode, factor: number): void {
    this.#check(code);
    this.#native.addCode({ ...this.#nativeCode(code), factor });
    this.codes.push(code.classes);
  }

  /** See NativeEngine.drive. */
  drive(milliseconds: Float64Array, tenants: Uint32Array): Promise<Float64Array> {
    return this.#native.drive(milliseconds, tenants);
  }

  stats(): NativeEngineStats {
    return this.#native.stats();
  }

  keepJournal(keep: boolean): void {
    this.#native.keepJournal(keep);
  }

  takeJournal(): NativeJournal {
    return this.#native.takeJournal();
  }

  /** Requests under way and waiting are rejected. The program stays as it is. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const queue of this.#waiting)
      for (const w of queue.splice(0)) w.reject(new Error('the engine is closed'));
    this.#native.close();
  }

  #send(t: number): void {
    while (this.#underWay[t]! < this.#most && this.#waiting[t]!.length > 0) {
      const { writes, resolve, reject } = this.#waiting[t]!.shift()!;
      const { outputs, transfers } = this.program.memory.outputsOf(t);
      this.#underWay[t]!++;
      this.#native
        .submit(
          t,
          writes,
          transfers.map(({ data }) => data),
        )
        .then(() => resolve(outputs), reject)
        .finally(() => {
          this.#underWay[t]!--;
          this.#send(t);
        });
    }
  }

  /** The rows were checked against the codes of the start; now against one that comes later. Tenants of one model have the same sizes. */
  #check({ classes, launch }: EngineCode): void {
    const { memory } = this.program;
    const tenants = new Map(memory.all.map(({ model }, t) => [model, t]));
    for (const [model, t] of tenants) {
      for (const task of model.tasks)
        for (const variant of variantsOf(task)) {
          const body = bodyOf(classes, variant.classes);
          if (body < 0) continue;
          const isGeneric = classes[body] === variant.classes.generic;
          memory.operandsOf(t, task.name, variant, launch.contracts[body], isGeneric ? variant.sizes : []);
        }
    }
  }

  #nativeCode({ code, launch, classes }: EngineCode): NativeEngineCode {
    const served = this.classes.flatMap((c, n) => {
      const body = bodyOf(classes, c);
      return body >= 0 ? [{ n, body }] : [];
    });
    return {
      code,
      threads: launch.threads,
      sharedBytes: launch.sharedBytes,
      classes: served.map(({ n }) => n),
      bodies: served.map(({ body }) => body),
    };
  }
}
