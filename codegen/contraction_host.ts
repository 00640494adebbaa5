/**
 * @file The contraction skeleton for blocks of one thread, as the host has them: a tile of outputs is one thread's, both operands are staged
 * in its near memory with rows of neighbouring positions, padding and tails as zeros, and loops are long enough to vectorise.
 */
import type { Index } from '../ir/affine.ts';
import type { Contraction, Operand } from '../ir/contraction.ts';
import type { ContractionSchedule, Load, Store } from '../ir/kernel.ts';
import { castTo } from './c.ts';
import { offsetInM, openTile, partOfCoordinate, partOfOffset } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

export function writeHostContraction(w: KernelWriter, { tile }: ContractionSchedule): void {
  const c = openTile(w, tile);
  w.line('struct Shared { float a[TK][TM], b[TK][TN]; };');
  w.line('BLOCK_SHARED(Shared, shared);');
  w.line('float acc[TN][TM] = {};');
  w.line('');
  const a = new Staging(w, tile, c, 'a');
  const b = new Staging(w, tile, c, 'b');
  a.prepare();
  b.prepare();
  w.block('for (int k0 = 0; k0 < K; k0 += TK)', () => {
    a.stage();
    b.stage();
    w.line('multiply_tiles<TM, TN, TK>(acc, shared.a, shared.b);');
  });
  w.line('');
  writeEpilogue(w, tile, c);
}

/** Writes how one operand gets into its tile. */
class Staging {
  readonly #operand: Operand;
  readonly #tile: string;
  readonly #width: number;
  readonly #widthName: string;
  readonly #origin: string;
  readonly #limit: string;
  readonly #batch: ReadonlySet<Index>;
  readonly #k: ReadonlySet<Index>;
  /** What does not change along k. */
  readonly #fixed: ReadonlySet<Index>;

  constructor(
    private readonly w: KernelWriter,
    tile: ContractionSchedule['tile'],
    private readonly c: Contraction,
    private readonly side: 'a' | 'b',
  ) {
    this.#operand = c[side];
    this.#tile = `shared.${side}`;
    [this.#width, this.#widthName, this.#origin, this.#limit] =
      side === 'a' ? [tile.m, 'TM', 'm0', 'M'] : [tile.n, 'TN', 'n0', 'N'];
    this.#batch = new Set(c.batch);
    this.#k = new Set(c.k);
    this.#fixed = new Set([...c.batch, ...this.#operand.positions]);
  }

  /** Before the k loop: the part of each position, where positions are staged side by side. */
  prepare(): void {
    const { w, side } = this;
    const { guards, positionFast, positionsContiguous } = this.#operand;
    if (!positionFast) return;
    if (positionsContiguous) return w.line(`const int ${side}_first = ${this.#part(this.#batch, true)};`);
    w.line(`int ${side}_base[${this.#width}];  // each position's offset, without k`);
    for (const d of guards) w.line(`int ${side}_at${d}[${this.#width}];  // its coordinate ${d}, without k`);
    w.block(`for (int s = 0; s < ${this.#width}; s++)`, () => {
      w.line(`const int position = ${this.#origin} + s;`);
      this.#unflattenPositions();
      w.line(`${side}_base[s] = ${this.#part(this.#fixed, true)};`);
      // A position beyond the last is outside of every buffer.
      for (const d of guards) {
        const at = this.#coordinate(d, this.#fixed, true);
        w.line(`${side}_at${d}[s] = position < ${this.#limit} ? ${at} : -(1 << 30);`);
      }
    });
  }

  /** Inside the k loop: fills the tile. */
  stage(): void {
    if (!this.#operand.positionFast) this.#stageByK();
    else if (this.#operand.positionsContiguous) this.#copyRows();
    else this.#stageByPosition();
  }

  /** Copies the positions of each k row, which lie side by side, in a loop without conditions. */
  #copyRows(): void {
    const { w, side } = this;
    const width = this.#widthName;
    const left = `${this.#limit} - ${this.#origin}`;
    w.block('for (int row_k = 0; row_k < TK; row_k++)', () => {
      w.line('const int flat_k = k0 + row_k;');
      w.unflatten('flat_k', this.c.k);
      w.line(`const int k_offset = ${this.#part(this.#k, false)};`);
      w.line(`const int count = flat_k >= K ? 0 : ${left} < ${width} ? ${left} : ${width};`);
      const from = this.#read(`${side}_first + ${this.#origin} + k_offset + s`);
      w.line(`for (int s = 0; s < count; s++) ${this.#tile}[row_k][s] = ${from};`);
      w.line(`for (int s = count; s < ${width}; s++) ${this.#tile}[row_k][s] = 0.0f;`);
    });
  }

  /** Position by position of one k row. */
  #stageByPosition(): void {
    const { w, side } = this;
    const { guards, load } = this.#operand;
    w.block('for (int row_k = 0; row_k < TK; row_k++)', () => {
      w.line('const int flat_k = k0 + row_k;');
      w.unflatten('flat_k', this.c.k);
      w.line(`const int k_offset = ${this.#part(this.#k, false)};`);
      for (const d of guards) w.line(`const int k_at${d} = ${this.#coordinate(d, this.#k, false)};`);
      w.block(`for (int s = 0; s < ${this.#width}; s++)`, () => {
        const checks = ['flat_k < K'];
        if (guards.length === 0) {
          w.line(`const int position = ${this.#origin} + s;`);
          checks.push(`position < ${this.#limit}`);
        }
        for (const d of guards) checks.push(`inside(${side}_at${d}[s] + k_at${d}, ${w.dim(load.buffer, d)})`);
        const value = this.#read(`${side}_base[s] + k_offset`);
        w.line(`${this.#tile}[row_k][s] = ${checks.join(' && ')} ? ${value} : 0.0f;`);
      });
    });
  }

  /** Row by row of k at one position. */
  #stageByK(): void {
    const { w } = this;
    const { guards, load, kContiguous } = this.#operand;
    w.block(`for (int column = 0; column < ${this.#widthName}; column++)`, () => {
      w.line(`const int position = ${this.#origin} + column;`);
      this.#unflattenPositions();
      w.line(`const int base = ${this.#part(this.#fixed, true)};`);
      for (const d of guards) w.line(`const int at${d} = ${this.#coordinate(d, this.#fixed, true)};`);
      w.block('for (int row_k = 0; row_k < TK; row_k++)', () => {
        w.line('const int flat_k = k0 + row_k;');
        const checks = [`position < ${this.#limit}`, 'flat_k < K'];
        if (kContiguous) {
          for (const d of guards) checks.push(`inside(at${d}, ${w.dim(load.buffer, d)})`);
        } else {
          w.unflatten('flat_k', this.c.k);
          for (const d of guards) {
            checks.push(`inside(at${d} + ${this.#coordinate(d, this.#k, false)}, ${w.dim(load.buffer, d)})`);
          }
        }
        const offset = kContiguous ? 'base + flat_k' : `base + ${this.#part(this.#k, false)}`;
        w.line(`${this.#tile}[row_k][column] = ${checks.join(' && ')} ? ${this.#read(offset)} : 0.0f;`);
      });
    });
  }

