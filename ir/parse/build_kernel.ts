/**
 * @file From the syntax of a kernel to the kernel: names become objects. What names cannot settle (types, bounds) is left to the
 * verifier, which finds the places of nodes in `spans`.
 */
import { type Affine, type Atom, add, type Index, index } from '../affine.ts';
import { holds } from '../data.ts';
import type { Buffer, Coordinate, Expr, Kernel, Store } from '../kernel.ts';
import { combiners, type ScalarOp, scalarOps } from '../ops.ts';
import { roundTo } from '../tensor.ts';
import { type DType, isFloat } from '../types.ts';
import type {
  AffineAst,
  AtomAst,
  KernelAst,
  Literal,
  LoopAst,
  Name,
  StatementAst,
  TypedName,
  ValueAst,
} from './ast.ts';
import { buildSchedules } from './build_schedule.ts';
import { dtypeOf, isOneOf, type Reader, typeOf } from './build_types.ts';
import type { Span } from './diagnostics.ts';

/** Values and loops that a statement sees. */
interface Scope {
  readonly values: Map<string, Expr>;
  readonly bound: Map<string, Index>;
  readonly parent?: Scope;
}

/** The kernel, or undefined if something in it was reported. */
export function buildKernel(ast: KernelAst, reader: Reader): Kernel | undefined {
  return reader.whole(() => new KernelBuilder(reader).kernel(ast));
}

class KernelBuilder {
  readonly #buffers = new Map<string, Buffer>();
  /** One index for each name and extent, so that loops side by side that share an index share it again. */
  readonly #indices = new Map<string, Index>();
  readonly #unused = new Map<Expr, Name>();
  readonly #stores: Store[] = [];

  constructor(private readonly reader: Reader) {}

