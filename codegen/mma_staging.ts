/**
 * @file How one operand of a product on tensor cores gets into its tile in shared memory. Where neighbours can be read together they are
 * copied past the registers; else each thread loads pairs into registers before a step is multiplied, and stores them after it.
 */
import type { Index } from '../ir/affine.ts';
import type { Operand } from '../ir/contraction.ts';
import type { Buffer } from '../ir/kernel.ts';
import type { Staging } from '../ir/mma.ts';
import { storageType } from './c.ts';
import { partOfCoordinate, partOfOffset } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

/** Where a vector or element comes from: its offset, and whether it is inside. */
interface Source {
  readonly offset: string;
  readonly valid: string;
}

/** What is known of a step's place in k: the part of the offset, and the part of each guarded coordinate. */
interface PlaceInK {
  readonly offset: string;
  readonly at: (d: number) => string;
}

/** An index of k, and the variable that a thread carries it in. */
type Step = readonly [Index, string];

/** What is staged at a time, and what the code around it calls things. */
export interface StagedTile {
  /** The member of `struct` that the tile is, and how names of its own begin. */
  readonly name: string;
  readonly struct: string;
  readonly operand: Operand;
  readonly plan: Staging;
  /** Indices that are the same for a whole block. */
  readonly batch: readonly Index[];
  /** The block's first position and how many there are in all, in C. */
  readonly origin: string;
  readonly limit: string;
  readonly k: readonly Index[];
  /** How many values of k there are in all, and in a tile. */
  readonly kLimit: string;
  readonly depth: string;
  /** Where the first of many tiles begins whose k follow one another: places in k are then carried from one to the next. */
  readonly kFirst?: string;
}

export class StagedOperand {
  readonly #operand: Operand;
  readonly #plan: Staging;
  readonly #type: string;
  readonly #k: ReadonlySet<Index>;
  readonly #fixed: ReadonlySet<Index>;
  /** The indices of k that a thread carries from step to step, by the names of its variables, if it does. */
  readonly #carriedK: ReadonlyMap<Index, string>;

  constructor(
    private readonly w: KernelWriter,
    private readonly tile: StagedTile,
  ) {
    const { operand, plan, batch, k, kFirst } = tile;
    this.#operand = operand;
    this.#plan = plan;
    this.#type = storageType[operand.load.dtype];
    this.#k = new Set(k);
    this.#fixed = new Set([...batch, ...operand.positions]);
    const carries = kFirst !== undefined && !plan.kMajor && plan.copies && !operand.kContiguous;
    const carried = carries ? k.filter((i) => w.extent(i) !== '1') : [];
    this.#carriedK = new Map(carried.map((i) => [i, `${this.side}_k_${w.name(i)}`]));
  }

  get side(): string {
    return this.tile.name;
  }

  get buffer(): Buffer {
    return this.#operand.load.buffer;
  }

  get kMajor(): boolean {
    return this.#plan.kMajor;
  }

  get copies(): boolean {
    return this.#plan.copies;
  }

  /** The tile. */
  declaration(): string {
    const { rows, pitch } = this.#plan;
    return `${this.#type} ${this.side}[${rows}][${pitch}];`;
  }

  /** Before the loop over k: what is known of each of the thread's positions, and the functions that fill a tile. */
  prepare(): void {
    const { w, side } = this;
    const { kMajor, copies, unit, across } = this.#plan;
    const along = kMajor ? 'position' : 'k';
    w.line(
      `// ${side}: a row of the tile is one ${kMajor ? 'k' : 'position'}; ${copies ? `${unit} neighbours in ${along} are copied at once` : `pairs of neighbours in ${along} pass through registers`}.`,
    );
    w.line(`const int ${side}_column = thread % ${across} * ${unit}, ${side}_row = thread / ${across};`);
    this.#preparePositions();
    if (this.#carriedK.size > 0) this.#prepareK();
    if (copies) this.#writeCopy();
    else this.#writeLoadAndStore();
  }

  /** Positions that the thread keeps to: along its row if that is one k, else one a row. */
  #preparePositions(): void {
    const { w, side } = this;
    const { origin, limit } = this.tile;
    const { kMajor, copies, unit, down, count } = this.#plan;
    const { guards } = this.#operand;
    const kept = kMajor ? (copies ? 1 : unit) : count;
    const place = kMajor ? `${side}_column + p` : `${side}_row + p * ${down}`;
    w.line(`int ${side}_base[${kept}];  // each position's offset, without k`);
    for (const d of guards) w.line(`int ${side}_at${d}[${kept}];  // its coordinate ${d}, without k`);
    if (guards.length === 0) w.line(`bool ${side}_inside[${kept}];`);
    this.#unrolled('p', kept, () => {
      w.line(`const int position = ${origin} + ${place};`);
      w.unflatten('position', this.#operand.positions);
      w.line(`${side}_base[p] = ${partOfOffset(w, this.#operand, this.#fixed, true)};`);
      guards.forEach((d, n) => {
        const at = partOfCoordinate(w, this.#operand, d, this.#fixed, true);
        // A position beyond the last is outside of every buffer.
        w.line(`${side}_at${d}[p] = ${n === 0 ? `position < ${limit} ? ${at} : -(1 << 30)` : at};`);
      });
      if (guards.length === 0) w.line(`${side}_inside[p] = position < ${limit};`);
    });
  }

