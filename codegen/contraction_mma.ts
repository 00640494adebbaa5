/**
 * @file The contraction skeleton on tensor cores, for operands of 16-bit floats. A block computes a tile of m by n outputs: n (output
 * channels, rows of a matrix) are the rows of the matrix instruction, m (pixels, columns) its columns, so that a tile of outputs lies
 * in memory as it does in registers. Both operands are staged through shared memory, several steps of k deep: while
 * one step is multiplied, later ones are on their way.
 *
 * k may be cut into segments, each summed in order by a group of threads of its own; the groups' sums are added in order. So the
 * order of every sum is fixed by the schedule alone.
 */
import type { Index } from '../ir/affine.ts';
import { type Contraction, hasWholeSteps, type Operand } from '../ir/contraction.ts';
import type { Load, MmaSchedule, Store } from '../ir/kernel.ts';
import { rowPitch, sumPitch } from '../ir/mma.ts';
import { storageType } from './c.ts';
import { offsetInM, openTile, partOfCoordinate, partOfOffset } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

export function writeMma(w: KernelWriter, schedule: MmaSchedule): void {
  const { tile, warps, stages, segments } = schedule;
  const c = openTile(w, tile);
  const group = 32 * warps.m * warps.n;
  const [warpM, warpN] = [tile.m / warps.m, tile.n / warps.n];
  const [columns, rows] = [warpM / 8, warpN / 16];
  const side = (name: 'a' | 'b', width: number, origin: string, limit: string): Staging =>
    new Staging(w, {
      name,
      operand: c[name],
      ...{ width, origin, limit },
      ...{ k: c.k, depth: tile.k, kLimit: 'K' },
      batch: c.batch,
      threads: group,
    });
  const operands = [side('a', tile.m, 'm0', 'M'), side('b', tile.n, 'n0', 'N')];
  const copied = operands.filter((o) => o.copies);
  const carried = operands.filter((o) => !o.copies);

  w.line(`constexpr int STAGES = ${stages};`);
  w.line(`struct Stage { ${operands.map((o) => o.declaration()).join(' ')} };`);
  w.line('union alignas(16) Shared {');
  w.line(`  Stage stage[${segments}][STAGES];`);
  w.line(`  float sums[${segments}][${16 * warps.n}][${sumPitch(tile.m)}];  // after the last step`);
  w.line('};');
  w.line('__shared__ Shared shared;');
  if (segments === 1) w.line('const int thread = (int)threadIdx.x, segment = 0;');
  else w.line(`const int thread = (int)threadIdx.x % ${group}, segment = (int)threadIdx.x / ${group};`);
  w.line('const int lane = thread % 32, warp = thread / 32;');
  w.line(`const int warp_m = warp % ${warps.m} * ${warpM}, warp_n = warp / ${warps.m} * ${warpN};`);
  if (segments === 1) w.line('const int steps = (K + TK - 1) / TK, k_first = 0;');
  else {
    w.line(`const int steps = (K + ${segments} * TK - 1) / (${segments} * TK);  // of each segment`);
    w.line('const int k_first = segment * steps * TK;');
  }
  w.line(`float acc[${rows}][${columns}][4] = {};`);
  for (const o of operands) {
    w.line('');
    o.prepare();
  }
  w.line('');
  const sync = group * segments === group ? '__syncthreads();' : `sync_group<${group}>(segment);`;
  const into = (stage: string): string => `shared.stage[segment][${stage}]`;
  w.block('for (int step = 0; step < STAGES - 1; step++)', () => {
    const k0 = 'k_first + step * TK';
    for (const o of copied) w.line(`copy_${o.side}(${into('step')}, ${k0});`);
    w.line('copies_commit();');
    for (const o of carried) {
      w.line(`load_${o.side}(${k0});`);
      w.line(`store_${o.side}(${into('step')});`);
    }
  });
  w.line('int stage = 0;');
  w.block('for (int step = 0; step < steps; step++)', () => {
    w.line('copies_wait<STAGES - 2>();');
    w.line(sync);
    w.line('// The stage that was multiplied last is filled again.');
    w.line('const int next = step + STAGES - 1, refilled = stage == 0 ? STAGES - 1 : stage - 1;');
    w.block('if (next < steps)', () => {
      for (const o of copied) w.line(`copy_${o.side}(${into('refilled')}, k_first + next * TK);`);
      for (const o of carried) w.line(`load_${o.side}(k_first + next * TK);`);
    });
    w.line('copies_commit();');
    const kMajor = operands.map((o) => o.kMajor).join(', ');
    const tiles = operands.map((o) => `${into('stage')}.${o.side}`).join(', ');
    w.line(`multiply_step<TK, ${kMajor}, ${columns}, ${rows}>(acc, ${tiles}, warp_m, warp_n, lane);`);
    for (const o of carried) w.line(`if (next < steps) store_${o.side}(${into('refilled')});`);
    w.line('stage = stage == STAGES - 1 ? 0 : stage + 1;');
  });
  w.line('');
  writeEpilogue(w, schedule, c);
}

