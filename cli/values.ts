/**
 * @file Output tensors as the command prints them: by their greatest values.
 */
import { reader, type Tensor } from '../ir/tensor.ts';
import { formatType } from '../ir/types.ts';

/** Two lines: name and type (and a verdict), then the greatest values with their flat places. */
export function formatOutput(name: string, tensor: Tensor, count: number, verdict = ''): string {
  const top = topValues(tensor, count).map(([i, v]) => `[${i}] ${formatValue(v)}`);
  return `  ${name} ${formatType(tensor)}${verdict}\n    ${top.join('  ')}`;
}

/** The greatest values of a tensor with their flat places. */
export function topValues(tensor: Tensor, count: number): [number, number][] {
  const read = reader(tensor);
  const top: [number, number][] = [];
  for (let i = 0; i < tensor.data.length; i++) {
    const v = read(i);
    const last = top.at(-1);
    if (top.length === count && last && !(v > last[1])) continue;
    const at = top.findIndex(([, other]) => v > other);
    top.splice(at < 0 ? top.length : at, 0, [i, v]);
    if (top.length > count) top.pop();
  }
  return top;
}

const formatValue = (v: number): string => (Number.isInteger(v) ? String(v) : v.toPrecision(5));