  kernel(ast: KernelAst): Kernel {
    const buffers = (params: readonly TypedName[]): Buffer[] => params.map((p) => this.#buffer(p));
    const inputs = buffers(ast.inputs);
    const outputs = buffers(ast.outputs);
    const scope = this.#open(ast.domain);
    const end = this.#statements(ast.body, scope);
    if (end) this.reader.report(end.span, "'yield' belongs at the end of a reduce");
    for (const [, name] of this.#unused) this.reader.report(name.span, `%${name.text} is never used`);
    const schedules = ast.schedule && buildSchedules(ast.schedule, this.reader);
    const kernel: Kernel = {
      name: ast.name.text,
      inputs,
      outputs,
      domain: [...scope.bound.values()],
      stores: this.#stores,
      ...schedules,
      loc: ast.loc,
    };
    this.reader.spans.set(kernel, ast.name.span);
    return kernel;
  }

  #buffer({ name, type }: TypedName): Buffer {
    if (this.#buffers.has(name.text)) this.reader.report(name.span, `there is another buffer %${name.text}`);
    const buffer: Buffer = { name: name.text, ...typeOf(type, this.reader) };
    this.#buffers.set(name.text, buffer);
    this.reader.spans.set(buffer, name.span);
    return buffer;
  }

  #open(loops: readonly LoopAst[], parent?: Scope): Scope {
    const scope: Scope = { values: new Map(), bound: new Map(), ...(parent && { parent }) };
    for (const { name, extent } of loops) {
      if (this.#find(scope, (s) => s.bound.get(name.text)))
        this.reader.report(name.span, `index ${name.text} is bound already by a loop around this one`);
      const known = this.#indices.get(name.text);
      const i = known?.extent === extent.value ? known : index(name.text, extent.value);
      this.#indices.set(name.text, i);
      scope.bound.set(name.text, i);
      this.reader.spans.set(i, name.span);
    }
    return scope;
  }

  #find<T>(scope: Scope | undefined, get: (s: Scope) => T | undefined): T | undefined {
    for (let s = scope; s; s = s.parent) {
      const found = get(s);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Reads statements; gives the yield that ends them, if one does. */
  #statements(
    body: readonly StatementAst[],
    scope: Scope,
  ): Extract<StatementAst, { kind: 'yield' }> | undefined {
    let end: Extract<StatementAst, { kind: 'yield' }> | undefined;
    for (const s of body) {
      if (end) this.reader.report(end.span, "nothing may follow a 'yield'");
      end = undefined;
      switch (s.kind) {
        case 'let':
          this.#let(s.name, s.value, scope);
          break;
        case 'store':
          this.#store(s, scope, []);
          break;
        case 'for':
          this.#for(s, scope);
          break;
        case 'yield':
          end = s;
          break;
        default:
          s satisfies never;
      }
    }
    return end;
  }

  #let(name: Name, ast: ValueAst, scope: Scope): void {
    const value = this.#value(ast, scope);
    if (this.#find(scope, (s) => s.values.get(name.text)))
      this.reader.report(name.span, `there is another value %${name.text}`);
    if (!value) return void scope.values.set(name.text, this.#missing);
    scope.values.set(name.text, value);
    this.#unused.set(value, name);
    this.reader.spans.set(value, name.span);
  }

  /** Stands for a value that was reported, so that its uses are not reported as well. */
  readonly #missing: Expr = { kind: 'const', dtype: 'f32', value: 0 };

  #use(name: Name, scope: Scope): Expr | undefined {
    const value = this.#find(scope, (s) => s.values.get(name.text));
    if (!value) {
      const isBuffer = this.#buffers.has(name.text);
      this.reader.report(
        name.span,
        isBuffer
          ? `%${name.text} is a buffer: its elements are read by 'load %${name.text}[…]'`
          : `no value %${name.text} is known here`,
      );
    } else this.#unused.delete(value);
    return value;
  }

  #value(ast: ValueAst, scope: Scope): Expr | undefined {
    switch (ast.kind) {
      case 'const': {
        const dtype = dtypeOf(ast.dtype, this.reader);
        return dtype && { kind: 'const', dtype, value: this.#number(ast.literal, dtype) };
      }
      case 'index': {
        if (dtypeOf(ast.dtype, this.reader) !== 'i32')
          this.reader.report(ast.dtype.span, 'an index is an i32');
        return { kind: 'index', dtype: 'i32', value: this.#affine(ast.affine, scope) };
      }
      case 'load': {
        const buffer = this.#known(ast.buffer);
        const dtype = dtypeOf(ast.dtype, this.reader);
        const at = ast.at.map((c): Coordinate => {
          if (c.kind === 'affine') return { affine: this.#affine(c.affine, scope) };
          return { gather: this.#use(c.value, scope) ?? this.#missing };
        });
        if (!buffer || !dtype) return undefined;
        const load = { kind: 'load', dtype, buffer, at } as const;
        return ast.pad ? { ...load, pad: this.#number(ast.pad, dtype) } : load;
      }
      case 'op':
        return this.#op(ast, scope);
      case 'reduce':
        return this.#reduce(ast, scope);
      default:
        return ast satisfies never;
    }
  }

  #op(ast: Extract<ValueAst, { kind: 'op' }>, scope: Scope): Expr | undefined {
    const dtype = dtypeOf(ast.dtype, this.reader);
    const args = ast.args.map((a) => this.#use(a, scope) ?? this.#missing);
    if (ast.op.text === 'cast') {
      if (args.length !== 1) this.reader.report(ast.op.span, `cast has ${args.length} operands`);
      return dtype && { kind: 'cast', dtype, arg: args[0]! };
    }
    if (!isOneOf(scalarOps, ast.op.text)) {
      this.reader.report(ast.op.span, `there is no operation '${ast.op.text}'`);
      return undefined;
    }
    return dtype && { kind: 'op', dtype, op: ast.op.text as ScalarOp, args };
  }

  #reduce(ast: Extract<ValueAst, { kind: 'reduce' }>, scope: Scope): Expr | undefined {
    const dtype = dtypeOf(ast.dtype, this.reader);
    const inner = this.#open(ast.over, scope);
    const stores = this.#stores.length;
    const end = this.#statements(ast.body, inner);
    if (this.#stores.length > stores)
      this.reader.report(ast.combine.span, 'nothing can be stored in a reduce');
    if (!end) this.reader.report(ast.end, "expected 'yield' and a value at the end of a reduce");
    const body = end && this.#use(end.value, inner);
    if (!isOneOf(combiners, ast.combine.text)) {
      const known = Object.keys(combiners).join(', ');
      this.reader.report(ast.combine.span, `no reduction '${ast.combine.text}': expected one of ${known}`);
      return undefined;
    }
    const over = [...inner.bound.values()];
    return dtype && body && { kind: 'reduce', dtype, combine: ast.combine.text, over, body };
  }

  #for(s: Extract<StatementAst, { kind: 'for' }>, scope: Scope): void {
    if (scope.parent || this.#find(scope, (x) => (x.parent ? true : undefined)))
      this.reader.report(s.span, "'for' stands at the top of a kernel only");
    const inner = this.#open(s.over, scope);
    const stores = s.body.filter((x) => x.kind === 'store');
    if (stores.length !== 1) this.reader.report(s.span, `a 'for' holds one store, this one ${stores.length}`);
    for (const x of s.body) {
      if (x.kind === 'let') this.#let(x.name, x.value, inner);
      else if (x.kind === 'store') this.#store(x, inner, [...inner.bound.values()]);
      else this.reader.report(x.span, `no '${x.kind}' can stand in a 'for'`);
    }
  }

  #store(s: Extract<StatementAst, { kind: 'store' }>, scope: Scope, over: readonly Index[]): void {
    const buffer = this.#known(s.buffer);
    const value = this.#use(s.value, scope);
    const at = s.at.map((a) => this.#affine(a, scope));
    if (!buffer || !value) return;
    const store: Store = { buffer, at, over, value };
    this.reader.spans.set(store, s.span);
    this.#stores.push(store);
  }

  #known(name: Name): Buffer | undefined {
    const buffer = this.#buffers.get(name.text);
    if (!buffer) this.reader.report(name.span, `the kernel has no buffer %${name.text}`);
    return buffer;
  }

  #number(literal: Literal, dtype: DType): number {
    if (!holds(dtype, literal)) this.reader.report(literal.span, `${literal.text} is no ${dtype}`);
    else if (dtype === 'i64' && BigInt(literal.text) !== BigInt(literal.value))
      this.reader.report(literal.span, `${literal.text} is not exact: numbers of kernels are doubles`);
    if (literal.bits !== undefined)
      this.reader.report(literal.span, 'a NaN of a kernel has no bits of its own');
    // What a float literal is rounded to is part of reading it, as in C.
    return isFloat(dtype) ? roundTo(dtype, literal.value) : literal.value;
  }

  /** Terms stay as written (a normal form stays itself); what the normal form has no place for is added up. */
  #affine(ast: AffineAst, scope: Scope): Affine {
    return add(
      ...ast.terms.map(({ coeff, atom }): Affine => {
        if (!atom) return { constant: coeff, terms: [] };
        const known = this.#atom(atom, scope);
        return { constant: 0, terms: known ? [{ coeff, atom: known }] : [] };
      }),
    );
  }

  #atom(ast: AtomAst, scope: Scope): Atom | undefined {
    if (ast.kind === 'index') {
      const i = this.#find(scope, (s) => s.bound.get(ast.name.text));
      if (!i) this.reader.report(ast.name.span, `no index '${ast.name.text}' is bound here`);
      return i;
    }
    const by = this.#divisor(ast.by);
    return { kind: ast.kind, arg: this.#affine(ast.arg, scope), by };
  }

  #divisor(by: { readonly value: number; readonly span: Span }): number {
    if (by.value < 1) this.reader.report(by.span, 'a divisor is at least 1');
    return by.value;
  }
}
