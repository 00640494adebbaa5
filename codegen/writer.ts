/**
 * @file What all skeletons share: names of buffers, sizes and indices in the emitted C, index arithmetic, and the statements of
 * a linearised kernel.
 */
import { type Affine, type Index, isQuotient } from '../ir/affine.ts';
import { guardedDims } from '../ir/bounds.ts';
import type { KernelClass, OpenSizes } from '../ir/class.ts';
import type { Buffer, Expr, Kernel, Load, Store } from '../ir/kernel.ts';
import { type Linear, linearize, type Statement } from '../ir/linearize.ts';
import { combiners } from '../ir/ops.ts';
import { type DType, isHalf } from '../ir/types.ts';
import { castTo, fromStorage, literal, scalarType, spellOp, storageType, toStorage } from './c.ts';
import { isTaken } from './identifiers.ts';

/** Names that the skeletons and the prologue use themselves. */
const reserved =
  /^([xyv]\d+|(query|key|value)_.*|q0|most|score|queries|total|weights|more|whole|Stage|Start|Result|Shared|QUERIES|KEYS|FEATURES|WIDTH|.*_(size|dim\d+|tiles|tile|base|first|of|offset|at\d+)|at\d+|row|row\d+|row_k|flat_k|block|points?|position.*|column|base|first|last|from|left|count|run|lane|acc|start|u|e|batch|thread|segment|warp|steps?|next|stage|shared|sums?|part\d*|join\d+|valid|p|tile|split|at|to|take|now|refilled|STAGES|units?|[ab]_.*|k_.*|T[MNKQ]|[mn]0|k0|[MNK]|[ijs]|tx|ty)$/;

/** How a skeleton changes the way statements are written. */
export interface StatementRules {
  /** Writes a reduction of the outermost scope; without it, a sequential loop. */
  readonly reduce?: (s: Extract<Statement, { kind: 'reduce' }>, linear: Linear) => void;
  /** Writes a store's loops; without it, sequential loops. */
  readonly storeLoops?: (over: readonly Index[], body: () => void) => void;
  /** Guards a store that has no loops (only one of several lanes may do it). */
  readonly storeGuard?: string;
  /** The offset of an access, if the skeleton knows better. */
  readonly offset?: (access: Load | Store) => string | undefined;
  /** The variable that stands for what an access reads or writes, if the skeleton keeps it in one. */
  readonly place?: (access: Load | Store) => string | undefined;
}

/** The offset of a load in elements, and the condition under which it is inside; empty if it always is. */
export interface Access {
  readonly offset: string;
  readonly guard: string;
}

/** Writes the body of one kernel class as C. */
export class KernelWriter {
  readonly lines: string[] = [];
  /** What stands once before all of a word's bodies, if one of them needs it. */
  readonly definitions = new Set<string>();
  readonly kernel: Kernel;
  readonly sizes: OpenSizes;
  #indent = 1;
  readonly #names = new Map<Index, string>();
  readonly #taken = new Set<string>();
  readonly #strides = new Map<string, string>();
  /** All that the kernel stores is rounded to 16 bits. */
  readonly #near: boolean;

  /** @param awaits true if the word before must have ended once the prologue is over; else the skeleton says where. */
  constructor(
    readonly kernelClass: KernelClass,
    private readonly awaits: boolean,
  ) {
    this.kernel = kernelClass.kernel;
    this.#near = this.kernel.stores.every((s) => isHalf(s.buffer.dtype));
    this.sizes = kernelClass.sizes;
  }