  /** Where in k the thread's next vector is: worked out once by divisions, then carried on by additions. */
  #prepareK(): void {
    const { w, side } = this;
    const carried = [...this.#carriedK];
    w.line(`int ${carried.map(([, name]) => name).join(', ')};  // its next place in k`);
    w.block('', () => {
      w.unflatten(`${this.tile.kFirst} + ${side}_column`, this.tile.k);
      for (const [i, name] of carried) w.line(`${name} = ${w.name(i)};`);
    });
  }

  /** Moves the place in k on by a step. */
  #advanceK(): void {
    const { w } = this;
    const [[inner, last], ...outer] = [...this.#carriedK].reverse() as readonly Step[] as [Step, ...Step[]];
    w.line(`${last} += ${this.tile.depth};`);
    if (outer.length === 0) return;
    // A step is no longer than the innermost extent where steps are whole; else it may go round several times.
    const goesRound = this.#plan.wholeSteps ? 'if' : 'while';
    w.block(`${goesRound} (${last} >= ${w.extent(inner)})`, () => {
      w.line(`${last} -= ${w.extent(inner)};`);
      const carry = ([first, ...rest]: readonly Step[]): void => {
        const [i, name] = first!;
        if (rest.length === 0) return w.line(`${name}++;`);
        w.block(`if (++${name} == ${w.extent(i)})`, () => {
          w.line(`${name} = 0;`);
          carry(rest);
        });
      };
      carry(outer);
    });
  }

