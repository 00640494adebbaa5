/**
 * @file The map skeleton with vectors: a thread computes several neighbouring points together. What is the same for all of them (indices,
 * guards, broadcast operands) is computed once, neighbours in memory are read and written at once, and all else is done point by
 * point in an unrolled loop. Each point's arithmetic, and its order, is what the map without vectors does.
 */
import type { Index } from '../ir/affine.ts';
import { volume } from '../ir/contraction.ts';
import type { Expr, Load, MapSchedule, Store } from '../ir/kernel.ts';
import { linearize, type Statement } from '../ir/linearize.ts';
import { isUnrolled, mapAccesses, vectorIndex } from '../ir/vector.ts';
import { freeIndices } from '../ir/walk.ts';
import { fromStorage, literal, scalarType, storageType, toStorage } from './c.ts';
import { isNumber, type KernelWriter, product } from './writer.ts';

export function writeVectorMap(w: KernelWriter, { threads, perThread, vector }: MapSchedule): void {
  const { domain } = w.kernel;
  const along = vectorIndex(w.kernel);
  if (!along) throw new Error(`kernel ${w.kernel.name} has no vectors`);
  const others = domain.filter((i) => i !== along);
  const extent = w.extent(along);
  const run = isNumber(extent) ? String(Number(extent) / vector) : `(${extent} / ${vector})`;
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

/** Reads of an unrolled loop that the compiler starts together by itself (ptxas 13 was seen to start 8 of 49). */
const mostUnderWay = 16;

type Let = Extract<Statement, { kind: 'let' }>;

/** The statements of a kernel for `vector` points; in C, `e` is the point's number in the vector. */
class VectorBody {
  readonly #linear;
  readonly #widths;
  readonly #free = freeIndices();
  /** How a value is spelled, inside of a loop over the points if it differs from point to point. */
  readonly #spelled = new Map<number, string>();
  /** Loads that were read before their loop. */
  readonly #ahead = new Set<Expr>();

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

  #isPointwise({ expr }: Let): boolean {
    return this.#differs(expr) && !(expr.kind === 'load' && this.#width(expr) > 1);
  }

  /** Statements of one scope, then a line for each point. */
  #scope(statements: readonly Statement[], last?: () => string): void {
    const ref = (e: Expr): string => this.#spelled.get(this.#linear.idOf(statements, e))!;
    // Between reductions and stores, what is the same for all points comes first: it needs nothing of what differs.
    let pointwise: Let[] = [];
    const flush = (line?: () => string): void => {
      this.#pointwise(pointwise, ref, line);
      pointwise = [];
    };
    for (const s of statements) {
      if (s.kind === 'let' && this.#isPointwise(s)) pointwise.push(s);
      else {
        if (s.kind !== 'let') flush();
        this.#statement(s, ref);
      }
    }
    flush(last);
  }

  #statement(s: Statement, ref: (e: Expr) => string): void {
    const { w } = this;
    switch (s.kind) {
      case 'let':
        if (this.#ahead.has(s.expr)) return;
        if (s.expr.kind === 'load' && this.#differs(s.expr)) return this.#loadVector(s.id, s.expr, ref);
        this.#spelled.set(s.id, `v${s.id}`);
        return w.line(`const ${scalarType[s.expr.dtype]} v${s.id} = ${w.value(s.expr, ref)};`);
      case 'reduce': {
        const { expr, body } = s;
        const type = scalarType[expr.dtype];
        const value = (): string => this.#spelled.get(this.#linear.idOf(body, expr.body))!;
        if (this.#differs(expr)) {
          const sum = `v${s.id}[e]`;
          w.line(`${type} v${s.id}[${this.vector}];`);
          this.#points([`${sum} = ${w.start(expr)};`]);
          const step = (): void => this.#scope(body, () => `${sum} = ${w.combine(expr, sum, value())};`);
          const isConstant = expr.over.every((i) => isNumber(w.extent(i)));
          const unrolled = isConstant && isUnrolled(expr.over, this.vector);
          if (unrolled && volume(expr.over) > mostUnderWay) this.#readAhead(expr.over, body);
          w.loops(expr.over, step, unrolled);
          this.#spelled.set(s.id, sum);
        } else {
          w.line(`${type} v${s.id} = ${w.start(expr)};`);
          w.loops(expr.over, () => {
            this.#scope(body);
            w.line(`v${s.id} = ${w.combine(expr, `v${s.id}`, value())};`);
          });
          this.#spelled.set(s.id, `v${s.id}`);
        }
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

  /** Values that are computed point by point, and a line after them. */
  #pointwise(run: readonly Let[], ref: (e: Expr) => string, last?: () => string): void {
    if (run.length === 0 && !last) return;
    for (const { id, expr } of run) {
      this.w.line(`${scalarType[expr.dtype]} v${id}[${this.vector}];`);
      this.#spelled.set(id, `v${id}[e]`);
    }
    const name = this.w.name(this.along);
    this.w.rename(this.along, `(${name} + e)`);
    const lines = run.map(({ id, expr }) => `v${id}[e] = ${this.w.value(expr, ref)};`);
    this.w.rename(this.along, name);
    this.#points([...lines, ...(last ? [last()] : [])]);
  }

  #points(lines: readonly string[], count = this.vector, e = 'e'): void {
    this.w.line('#pragma unroll');
    this.w.block(`for (int ${e} = 0; ${e} < ${count}; ${e}++)`, () => {
      for (const line of lines) this.w.line(line);
    });
  }

  /** Starts all reads of an unrolled loop before it. */
  #readAhead(over: readonly Index[], body: readonly Statement[]): void {
    const { w } = this;
    const steps = volume(over);
    const step = over.reduce(
      (flat, i) => (flat === '' ? w.name(i) : `(${flat}) * ${w.extent(i)} + ${w.name(i)}`),
      '',
    );
    const reads = body.flatMap((s) =>
      s.kind === 'let' &&
      s.expr.kind === 'load' &&
      this.#width(s.expr) === this.vector &&
      s.expr.at.every((c) => 'affine' in c)
        ? [{ id: s.id, load: s.expr }]
        : [],
    );
    if (reads.length === 0) return;
    for (const { id, load } of reads) {
      w.line(`Vector<${this.vector}, ${storageType[load.dtype]}> v${id}[${steps}];`);
      this.#spelled.set(id, fromStorage(load.dtype, `v${id}[${step}].at[e]`));
      this.#ahead.add(load);
    }
    w.loops(
      over,
      () => {
        for (const { id, load } of reads) w.line(`v${id}[${step}] = ${this.#read(load, this.vector)};`);
      },
      true,
    );
    w.line('reads_first();');
  }

  /** The C that reads `width` neighbours. */
  #read(load: Load, width: number, ref: (e: Expr) => string = () => '', more = ''): string {
    const { buffer, dtype, pad } = load;
    const { offset, guard } = this.w.access(load, ref);
    const outside = guard === '' ? '' : `, ${guard}, ${toStorage(dtype, literal(dtype, pad!))}`;
    return `load_vector<${width}>(${buffer.name} + ${offset}${more}${outside})`;
  }

  /** A load of neighbours, in as many parts as it takes. */
  #loadVector(id: number, load: Load, ref: (e: Expr) => string): void {
    const { dtype } = load;
    const width = this.#width(load);
    const type = `Vector<${width}, ${storageType[dtype]}>`;
    const parts = this.vector / width;
    if (parts === 1) this.w.line(`const ${type} v${id} = ${this.#read(load, width, ref)};`);
    else {
      this.w.line(`${type} v${id}[${parts}];`);
      this.#points([`v${id}[u] = ${this.#read(load, width, ref, ` + u * ${width}`)};`], parts, 'u');
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
