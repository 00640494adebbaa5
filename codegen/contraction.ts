/**
 * @file The contraction skeleton: a block computes a tile of m by n outputs. Both operands are staged through shared
 * memory, k rows at a time, padding and tails as zeros; each thread keeps its accumulators in registers and writes
 * the epilogue. The sum over k runs in order in one accumulator, so no tile size changes the bits.
 *
 * Accesses are affine, so an offset is a part of the batch, plus a part of the position (m or n), plus a part of k:
 * each part is worked out where it is known and no further in.
 */
import type { Index } from '../ir/affine.ts';
import type { Contraction, Operand } from '../ir/contraction.ts';
import type { ContractionSchedule, Load, Store } from '../ir/kernel.ts';
import { castTo } from './c.ts';
import { offsetInM, openTile, partOfCoordinate, partOfOffset } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

export function writeContraction(w: KernelWriter, schedule: ContractionSchedule): void {
  const { threads, tile, perThread } = schedule;
  const columns = tile.m / perThread.m;
  const rows = tile.n / perThread.n;
  const c = openTile(w, tile);
  const batch = new Set(c.batch);
  // A tile that is filled along k is written down its columns: an odd pitch keeps that free of bank conflicts.
  const pitch = (o: Operand): string => (threads > 1 && !o.positionFast ? ' + 1' : '');
  w.line(`struct Shared { float a[TK][TM${pitch(c.a)}], b[TK][TN${pitch(c.b)}]; };`);
  w.line('BLOCK_SHARED(Shared, shared);');
  w.line(`const int tx = (int)threadIdx.x % ${columns}, ty = (int)threadIdx.x / ${columns};`);
  w.line(`float acc[${perThread.n}][${perThread.m}] = {};`);
  w.line('');

  const a = new Staging(w, schedule, c, 'a', batch);
  const b = new Staging(w, schedule, c, 'b', batch);
  a.prepare();
  b.prepare();
  w.block('for (int k0 = 0; k0 < K; k0 += TK)', () => {
    a.stage();
    b.stage();
    w.line('__syncthreads();');
    w.line(
      `multiply_tiles<${perThread.m}, ${perThread.n}, ${columns}, ${rows}>(acc, shared.a, shared.b, tx, ty);`,
    );
    w.line('__syncthreads();');
  });
  w.line('');
  writeEpilogue(w, schedule, c);
}

/** Writes how one operand gets into its tile. */
class Staging {
  readonly #operand: Operand;
  readonly #tile: string;
  readonly #width: number;
  readonly #widthName: string;
  readonly #origin: string;
  readonly #limit: string;
  /** Positions (or, for an operand that is contiguous in k, rows of k) that one thread looks after. */
  readonly #perThread: number;
  readonly #k: ReadonlySet<Index>;
  readonly #positions: ReadonlySet<Index>;

