/**
 * @file How one operand of a contraction without tensor cores gets into its tile in shared memory, where a row is one k with its positions.
 * f32 is copied past the registers; what must be widened or taken apart is loaded a step ahead, and stored when the step has been multiplied.
 *
 * Accesses are affine, so an offset is a part of the batch and the position, worked out once, plus a part of k. Where k has several
 * indices, a thread carries them along by additions: the divisions of a convolution's taps would cost more than its products.
 */
import type { Index } from '../ir/affine.ts';
import type { Contraction, Operand } from '../ir/contraction.ts';
import type { TileStaging } from '../ir/simt.ts';
import { castTo, storageType } from './c.ts';
import { partOfCoordinate, partOfOffset } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

export class StagedTile {
  readonly #operand: Operand;
  readonly #type: string;
  readonly #k: ReadonlySet<Index>;
  readonly #fixed: ReadonlySet<Index>;
  /** The indices of k that a thread carries from row to row, outermost first, if it does. */
  readonly #carried: readonly Index[];
  readonly #origin: string;
  readonly #limit: string;
  /** True if the operand's last tile, and the last step of k, are known to be full. */
  readonly #wholePositions: boolean;
  readonly #wholeK: boolean;

  constructor(
    private readonly w: KernelWriter,
    private readonly c: Contraction,
    readonly side: 'a' | 'b',
    private readonly plan: TileStaging,
    tile: { readonly m: number; readonly n: number; readonly k: number },
  ) {
    const operand = c[side];
    this.#operand = operand;
    this.#type = storageType[operand.load.dtype];
    this.#k = new Set(c.k);
    this.#fixed = new Set([...c.batch, ...operand.positions]);
    [this.#origin, this.#limit] = side === 'a' ? ['m0', 'M'] : ['n0', 'N'];
    const open = c.k.filter((i) => w.extent(i) !== '1');
    this.#carried = operand.kContiguous || open.length < 2 ? [] : open;
    this.#wholePositions = isMultiple(w.volume(operand.positions), side === 'a' ? tile.m : tile.n);
    this.#wholeK = isMultiple(w.volume(c.k), tile.k);
  }

  /** The tile, as a member of a stage. */
  declaration(): string {
    return `alignas(16) float ${this.side}[TK][${this.plan.pitch}];`;
  }

  get copies(): boolean {
    return this.plan.copies;
  }

  /** Before the loop over k: what is known of each of the thread's positions, and the functions that fill a tile. */
  prepare(): void {
    const { w, side } = this;
    const { positionFast, copies, unit, across } = this.plan;
    const along = positionFast ? 'position' : 'k';
    const moved = unit === 1 ? 'elements' : `${unit} neighbours in ${along}`;
    const threads = `neighbouring threads take neighbours in ${along}`;
    w.line(`// ${side}: ${moved} ${copies ? 'are copied' : 'pass through registers'}; ${threads}.`);
    const fast = unit === 1 ? `thread % ${across}` : `thread % ${across} * ${unit}`;
    const [column, row] = positionFast ? [fast, `thread / ${across}`] : [`thread / ${across}`, fast];
    w.line(`const int ${side}_column = ${column}, ${side}_row = ${row};`);
    this.#preparePositions();
    if (this.#carried.length > 0) this.#prepareK();
    if (copies) this.#writeCopy();
    else this.#writeLoadAndStore();
  }

  #preparePositions(): void {
    const { w, side } = this;
    const { guards, positionsContiguous } = this.#operand;
    const { count } = this.plan.positions;
    w.line(`int ${side}_base[${count}];  // each position's offset, without k`);
    for (const d of guards) w.line(`int ${side}_at${d}[${count}];  // its coordinate ${d}, without k`);
    const asksInside = guards.length === 0 && !this.#wholePositions;
    if (asksInside) w.line(`bool ${side}_inside[${count}];`);
    this.#unrolled('s', count, () => {
      w.line(`const int position = ${this.#origin} + ${this.#column('s')};`);
      if (positionsContiguous) {
        const start = this.#part(new Set(this.c.batch), true);
        w.line(`${side}_base[s] = ${start === '0' ? 'position' : `${start} + position`};`);
      } else {
        w.unflatten('position', this.#operand.positions);
        w.line(`${side}_base[s] = ${this.#part(this.#fixed, true)};`);
      }
      guards.forEach((d, n) => {
        const at = partOfCoordinate(w, this.#operand, d, this.#fixed, true);
        // A position beyond the last is outside of every buffer.
        w.line(`${side}_at${d}[s] = ${n === 0 ? `position < ${this.#limit} ? ${at} : -(1 << 30)` : at};`);
      });
      if (asksInside) w.line(`${side}_inside[s] = position < ${this.#limit};`);
    });
  }

  /** Where in k the thread's next row is, and how far on the one after it lies in each index. */
  #prepareK(): void {
    const { w } = this;
    const inner = this.#carried.slice(1);
    w.line(`int ${this.#carried.map((i) => this.#place(i)).join(', ')};  // its next place in k`);
    w.block('', () => {
      w.unflatten(`${this.side}_row`, this.c.k);
      for (const i of this.#carried) w.line(`${this.#place(i)} = ${w.name(i)};`);
    });
    // The step in mixed radix, so that moving on is an addition and at most one carry an index.
    let rest = String(this.plan.ks.step);
    for (const i of [...inner].reverse()) {
      w.line(`const int ${this.#step(i)} = ${rest} % ${w.extent(i)};`);
      rest = `${rest} / ${w.extent(i)}`;
    }
    w.line(`const int ${this.#step(this.#carried[0]!)} = ${rest};`);
  }

  #place = (i: Index): string => `${this.side}_k_${this.w.name(i)}`;
  #step = (i: Index): string => `${this.side}_step_${this.w.name(i)}`;

  #advanceK(): void {
    const { w } = this;
    [...this.#carried].reverse().forEach((i, n, all) => {
      w.line(`${this.#place(i)} += ${this.#step(i)};`);
      const outer = all[n + 1];
      if (!outer) return;
      const carry = `${this.#place(i)} -= ${w.extent(i)}, ${this.#place(outer)}++`;
      w.line(`if (${this.#place(i)} >= ${w.extent(i)}) ${carry};`);
    });
  }

  #writeCopy(): void {
    const { w, side } = this;
    const bytes = 4 * this.plan.unit;
    w.block(
      `const auto copy_${side} = [&](Stage& to, int k0)`,
      () =>
        this.#overUnits((cell, offset, valid) => {
          w.line(`copy_async<${bytes}>(&${cell('to')}, ${this.#buffer}, ${offset}, ${valid});`);
        }),
      '};',
    );
  }

  #writeLoadAndStore(): void {
    const { w, side } = this;
    const { unit, positionFast, positions, ks } = this.plan;
    const next = `${side}_next[j][s]`;
    w.line(`Vector<${unit}, ${this.#type}> ${side}_next[${ks.count}][${positions.count}];`);
    w.block(
      `const auto load_${side} = [&](int k0)`,
      () =>
        this.#overUnits((_cell, offset, valid) => {
          w.line(`${next} = load_vector<${unit}>(${this.#buffer} + ${offset}, ${valid}, ${this.#type}{});`);
        }),
      '};',
    );
    const value = castTo('f32', this.#operand.load.dtype, `${next}.at[e]`);
    w.block(
      `const auto store_${side} = [&](Stage& to)`,
      () =>
        this.#active(() =>
          this.#unrolled('j', ks.count, () =>
            this.#unrolled('s', positions.count, () => {
              if (!positionFast) {
                w.line('#pragma unroll');
                w.line(
                  `for (int e = 0; e < ${unit}; e++) to.${side}[${this.#row('j')} + e][${this.#column('s')}] = ${value};`,
                );
                return;
              }
              w.line(`Vector<${unit}, float> part;`);
              w.line('#pragma unroll');
              w.line(`for (int e = 0; e < ${unit}; e++) part.at[e] = ${value};`);
              w.line(`store_vector<${unit}>(&${this.#cell('to')}, part);`);
            }),
          ),
        ),
      '};',
    );
  }

  /** Every unit that the thread moves: its place in a tile, its offset in memory, and whether it is there. */
  #overUnits(body: (cell: (tile: string) => string, offset: string, valid: string) => void): void {
    const { w, side } = this;
    const { guards, kContiguous, load } = this.#operand;
    this.#active(() =>
      this.#unrolled('j', this.plan.ks.count, () => {
        if (!this.#wholeK || this.#carried.length === 0) w.line(`const int flat_k = k0 + ${this.#row('j')};`);
        if (this.#carried.length > 0) {
          for (const i of this.c.k)
            w.line(`const int ${w.name(i)} = ${this.#carried.includes(i) ? this.#place(i) : '0'};`);
          this.#advanceK();
        } else if (!kContiguous) w.unflatten('flat_k', this.c.k);
        if (!kContiguous) {
          w.line(`const int k_offset = ${this.#part(this.#k, false)};`);
          for (const d of guards)
            w.line(`const int k_at${d} = ${partOfCoordinate(w, this.#operand, d, this.#k, false)};`);
        }
        const checks = this.#wholeK ? [] : ['flat_k < K'];
        if (guards.length === 0 && !this.#wholePositions) checks.push(`${side}_inside[s]`);
        for (const d of guards) {
          const at = `${side}_at${d}[s]${kContiguous ? '' : ` + k_at${d}`}`;
          checks.push(`inside(${at}, ${w.dim(load.buffer, d)})`);
        }
        this.#unrolled('s', this.plan.positions.count, () =>
          body(
            this.#cell,
            `${side}_base[s] + ${kContiguous ? 'flat_k' : 'k_offset'}`,
            checks.join(' && ') || 'true',
          ),
        );
      }),
    );
  }

  /** Leaves out the threads that have nothing to do. */
  #active(body: () => void): void {
    const { idle, down, positionFast } = this.plan;
    if (!idle) return body();
    this.w.block(`if (${this.side}_${positionFast ? 'row' : 'column'} < ${down})`, body);
  }

  #row = (j: string): string => along(`${this.side}_row`, j, this.plan.ks);
  #column = (s: string): string => along(`${this.side}_column`, s, this.plan.positions);
  #cell = (tile: string): string => `${tile}.${this.side}[${this.#row('j')}][${this.#column('s')}]`;

  get #buffer(): string {
    return this.#operand.load.buffer.name;
  }

  /** The part of the offset that comes from some indices, with or without the constant. */
  #part(indices: ReadonlySet<Index>, constant: boolean): string {
    return partOfOffset(this.w, this.#operand, indices, constant);
  }

  #unrolled(counter: string, count: number, body: () => void): void {
    this.w.line('#pragma unroll');
    this.w.block(`for (int ${counter} = 0; ${counter} < ${count}; ${counter}++)`, body);
  }
}

/** A thread's place number `counter` along one axis. */
const along = (first: string, counter: string, { count, step }: TileStaging['ks']): string =>
  count === 1 ? first : `${first} + ${counter} * ${step}`;

/** True if a size is known, and a multiple. */
export const isMultiple = (size: string, of: number): boolean =>
  /^\d+$/.test(size) && Number(size) % of === 0;
