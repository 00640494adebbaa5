/**
 * @file Makes models of a benchmark ready: generated or read, compiled, inputs drawn, and the outputs that they must give. For models of some
 * hundred megabytes each that takes seconds a model, so worker threads share it out where there are cores.
 */
import { once } from 'node:events';
import { availableParallelism, freemem } from 'node:os';
import { Worker } from 'node:worker_threads';
import { openDevice } from '../../driver/device.ts';
import { compileModel, type Model, type Precision, SourceModel } from '../../driver/model.ts';
import type { Module } from '../../ir/module.ts';
import { randomInput } from '../../ir/random.ts';
import { generate, type ModelRecipe } from '../../models/index.ts';
import type { Tensors } from '../../runtime/tenants.ts';
import type { Shapes } from '../tenants.ts';
import { openSession } from './onnxruntime.ts';

/** Who says what outputs must be. */
export type Referee = 'onnxruntime' | 'host';

/** A model and the tenants that run it; plain data, for a worker. */
export interface Job {
  readonly name: string;
  /** The file's bytes, or what to generate with which seed. */
  readonly source: Uint8Array | { readonly recipe: ModelRecipe; readonly seed: number };
  /** Of the inputs that it leaves open. */
  readonly shapes: Shapes;
  readonly precision: Precision;
  /** One for each tenant, for its inputs. */
  readonly seeds: readonly number[];
  readonly referee?: Referee | undefined;
}

export interface Prepared {
  readonly lowered: Module;
  /** In the order of the seeds. */
  readonly tenants: readonly {
    readonly inputs: Tensors;
    /** Other inputs, to leave other outputs behind before a check. */
    readonly others: Tensors;
    /** What the referee makes of the inputs. */
    readonly expected?: Tensors;
  }[];
}

export const sourceBytes = ({ source }: Pick<Job, 'source'>): Uint8Array =>
  source instanceof Uint8Array ? source : generate(source.recipe.name, source.seed, source.recipe.sizes);

/** Does a job, with as many threads for the reference on the host. */
export async function prepare(job: Job, threads: number): Promise<Prepared> {
  const { name, shapes, precision, source, seeds, referee } = job;
  const bytes = sourceBytes(job);
  const model = await compileModel(bytes, { name, shapes, precision });
  if (!(model instanceof SourceModel)) throw new Error(`${name} has no kernels to count`);
  const integers = source instanceof Uint8Array ? undefined : source.recipe.integers;
  const draw = (seed: number): Tensors =>
    Object.fromEntries(model.inputs.map((p, i) => [p.name, randomInput(p, seed * 31 + i, integers)]));
  const tenants = seeds.map((seed) => ({ inputs: draw(seed), others: draw(seed + 7919) }));
  if (referee === undefined) return { lowered: model.lowered, tenants };

  const inputs = tenants.map((t) => t.inputs);
  const expected =
    referee === 'onnxruntime'
      ? await runPeer(bytes, inputs)
      : await runHost(precision === 'fp32' ? model : await compileModel(bytes, { shapes }), inputs, threads);
  return { lowered: model.lowered, tenants: tenants.map((t, n) => ({ ...t, expected: expected[n]! })) };
}

async function runPeer(bytes: Uint8Array, inputs: readonly Tensors[]): Promise<Tensors[]> {
  const session = await openSession(bytes);
  try {
    const outputs: Tensors[] = [];
    for (const tensors of inputs)
      outputs.push(Object.fromEntries(await session.run(new Map(Object.entries(tensors)))));
    return outputs;
  } finally {
    await session.close();
  }
}

async function runHost(model: Model, inputs: readonly Tensors[], threads: number): Promise<Tensors[]> {
  const device = await openDevice('host', { threads });
  try {
    const program = await device.load([{ name: 'only', model }]);
    const outputs: Tensors[] = [];
    for (const tensors of inputs) outputs.push((await program.run({ only: tensors })).outputs.only!);
    return outputs;
  } finally {
    device.close();
  }
}

/** Does jobs, several at once; in workers if more than `helpersFrom` milliseconds of work are to be expected. */
export async function prepareAll(
  jobs: readonly Job[],
  onDone: () => void = () => {},
  helpersFrom = worthHelpers,
): Promise<Prepared[]> {
  const results = new Map<Job, Prepared>();
  const finish = (job: Job, result: Prepared): void => {
    results.set(job, result);
    onDone();
  };
  // The first of each model leaves its kernels' code in the cache; started together they would all compile the same.
  const firsts = [...new Map([...jobs].reverse().map((job) => [job.name, job])).values()];
  const rest = jobs.filter((job) => !firsts.includes(job));
  const begin = performance.now();
  await share(firsts, lanesFor(firsts.length), finish);
  const expected = ((performance.now() - begin) / firsts.length) * rest.length;
  await share(rest, expected < helpersFrom ? 1 : lanesFor(rest.length), finish);
  return jobs.map((job) => results.get(job)!);
}

/** Milliseconds of work below which workers do not pay: each takes a second to load the same code and to get fast. */
const worthHelpers = 8000;
/** What a worker may take: the file, the weights in both precisions, and a copy on the host device. VGG-11 takes three quarters of it. */
const bytesEach = 2 ** 31;

/** How many jobs are done at once: as cores and memory allow. */
function lanesFor(jobs: number): number {
  // Node runs workers from JavaScript only, which the sources are not.
  if (import.meta.url.endsWith('.ts')) return 1;
  return Math.max(1, Math.min(availableParallelism(), jobs, Math.floor(freemem() / bytesEach)));
}

async function share(
  jobs: readonly Job[],
  lanes: number,
  finish: (job: Job, result: Prepared) => void,
): Promise<void> {
  const threads = Math.max(1, Math.floor(availableParallelism() / lanes));
  const queue = jobs.values();
  const lane = async (): Promise<void> => {
    const helper = lanes > 1 ? new Helper() : undefined;
    try {
      for (const job of queue) finish(job, await (helper?.prepare(job, threads) ?? prepare(job, threads)));
    } finally {
      await helper?.close();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** What a worker is told (prepare_worker.ts). */
export interface Order {
  readonly job: Job;
  readonly threads: number;
}

class Helper {
  #worker: Worker | undefined = new Worker(new URL('./prepare_worker.js', import.meta.url));

  async prepare(job: Job, threads: number): Promise<Prepared> {
    if (this.#worker) {
      try {
        const reply = once(this.#worker, 'message');
        this.#worker.postMessage({ job, threads } satisfies Order);
        return (await reply)[0] as Prepared;
      } catch {
        // It is gone, and its error has lost its class on the way. Here it is had again, or with more memory it works.
        this.#worker = undefined;
      }
    }
    return prepare(job, threads);
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }
}
