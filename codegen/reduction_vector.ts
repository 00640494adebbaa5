/**
 * @file The reduction skeleton with several elements a lane at a time: neighbours in memory are read and written at once, and all reads of a step
 * are under way before the first is used. Loops of one step have their reads before everything else, and loops after them take the same
 * elements from registers. What is beyond a loop's end is computed on pads and left out.
 */
import type { Expr, ReductionSchedule } from '../ir/kernel.ts';
import { type LaneLoad, type LaneLoop, laneLoops } from '../ir/lane_loops.ts';
import { linearize, type Statement, type ValueId } from '../ir/linearize.ts';
import { childrenOf, freeIndices } from '../ir/walk.ts';
import { fromStorage, literal, scalarType, storageType, toStorage } from './c.ts';
import { isNumber, type KernelWriter } from './writer.ts';

type Let = Extract<Statement, { kind: 'let' }>;
type Body = readonly Statement[];

/** A loop with its statements. In C, `u` is the number of a vector in a step and `e` an element's in the vector. */
interface Walk extends LaneLoop {
  readonly body: Body;
  /** Vectors there are, and the condition for one to be among them; empty if all of every step are. */
  readonly units: string;
  readonly valid: string;
}

/** Writes what follows once `lane` and the indices of the point are known. */
export class VectorLoops {
  readonly #linear;
  readonly #loops: readonly Walk[];
  readonly #free = freeIndices();
  /** How each value is spelled. */
  readonly #spelled = new Map<ValueId, string>();
  /** The registers of what was read of loops of one step. */
  readonly #kept = new Map<string, string>();
  #reads = 0;