/** An operand's tile: `width` positions by `depth` values of k. */
export interface StagedTile {
  /** What it is called in the emitted code. */
  readonly name: string;
  readonly operand: Operand;
  readonly width: number;
  /** The first position and how many there are, in C. */
  readonly origin: string;
  readonly limit: string;
  readonly k: readonly Index[];
  readonly depth: number;
  /** How many values of k there are, in C. */
  readonly kLimit: string;
  readonly batch: readonly Index[];
  /** Threads that fill it. */
  readonly threads: number;
}

/**
 * Writes how one operand gets into its tile. Where neighbours can be read together they are copied past the registers; else each
 * thread loads pairs into registers before a step is multiplied, and stores them after it.
 */
export class Staging {
  readonly #operand: Operand;
  readonly #type: string;
  /** Elements that a thread moves together: a vector, or a pair. */
  readonly #unit: number;
  /** Threads along a row of the tile, and rows from one of a thread's rows to its next. */
  readonly #across: number;
  readonly #down: number;
  /** Rows that each thread looks after. */
  readonly #count: number;
  readonly #rows: number;
  readonly #k: ReadonlySet<Index>;
  readonly #fixed: ReadonlySet<Index>;
  /** Rows are values of k, and those of one step differ in one index alone. */
  readonly #wholeSteps: boolean;
  readonly side: string;
  readonly kMajor: boolean;
  readonly copies: boolean;

  constructor(
    private readonly w: KernelWriter,
    private readonly tile: StagedTile,
  ) {
    this.side = tile.name;
    this.#operand = tile.operand;
    const { vector, positionFast, positions, load } = this.#operand;
    this.#type = storageType[load.dtype];
    this.kMajor = positionFast;
    this.copies = vector > 1;
    this.#wholeSteps = positionFast && hasWholeSteps(this.#operand, tile.depth);
    const [across, rows] = positionFast ? [tile.width, tile.depth] : [tile.depth, tile.width];
    this.#unit = Math.max(2, vector);
    this.#rows = rows;
    this.#across = across / this.#unit;
    this.#down = tile.threads / this.#across;
    this.#count = Math.ceil(rows / this.#down);
    this.#k = new Set(tile.k);
    this.#fixed = new Set([...tile.batch, ...positions]);
  }

  /** The tile: a row a k (k-major), or a row a position. */
  declaration(): string {
    const { width, depth } = this.tile;
    return this.kMajor
      ? `${this.#type} ${this.side}[${depth}][${rowPitch(width)}];`
      : `${this.#type} ${this.side}[${width}][${rowPitch(depth)}];`;
  }

