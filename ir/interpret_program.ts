/**
 * @file The meaning of a program: its words in order, each slot on its tenant's own bytes. Values lie where the memory plan puts them, so a
 * plan that is wrong gives a wrong result. Slots of one word run in any order (a seed picks one), as they may on a device.
 */
import { interpretKernel } from './interpret.ts';
import { type CompiledModel, type Place, type Program, type Slot, variantIn, type Word } from './program.ts';
import { bytesOf, makeArray, makeTensor, type Tensor } from './tensor.ts';
import { elementCount, formatType, sameShape, type TensorType } from './types.ts';
import { kernelOf } from './verify_program.ts';

/** Tensors by tenant and name. */
export type TensorsByTenant = ReadonlyMap<string, ReadonlyMap<string, Tensor>>;

export interface RunProgramOptions {
  /** Picks the order of the slots within words; without one they run as they stand. */
  readonly seed?: number;
}

interface Memory {
  readonly weights: ArrayBuffer;
  readonly arena: ArrayBuffer;
}

/**
 * Runs a sound program once for all its tenants.
 * @param inputs for every tenant, by name, each of the type of its port.
 */
export function interpretProgram(
  program: Program,
  inputs: TensorsByTenant,
  { seed }: RunProgramOptions = {},
): Map<string, Map<string, Tensor>> {
  const memories = program.tenants.map(({ name, model }) => load(model, name, inputs.get(name)));
  const order = seed === undefined ? <T>(x: readonly T[]): readonly T[] => x : shuffler(seed);
  for (const word of program.words) {
    for (const slot of order(word.slots)) runSlot(program, word, slot, memories[slot.tenant]!);
  }
  return new Map(
    program.tenants.map(({ name, model }, n) => [
      name,
      new Map(
        model.outputs.map((port) => {
          const view = tensorAt(memories[n]!, port.place, port);
          return [port.name, makeTensor(port.dtype, port.shape, view.data.slice())];
        }),
      ),
    ]),
  );
}

function load(model: CompiledModel, tenant: string, inputs: ReadonlyMap<string, Tensor> | undefined): Memory {
  // Bytes that nobody wrote are NaNs, as floats.
  const memory: Memory = {
    weights: new Uint8Array(model.weightBytes).fill(0xff).buffer,
    arena: new Uint8Array(model.arenaBytes).fill(0xff).buffer,
  };
  for (const { offset, tensor } of model.weights) new Uint8Array(memory.weights).set(bytesOf(tensor), offset);
  for (const port of model.inputs) {
    const tensor = inputs?.get(port.name);
    if (!tensor) throw new TypeError(`tenant ${tenant}: input ${port.name} is missing`);
    if (tensor.dtype !== port.dtype || !sameShape(tensor.shape, port.shape))
      throw new TypeError(
        `tenant ${tenant}: input ${port.name} is ${formatType(port)}, got ${formatType(tensor)}`,
      );
    new Uint8Array(memory.arena).set(bytesOf(tensor), port.place.offset);
  }
  return memory;
}

function runSlot(program: Program, word: Word, slot: Slot, memory: Memory): void {
  const task = program.tenants[slot.tenant]!.model.tasks[slot.task]!;
  const variant = variantIn(task, word, slot);
  const kernel = variant && kernelOf(program, variant);
  if (!kernel) throw new TypeError(`the program has no kernel of task ${slot.task} (${task.name})`);
  const at = (n: number, type: TensorType): Tensor => tensorAt(memory, variant.operands[n]!, type);
  const inputs = kernel.inputs.map((b, n) => at(n, b));
  const outputs = kernel.outputs.map((b, n) => at(kernel.inputs.length + n, b));
  interpretKernel(kernel, inputs, { outputs, ...(slot.range && { blocks: slot.range }) });
}

/** A tensor over the bytes of a place; the place's own bytes, not a copy. */
function tensorAt(memory: Memory, { space, offset }: Place, { dtype, shape }: TensorType): Tensor {
  return makeTensor(dtype, shape, makeArray(dtype, elementCount(shape), memory[space], offset));
}

/** A function that puts lists into an order that the seed picks (Fisher and Yates, over a linear congruential generator). */
function shuffler(seed: number): <T>(list: readonly T[]) => T[] {
  let state = seed >>> 0;
  const below = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  return (list) => {
    const shuffled = [...list];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
    }
    return shuffled;
  };
}