  constructor(
    readonly w: KernelWriter,
    readonly schedule: ReductionSchedule,
  ) {
    const { lanes, vector, unroll } = schedule;
    this.#linear = linearize(w.kernel);
    const bodies = this.#linear.statements.flatMap((s) =>
      s.kind === 'reduce' || (s.kind === 'store' && s.store.over.length > 0) ? [s.body] : [],
    );
    this.#loops = laneLoops(w.kernel, schedule).map((loop, n) => {
      const elements = w.volume(loop.over);
      const units = isNumber(elements)
        ? String(Number(elements) / vector)
        : vector === 1
          ? elements
          : `(${elements} / ${vector})`;
      const isFull = isNumber(units) && Number(units) % (lanes * unroll) === 0;
      return { ...loop, body: bodies[n]!, units, valid: isFull ? '' : 'valid' };
    });
  }

  write(): void {
    const { statements } = this.#linear;
    const isReduced = reducedValues();
    const isFirst = (s: Statement): s is Let => s.kind === 'let' && !isReduced(s.expr);
    for (const s of statements) if (isFirst(s)) this.#let(s, statements);
    for (const loop of this.#loops) if (loop.isWhole) this.#read(loop);
    let next = 0;
    for (const s of statements) {
      if (s.kind === 'let') {
        if (!isFirst(s)) this.#let(s, statements);
      } else if (s.kind === 'reduce') this.#reduce(s, this.#loops[next++]!);
      else if (s.store.over.length > 0) this.#storeLoop(s, this.#loops[next++]!);
      else {
        const { buffer, at, value } = s.store;
        const place = `${buffer.name}[${this.w.offset(buffer, at)}]`;
        const stored = toStorage(buffer.dtype, this.#ref(statements, value));
        this.w.line(`if (lane == 0) ${place} = ${stored};`);
      }
    }
  }

  #ref(scope: Body, e: Expr): string {
    return this.#spelled.get(this.#linear.idOf(scope, e))!;
  }

  #let({ id, expr }: Let, scope: Body): void {
    this.w.line(
      `const ${scalarType[expr.dtype]} v${id} = ${this.w.value(expr, (e) => this.#ref(scope, e))};`,
    );
    this.#spelled.set(id, `v${id}`);
  }

  #reduce({ id, expr, body }: Extract<Statement, { kind: 'reduce' }>, loop: Walk): void {
    const { w } = this;
    const { lanes, vector } = this.schedule;
    const type = scalarType[expr.dtype];
    const isScalar = vector === 1;
    const part = isScalar ? `part${id}` : `part${id}[e]`;
    w.line(isScalar ? `${type} part${id} = ${w.start(expr)};` : `${type} part${id}[${vector}];`);
    if (!isScalar) this.#elements(() => w.line(`${part} = ${w.start(expr)};`));
    this.#steps(loop, () => {
      this.#compute(loop, () => {
        const combined = w.combine(expr, part, this.#ref(body, expr.body));
        w.line(`${loop.valid && 'if (valid) '}${part} = ${combined};`);
      });
    });
    w.line(`const auto join${id} = [](${type} a, ${type} b) { return ${w.combine(expr, 'a', 'b')}; };`);
    const own = isScalar ? part : `across_vector(part${id}, join${id})`;
    w.line(`const ${type} v${id} = across_lanes<${lanes}>(${own}, join${id});`);
    this.#spelled.set(id, `v${id}`);
  }

  #storeLoop({ store, body }: Extract<Statement, { kind: 'store' }>, loop: Walk): void {
    const { w } = this;
    const { buffer, at } = store;
    const width = loop.store;
    const parts = this.schedule.vector / width;
    this.#steps(loop, () => {
      const result = `Vector<${width}, ${storageType[buffer.dtype]}>`;
      w.line(`${result} part${parts > 1 ? `[${parts}]` : ''};`);
      this.#compute(loop, () =>
        w.line(
          `${element('part', parts, width)} = ${toStorage(buffer.dtype, this.#ref(body, store.value))};`,
        ),
      );
      const write = (): void =>
        this.#parts(loop, parts, width, (part, more) =>
          w.line(`store_vector<${width}>(${buffer.name} + ${w.offset(buffer, at)}${more}, part${part});`),
        );
      if (loop.valid) w.block('if (valid)', write);
      else write();
    });
  }

  /** The steps of a loop; what is not read yet is read at the head of each. */
  #steps(loop: Walk, body: () => void): void {
    const { lanes, unroll } = this.schedule;
    if (loop.isWhole) return this.#units(loop, 'lane', body);
    this.w.block(`for (int first = lane; first < ${loop.units}; first += ${lanes * unroll})`, () => {
      this.#read(loop);
      this.#units(loop, 'first', body);
    });
  }

  /** The vectors of a step, each with its indices. */
  #units({ over, units, valid }: Walk, first: string, body: () => void): void {
    const { w } = this;
    const { lanes, vector, unroll } = this.schedule;
    const inside = (unit: string): void => {
      w.line(`const int unit = ${unit};`);
      if (valid) w.line(`const bool valid = unit < ${units};`);
      w.unflatten(vector === 1 ? 'unit' : `unit * ${vector}`, over);
      body();
    };
    if (unroll === 1) return w.block('', () => inside(first));
    w.line('#pragma unroll');
    w.block(`for (int u = 0; u < ${unroll}; u++)`, () => inside(`${first} + u * ${lanes}`));
  }

  /** Reads what a step of a loop takes, as far as no loop before it has. */
  #read(loop: Walk): void {
    const { unroll } = this.schedule;
    const of = (number: string): string => (unroll > 1 ? `${number}[u]` : number);
    const fresh: { readonly read: LaneLoad; readonly name: string }[] = [];
    for (const read of loop.loads) {
      if (!read.isEarly) continue;
      const key = `${loop.like} ${read.text}`;
      const known = loop.isWhole ? this.#kept.get(key) : undefined;
      const name = known ?? `row${this.#reads++}`;
      if (loop.isWhole) this.#kept.set(key, name);
      if (known === undefined) fresh.push({ read, name });
      this.#spell(loop, read, of(name));
    }
    if (fresh.length === 0) return;
    for (const { read, name } of fresh) this.#declare(read, `${name}${unroll > 1 ? `[${unroll}]` : ''}`);
    this.#units(loop, loop.isWhole ? 'lane' : 'first', () => {
      for (const { read, name } of fresh) this.#load(loop, read, of(name));
    });
  }

  #partsOf = ({ isSame, width }: LaneLoad): number => (isSame ? 1 : this.schedule.vector / width);

  #declare(read: LaneLoad, name: string): void {
    const parts = this.#partsOf(read);
    this.w.line(
      `Vector<${read.width}, ${storageType[read.load.dtype]}> ${name}${parts > 1 ? `[${parts}]` : ''};`,
    );
  }

  #spell(loop: Walk, read: LaneLoad, name: string): void {
    const at = read.isSame ? `${name}.at[0]` : element(name, this.#partsOf(read), read.width);
    this.#spelled.set(this.#linear.idOf(loop.body, read.load), fromStorage(read.load.dtype, at));
  }

  #load(loop: Walk, read: LaneLoad, name: string): void {
    const { load, width } = read;
    const { buffer, dtype, pad } = load;
    const outside = toStorage(dtype, literal(dtype, pad ?? 0));
    this.#parts(loop, this.#partsOf(read), width, (part, more) => {
      const { offset, guard } = this.w.access(load, (e) => this.#ref(loop.body, e));
      const condition = [loop.valid, guard].filter(Boolean).join(' && ');
      const when = condition === '' ? '' : `, ${condition}, ${outside}`;
      this.w.line(`${name}${part} = load_vector<${width}>(${buffer.name} + ${offset}${more}${when});`);
    });
  }

  /** The accesses that make up a vector: their number in C, and what is to be added to the first one's offset. */
  #parts({ along }: Walk, parts: number, width: number, access: (part: string, more: string) => void): void {
    const { w } = this;
    if (parts === 1) return access('', '');
    // Neighbours that are taken one by one need not be neighbours in memory.
    if (width === 1) return this.#elements(() => access('[e]', ''), along);
    w.line('#pragma unroll');
    w.block(`for (int p = 0; p < ${parts}; p++)`, () => access('[p]', ` + p * ${width}`));
  }

  /** The values of a vector: what is the same for all its elements first, then, element by element, what is not, and a line after it. */
  #compute(loop: Walk, last: () => void): void {
    const { along, body } = loop;
    const reads = new Map<Expr, LaneLoad>(loop.loads.map((read) => [read.load, read]));
    const each: Let[] = [];
    for (const s of body) {
      if (s.kind !== 'let') throw new Error(`kernel ${this.w.kernel.name} has loops inside of loops`);
      const read = reads.get(s.expr);
      if (read?.isEarly) continue;
      if (read && read.width > 1) {
        this.#declare(read, `v${s.id}`);
        this.#load(loop, read, `v${s.id}`);
        this.#spell(loop, read, `v${s.id}`);
      } else if (along && this.#free(s.expr).has(along)) each.push(s);
      else this.#value(s, loop, read !== undefined);
    }
    this.#elements(() => {
      for (const s of each) this.#value(s, loop, reads.has(s.expr));
      last();
    }, along);
  }

  #value({ id, expr }: Let, { body, valid }: Walk, isLoad: boolean): void {
    const value = this.w.value(expr, (e) => this.#ref(body, e));
    const type = scalarType[expr.dtype];
    // Beyond the loop's end nothing may be read.
    const guarded = isLoad && valid ? `!valid ? ${literal(expr.dtype, 0)} : ${value}` : value;
    this.w.line(`const ${type} v${id} = ${guarded};`);
    this.#spelled.set(id, `v${id}`);
  }

  /** All elements of a vector; the index that they are neighbours along is that of each inside. */
  #elements(body: () => void, along?: Walk['along']): void {
    const { w } = this;
    if (this.schedule.vector === 1) return body();
    const name = along && w.name(along);
    w.line('#pragma unroll');
    w.block(`for (int e = 0; e < ${this.schedule.vector}; e++)`, () => {
      if (along) w.rename(along, `(${name} + e)`);
      body();
      if (along) w.rename(along, name!);
    });
  }
}

/** Element `e` of what lies in so many parts of `width` each. */
const element = (name: string, parts: number, width: number): string =>
  width === 1
    ? `${name}${parts > 1 ? '[e]' : ''}.at[0]`
    : parts === 1
      ? `${name}.at[e]`
      : `${name}[e / ${width}].at[e % ${width}]`;

/** Tells which values need a reduction. */
function reducedValues(): (e: Expr) => boolean {
  const known = new Map<Expr, boolean>();
  const isReduced = (e: Expr): boolean => {
    let is = known.get(e);
    if (is === undefined) known.set(e, (is = e.kind === 'reduce' || childrenOf(e).some(isReduced)));
    return is;
  };
  return isReduced;
}
