/**
 * @file Runs emitted CUDA, text for text, on the CPU: the part of the prelude that is CUDA's is exchanged for one that emulates a block's
 * threads, so the code that goes to the GPU is tested where there is none, and under sanitizers.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { preludeOf } from '../../../codegen/prelude.ts';
import { emitWord, type WordSource } from '../../../codegen/word.ts';
import type { TensorsByTenant } from '../../../ir/interpret_program.ts';
import {
  type CompiledModel,
  codeKey,
  type Place,
  type Program,
  variantIn,
  variantsOf,
} from '../../../ir/program.ts';
import { scratchOf } from '../../../ir/scratch.ts';
import { targetOf } from '../../../ir/target.ts';
import { bytesOf, makeTensor, type Tensor } from '../../../ir/tensor.ts';
import { kernelOf } from '../../../ir/verify_program.ts';
import { CodeCache } from '../../../runtime/cache.ts';
import { inParallel } from '../../../runtime/parallel.ts';
import { findHostCompiler, runCompiler } from '../../../runtime/toolchain.ts';

/**
 * What watches the emulated program. `memory`: AddressSanitizer, with an allocation of its own for every operand, and UBSan. `races`:
 * ThreadSanitizer, to which only barriers order a block's threads, and only atomic instructions the blocks of a launch.
 */
export type Watch = 'memory' | 'races';

const sanitizers = { memory: 'address,undefined', races: 'thread' } as const satisfies Record<Watch, string>;

/** What a sanitizer or the emulator itself found. */
export class EmulatorError extends Error {
  override readonly name = 'EmulatorError';
}

const read = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8');
const prelude = (name: string): string => read(`../../../codegen/prelude/${name}`);

/** Words of an executable. More take longer to compile than two cores need to share out the work. */
const mostWords = 12;

/** Codes that are compiled together, and where each stands. */
interface Part {
  readonly codes: Map<string, number>;
  readonly sources: WordSource[];
  path: string;
}

/** The code of some programs' words, compiled for the CPU. */
export class Emulator {
  private constructor(private readonly partOf: ReadonlyMap<Program, Part>) {}

  /**
   * Compiles every word of programs for a CUDA target; many at once, since most of the time goes into what they share.
   * @param edit changes the text, to see what the watch then finds.
   */
  static async compile(
    programs: readonly Program[],
    watch: Watch,
    edit: (text: string) => string = (text) => text,
  ): Promise<Emulator> {
    const parts: Part[] = [];
    const partOf = new Map<Program, Part>();
    for (const program of programs) {
      let part = parts.find((p) => program.words.every((word) => p.codes.has(codeKey(word))));
      if (!part) {
        part = parts.at(-1);
        if (!part || part.sources.length + program.words.length > mostWords)
          parts.push((part = { codes: new Map(), sources: [], path: '' }));
        addCodes(part, program);
      }
      partOf.set(program, part);
    }
    await inParallel(parts, async (part) => {
      part.path = await build(part.sources, watch, edit);
    });
    return new Emulator(partOf);
  }

  /**
   * Runs a program once for all its tenants, as `interpretProgram` does; `seed` picks the order of blocks and threads. Throws
   * EmulatorError with what went wrong.
   */
  async run(program: Program, inputs: TensorsByTenant, seed = 1): Promise<Map<string, Map<string, Tensor>>> {
    const memory = program.tenants.map(({ name, model }) => {
      // Bytes that nobody wrote are NaNs, as floats.
      const weights = new Uint8Array(model.weightBytes).fill(0xff);
      const arena = new Uint8Array(model.arenaBytes).fill(0xff);
      for (const { offset, tensor } of model.weights) weights.set(bytesOf(tensor), offset);
      for (const { offset, bytes } of zerosOf(program, model)) arena.fill(0, offset, offset + bytes);
      for (const port of model.inputs)
        arena.set(bytesOf(inputs.get(name)!.get(port.name)!), port.place.offset);
      return { weights, arena };
    });
    const part = this.partOf.get(program);
    if (!part) throw new Error('the program was not compiled for emulation');
    const output = await execute(part.path, job(program, memory, part.codes, seed));
    let at = 0;
    return new Map(
      program.tenants.map(({ name, model }, n) => {
        const arena = output.subarray(at + memory[n]!.weights.length);
        at += memory[n]!.weights.length + memory[n]!.arena.length;
        for (const { value, offset, bytes } of zerosOf(program, model))
          if (arena.subarray(offset, offset + bytes).some((byte) => byte !== 0))
            throw new EmulatorError(`%${value} of ${name} is not zero after the round`);
        const ports = model.outputs.map((port) => {
          const tensor = makeTensor(port.dtype, port.shape);
          const { offset, bytes } = port.place;
          bytesOf(tensor).set(arena.subarray(offset, offset + bytes));
          return [port.name, tensor] as const;
        });
        return [name, new Map(ports)];
      }),
    );
  }
}

