/**
 * @file The map skeleton with vectors: a thread computes several neighbouring points together. What is the same for all of them (indices,
 * guards, broadcast operands) is computed once, neighbours in memory are read and written at once, and all else is done point by
 * point in an unrolled loop. Each point's arithmetic, and its order, is what the map without vectors does.
 */
import type { Index } from '../ir/affine.ts';
import type { Expr, Load, MapSchedule, Store } from '../ir/kernel.ts';
import { linearize, type Statement } from '../ir/linearize.ts';
import { mapAccesses, vectorIndex } from '../ir/vector.ts';
import { freeIndices } from '../ir/walk.ts';
import { fromStorage, literal, scalarType, storageType, toStorage } from './c.ts';
import { type KernelWriter, product } from './writer.ts';

export function writeVectorMap(w: KernelWriter, { threads, perThread, vector }: MapSchedule): void {
  const { domain } = w.kernel;
  const along = vectorIndex(w.kernel);
  if (!along) throw new Error(`kernel ${w.kernel.name} has no vectors`);
  const others = domain.filter((i) => i !== along);
  const extent = w.extent(along);
  const run = /^\d+$/.test(extent) ? String(Number(extent) / vector) : `(${extent} / ${vector})`;
  w.prologue();
  w.line(`const int units = ${product([...others.map((i) => w.extent(i)), run])};  // vectors of ${vector}`);
  w.line(`const int first = (int)block * ${threads * perThread};`);
  w.line(`const int last = units - first < ${threads * perThread} ? units : first + ${threads * perThread};`);
  w.block(`for (int unit = first + (int)threadIdx.x; unit < last; unit += ${threads})`, () => {
    w.unflatten(`unit / ${run}`, others);
    w.line(`const int ${w.name(along)} = unit % ${run} * ${vector};`);
    new VectorBody(w, along, vector).write();
  });
}

type Let = Extract<Statement, { kind: 'let' }>;

/** The statements of a kernel for `vector` points; in C, `e` is the point's number in the vector. */
class VectorBody {
  readonly #linear;
  readonly #widths;
  readonly #free = freeIndices();
  /** How a value is spelled, inside of a loop over the points if it differs from point to point. */
  readonly #spelled = new Map<number, string>();

  constructor(
    readonly w: KernelWriter,
    readonly along: Index,
    readonly vector: number,
  ) {
    this.#linear = linearize(w.kernel);
    this.#widths = mapAccesses(w.kernel, vector);
  }

  write(): void {
    this.#scope(this.#linear.statements);
  }

  #differs(e: Expr): boolean {
    return this.#free(e).has(this.along);
  }

  /** How many points an access takes at once. */
  #width(access: Load | Store): number {
    return this.#widths.get(access) ?? 1;
  }

  #isPointwise(s: Statement): s is Let {
    return s.kind === 'let' && this.#differs(s.expr) && !(s.expr.kind === 'load' && this.#width(s.expr) > 1);
  }

  #scope(statements: readonly Statement[]): void {
    const ref = (e: Expr): string => this.#spelled.get(this.#linear.idOf(statements, e))!;
    for (let at = 0; at < statements.length; at++) {
      const s = statements[at]!;
      if (this.#isPointwise(s)) {
        const end = statements.findIndex((t, n) => n > at && !this.#isPointwise(t));
        const run = statements.slice(at, end < 0 ? undefined : end) as Let[];
        this.#pointwise(run, ref);
        at += run.length - 1;
      } else this.#statement(s, ref);
    }
  }

  #statement(s: Statement, ref: (e: Expr) => string): void {
    const { w } = this;
    switch (s.kind) {
      case 'let':
        if (s.expr.kind === 'load' && this.#differs(s.expr)) return this.#loadVector(s.id, s.expr, ref);
        this.#spelled.set(s.id, `v${s.id}`);
        return w.line(`const ${scalarType[s.expr.dtype]} v${s.id} = ${w.value(s.expr, ref)};`);
      case 'reduce': {
        const differs = this.#differs(s.expr);
        const sum = differs ? `v${s.id}[e]` : `v${s.id}`;
        const each = (line: string): void => (differs ? this.#points([line]) : w.line(line));
        this.#spelled.set(s.id, sum);
        w.line(`${scalarType[s.expr.dtype]} v${s.id}${differs ? `[${this.vector}]` : ''};`);
        each(`${sum} = ${w.start(s.expr)};`);
        w.loops(s.expr.over, () => {
          this.#scope(s.body);
          const value = this.#spelled.get(this.#linear.idOf(s.body, s.expr.body))!;
          each(`${sum} = ${w.combine(s.expr, sum, value)};`);
        });
        return;
      }
      case 'store': {
        const { over, value } = s.store;
        if (over.length === 0) return this.#storeVector(s.store, ref(value));
        return w.loops(over, () => {
          this.#scope(s.body);
          this.#storeVector(s.store, this.#spelled.get(this.#linear.idOf(s.body, value))!);
        });
      }
      default:
        s satisfies never;
    }
  }

  /** Values that are computed point by point. */
  #pointwise(run: readonly Let[], ref: (e: Expr) => string): void {
    for (const { id, expr } of run) {
      this.w.line(`${scalarType[expr.dtype]} v${id}[${this.vector}];`);
      this.#spelled.set(id, `v${id}[e]`);
    }
    const name = this.w.name(this.along);
    this.w.rename(this.along, `(${name} + e)`);
    this.#points(run.map(({ id, expr }) => `v${id}[e] = ${this.w.value(expr, ref)};`));
    this.w.rename(this.along, name);
  }

  #points(lines: readonly string[], count = this.vector, e = 'e'): void {
    this.w.line('#pragma unroll');
    this.w.block(`for (int ${e} = 0; ${e} < ${count}; ${e}++)`, () => {
      for (const line of lines) this.w.line(line);
    });
  }

  /** A load of neighbours, in as many parts as it takes. */
  #loadVector(id: number, load: Load, ref: (e: Expr) => string): void {
    const { buffer, dtype, pad } = load;
    const width = this.#width(load);
    const { offset, guard } = this.w.access(load, ref);
    const read = (at: string): string => {
      const value = `load_vector<${width}>(${buffer.name} + ${at})`;
      if (guard === '') return value;
      const outside = toStorage(dtype, literal(dtype, pad!));
      return `${guard} ? ${value} : fill_vector<${width}, ${storageType[dtype]}>(${outside})`;
    };
    const type = `Vector<${width}, ${storageType[dtype]}>`;
    const parts = this.vector / width;
    if (parts === 1) this.w.line(`const ${type} v${id} = ${read(offset)};`);
    else {
      this.w.line(`${type} v${id}[${parts}];`);
      this.#points([`v${id}[u] = ${read(`${offset} + u * ${width}`)};`], parts, 'u');
    }
    const element = parts === 1 ? `v${id}.at[e]` : `v${id}[e / ${width}].at[e % ${width}]`;
    this.#spelled.set(id, fromStorage(dtype, element));
  }

  #storeVector(store: Store, value: string): void {
    const { w } = this;
    const { buffer, at } = store;
    const width = this.#width(store);
    const parts = this.vector / width;
    const offset = w.offset(buffer, at);
    w.block('', () => {
      w.line(`Vector<${width}, ${storageType[buffer.dtype]}> part[${parts}];`);
      this.#points([`part[e / ${width}].at[e % ${width}] = ${toStorage(buffer.dtype, value)};`]);
      this.#points(
        [`store_vector<${width}>(${buffer.name} + ${offset} + u * ${width}, part[u]);`],
        parts,
        'u',
      );
    });
  }
}