  constructor(
    private readonly w: KernelWriter,
    private readonly schedule: ContractionSchedule,
    private readonly c: Contraction,
    private readonly side: 'a' | 'b',
    private readonly batch: ReadonlySet<Index>,
  ) {
    this.#operand = c[side];
    this.#tile = `shared.${side}`;
    [this.#width, this.#widthName, this.#origin, this.#limit] =
      side === 'a' ? [schedule.tile.m, 'TM', 'm0', 'M'] : [schedule.tile.n, 'TN', 'n0', 'N'];
    this.#perThread = Math.max(1, this.#width / schedule.threads);
    this.#k = new Set(c.k);
    this.#positions = new Set(this.#operand.positions);
  }

  /** Before the k loop: the part of each position, if threads keep to their positions. */
  prepare(): void {
    const { w, side } = this;
    const { guards, positionFast, positionsContiguous } = this.#operand;
    if (!positionFast) return;
    if (positionsContiguous) return w.line(`const int ${side}_first = ${this.#part(this.batch, true)};`);
    const n = this.#perThread;
    const fixed = new Set([...this.batch, ...this.#positions]);
    w.line(`int ${side}_base[${n}];  // each position's offset, without k`);
    for (const d of guards) w.line(`int ${side}_at${d}[${n}];  // its coordinate ${d}, without k`);
    this.#overPositions(() => {
      w.line(`const int position = ${this.#origin} + ${this.#column()};`);
      this.#unflattenPositions();
      w.line(`${side}_base[s] = ${this.#part(fixed, true)};`);
      // A position beyond the last is outside of every buffer.
      for (const d of guards) {
        w.line(
          `${side}_at${d}[s] = position < ${this.#limit} ? ${this.#coordinate(d, fixed, true)} : -(1 << 30);`,
        );
      }
    });
  }

  /** Inside the k loop: fills the tile. */
  stage(): void {
    if (!this.#operand.positionFast) this.#stageByK();
    else if (this.schedule.threads === 1 && this.#operand.positionsContiguous) this.#copyRows();
    else this.#stageByPosition();
  }

  /** One thread copies the positions of each k row, which lie side by side, in a loop without conditions. */
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

  /** Neighbouring threads take neighbouring positions of one k row. */
  #stageByPosition(): void {
    const { w, side } = this;
    const { guards, load, positionsContiguous } = this.#operand;
    const step = Math.max(1, this.schedule.threads / this.#width);
    const start = step === 1 ? '0' : `(int)threadIdx.x / ${this.#widthName}`;
    w.block(`for (int row_k = ${start}; row_k < TK; row_k += ${step})`, () => {
      w.line('const int flat_k = k0 + row_k;');
      w.unflatten('flat_k', this.c.k);
      w.line(`const int k_offset = ${this.#part(this.#k, false)};`);
      for (const d of guards) w.line(`const int k_at${d} = ${this.#coordinate(d, this.#k, false)};`);
      this.#overPositions(() => {
        const checks = ['flat_k < K'];
        if (guards.length === 0) {
          w.line(`const int position = ${this.#origin} + ${this.#column()};`);
          checks.push(`position < ${this.#limit}`);
        }
        for (const d of guards) checks.push(`inside(${side}_at${d}[s] + k_at${d}, ${w.dim(load.buffer, d)})`);
        const base = positionsContiguous ? `${side}_first + position` : `${side}_base[s]`;
        w.line(
          `${this.#tile}[row_k][${this.#column()}] = ${checks.join(' && ')} ? ${this.#read(`${base} + k_offset`)} : 0.0f;`,
        );
      });
    });
  }

  /** Neighbouring threads take neighbouring rows of k at one position. */
  #stageByK(): void {
    const { w } = this;
    const { threads, tile } = this.schedule;
    const { guards, load, kContiguous } = this.#operand;
    const kPerThread = Math.max(1, tile.k / threads);
    const step = Math.max(1, threads / tile.k);
    const start = threads < tile.k ? '0' : '(int)threadIdx.x / TK';
    w.block(`for (int column = ${start}; column < ${this.#widthName}; column += ${step})`, () => {
      w.line(`const int position = ${this.#origin} + column;`);
      this.#unflattenPositions();
      w.line(`const int base = ${this.#part(new Set([...this.batch, ...this.#positions]), true)};`);
      for (const d of guards) {
        w.line(
          `const int at${d} = ${this.#coordinate(d, new Set([...this.batch, ...this.#positions]), true)};`,
        );
      }
      w.block(`for (int s = 0; s < ${kPerThread}; s++)`, () => {
        w.line(
          threads === 1
            ? 'const int row_k = s;'
            : `const int row_k = (int)threadIdx.x % TK + s * ${threads};`,
        );
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

  #overPositions(body: () => void): void {
    const { w } = this;
    w.block(`for (int s = 0; s < ${this.#perThread}; s++)`, body);
  }

  /** The tile's column that goes with position number `s` of a thread. */
  #column(): string {
    const { threads } = this.schedule;
    if (threads === 1) return 's';
    if (this.#perThread === 1) return `(int)threadIdx.x % ${this.#widthName}`;
    return `(int)threadIdx.x + s * ${threads}`;
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
function writeEpilogue(
  w: KernelWriter,
  { threads, tile, perThread }: ContractionSchedule,
  c: Contraction,
): void {
  const columns = tile.m / perThread.m;
  const rows = tile.n / perThread.n;
  /** A loop over a thread's positions; `beyond` ends it after the last. */
  const overThread = (
    counter: string,
    count: number,
    position: string,
    beyond: string,
    body: () => void,
  ): void => {
    if (threads > 1) w.line('#pragma unroll');
    w.block(
      `for (int ${counter} = 0; ${counter} < ${threads > 1 ? count : `(${beyond} < ${count} ? ${beyond} : ${count})`}; ${counter}++)`,
      () => {
        w.line(`const int position_${counter === 'i' ? 'm' : 'n'} = ${position};`);
        if (threads > 1)
          w.line(counter === 'i' ? 'if (position_m >= M) break;' : 'if (position_n >= N) break;');
        body();
      },
    );
  };
  const mPosition = `m0 + tx + i * ${columns}`;
  if (!c.epilogueContiguous) {
    // Taken apart once for all n.
    for (const i of c.m) w.line(`int ${w.name(i)}_of[${perThread.m}];`);
    w.block(`for (int i = 0; i < ${perThread.m}; i++)`, () => {
      w.line(`const int position = ${mPosition};`);
      w.unflatten('position', c.m);
      for (const i of c.m) w.line(`${w.name(i)}_of[i] = ${w.name(i)};`);
    });
  }
  const offset = (access: Load | Store): string | undefined =>
    c.contiguous.has(access) ? offsetInM(w, c, access) : undefined;
  overThread('j', perThread.n, `n0 + ty + j * ${rows}`, 'N - n0', () => {
    w.unflatten('position_n', c.n);
    overThread('i', perThread.m, mPosition, 'M - m0', () => {
      if (!c.epilogueContiguous) for (const i of c.m) w.line(`const int ${w.name(i)} = ${w.name(i)}_of[i];`);
      w.body({ offset }, new Map([[c.sum, 'acc[j][i]']]));
    });
  });
}