/** Where blocks count, which a round finds zero and leaves so. */
const zerosOf = (program: Program, model: CompiledModel): Place[] =>
  model.tasks.flatMap(variantsOf).flatMap((task) => {
    const kernel = kernelOf(program, task)!;
    const places = task.operands.slice(kernel.inputs.length + kernel.outputs.length);
    return places.filter((_, n) => scratchOf(kernel)[n]!.keepsZeros);
  });

const bytesOf32 = (numbers: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(numbers).buffer);

/** The program as main.h reads it. Buffers are weights and arena of each tenant in turn. */
function job(
  program: Program,
  memory: readonly { readonly weights: Uint8Array; readonly arena: Uint8Array }[],
  codes: ReadonlyMap<string, number>,
  seed: number,
): Buffer {
  const parts: Uint8Array[] = [];
  const put = (...numbers: number[]): void => void parts.push(bytesOf32(numbers));
  put(seed, 2 * memory.length);
  for (const { weights, arena } of memory) {
    for (const buffer of [weights, arena]) {
      put(buffer.length);
      parts.push(buffer);
    }
  }
  put(program.words.length);
  for (const word of program.words) {
    put(codes.get(codeKey(word))!, word.slots.length);
    for (const slot of word.slots) {
      const task = variantIn(program.tenants[slot.tenant]!.model.tasks[slot.task]!, word, slot)!;
      const kernel = program.classes.get(word.classes[slot.body]!)!.kernel;
      put(slot.body, slot.range?.from ?? 0, slot.range?.to ?? task.blocks, slot.blocks, task.operands.length);
      const buffer = ({ space }: Place): number => 2 * slot.tenant + (space === 'weights' ? 0 : 1);
      for (const place of task.operands) put(buffer(place), place.offset, place.bytes);
      const sizes = word.tier === 'generic' ? task.sizes : [];
      put(kernel.inputs.length, sizes.length, ...sizes);
    }
  }
  return Buffer.concat(parts);
}

function execute(path: string, input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const env = {
      ...process.env,
      ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=0',
      UBSAN_OPTIONS: 'print_stacktrace=0',
      TSAN_OPTIONS: 'halt_on_error=1:report_signal_unsafe=0',
    };
    const child = spawn(path, [], { stdio: ['pipe', 'pipe', 'pipe'], env });
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    child.stdout.on('data', (data: Buffer) => output.push(data));
    child.stderr.on('data', (data: Buffer) => errors.push(data));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(Buffer.concat(output));
      else reject(new EmulatorError(summary(Buffer.concat(errors).toString(), code ?? signal)));
    });
    child.stdin.on('error', () => {}); // one that ends early says why on its own
    child.stdin.end(input);
  });
}

/** The head of a sanitizer's report. */
function summary(text: string, code: unknown): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !/^=+$/.test(line));
  return lines.slice(0, 12).join('\n') || `the emulator ended with ${code}`;
}

function addCodes({ codes, sources }: Part, program: Program): void {
  for (const word of program.words) {
    if (codes.has(codeKey(word))) continue;
    codes.set(codeKey(word), sources.length);
    const classes = word.classes.map((key) => program.classes.get(key)!);
    sources.push(emitWord(classes, targetOf(program.target)));
  }
}

async function build(
  sources: readonly WordSource[],
  watch: Watch,
  edit: (text: string) => string,
): Promise<string> {
  const skipped = preludeOf('cuda').length;
  const unedited = [
    // In this order: the emulation knows slots, and scalar helpers need its keywords.
    ...[prelude('slot.h'), read('fibers.h'), read('cuda.h')],
    ...['scalar.h', 'share.h', 'block.h', 'vector.h', 'mma.h', 'warpgroup.h', 'attention.h'].map(prelude),
    read('main.h'),
    ...sources.flatMap(({ entry, source }, n) => [
      `namespace word_${n} {`,
      `#define ${entry} entry_${n}`, // two words may have one name
      source.slice(skipped).replaceAll('extern "C" __global__', '__global__'),
      `#undef ${entry}`,
      '}',
    ]),
    'int main() {',
    '  static const emulated::Code codes[] = {',
    ...sources.map(({ threads }, n) => `    {word_${n}::entry_${n}, ${threads}},`),
    '  };',
    '  return emulated::run(codes);',
    '}',
  ].join('\n');
  const text = edit(unedited);
  const { command } = findHostCompiler()!;
  const flags = [
    ...[
      '-O1',
      '-g1',
      '-std=c++17',
      '-march=native',
      '-ffp-contract=off',
      '-w',
      '-no-pie',
      '-fno-omit-frame-pointer',
    ],
    ...[`-fsanitize=${sanitizers[watch]}`, '-fno-sanitize-recover=all'],
    ...(watch === 'memory' ? ['-fsanitize-sections=block_shared'] : []),
  ];
  const cache = new CodeCache();
  const key = CodeCache.key(text, [...command, ...flags].join(' '));
  const compile = (file: string): Promise<void> =>
    runCompiler(command, [...flags, '-x', 'c++', '-', '-o', file, '-lm'], text);
  return (await cache.find(key, 'exe')) ?? (await cache.put(key, 'exe', compile));
}