  line(text: string): void {
    this.lines.push(text === '' || text.startsWith('#') ? text : '  '.repeat(this.#indent) + text);
  }

  /** Writes `head {`, the body one level deeper, `}`. */
  block(head: string, body: () => void, end = '}'): void {
    this.line(head === '' ? '{' : `${head} {`);
    this.#indent++;
    body();
    this.#indent--;
    this.line(end);
  }

  /** Declares the operands' pointers and every open size under a telling name: these the slot row has, which no word writes. */
  prologue(): void {
    const { inputs, outputs } = this.kernel;
    inputs.forEach((b, n) => {
      const type = `const ${storageType[b.dtype]}*`;
      this.line(`${type} __restrict__ const ${b.name} = (${type})row.operand[${n}];`);
    });
    outputs.forEach((b, n) => {
      const type = `${storageType[b.dtype]}*`;
      this.line(`${type} __restrict__ const ${b.name} = (${type})row.operand[${inputs.length + n}];`);
    });
    this.sizes.names.forEach((name, slot) => this.line(`const int ${name} = row.size[${slot}];`));
    if (this.awaits) this.line('await_word_before();');
  }

  /** A fresh C name from a hint. */
  fresh(hint: string): string {
    // Some names are reserved with all that begins like them.
    const base = reserved.test(`${hint}_2`) ? `i_${hint}` : hint;
    let name = hint;
    for (let n = 2; this.#taken.has(name) || reserved.test(name) || isTaken(name); n++) name = `${base}_${n}`;
    this.#taken.add(name);
    return name;
  }

  name(i: Index): string {
    let name = this.#names.get(i);
    if (name === undefined) this.#names.set(i, (name = this.fresh(i.name)));
    return name;
  }

  /** Gives an index another C spelling from here on (an array element, say). */
  rename(i: Index, name: string): void {
    this.#names.set(i, name);
  }

  extent(i: Index): string {
    const slot = this.sizes.ofExtent(i);
    return slot === undefined ? String(i.extent) : this.sizes.names[slot]!;
  }

  dim(b: Buffer, d: number): string {
    const slot = this.sizes.ofDim(b, d);
    return slot === undefined ? String(b.shape[d]) : this.sizes.names[slot]!;
  }

  /** The product of extents, `1` for none. */
  volume(indices: readonly Index[]): string {
    return product(indices.map((i) => this.extent(i)));
  }

  /** The stride of a dimension in elements. */
  stride(b: Buffer, d: number): string {
    const key = `${b.name}.${d}`;
    let text = this.#strides.get(key);
    if (text === undefined) {
      text = product(b.shape.slice(d + 1).map((_, n) => this.dim(b, d + 1 + n)));
      this.#strides.set(key, text);
    }
    return text;
  }

  affine(a: Affine): string {
    const parts = a.terms.map(({ coeff, atom }) => {
      const value = isQuotient(atom)
        ? `${atom.kind === 'mod' ? 'floor_mod' : 'floor_div'}(${this.affine(atom.arg)}, ${atom.by})`
        : this.name(atom);
      return coeff === 1 ? value : coeff === -1 ? `-${value}` : `${value} * ${coeff}`;
    });
    if (a.constant !== 0 || parts.length === 0) parts.push(String(a.constant));
    return parts.join(' + ').replaceAll('+ -', '- ');
  }

  /** Offset in elements of plain coordinates. */
  offset(b: Buffer, at: readonly Affine[]): string {
    return this.offsetOf(
      b,
      at.map((a) => this.affine(a)),
    );
  }

  /** Offset in elements of coordinates that are C already. */
  offsetOf(b: Buffer, at: readonly string[]): string {
    const parts = at.flatMap((text, d) => {
      if (text === '0') return [];
      const stride = this.stride(b, d);
      return [stride === '1' ? text : `${parenthesised(text)} * ${stride}`];
    });
    return parts.join(' + ').replaceAll('+ -', '- ') || '0';
  }

  /** Declares the indices that a flat position stands for, the last one fastest. */
  unflatten(flat: string, indices: readonly Index[]): void {
    const open = indices.filter((i) => i.extent !== 1 || this.extent(i) !== '1');
    for (const i of indices) if (!open.includes(i)) this.line(`const int ${this.name(i)} = 0;`);
    if (open.length === 0) return;
    if (open.length === 1) return this.line(`const int ${this.name(open[0]!)} = ${flat};`);
    const rest = this.fresh('rest');
    this.line(`int ${rest} = ${flat};`);
    [...open].reverse().forEach((i, at) => {
      if (at === open.length - 1) return this.line(`const int ${this.name(i)} = ${rest};`);
      this.line(`const int ${this.name(i)} = ${rest} % ${this.extent(i)};`);
      this.line(`${rest} /= ${this.extent(i)};`);
    });
  }

  /** Sequential loops over a box. */
  loops(over: readonly Index[], body: () => void, unrolled = false): void {
    const [first, ...others] = over;
    if (!first) return body();
    const i = this.name(first);
    if (unrolled) this.line('#pragma unroll');
    this.block(`for (int ${i} = 0; ${i} < ${this.extent(first)}; ${i}++)`, () =>
      this.loops(others, body, unrolled),
    );
  }

  /** `a combined with b` for a reduction. */
  combine(e: Extract<Expr, { kind: 'reduce' }>, a: string, b: string): string {
    return spellOp(combiners[e.combine].op, e.dtype, e.dtype, [a, b]);
  }

  start(e: Extract<Expr, { kind: 'reduce' }>): string {
    return literal(e.dtype, combiners[e.combine].start(e.dtype));
  }

  /**
   * Writes all statements of the kernel, or of other stores than its own. `given` maps nodes that the skeleton computed to their C.
   */
  body(
    rules: StatementRules = {},
    given: ReadonlyMap<Expr, string> = new Map(),
    stores: readonly Store[] = this.kernel.stores,
  ): void {
    const linear = linearize({ ...this.kernel, stores }, given.keys());
    const values = new Map<number, string>();
    let number = 0;
    for (const text of given.values()) values.set(number++, text);
    this.#statements(linear.statements, linear, rules, values, true);
  }

  #statements(
    statements: readonly Statement[],
    linear: Linear,
    rules: StatementRules,
    given: ReadonlyMap<number, string>,
    outermost: boolean,
  ): void {
    const ref = (e: Expr): string => {
      const id = linear.idOf(statements, e);
      return given.get(id) ?? `v${id}`;
    };
    const nested = (body: readonly Statement[]): void => this.#statements(body, linear, rules, given, false);
    for (const s of statements) {
      switch (s.kind) {
        case 'let':
          this.line(`const ${scalarType[s.expr.dtype]} v${s.id} = ${this.#value(s.expr, ref, rules)};`);
          break;
        case 'reduce': {
          if (outermost && rules.reduce) {
            rules.reduce(s, linear);
            break;
          }
          this.line(`${scalarType[s.expr.dtype]} v${s.id} = ${this.start(s.expr)};`);
          this.loops(s.expr.over, () => {
            nested(s.body);
            const value = `v${linear.idOf(s.body, s.expr.body)}`;
            this.line(`v${s.id} = ${this.combine(s.expr, `v${s.id}`, value)};`);
          });
          break;
        }
        case 'store': {
          const { buffer, at, over, value } = s.store;
          const place =
            rules.place?.(s.store) ?? `${buffer.name}[${rules.offset?.(s.store) ?? this.offset(buffer, at)}]`;
          const write = (text: string): void => this.line(`${place} = ${toStorage(buffer.dtype, text)};`);
          if (over.length > 0) {
            const inside = (): void => {
              nested(s.body);
              const id = linear.idOf(s.body, value);
              write(given.get(id) ?? `v${id}`);
            };
            if (rules.storeLoops) rules.storeLoops(over, inside);
            else this.loops(over, inside);
          } else if (rules.storeGuard) this.block(`if (${rules.storeGuard})`, () => write(ref(value)));
          else write(ref(value));
          break;
        }
        default:
          s satisfies never;
      }
    }
  }

  /** Statements of an inner scope, for skeletons that write a reduction's loop themselves. */
  inner(body: readonly Statement[], linear: Linear): void {
    this.#statements(body, linear, {}, new Map(), false);
  }

  #value(e: Exclude<Expr, { kind: 'reduce' }>, ref: (e: Expr) => string, rules: StatementRules): string {
    if (e.kind !== 'load') return this.value(e, ref);
    const place = rules.place?.(e);
    if (place !== undefined) return fromStorage(e.dtype, place);
    return this.#load(e, this.access(e, ref), rules.offset?.(e));
  }

  /** A value by its operands' C. */
  value(e: Exclude<Expr, { kind: 'reduce' }>, ref: (e: Expr) => string): string {
    switch (e.kind) {
      case 'const':
        return literal(e.dtype, e.value);
      case 'index':
        return this.affine(e.value);
      case 'cast':
        return castTo(e.dtype, e.arg.dtype, ref(e.arg));
      case 'op':
        return spellOp(e.op, e.args.at(-1)!.dtype, e.dtype, e.args.map(ref), this.#near);
      case 'load':
        return this.#load(e, this.access(e, ref));
      default:
        return e satisfies never;
    }
  }

  #load(e: Load, { offset, guard }: Access, known?: string): string {
    const value = fromStorage(e.dtype, `${e.buffer.name}[${known ?? offset}]`);
    return guard === '' ? value : `${guard} ? ${value} : ${literal(e.dtype, e.pad!)}`;
  }

  /** Where a load reads. */
  access(e: Load, ref: (e: Expr) => string): Access {
    const { buffer } = e;
    // A gathered coordinate is clipped to 32 bits by `inside` only if it fits them, so compare in its own type.
    const at = e.at.map((c) =>
      'gather' in c
        ? { text: ref(c.gather), dtype: c.gather.dtype }
        : { text: this.affine(c.affine), dtype: 'i32' as DType },
    );
    const offset = this.offsetOf(
      buffer,
      at.map((c) => (c.dtype === 'i64' ? `(int)${c.text}` : c.text)),
    );
    if (e.pad === undefined) return { offset, guard: '' };
    const guards = guardedDims(e).map((d) => {
      const { text, dtype } = at[d]!;
      const extent = this.dim(buffer, d);
      return dtype === 'i64' ? `${text} >= 0 && ${text} < ${extent}` : `inside(${text}, ${extent})`;
    });
    return { offset, guard: guards.join(' && ') };
  }
}

/** A product of C factors; the ones that are numbers are multiplied here. */
export function product(factors: readonly string[]): string {
  const numbers = factors.filter((f) => /^\d+$/.test(f)).reduce((n, f) => n * Number(f), 1);
  const others = factors.filter((f) => !/^\d+$/.test(f));
  if (numbers === 0) return '0';
  if (numbers !== 1 || others.length === 0) others.push(String(numbers));
  return others.length === 1 ? others[0]! : `(${others.join(' * ')})`;
}

/** True if the C of a size is a constant. */
export const isNumber = (text: string): boolean => /^\d+$/.test(text);

const parenthesised = (text: string): string => (/^[\w[\]]+$/.test(text) ? text : `(${text})`);