  #unflattenPositions(): void {
    this.w.unflatten('position', this.#operand.positions);
  }

  #read(offset: string): string {
    const { buffer, dtype } = this.#operand.load;
    return castTo('f32', dtype, `${buffer.name}[${offset}]`);
  }

  /** The part of the offset that comes from some indices, with or without the constant. */
  #part(indices: ReadonlySet<Index>, constant: boolean): string {
    return partOfOffset(this.w, this.#operand, indices, constant);
  }

  #coordinate(d: number, indices: ReadonlySet<Index>, constant: boolean): string {
    return partOfCoordinate(this.w, this.#operand, d, indices, constant);
  }
}

/** Adds what comes after the sum, and stores: m is the inner loop, as it is contiguous in the output. */
function writeEpilogue(w: KernelWriter, tile: ContractionSchedule['tile'], c: Contraction): void {
  if (!c.epilogueContiguous) {
    // Taken apart once for all n.
    for (const i of c.m) w.line(`int ${w.name(i)}_of[${tile.m}];`);
    w.block(`for (int i = 0; i < ${tile.m}; i++)`, () => {
      w.line('const int position = m0 + i;');
      w.unflatten('position', c.m);
      for (const i of c.m) w.line(`${w.name(i)}_of[i] = ${w.name(i)};`);
    });
  }
  const offset = (access: Load | Store): string | undefined =>
    c.contiguous.has(access) ? offsetInM(w, c, access) : undefined;
  const count = (left: string, all: string): string => `(${left} < ${all} ? ${left} : ${all})`;
  w.block(`for (int j = 0; j < ${count('N - n0', 'TN')}; j++)`, () => {
    w.line('const int position_n = n0 + j;');
    w.unflatten('position_n', c.n);
    w.block(`for (int i = 0; i < ${count('M - m0', 'TM')}; i++)`, () => {
      w.line('const int position_m = m0 + i;');
      if (!c.epilogueContiguous) for (const i of c.m) w.line(`const int ${w.name(i)} = ${w.name(i)}_of[i];`);
      w.body({ offset }, new Map([[c.sum, 'acc[j][i]']]));
    });
  });
}
