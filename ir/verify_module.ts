/**
 * @file The module verifier. Its laws:
 *   1. every kernel is sound (verify.ts);
 *   2. every value has a type, and is an input, a constant, or made by one call;
 *   3. a call gives its kernel as many values as it has buffers, of their element types and counts;
 *   4. a value is made before it is read;
 *   5. an output's value is made by a call (unless it has no elements), and is no other output's; no two have one name;
 *   6. a constant's data is of its type.
 */
import type { Buffer, Call } from './kernel.ts';
import type { Module } from './module.ts';
import { collector, type Problem, type Say, textsOf } from './problem.ts';
import type { Target } from './target.ts';
import { elementCount, formatType, sameShape } from './types.ts';
import { kernelProblems } from './verify.ts';

/** The broken laws of a module, as lines; empty if it is sound. */
export const verifyModule = (module: Module, target?: Target): string[] =>
  textsOf(moduleProblems(module, target));

export function moduleProblems(module: Module, target?: Target): Problem[] {
  const problems: Problem[] = [];
  const say = collector(problems, `module ${JSON.stringify(module.name)}`);
  const made = new Set<string>();
  const make = (value: string, at: object): void => {
    if (made.has(value)) say(at, `value "${value}" is made twice`);
    made.add(value);
    if (!module.types.has(value)) say(at, `value "${value}" has no type`);
  };
  for (const value of module.inputs) make(value, module);
  for (const [value, tensor] of module.constants) {
    make(value, module);
    const type = module.types.get(value);
    if (type && (type.dtype !== tensor.dtype || !sameShape(type.shape, tensor.shape)))
      say(module, `constant "${value}" is ${formatType(type)}, its data ${formatType(tensor)}`);
  }
  const given = new Set(made);
  for (const call of module.calls) {
    problems.push(...kernelProblems(call.kernel, target));
    const { name } = call.kernel;
    for (const value of call.inputs)
      if (!made.has(value)) say(call, `@${name} reads "${value}", which is not made before`);
    verifyOperands(module, call, say);
    for (const value of call.outputs) make(value, call);
  }
  const taken = new Set<string>();
  const names = new Set<string>();
  for (const output of module.outputs) {
    const { name, value } = output;
    const type = module.types.get(value);
    const isEmpty = type !== undefined && elementCount(type.shape) === 0;
    if (given.has(value)) say(output, `output "${name}" is the input or constant "${value}" itself`);
    else if (!made.has(value) && !isEmpty) say(output, `output "${name}" is "${value}", which nobody makes`);
    if (taken.has(value)) say(output, `output "${name}" is "${value}", which is another output as well`);
    taken.add(value);
    if (names.has(name)) say(output, `two outputs are called "${name}"`);
    names.add(name);
  }
  return problems;
}

function verifyOperands(module: Module, call: Call, say: Say): void {
  const { kernel } = call;
  const check = (what: string, values: readonly string[], buffers: readonly Buffer[]): void => {
    if (values.length !== buffers.length)
      say(call, `@${kernel.name} has ${buffers.length} ${what}, the call gives ${values.length}`);
    buffers.forEach((b, n) => {
      const type = module.types.get(values[n] ?? '');
      if (type && (type.dtype !== b.dtype || elementCount(type.shape) !== elementCount(b.shape)))
        say(call, `%${b.name} of @${kernel.name} is ${formatType(b)}, "${values[n]}" is ${formatType(type)}`);
    });
  };
  check('inputs', call.inputs, kernel.inputs);
  check('outputs', call.outputs, kernel.outputs);
}
