/**
 * @file From the syntax of a module to the module.
 */
import { ElidedTensor, holds, tensorOfElements } from '../data.ts';
import type { Call } from '../kernel.ts';
import type { Module, ModuleOutput } from '../module.ts';
import { makeTensor, type Tensor } from '../tensor.ts';
import { elementCount, formatType, sameShape, type TensorType } from '../types.ts';
import type { DataAst, ModuleAst, TypedName } from './ast.ts';
import { buildKernel } from './build_kernel.ts';
import { type Reader, typeOf } from './build_types.ts';

/** The module, or undefined if something in it was reported. */
export function buildModule(ast: ModuleAst, reader: Reader): Module | undefined {
  return reader.whole(() => {
    const types = new Map<string, TensorType>();
    const constants = new Map<string, Tensor>();
    const inputs: string[] = [];
    const outputs: ModuleOutput[] = [];
    const calls: Call[] = [];

    /** The type of a value that is named here; every other place must give it the same. */
    const typed = ({ name, type }: TypedName): TensorType => {
      const given = typeOf(type, reader);
      const known = types.get(name.text);
      if (known && (known.dtype !== given.dtype || !sameShape(known.shape, given.shape))) {
        const both = `is ${formatType(known)} elsewhere, ${formatType(given)} here`;
        reader.report(name.span, `value "${name.text}" ${both}`);
      }
      types.set(name.text, given);
      return given;
    };

    for (const item of ast.items) {
      switch (item.kind) {
        case 'input':
          typed(item.value);
          inputs.push(item.value.name.text);
          break;
        case 'constant': {
          const { name } = item.value;
          if (constants.has(name.text)) reader.report(name.span, `there is another constant "${name.text}"`);
          constants.set(name.text, buildData(item.data, typed(item.value), reader));
          break;
        }
        case 'output': {
          typed(item.value);
          const output = { name: item.name.text, value: item.value.name.text };
          reader.spans.set(output, item.name.span);
          outputs.push(output);
          break;
        }
        case 'call': {
          const kernel = buildKernel(item.kernel, reader);
          for (const made of item.outputs) typed(made);
          if (!kernel) break;
          const call: Call = {
            kernel,
            inputs: item.inputs.map((n) => n.text),
            outputs: item.outputs.map((o) => o.name.text),
          };
          reader.spans.set(call, item.span);
          calls.push(call);
          break;
        }
        default:
          item satisfies never;
      }
    }
    const module: Module = { name: ast.name.text, types, constants, inputs, outputs, calls };
    reader.spans.set(module, ast.name.span);
    return module;
  });
}

/** A constant's tensor; zeros in place of data that was reported. */
export function buildData(ast: DataAst, type: TensorType, reader: Reader): Tensor {
  if (ast.kind === 'elided') return new ElidedTensor(type, ast.digest);
  const count = elementCount(type.shape);
  if (ast.values.length !== count) {
    reader.report(ast.span, `${formatType(type)} has ${count} elements, ${ast.values.length} are given`);
    return makeTensor(type.dtype, [0]);
  }
  const wrong = ast.values.filter((literal) => !holds(type.dtype, literal));
  for (const { span, text } of wrong) reader.report(span, `${text} is no ${type.dtype}`);
  return wrong.length > 0 ? makeTensor(type.dtype, [0]) : tensorOfElements(type, ast.values);
}
