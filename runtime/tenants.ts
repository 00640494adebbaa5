/**
 * @file Tenants on a device: each one's weights and arena, and what passes between a request's tensors and them.
 */
import type { CompiledModel, Place, Port, Tenant, Variant } from '../ir/program.ts';
import { breachOf, type RowContract } from '../ir/row_contract.ts';
import { bytesOf, makeArray, makeTensor, type Tensor, type TypedArray } from '../ir/tensor.ts';
import { byteSize, elementCount, formatType, sameShape } from '../ir/types.ts';
import type { NativeBuffer, NativeDevice, Operand, Transfer } from './native.ts';

/** Tensors by name. */
export type Tensors = { readonly [name: string]: Tensor };

/** A request that does not fit its tenant's model; nothing was run. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
}

interface Memory {
  readonly weights: NativeBuffer;
  /** The first is where programs run; an engine may run requests in others at the same time. */
  readonly arenas: [NativeBuffer, ...NativeBuffer[]];
}

export class LoadedTenants {
  readonly #memory: readonly Memory[];
  readonly #tenantOf: ReadonlyMap<string, number>;

  /** Allocates memory for each tenant and copies its weights. Throws RangeError if two tenants share a name. */
  constructor(
    private readonly device: NativeDevice,
    readonly all: readonly Tenant[],
  ) {
    this.#tenantOf = new Map(all.map((t, n) => [t.name, n]));
    if (this.#tenantOf.size !== all.length) throw new RangeError('two tenants have the same name');
    this.#memory = all.map((t) => upload(device, t.model));
  }

  /** Clears and gives back the tenants' memory. */
  close(): void {
    for (const { weights, arenas } of this.#memory)
      for (const buffer of [weights, ...arenas]) this.device.release(buffer);
  }

  /** How many each tenant has. */
  get arenas(): number {
    return this.#memory[0]!.arenas.length;
  }

  /** Gives every tenant one arena more; none of them if there is no memory for all. */
  addArena(): void {
    const made: NativeBuffer[] = [];
    try {
      for (const { model } of this.all) made.push(allocateArena(this.device, model));
    } catch (error) {
      for (const arena of made) this.device.release(arena);
      throw error;
    }
    for (const [t, arena] of made.entries()) this.#memory[t]!.arenas.push(arena);
  }

  /** All of a tenant's; operands name the first. */
  arenasOf(t: number): readonly NativeBuffer[] {
    return this.#memory[t]!.arenas;
  }

  /**
   * What a slot row of a task's variant says of operands, checked: a row that breaks its class's contract would let the kernel out of its
   * buffers. Throws RangeError for one that does.
   */
  operandsOf(
    tenant: number,
    name: string,
    { operands }: Pick<Variant, 'operands'>,
    contract: RowContract | undefined,
    sizes: readonly number[],
  ): Operand[] {
    const bytes = operands.map((place) => place.bytes);
    const breach = contract ? breachOf(contract, sizes, bytes) : 'its word has no such class';
    if (breach !== undefined)
      throw new RangeError(`tenant '${this.all[tenant]!.name}', task ${name}: ${breach}`);
    return operands.map((place) => this.operand(tenant, place));
  }

  /** Part of a tenant's memory. */
  operand(tenant: number, { space, offset, bytes }: Place): Operand {
    const { weights, arenas } = this.#memory[tenant]!;
    return {
      buffer: space === 'weights' ? weights : arenas[0],
      offset,
      bytes,
      constant: space === 'weights',
    };
  }

  /** A tenant's number; throws RequestError for a name that nobody has. */
  number(tenant: string): number {
    const t = this.#tenantOf.get(tenant);
    if (t === undefined)
      throw new RequestError(`no tenant '${tenant}'; there are ${[...this.#tenantOf.keys()].join(', ')}`);
    return t;
  }

  /** The transfers of requests' inputs; throws RequestError unless they are just what the models take. */
  writesOf(requests: { readonly [tenant: string]: Tensors }): Transfer[] {
    return Object.entries(requests)
      .flatMap(([name, inputs]) => this.writes(this.number(name), inputs))
      .filter(hasBytes);
  }

  /** The same, into every arena. */
  writesOfAll(requests: { readonly [tenant: string]: Tensors }): Transfer[] {
    return Object.keys(requests).flatMap((name) => {
      const transfers = this.writesOf({ [name]: requests[name]! });
      return this.arenasOf(this.number(name)).flatMap((buffer) => transfers.map((w) => ({ ...w, buffer })));
    });
  }

  /** Tensors for a tenant's outputs, and the transfers that fill them, from the arena of this number. */
  outputsOf(t: number, arena = 0): { outputs: Tensors; transfers: Transfer[] } {
    const ports = this.all[t]!.model.outputs.map((port) => this.#read(t, arena, port));
    return {
      outputs: Object.fromEntries(ports.map(({ name, tensor }) => [name, tensor])),
      transfers: ports.map(({ transfer }) => transfer),
    };
  }

  /** The same for several tenants, without transfers of nothing. */
  reads(
    tenants: readonly number[],
    arena = 0,
  ): { outputs: { [tenant: string]: Tensors }; reads: Transfer[] } {
    const results = tenants.map((t) => ({ name: this.all[t]!.name, ...this.outputsOf(t, arena) }));
    return {
      outputs: Object.fromEntries(results.map(({ name, outputs }) => [name, outputs])),
      reads: results.flatMap((r) => r.transfers).filter(hasBytes),
    };
  }

  /** The transfers of a request's inputs; throws RequestError unless they are just what the model takes. */
  writes(t: number, inputs: Tensors): Transfer[] {
    const { name, model } = this.all[t]!;
    if (typeof inputs !== 'object' || inputs === null)
      throw new RequestError(`tenant '${name}': the inputs are not an object`);
    const extra = Object.keys(inputs).find((given) => !model.inputs.some((p) => p.name === given));
    if (extra !== undefined) throw new RequestError(`tenant '${name}' has no input '${extra}'`);
    return model.inputs.map((port) => {
      const tensor = inputs[port.name];
      if (!tensor)
        throw new RequestError(`tenant '${name}': input '${port.name}' (${formatType(port)}) is missing`);
      if (!Array.isArray(tensor.shape) || typeof tensor.dtype !== 'string') {
        throw new RequestError(`tenant '${name}': input '${port.name}' is not a tensor {dtype, shape, data}`);
      }
      if (!sameShape(tensor.shape, port.shape) || tensor.dtype !== port.dtype) {
        throw new RequestError(
          `tenant '${name}': input '${port.name}' is ${formatType(tensor)}, expected ${formatType(port)}`,
        );
      }
      const expected = makeArray(port.dtype, 0).constructor as { new (): TypedArray; name: string };
      if (!(tensor.data instanceof expected) || tensor.data.length !== elementCount(port.shape)) {
        throw new RequestError(
          `tenant '${name}': the data of input '${port.name}' must be a ${expected.name} of ${elementCount(port.shape)} elements`,
        );
      }
      return { buffer: this.#memory[t]!.arenas[0], offset: port.place.offset, data: bytesOf(tensor) };
    });
  }

  #read(t: number, arena: number, port: Port): { name: string; tensor: Tensor; transfer: Transfer } {
    const tensor = makeTensor(port.dtype, port.shape, makeArray(port.dtype, elementCount(port.shape)));
    const buffer = this.#memory[t]!.arenas[arena]!;
    const transfer = { buffer, offset: port.place.offset, data: bytesOf(tensor) };
    return { name: port.name, tensor, transfer };
  }
}

const hasBytes = ({ data }: Transfer): boolean => data.length > 0;

/** Never empty, so that every tenant has an address of its own. It starts out as zeros: scratch memory that keeps them relies on it. */
const allocateArena = (device: NativeDevice, model: CompiledModel): NativeBuffer =>
  device.allocate(Math.max(256, model.arenaBytes));

/** Allocates a tenant's buffers and copies its weights. */
function upload(device: NativeDevice, model: CompiledModel): Memory {
  const weights = device.allocate(Math.max(256, model.weightBytes));
  for (const { offset, tensor } of model.weights) {
    if (byteSize(tensor) > 0) device.write({ buffer: weights, offset, data: bytesOf(tensor) });
  }
  return { weights, arenas: [allocateArena(device, model)] };
}
