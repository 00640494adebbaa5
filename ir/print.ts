/**
 * @file The text of kernels. One statement a line, values numbered in the order they are computed:
 *
 *     kernel @scale_relu(%x0: f32[1,64,56,56], %x1: f32[64]) -> (%y0: f32[1,64,56,56])
 *         parallel (i0: 1, i1: 64, i2: 56, i3: 56) {
 *       %0 = load %x0[i0, i1, i2, i3] : f32
 *       ...
 *       store %y0[i0, i1, i2, i3] = %4
 *     } schedule map(threads: 256, per_thread: 1)
 */
import { type Affine, formatAffine, type Index } from './affine.ts';
import { guardedDims } from './bounds.ts';
import type { Buffer, Expr, Kernel, Load, Schedule, Schedules } from './kernel.ts';
import { linearize, type Statement } from './linearize.ts';
import { quote, symbol, uniqueNames, word } from './names.ts';
import { roundTo } from './tensor.ts';
import { type DType, isFloat } from './types.ts';

/** How names and sizes are spelled; a class is a kernel printed with names and sizes left out. */
export interface Spelling {
  readonly index: (i: Index) => string;
  readonly extent: (i: Index) => string;
  readonly buffer: (b: Buffer) => string;
  readonly dim: (b: Buffer, d: number) => string;
  readonly name: string;
  /** Also print which coordinates are compared at run time. */
  readonly guards: boolean;
}

/** Prints a kernel as people read it. */
export function printKernel(kernel: Kernel): string {
  const loc = kernel.loc.length > 0 ? `\n    ${formatLoc(kernel.loc)}` : '';
  return formatKernel(kernel, plainSpelling(kernel)) + loc;
}

export const formatLoc = (loc: readonly string[]): string => `loc(${loc.map(quote).join(', ')})`;

export function formatKernel(kernel: Kernel, spell: Spelling): string {
  const linear = linearize(kernel);
  const lines: string[] = [];
  const loops = (over: readonly Index[]): string =>
    `(${over.map((i) => `${spell.index(i)}: ${spell.extent(i)}`).join(', ')})`;
  const affine = (a: Affine): string => formatAffine(a, spell.index);

  const walk = (statements: readonly Statement[], indent: string): void => {
    const ref = (e: Expr): string => `%${linear.idOf(statements, e)}`;
    const access = (load: Load): string =>
      load.at.map((c) => ('gather' in c ? ref(c.gather) : affine(c.affine))).join(', ');
    for (const s of statements) {
      switch (s.kind) {
        case 'let':
          lines.push(`${indent}%${s.id} = ${formatValue(s.expr, spell, ref, access, affine)}`);
          break;
        case 'reduce':
          lines.push(
            `${indent}%${s.id} = reduce ${s.expr.combine} ${s.expr.dtype} over ${loops(s.expr.over)} {`,
          );
          walk(s.body, `${indent}  `);
          lines.push(`${indent}  yield %${linear.idOf(s.body, s.expr.body)}`, `${indent}}`);
          break;
        case 'store': {
          const { buffer, at, over, value } = s.store;
          const target = `store ${spell.buffer(buffer)}[${at.map(affine).join(', ')}]`;
          if (over.length === 0) {
            lines.push(`${indent}${target} = ${ref(value)}`);
          } else {
            lines.push(`${indent}for ${loops(over)} {`);
            walk(s.body, `${indent}  `);
            lines.push(`${indent}  ${target} = %${linear.idOf(s.body, value)}`, `${indent}}`);
          }
          break;
        }
        default:
          s satisfies never;
      }
    }
  };
  walk(linear.statements, '  ');

  const params = (bs: readonly Buffer[]): string =>
    bs
      .map((b) => `${spell.buffer(b)}: ${b.dtype}[${b.shape.map((_, d) => spell.dim(b, d)).join(',')}]`)
      .join(', ');
  const { schedule: first, wider } = kernel;
  const schedule = first ? ` schedule ${formatSchedules({ schedule: first, ...(wider && { wider }) })}` : '';
  return [
    `kernel ${spell.name}(${params(kernel.inputs)}) -> (${params(kernel.outputs)})`,
    `    parallel ${loops(kernel.domain)} {`,
    ...lines,
    `}${schedule}`,
  ].join('\n');
}