  #writeCopy(): void {
    const { w, side } = this;
    const { unit } = this.#plan;
    w.block(
      `const auto copy_${side} = [&](${this.tile.struct}& to, int k0)`,
      () => {
        this.#overUnits((row, source) => {
          w.line(
            `copy_async<${unit * 2}>(${this.#cell(row)}, ${this.#buffer}, ${source.offset}, ${source.valid});`,
          );
        });
        if (this.#carriedK.size > 0) this.#advanceK();
      },
      '};',
    );
  }

  #writeLoadAndStore(): void {
    const { w, side } = this;
    w.line(`${this.#type} ${side}_next[${this.#plan.count}][2];`);
    w.block(
      `const auto load_${side} = [&](int k0)`,
      () =>
        this.#overUnits((_row, source, e) => {
          w.line(
            `${side}_next[s][${e}] = ${source.valid} ? ${this.#buffer}[${source.offset}] : ${this.#type}{};`,
          );
        }),
      '};',
    );
    w.block(
      `const auto store_${side} = [&](${this.tile.struct}& to)`,
      () =>
        this.#overRows((row) => {
          w.line(`store_vector<2>(${this.#cell(row)}, {${side}_next[s][0], ${side}_next[s][1]});`);
        }),
      '};',
    );
  }

  /** The address of the thread's place in a row of the tile. */
  #cell(row: string): string {
    const { side } = this;
    const column = this.#plan.kMajor
      ? `${side}_column`
      : `swizzled<${this.tile.depth}>(${row}, ${side}_column)`;
    return `&to.${side}[${row}][${column}]`;
  }

  get #buffer(): string {
    return this.#operand.load.buffer.name;
  }

  #unrolled(counter: string, count: number, body: () => void): void {
    const { w } = this;
    w.line('#pragma unroll');
    w.block(`for (int ${counter} = 0; ${counter} < ${count}; ${counter}++)`, body);
  }

  /** The thread's rows of the tile. */
  #overRows(body: (row: string) => void): void {
    const { w, side } = this;
    const { rows, down, count } = this.#plan;
    const row = `${side}_row + s * ${down}`;
    this.#unrolled('s', count, () => {
      if (count * down > rows) w.line(`if (${row} >= ${rows}) break;`);
      body(row);
    });
  }

  /** Every vector or (with `e`) element of a pair that the thread moves, and where it comes from. */
  #overUnits(body: (row: string, source: Source, e: string) => void): void {
    const { side } = this;
    const { kMajor, copies, wholeSteps } = this.#plan;
    const each = (visit: (e: string) => void): void =>
      copies ? visit('0') : this.#unrolled('e', 2, () => visit('e'));
    if (kMajor && wholeSteps) this.#overWholeStep(body, each);
    else if (kMajor)
      this.#overRows((row) => {
        const k = this.#placeInK(`k0 + ${row}`);
        each((e) => body(row, this.#source(e, k), e));
      });
    else
      each((e) => {
        const k = this.#placeInK(copies ? `k0 + ${side}_column` : `k0 + ${side}_column + e`);
        this.#overRows((row) => body(row, this.#source('s', k), e));
      });
  }

  /** Of a k-major tile: its rows differ in the innermost index alone, so that guards are worked out once a step. */
  #overWholeStep(
    body: (row: string, source: Source, e: string) => void,
    each: (visit: (e: string) => void) => void,
  ): void {
    const { w, side } = this;
    const inner = this.#operand.inner!;
    w.line(`// The rows of a step differ in ${w.name(inner)} alone.`);
    w.unflatten('k0', this.tile.k);
    w.line(`const int k_offset = ${partOfOffset(w, this.#operand, this.#k, false)};`);
    const kept = this.#plan.copies ? 1 : 2;
    w.line(`bool ${side}_valid[${kept}];`);
    this.#unrolled('p', kept, () => {
      const at = (d: number): string => ` + ${partOfCoordinate(w, this.#operand, d, this.#k, false)}`;
      w.line(`${side}_valid[p] = ${[`k0 < ${this.tile.kLimit}`, ...this.#checks('p', at)].join(' && ')};`);
    });
    this.#overRows((row) => {
      w.line(`const int row_k = ${row};`);
      const step = this.#renamed(new Map([[inner, 'row_k']]), () =>
        partOfOffset(w, this.#operand, new Set([inner]), false),
      );
      w.line(`const int row_offset = k_offset + ${step};`);
      each((e) =>
        body('row_k', { offset: `${side}_base[${e}] + row_offset`, valid: `${side}_valid[${e}]` }, e),
      );
    });
  }

  /** Declares what depends on k alone, at a flat k. */
  #placeInK(flat: string): PlaceInK {
    const { w } = this;
    const { guards, kContiguous } = this.#operand;
    w.line(`const int flat_k = ${flat};`);
    if (kContiguous) return { offset: 'flat_k', at: () => '' };
    const declare = (): void => {
      w.line(`const int k_offset = ${partOfOffset(w, this.#operand, this.#k, false)};`);
      for (const d of guards)
        w.line(`const int k_at${d} = ${partOfCoordinate(w, this.#operand, d, this.#k, false)};`);
    };
    if (this.#carriedK.size > 0)
      this.#renamed(new Map(this.tile.k.map((i) => [i, this.#carriedK.get(i) ?? '0'])), declare);
    else {
      w.unflatten('flat_k', this.tile.k);
      declare();
    }
    return { offset: 'k_offset', at: (d) => ` + k_at${d}` };
  }

  /** At one of the thread's positions. */
  #source(p: string, k: PlaceInK): Source {
    return {
      offset: `${this.side}_base[${p}] + ${k.offset}`,
      valid: [`flat_k < ${this.tile.kLimit}`, ...this.#checks(p, k.at)].join(' && '),
    };
  }

  /** What must be true of one of the thread's positions, with a part of each guarded coordinate that comes from k. */
  #checks(p: string, at: (d: number) => string): string[] {
    const { w, side } = this;
    const { guards, load } = this.#operand;
    if (guards.length === 0) return [`${side}_inside[${p}]`];
    return guards.map((d) => `inside(${side}_at${d}[${p}]${at(d)}, ${w.dim(load.buffer, d)})`);
  }

  /** What `write` gives while some indices have other names. */
  #renamed<T>(names: ReadonlyMap<Index, string>, write: () => T): T {
    const { w } = this;
    const old = [...names.keys()].map((i) => [i, w.name(i)] as const);
    for (const [i, name] of names) w.rename(i, name);
    const result = write();
    for (const [i, name] of old) w.rename(i, name);
    return result;
  }
}