  /** Before the loop over k: what is known of each of the thread's positions, and the functions that fill a tile. */
  prepare(): void {
    const { w, side, kMajor, copies } = this;
    const what = copies
      ? `${this.#unit} neighbours in ${kMajor ? 'position' : 'k'} are copied at once`
      : `pairs of neighbours in ${kMajor ? 'position' : 'k'} pass through registers`;
    w.line(
      `// ${side}: ${kMajor ? 'a row of the tile is one k' : 'a row of the tile is one position'}; ${what}.`,
    );
    w.line(
      `const int ${side}_column = thread % ${this.#across} * ${this.#unit}, ${side}_row = thread / ${this.#across};`,
    );
    // Positions that the thread keeps to: along its row if that is one k, else one a row.
    const kept = kMajor ? (copies ? 1 : this.#unit) : this.#count;
    const place = kMajor
      ? `${this.tile.origin} + ${side}_column + p`
      : `${this.tile.origin} + ${side}_row + p * ${this.#down}`;
    const { guards } = this.#operand;
    w.line(`int ${side}_base[${kept}];  // each position's offset, without k`);
    for (const d of guards) w.line(`int ${side}_at${d}[${kept}];  // its coordinate ${d}, without k`);
    w.line(`bool ${side}_inside[${kept}];`);
    this.#unrolled('p', kept, () => {
      w.line(`const int position = ${place};`);
      w.unflatten('position', this.#operand.positions);
      w.line(`${side}_base[p] = ${partOfOffset(w, this.#operand, this.#fixed, true)};`);
      for (const d of guards)
        w.line(`${side}_at${d}[p] = ${partOfCoordinate(w, this.#operand, d, this.#fixed, true)};`);
      w.line(`${side}_inside[p] = position < ${this.tile.limit};`);
    });
    if (copies) {
      w.block(
        `const auto copy_${side} = [&](auto& to, int k0)`,
        () =>
          this.#overUnits((row, column, source) => {
            w.line(
              `copy_async<${this.#unit * 2}>(&to.${side}[${row}][${column}], ${this.#buffer}, ${source.offset}, ${source.valid});`,
            );
          }),
        '};',
      );
      return;
    }
    w.line(`${this.#type} ${side}_next[${this.#count}][2];`);
    w.block(
      `const auto load_${side} = [&](int k0)`,
      () =>
        this.#overUnits((_row, _column, source, e) => {
          w.line(
            `${side}_next[s][${e}] = ${source.valid} ? ${this.#buffer}[${source.offset}] : ${this.#type}{};`,
          );
        }),
      '};',
    );
    w.block(
      `const auto store_${side} = [&](auto& to)`,
      () =>
        this.#overRows((row) => {
          w.line(
            `store_vector<2>(&to.${side}[${row}][${side}_column], {${side}_next[s][0], ${side}_next[s][1]});`,
          );
        }),
      '};',
    );
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
    const row = `${side}_row + s * ${this.#down}`;
    this.#unrolled('s', this.#count, () => {
      if (this.#count * this.#down > this.#rows) w.line(`if (${row} >= ${this.#rows}) break;`);
      body(row);
    });
  }

  /** Every vector or (with `e`) element of a pair that the thread moves, and where it comes from. */
  #overUnits(
    body: (row: string, column: string, source: { offset: string; valid: string }, e: string) => void,
  ): void {
    const { w, side, copies, kMajor } = this;
    const { guards, load, kContiguous } = this.#operand;
    const ofK = (flat: string): { offset: string; at: (d: number) => string } => {
      w.line(`const int flat_k = ${flat};`);
      if (kContiguous) return { offset: 'flat_k', at: () => '' };
      w.unflatten('flat_k', this.tile.k);
      w.line(`const int k_offset = ${partOfOffset(this.w, this.#operand, this.#k, false)};`);
      for (const d of guards)
        w.line(`const int k_at${d} = ${partOfCoordinate(w, this.#operand, d, this.#k, false)};`);
      return { offset: 'k_offset', at: (d) => ` + k_at${d}` };
    };
    const source = (p: string, k: ReturnType<typeof ofK>) => ({
      offset: `${side}_base[${p}] + ${k.offset}`,
      valid: [
        `${side}_inside[${p}]`,
        `flat_k < ${this.tile.kLimit}`,
        ...guards.map((d) => `inside(${side}_at${d}[${p}]${k.at(d)}, ${w.dim(load.buffer, d)})`),
      ].join(' && '),
    });
    const column = `${side}_column`;
    if (this.#wholeSteps) {
      const inner = this.#operand.inner!;
      w.line(`// The rows of a step differ in ${w.name(inner)} alone.`);
      w.unflatten('k0', this.tile.k);
      w.line(`const int k_offset = ${partOfOffset(w, this.#operand, this.#k, false)};`);
      const kept = copies ? 1 : 2;
      w.line(`bool ${side}_valid[${kept}];`);
      this.#unrolled('p', kept, () => {
        const checks = guards.map(
          (d) =>
            `inside(${side}_at${d}[p] + ${partOfCoordinate(w, this.#operand, d, this.#k, false)}, ${w.dim(load.buffer, d)})`,
        );
        w.line(
          `${side}_valid[p] = ${[`${side}_inside[p]`, `k0 < ${this.tile.kLimit}`, ...checks].join(' && ')};`,
        );
      });
      this.#overRows((row) => {
        w.line(`const int row_k = ${row};`);
        const name = w.name(inner);
        w.rename(inner, 'row_k');
        w.line(
          `const int row_offset = k_offset + ${partOfOffset(w, this.#operand, new Set([inner]), false)};`,
        );
        w.rename(inner, name);
        const from = (p: string): { offset: string; valid: string } => ({
          offset: `${side}_base[${p}] + row_offset`,
          valid: `${side}_valid[${p}]`,
        });
        if (copies) body('row_k', column, from('0'), '0');
        else this.#unrolled('e', 2, () => body('row_k', column, from('e'), 'e'));
      });
    } else if (kMajor) {
      this.#overRows((row) => {
        const k = ofK(`k0 + ${row}`);
        if (copies) body(row, column, source('0', k), '0');
        else this.#unrolled('e', 2, () => body(row, column, source('e', k), 'e'));
      });
    } else if (copies) {
      const k = ofK(`k0 + ${column}`);
      this.#overRows((row) => body(row, column, source('s', k), '0'));
    } else {
      this.#unrolled('e', 2, () => {
        const k = ofK(`k0 + ${column} + e`);
        this.#overRows((row) => body(row, column, source('s', k), 'e'));
      });
    }
  }
}

