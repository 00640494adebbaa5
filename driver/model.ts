/**
 * @file A model as users hold it: compiled from ONNX for any target when asked, or read from an artefact for the targets in it.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { InputError, lowerOnnx } from '../compiler/index.ts';
import type { KernelClass } from '../ir/class.ts';
import type { Module } from '../ir/module.ts';
import { formatSchedules } from '../ir/print.ts';
import type { CompiledModel } from '../ir/program.ts';
import { targetOf } from '../ir/target.ts';
import type { TensorType } from '../ir/types.ts';
import { verifyKernel } from '../ir/verify.ts';
import { fuse } from '../passes/fuse.ts';
import { type PassName, passes } from '../passes/index.ts';
import { type CompiledModule, compileModule } from '../passes/link.ts';
import { saturate } from '../passes/saturate.ts';
import { schedule } from '../passes/schedule.ts';
import { unround } from '../passes/unround.ts';
import type { Launch } from '../runtime/program.ts';
import type { Tuning } from './tuning.ts';

export type Precision = 'fp32' | 'fp16';

export interface CompileOptions {
  /** The model's name; by default the file's. */
  readonly name?: string;
  /** Shapes of inputs whose dimensions the model leaves open. */
  readonly shapes?: { readonly [input: string]: readonly number[] };
  /** `fp16` halves weights and activations, saturating, and keeps sums in f32; inputs and outputs keep their types. Default `fp32`. */
  readonly precision?: Precision;
}

/** An input or output of a model. */
export interface ModelPort extends TensorType {
  readonly name: string;
}

/** Compiled code by `codeKey`, as artefacts carry it. */
export interface CodeImage {
  readonly entry: string;
  readonly launch: Launch;
  readonly image: Uint8Array;
}

/** A model that a device can load. */
export interface Model {
  readonly name: string;
  /** What it was compiled with. */
  readonly precision: Precision;
  readonly inputs: readonly ModelPort[];
  readonly outputs: readonly ModelPort[];
  /** Kernels before fusion; what the graph lowered to. */
  readonly kernelsLowered: number;
  /**
   * The model for a target, with the schedules of `tuning` where it has some (an artefact has schedules of its own); throws InputError if
   * an artefact was not compiled for it.
   */
  compiledFor(target: string, tuning?: Tuning): CompiledModel;
  /** A kernel class of the model, to emit code from; an artefact has none. */
  classOf(target: string, key: string): KernelClass | undefined;
  /** True if the model comes with its code and no kernels: from an artefact. */
  readonly isCompiled: boolean;
  /** Code that came with the model. */
  codeOf(target: string, key: string): CodeImage | undefined;
  /** The classes of each code of several that came with the model. */
  fusedCodes(target: string): readonly (readonly string[])[];
}

/**
 * Reads and lowers an ONNX model.
 * @param source a file's path, or the file's bytes.
 * Throws InputError (in one line) for a file that is no model, and Unsupported with every node that cannot be compiled.
 */
export async function compileModel(
  source: string | Uint8Array,
  options: CompileOptions = {},
): Promise<Model> {
  const name = options.name ?? (typeof source === 'string' ? basename(source, '.onnx') : 'model');
  const bytes = typeof source === 'string' ? await readModelFile(source) : source;
  const precision = options.precision ?? 'fp32';
  if (precision !== 'fp32' && precision !== 'fp16')
    throw new InputError(`no precision '${precision}': fp32 or fp16`);
  const module = lowerOnnx(bytes, { name, shapes: options.shapes ?? {}, precision });
  return new SourceModel(module, precision);
}

/** Reads a file; a missing or unreadable one is an InputError. */
export async function readModelFile(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' ? 'no such file' : code === 'EISDIR' ? 'is a folder' : String(code ?? error);
    throw new InputError(`${path}: ${reason}`);
  }
}

/** A model compiled from ONNX. */
export class SourceModel implements Model {
  readonly name: string;
  readonly inputs: readonly ModelPort[];
  readonly outputs: readonly ModelPort[];
  readonly kernelsLowered: number;
  /** The module after these passes. */
  readonly module: Module;
  /** Passes before the schedule, which depends on the target. */
  readonly passes: readonly ('saturate' | 'fuse' | 'unround')[];
  /** By target. */
  readonly #laidOut = new Map<string, Module>();
  /** By target, and by the schedules that tuning chose. */
  readonly #compiled = new Map<string, Map<string, CompiledModule>>();

  constructor(
    /** What the graph lowered to, before any pass. */
    readonly lowered: Module,
    readonly precision: Precision = 'fp32',
  ) {
    this.name = lowered.name;
    this.kernelsLowered = lowered.calls.length;
    this.passes = precision === 'fp16' ? ['saturate', 'fuse', 'unround'] : ['fuse'];
    this.module = precision === 'fp16' ? unround(fuse(saturate(lowered))) : fuse(lowered);
    this.inputs = lowered.inputs.map((name) => ({ name, ...lowered.types.get(name)! }));
    this.outputs = lowered.outputs.map(({ name, value }) => ({ name, ...lowered.types.get(value)! }));
  }

  compiledFor(target: string, tuning?: Tuning): CompiledModel {
    return this.#for(target, tuning).model;
  }

  classOf(target: string, key: string): KernelClass | undefined {
    const variants = this.#compiled.get(target)?.values() ?? [this.#for(target)];
    return [...variants].map(({ classes }) => classes.get(key)).find((c) => c !== undefined);
  }

  /** The module as it is before kernels get their schedules. */
  laidOutFor(target: string): Module {
    let module = this.#laidOut.get(target);
    if (!module) this.#laidOut.set(target, (module = layOutModule(this.module, target)));
    return module;
  }

  readonly isCompiled = false;

  codeOf(): undefined {
    return undefined;
  }

  fusedCodes(): readonly [] {
    return [];
  }

  #for(target: string, tuning?: Tuning): CompiledModule {
    let variants = this.#compiled.get(target);
    if (!variants) this.#compiled.set(target, (variants = new Map()));
    const module = this.laidOutFor(target);
    const tuned = module.calls.map(({ kernel }) => tuning?.schedulesOf(kernel));
    const variant = tuned.map((s) => (s ? formatSchedules(s) : '')).join(';');
    let compiled = variants.get(variant);
    if (!compiled) {
      const scheduled = scheduleLaidOut(module, target, tuning);
      variants.set(variant, (compiled = compileModule(scheduled, target)));
    }
    return compiled;
  }
}

/** The passes between fusion and the schedule, which look at the target, in order. */
export const targetPasses = [
  'fuse-attention',
  'stack',
  'pack-channels',
  'layout',
  'channel-order',
  'weight-order',
] as const satisfies readonly PassName[];

/** A module with a schedule for the target on every kernel, each verified. */
export const scheduleModule = (module: Module, target: string): Module =>
  scheduleLaidOut(layOutModule(module, target), target);

function layOutModule(module: Module, targetName: string): Module {
  const target = targetOf(targetName);
  return targetPasses.reduce((m, name) => passes[name].module(m, target), module);
}

function scheduleLaidOut(module: Module, targetName: string, tuning?: Tuning): Module {
  const target = targetOf(targetName);
  const scheduled = schedule(module, target, (kernel) => tuning?.schedulesOf(kernel));
  const problems = scheduled.calls.flatMap((call) => verifyKernel(call.kernel, target));
  if (problems.length > 0) throw new Error(`the verifier refuses ${module.name}:\n${problems.join('\n')}`);
  return scheduled;
}
