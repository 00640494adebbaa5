/**
 * @file The kernels of some models, each once: what is measured.
 */
import { InputError } from '../compiler/errors.ts';
import type { Kernel } from '../ir/kernel.ts';
import type { Target } from '../ir/target.ts';
import { scheduleKernel } from '../passes/schedule.ts';
import { type Model, SourceModel } from './model.ts';
import { type Tuning, tuningKey } from './tuning.ts';

/** A kernel of some models, before it has a schedule. */
export interface DistinctKernel {
  /** See `tuningKey`. */
  readonly key: string;
  readonly kernel: Kernel;
  /** Of each input, whether it is a weight. */
  readonly isConstant: readonly boolean[];
  /** In all the models. */
  calls: number;
}

/** True if a kernel is called so, or came from a node of the model that is. */
export const goesBy = (kernel: Kernel, name: string): boolean =>
  kernel.name === name || kernel.loc.includes(name);

/** The names that there are, for whoever asked for one that is none. */
export const namesOf = (kernels: readonly Kernel[]): string =>
  [...new Set(kernels.map((k) => k.name))].join(', ');

/** Every kernel of the models once. Throws InputError for a model that came from an artefact. */
export function distinctKernels(models: readonly Model[], target: string): DistinctKernel[] {
  const work = new Map<string, DistinctKernel>();
  for (const model of new Set(models)) {
    if (!(model instanceof SourceModel))
      throw new InputError(
        `${model.name} comes from an artefact, which has no kernels to measure: give its ONNX file`,
      );
    const module = model.laidOutFor(target);
    for (const { kernel, inputs } of module.calls) {
      const key = tuningKey(kernel);
      const known = work.get(key);
      if (known) known.calls++;
      else
        work.set(key, {
          key,
          kernel,
          isConstant: inputs.map((name) => module.constants.has(name)),
          calls: 1,
        });
    }
  }
  return [...work.values()];
}

/** A kernel with the schedule that tuning found, or else the default. */
export function scheduledBy(tuning: Tuning | undefined, kernel: Kernel, target: Target): Kernel {
  const schedules = tuning?.schedulesOf(kernel);
  return schedules ? { ...kernel, ...schedules } : scheduleKernel(kernel, target);
}