/**
 * Adds what comes after the sum, and stores. The sums take the way over shared memory, 16 rows of each warp at a time, so that
 * neighbouring threads read and write neighbouring positions of m, several at once where they are aligned.
 */
function writeEpilogue(w: KernelWriter, schedule: MmaSchedule, c: Contraction): void {
  const { threads, tile, warps, segments } = schedule;
  const warpN = tile.n / warps.n;
  const parts = warpN / 16;
  const vector = c.epilogueVector;
  const rows = 16 * warps.n;
  const units = (rows * tile.m) / vector;
  const across = tile.m / vector;

  w.line('// The sums go through shared memory, so that neighbouring threads store neighbouring positions.');
  w.line('copies_wait<0>();');
  w.line('__syncthreads();');
  w.line('#pragma unroll');
  w.block(`for (int part = 0; part < ${parts}; part++)`, () => {
    w.line(
      `put_fragments<${tile.m / warps.m / 8}>(shared.sums[segment], acc[part], warp_n / ${warpN} * 16, warp_m, lane);`,
    );
    w.line('__syncthreads();');
    w.block(`for (int unit = (int)threadIdx.x; unit < ${units}; unit += ${threads})`, () => {
      w.line(`const int row_n = unit / ${across}, column = unit % ${across} * ${vector};`);
      w.line(`const int position_n = n0 + row_n / 16 * ${warpN} + part * 16 + row_n % 16;`);
      w.line('const int position_m = m0 + column;');
      w.line('if (position_n >= N || position_m >= M) continue;');
      w.unflatten('position_n', c.n);
      if (!c.epilogueContiguous) w.unflatten('position_m', c.m);
      const sum = (e: string): string =>
        Array.from({ length: segments }, (_, s) => `shared.sums[${s}][row_n][column${e}]`).join(' + ');
      if (vector === 1) {
        w.line(`const float sum = ${sum('')};`);
        const offset = (access: Load | Store): string | undefined =>
          c.contiguous.has(access) ? offsetInM(w, c, access) : undefined;
        w.body({ offset }, new Map([[c.sum, 'sum']]));
        return;
      }
      const loads = [...c.contiguous].filter((x): x is Load => 'kind' in x);
      const names = new Map<Load | Store, string>();
      for (const load of loads) {
        const name = `${load.buffer.name}_part${names.size}`;
        names.set(load, name);
        w.line(
          `const auto ${name} = load_vector<${vector}>(${load.buffer.name} + ${offsetInM(w, c, load)});`,
        );
      }
      const { buffer } = c.store;
      const out = `${buffer.name}_part`;
      names.set(c.store, out);
      w.line(`Vector<${vector}, ${storageType[buffer.dtype]}> ${out};`);
      w.line('#pragma unroll');
      w.block(`for (int e = 0; e < ${vector}; e++)`, () => {
        w.line(`const float sum = ${sum(' + e')};`);
        const place = (access: Load | Store): string | undefined => {
          const name = names.get(access);
          return name === undefined ? undefined : `${name}.at[e]`;
        };
        w.body({ place }, new Map([[c.sum, 'sum']]));
      });
      w.line(`store_vector<${vector}>(${buffer.name} + ${offsetInM(w, c, c.store)}, ${out});`);
    });
    w.line('__syncthreads();');
  });
}
