/**
 * @file Artefacts: tenants compiled ahead of time, in one file. Weights, the plan of each model for each target, and the code of every
 * word, so that loading compiles nothing. The layout is a fixed head, a JSON index, and the bytes that the index points into:
 *
 *     "WIDEWORD" · u32 format · u32 index length · sha256 of all that follows · index · padding · blobs (64-byte aligned)
 */
import { createHash, randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { InputError } from '../compiler/errors.ts';
import { type CompiledModel, classesIn, type Tenant, variantsOf, type Word } from '../ir/program.ts';
import { bytesOf, makeArray, makeTensor, type Tensor } from '../ir/tensor.ts';
import { byteSize, type DType, dtypes } from '../ir/types.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { CodeCache } from '../runtime/cache.ts';
import type { Launch } from '../runtime/program.ts';
import { cpuIdentity } from '../runtime/toolchain.ts';
import { BlockTable } from './block_table.ts';
import { type CodeProgress, prepareCode, type TenantModel } from './code.ts';
import { type CodeImage, type Model, type ModelPort, type Precision, readModelFile } from './model.ts';
import { kindsOf, link, type PlannedKind, type WordKind } from './plan.ts';
import { TuningTable } from './tuning.ts';

const magic = Buffer.from('WIDEWORD');
/** Raised whenever the index, the slot table or the kernels' interface changes. */
const formatVersion = 7;
const headBytes = magic.length + 4 + 4 + 32;
const blobAlignment = 64;

interface Blob {
  readonly offset: number;
  readonly bytes: number;
}

interface WeightIndex extends Blob {
  readonly name: string;
  readonly at: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

type ModelPlan = Omit<CompiledModel, 'weights'> & { readonly weights: readonly WeightIndex[] };

interface ModelIndex {
  readonly name: string;
  readonly precision: Precision;
  readonly inputs: readonly ModelPort[];
  readonly outputs: readonly ModelPort[];
  readonly kernelsLowered: number;
  readonly plans: { readonly [target: string]: ModelPlan };
}

interface CodeIndex extends Blob {
  readonly key: string;
  readonly entry: string;
  readonly launch: Launch;
}

interface Index {
  readonly tier: TierChoice;
  /** The CPU that host code was compiled for; it may use any instruction of that CPU. */
  readonly cpu: string;
  readonly models: readonly ModelIndex[];
  readonly tenants: readonly { readonly name: string; readonly model: number }[];
  readonly code: { readonly [target: string]: readonly CodeIndex[] };
}

/** An artefact in memory: tenants to load, on a device of one of its targets. */
export interface Artefact {
  readonly targets: readonly string[];
  /** The tier its code was compiled for; load with the same. */
  readonly tier: TierChoice;
  readonly tenants: readonly TenantModel[];
}

export interface SaveOptions {
  /** `host`, `sm_80`, …; at least one. */
  readonly targets: readonly string[];
  readonly tier?: TierChoice;
  /** Default `coalesced`; with `wide` also code that holds several classes, for loading with wide words. */
  readonly words?: WordKind;
  readonly cacheDir?: string;
  /** Default true: kernels that were tuned (`Device.tune`) get the schedules found, those of the device tuned last for each target. */
  readonly tuning?: boolean;
  readonly onProgress?: (p: CodeProgress & { readonly target: string }) => void;
}

export interface SaveResult {
  readonly bytes: number;
  /** Pieces of code for each target. */
  readonly code: { readonly [target: string]: number };
}

/** Compiles tenants for the targets and writes them to a file, atomically. */
export async function saveArtefact(
  path: string,
  tenants: readonly TenantModel[],
  { targets, tier = 'generic', words: kind = 'coalesced', cacheDir, tuning = true, onProgress }: SaveOptions,
): Promise<SaveResult> {
  const cache = new CodeCache(cacheDir);
  const blobs = new BlobWriter();
  const models = [...new Set(tenants.map((t) => t.model))];
  const code: Record<string, CodeIndex[]> = {};
  const tables = new Map(tuning ? targets.map((target) => [target, new TuningTable(cache.dir, target)]) : []);
  for (const target of targets) {
    const plan = { tier, tuning: tables.get(target), blocks: new BlockTable(cache.dir, target) };
    // Wide words are planned again when the artefact is loaded, and coalesced ones are what is left where that turns out otherwise.
    const planned = [...new Set<PlannedKind>(['coalesced', ...kindsOf(kind)])].flatMap((words) => {
      const { tenants: linked, words: made } = link(tenants, target, { ...plan, words });
      return [...made, ...ofOtherWidths(linked, made)];
    });
    const ready = await prepareCode(planned, tenants, target, cache, (p) => onProgress?.({ ...p, target }));
    code[target] = [];
    for (const { key, entry, launch, path: file, image } of ready.code) {
      const bytes = image ?? (await CodeCache.read(file!));
      code[target].push({ key, entry, launch, ...blobs.add(bytes) });
    }
  }
  const index: Index = {
    tier,
    cpu: cpuIdentity(),
    models: models.map((m) => ({
      name: m.name,
      precision: m.precision,
      inputs: m.inputs,
      outputs: m.outputs,
      kernelsLowered: m.kernelsLowered,
      plans: Object.fromEntries(
        targets.map((target) => [target, planIndex(m.compiledFor(target, tables.get(target)), blobs)]),
      ),
    })),
    tenants: tenants.map((t) => ({ name: t.name, model: models.indexOf(t.model) })),
    code,
  };
  const bytes = assemble(index, blobs);
  const part = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.part`;
  try {
    await writeFile(part, bytes);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw new InputError(`cannot write ${path}: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
  return {
    bytes: bytes.length,
    code: Object.fromEntries(Object.entries(code).map(([target, entries]) => [target, entries.length])),
  };
}

/** A word for each variant of what these words run: one that is loaded may have another width, and an engine's has any. */
const ofOtherWidths = (tenants: readonly Tenant[], words: readonly Word[]): Word[] =>
  words.flatMap(({ tier, slots }) =>
    slots.flatMap(({ tenant, task }) =>
      variantsOf(tenants[tenant]!.model.tasks[task]!).map((v) => ({
        tier,
        classes: [v.classes[tier]],
        slots: [],
      })),
    ),
  );

function planIndex(model: CompiledModel, blobs: BlobWriter): ModelPlan {
  const weights = model.weights.map(({ name, offset, tensor }) => ({
    name,
    at: offset,
    dtype: tensor.dtype,
    shape: tensor.shape,
    ...blobs.addTensor(tensor),
  }));
  return { ...model, weights };
}

/** Collects bytes and remembers tensors, so that targets share weights. */
class BlobWriter {
  readonly parts: Uint8Array[] = [];
  #size = 0;
  readonly #tensors = new Map<Tensor, Blob>();

  add(bytes: Uint8Array): Blob {
    const blob = { offset: this.#size, bytes: bytes.length };
    const padding = (blobAlignment - (bytes.length % blobAlignment)) % blobAlignment;
    this.parts.push(bytes, new Uint8Array(padding));
    this.#size += bytes.length + padding;
    return blob;
  }

  addTensor(tensor: Tensor): Blob {
    let blob = this.#tensors.get(tensor);
    if (!blob) this.#tensors.set(tensor, (blob = this.add(bytesOf(tensor))));
    return blob;
  }
}

function assemble(index: Index, blobs: BlobWriter): Buffer {
  const json = Buffer.from(JSON.stringify(index));
  const padding = Buffer.alloc((blobAlignment - ((headBytes + json.length) % blobAlignment)) % blobAlignment);
  const body = Buffer.concat([json, padding, ...blobs.parts]);
  const head = Buffer.alloc(headBytes);
  magic.copy(head);
  head.writeUInt32LE(formatVersion, magic.length);
  head.writeUInt32LE(json.length, magic.length + 4);
  createHash('sha256')
    .update(body)
    .digest()
    .copy(head, magic.length + 8);
  return Buffer.concat([head, body]);
}

/** True if a file's first bytes are an artefact's. */
export const isArtefact = (bytes: Uint8Array): boolean =>
  bytes.length >= magic.length && magic.equals(bytes.subarray(0, magic.length));

/** Reads an artefact. Throws InputError if it is cut short, damaged, or of another version. */
export async function loadArtefact(path: string): Promise<Artefact> {
  return parseArtefact(Buffer.from((await readModelFile(path)).buffer), path);
}

/** Reads an artefact from its bytes; `name` stands in messages. */
export function parseArtefact(bytes: Uint8Array, name: string): Artefact {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isArtefact(file)) throw new InputError(`${name} is not a Wideword artefact`);
  if (file.length < headBytes) throw new InputError(`${name} is cut short`);
  const version = file.readUInt32LE(magic.length);
  if (version !== formatVersion) {
    throw new InputError(
      `${name} has artefact format ${version}, this Wideword reads ${formatVersion}: compile the model again`,
    );
  }
  const body = file.subarray(headBytes);
  const hash = createHash('sha256').update(body).digest();
  if (!hash.equals(file.subarray(magic.length + 8, headBytes))) {
    throw new InputError(
      `${name} is cut short or damaged (its checksum does not match): compile the model again`,
    );
  }
  const jsonLength = file.readUInt32LE(magic.length + 4);
  const index = JSON.parse(body.toString('utf8', 0, jsonLength)) as Index;
  const blobStart = Math.ceil((headBytes + jsonLength) / blobAlignment) * blobAlignment;
  const models = index.models.map((m) => new ArtefactModel(m, index, file.subarray(blobStart), name));
  return {
    targets: Object.keys(index.code),
    tier: index.tier,
    tenants: index.tenants.map((t) => ({ name: t.name, model: models[t.model]! })),
  };
}

/** A model read from an artefact. */
class ArtefactModel implements Model {
  readonly name: string;
  readonly precision: Precision;
  readonly inputs: readonly ModelPort[];
  readonly outputs: readonly ModelPort[];
  readonly kernelsLowered: number;
  readonly #compiled = new Map<string, CompiledModel>();

  constructor(
    private readonly index: ModelIndex,
    private readonly whole: Index,
    private readonly blobs: Buffer,
    private readonly file: string,
  ) {
    ({
      name: this.name,
      precision: this.precision,
      inputs: this.inputs,
      outputs: this.outputs,
      kernelsLowered: this.kernelsLowered,
    } = index);
  }

  compiledFor(target: string): CompiledModel {
    let compiled = this.#compiled.get(target);
    if (!compiled) {
      const plan = this.index.plans[target];
      if (!plan) {
        const targets = Object.keys(this.index.plans).join(', ');
        throw new InputError(
          `${this.file} was compiled for ${targets}, not for ${target}: compile it with --target ${target}`,
        );
      }
      if (target === 'host' && this.whole.cpu !== cpuIdentity()) {
        throw new InputError(`${this.file} holds host code for another CPU: compile it on this machine`);
      }
      const weights = plan.weights.map((w) => ({ name: w.name, offset: w.at, tensor: this.#tensor(w) }));
      this.#compiled.set(target, (compiled = { ...plan, weights }));
    }
    return compiled;
  }

  readonly isCompiled = true;

  classOf(): undefined {
    return undefined;
  }

  fusedCodes(target: string): string[][] {
    return (this.whole.code[target] ?? [])
      .map((c) => classesIn(c.key))
      .filter((classes) => classes.length > 1);
  }

  codeOf(target: string, key: string): CodeImage | undefined {
    const found = this.whole.code[target]?.find((c) => c.key === key);
    if (!found) return undefined;
    const { entry, launch } = found;
    return { entry, launch, image: this.#bytes(found) };
  }

  #bytes({ offset, bytes }: Blob): Uint8Array {
    return this.blobs.subarray(offset, offset + bytes);
  }

  /** Copied out of the file, which need not be aligned for the element type. */
  #tensor(w: WeightIndex): Tensor {
    const bytes = new Uint8Array(this.#bytes(w));
    if (bytes.length !== byteSize(w))
      throw new InputError(`${this.file}: a weight has ${bytes.length} bytes, not ${byteSize(w)}`);
    return makeTensor(
      w.dtype,
      w.shape,
      makeArray(w.dtype, bytes.length / dtypes[w.dtype].bytes, bytes.buffer as ArrayBuffer),
    );
  }
}