function formatValue(
  e: Exclude<Expr, { kind: 'reduce' }>,
  spell: Spelling,
  ref: (e: Expr) => string,
  access: (load: Load) => string,
  affine: (a: Affine) => string,
): string {
  switch (e.kind) {
    case 'const':
      return `const ${formatNumber(e.value, e.dtype)} : ${e.dtype}`;
    case 'index':
      return `index ${affine(e.value)} : i32`;
    case 'load': {
      const pad = e.pad === undefined ? '' : ` pad ${formatNumber(e.pad, e.dtype)}`;
      const guard = spell.guards && e.pad !== undefined ? ` guard (${guardedDims(e).join(', ')})` : '';
      return `load ${spell.buffer(e.buffer)}[${access(e)}]${pad}${guard} : ${e.dtype}`;
    }
    case 'op':
      return `${e.op} ${e.args.map(ref).join(', ')} : ${e.dtype}`;
    case 'cast':
      return `cast ${ref(e.arg)} : ${e.dtype}`;
    default:
      return e satisfies never;
  }
}

/** A literal that reads back to the same value of the type. */
export function formatNumber(value: number, dtype: DType): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  const isWhole = Number.isInteger(value);
  if (!isFloat(dtype)) return isWhole ? BigInt(value).toString() : String(value);
  if (Object.is(value, -0)) return '-0.0';
  return isWhole && Math.abs(value) < 1e15 ? `${value}.0` : shortest(value, dtype);
}

/** The fewest digits that round to the value: 0.1 and not 0.10000000149011612 for the f32 next to a tenth. */
function shortest(value: number, dtype: DType): string {
  for (let digits = 1; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (roundTo(dtype, short) === value) return String(short);
  }
  return String(value);
}

/** `mma(…) from 4 mma(…)`: the schedule of a word of one slot, then those of wider words. */
export const formatSchedules = ({ schedule, wider = [] }: Schedules): string =>
  [formatSchedule(schedule), ...wider.map((w) => `from ${w.from} ${formatSchedule(w.schedule)}`)].join(' ');

export function formatSchedule(s: Schedule): string {
  switch (s.skeleton) {
    case 'map':
      return `map(threads: ${s.threads}, per_thread: ${s.perThread}${s.vector === 1 ? '' : `, vector: ${s.vector}`})`;
    case 'reduction':
      return `reduction(threads: ${s.threads}, lanes: ${s.lanes}${s.vector === 1 ? '' : `, vector: ${s.vector}`}${s.unroll === 1 ? '' : `, unroll: ${s.unroll}`})`;
    case 'contraction':
      return `contraction(threads: ${s.threads}, tile: ${s.tile.m}x${s.tile.n}x${s.tile.k}, per_thread: ${s.perThread.m}x${s.perThread.n}${s.stages === 1 ? '' : `, stages: ${s.stages}`})`;
    case 'mma':
      return `${s.instruction}(threads: ${s.threads}, tile: ${s.tile.m}x${s.tile.n}x${s.tile.k}, warps: ${s.warps.m}x${s.warps.n}, stages: ${s.stages}, segments: ${s.segments}${s.splits === 1 ? '' : `, splits: ${s.splits}`})`;
    case 'attention':
      return `attention(threads: ${s.threads}, tile: ${s.tile.queries}x${s.tile.keys}, room: ${s.room.features}x${s.room.values})`;
    default:
      return s satisfies never;
  }
}

/** What indices and buffers are called in a kernel's text, before any quoting. */
export interface KernelNames {
  readonly index: (i: Index) => string;
  readonly buffer: (b: Buffer) => string;
}

/** Names as given, made unique by a number where two have one name, in the order in which they stand in the text. */
export function namesIn(kernel: Kernel): KernelNames {
  const index = uniqueNames((i: Index) => i.name);
  const buffer = uniqueNames((b: Buffer) => b.name);
  for (const b of [...kernel.inputs, ...kernel.outputs]) buffer(b);
  for (const i of indicesOfKernel(kernel)) index(i);
  return { index, buffer };
}

/** Every index that a kernel binds, in the order of its text. */
export function indicesOfKernel(kernel: Kernel): Index[] {
  const inStatements = (statements: readonly Statement[]): Index[] =>
    statements.flatMap((s) => {
      if (s.kind === 'let') return [];
      return [...(s.kind === 'reduce' ? s.expr.over : s.store.over), ...inStatements(s.body)];
    });
  return [...kernel.domain, ...inStatements(linearize(kernel).statements)];
}

function plainSpelling(kernel: Kernel): Spelling {
  const names = namesIn(kernel);
  return {
    index: (i) => word(names.index(i)),
    extent: (i) => String(i.extent),
    buffer: (b) => symbol('%', names.buffer(b)),
    dim: (b, d) => String(b.shape[d]),
    name: symbol('@', kernel.name),
    guards: false,
  };
}
