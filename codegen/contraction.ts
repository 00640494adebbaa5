/**
 * @file The contraction skeleton without tensor cores: a block computes a tile of m by n outputs, each thread some of them in registers. Both
 * operands are staged through shared memory, TK rows of k at a time and several such steps deep, padding and tails as zeros: while one
 * step is multiplied, later ones are on their way. The sum over k runs in order in one accumulator by fused multiply-adds, so neither tile nor
 * stages change the bits.
 */
import type { Contraction } from '../ir/contraction.ts';
import type { ContractionSchedule, Load, Store } from '../ir/kernel.ts';
import { mostUnrolled, neighbours, tileStaging } from '../ir/simt.ts';
import { storageType } from './c.ts';
import { writeHostContraction } from './contraction_host.ts';
import { isMultiple, StagedTile } from './contraction_staging.ts';
import { offsetInM, openTile } from './contraction_tile.ts';
import type { KernelWriter } from './writer.ts';

export function writeContraction(w: KernelWriter, schedule: ContractionSchedule): void {
  if (schedule.threads === 1) writeHostContraction(w, schedule);
  else writeTile(w, schedule);
}

function writeTile(w: KernelWriter, schedule: ContractionSchedule): void {
  const { tile, perThread, stages } = schedule;
  const c = openTile(w, tile);
  const plans = tileStaging(c, schedule);
  const operands = (['a', 'b'] as const).map((side) => new StagedTile(w, c, side, plans[side], tile));
  const copied = operands.filter((o) => o.copies);
  const carried = operands.filter((o) => !o.copies);

  w.line(`constexpr int STAGES = ${stages};`);
  w.line(`struct Stage { ${operands.map((o) => o.declaration()).join(' ')} };`);
  w.line('struct Shared { Stage stage[STAGES]; };');
  w.line('BLOCK_SHARED(Shared, shared);');
  w.line('const int thread = (int)threadIdx.x;');
  writePlaces(w, schedule);
  w.line(`float acc[${perThread.n}][${perThread.m}] = {};`);
  for (const o of operands) {
    w.line('');
    o.prepare();
  }
  w.line('');
  const [widthM, widthN] = [neighbours(perThread.m), neighbours(perThread.n)];
  w.line(
    '// What the thread multiplies next, taken from shared memory while it multiplies what it took before.',
  );
  w.line(`float a_taken[2][${perThread.m}], b_taken[2][${perThread.n}];`);
  w.block(
    'const auto take = [&](const Stage& from, int row_k)',
    () => {
      const groups = (count: number, width: number, tileSide: number): string =>
        `${count}, ${width}, ${(tileSide / count) * width}`;
      w.line(
        `take_groups<${groups(perThread.m, widthM, tile.m)}>(a_taken[row_k % 2], &from.a[row_k][tx * ${widthM}]);`,
      );
      w.line(
        `take_groups<${groups(perThread.n, widthN, tile.n)}>(b_taken[row_k % 2], &from.b[row_k][ty * ${widthN}]);`,
      );
    },
    '};',
  );
  const multiply = 'multiply_row(acc, a_taken[row_k % 2], b_taken[row_k % 2]);';
  const overRows = (body: () => void): void => {
    const fits = tile.k * perThread.m * perThread.n <= mostUnrolled;
    w.line(fits ? '#pragma unroll' : '#pragma unroll 8');
    w.block('for (int row_k = 0; row_k < TK; row_k++)', body);
  };
  const load = (k0: string): void => carried.forEach((o) => w.line(`load_${o.side}(${k0});`));
  const copy = (stage: string, k0: string): void =>
    copied.forEach((o) => w.line(`copy_${o.side}(shared.stage[${stage}], ${k0});`));
  const store = (stage: string, when = ''): void =>
    carried.forEach((o) => w.line(`${when}store_${o.side}(shared.stage[${stage}]);`));

  w.line('');
  if (stages === 1) {
    w.line('#pragma unroll 1');
    w.block('for (int k0 = 0; k0 < K; k0 += TK)', () => {
      copy('0', 'k0');
      load('k0');
      store('0');
      w.line('copies_commit();');
      w.line('copies_wait<0>();');
      w.line('__syncthreads();');
      w.line('take(shared.stage[0], 0);');
      overRows(() => {
        w.line('if (row_k < TK - 1) take(shared.stage[0], row_k + 1);');
        w.line(multiply);
      });
      w.line('__syncthreads();');
    });
    writeEpilogue(w, schedule, c);
    return;
  }
  w.line('const int steps = (K + TK - 1) / TK;');
  w.line('#pragma unroll 1');
  w.block('for (int step = 0; step < STAGES - 1; step++)', () => {
    w.block('if (step < steps)', () => {
      copy('step', 'step * TK');
      load('step * TK');
      store('step');
    });
    w.line('copies_commit();');
  });
  w.line('copies_wait<STAGES - 2>();');
  w.line('__syncthreads();');
  w.line('take(shared.stage[0], 0);');
  w.line('int stage = 0;');
  w.line('#pragma unroll 1');
  w.block('for (int step = 0; step < steps; step++)', () => {
    w.line('// The stage that was multiplied last is filled again.');
    w.line('const int next = step + STAGES - 1, refilled = stage == 0 ? STAGES - 1 : stage - 1;');
    w.line('const Stage& now = shared.stage[stage];');
    w.block('if (next < steps)', () => {
      copy('refilled', 'next * TK');
      load('next * TK');
    });
    w.line('copies_commit();');
    w.line('stage = stage == STAGES - 1 ? 0 : stage + 1;');
    overRows(() => {
      w.block('if (row_k == TK - 1)', () => {
        store('refilled', 'if (next < steps) ');
        w.line('copies_wait<STAGES - 2>();');
        w.line('__syncthreads();');
      });
      w.line('take(row_k == TK - 1 ? shared.stage[stage] : now, (row_k + 1) % TK);');
      w.line(multiply);
    });
  });
  w.line("__syncthreads();  // a constrained slot's next block stages where the last row was taken from");
  w.line('');
  writeEpilogue(w, schedule, c);
}

/**
 * Which outputs a thread has: groups of neighbours, a tile's side divided by their number apart. Where the tile allows, a warp is 8 by 4
 * threads, laid out so that its reads of 16 bytes meet no bank twice: lanes that differ in the lowest bit read the same of `a`, those that
 * differ in the next one the same of `b`.
 */
function writePlaces(w: KernelWriter, { tile, perThread }: ContractionSchedule): void {
  const [columns, rows] = [tile.m / perThread.m, tile.n / perThread.n];
  if (columns % 8 !== 0 || rows % 4 !== 0) {
    w.line(`const int tx = thread % ${columns}, ty = thread / ${columns};`);
    return;
  }
  const across = columns / 8;
  w.line('const int lane = thread % 32, warp = thread / 32;');
  w.line(
    `const int tx = warp % ${across} * 8 + lane / 2 % 8, ty = warp / ${across} * 4 + lane / 16 * 2 + lane % 2;`,
  );
}

/** Adds what comes after the sum, and stores: several neighbours in m at once, where they are aligned. */
function writeEpilogue(w: KernelWriter, { tile, perThread }: ContractionSchedule, c: Contraction): void {
  const [columns, rows] = [tile.m / perThread.m, tile.n / perThread.n];
  const [widthM, widthN] = [neighbours(perThread.m), neighbours(perThread.n)];
  const vector = Math.min(widthM, c.epilogueVector);
  /** Where the thread's output number `i` is along one side of the tile. */
  const place = (thread: string, i: string, width: number, threads: number): string =>
    width === 1
      ? `${thread} + ${i} * ${threads}`
      : `${thread} * ${width} + ${i} / ${width} * ${threads * width} + ${i} % ${width}`;
  const positionM = `m0 + ${place('tx', 'i', widthM, columns)}`;
  const beyond = (position: string, limit: string, size: string, side: number): void => {
    if (!isMultiple(size, side)) w.line(`if (${position} >= ${limit}) break;`);
  };
  const overN = (body: () => void): void => {
    w.line('#pragma unroll');
    w.block(`for (int j = 0; j < ${perThread.n}; j++)`, () => {
      w.line(`const int position_n = n0 + ${place('ty', 'j', widthN, rows)};`);
      beyond('position_n', 'N', w.volume(c.n), tile.n);
      w.unflatten('position_n', c.n);
      body();
    });
  };
  const overM = (body: () => void): void => {
    w.line('#pragma unroll');
    w.block(`for (int i = 0; i < ${perThread.m}; i${vector === 1 ? '++' : ` += ${vector}`})`, () => {
      w.line(`const int position_m = ${positionM};`);
      beyond('position_m', 'M', w.volume(c.m), tile.m);
      body();
    });
  };
  if (vector > 1) {
    overN(() => overM(() => writeVector(w, c, vector)));
    return;
  }
  if (!c.epilogueContiguous) {
    // Taken apart once for all n.
    for (const i of c.m) w.line(`int ${w.name(i)}_of[${perThread.m}];`);
    w.line('#pragma unroll');
    w.block(`for (int i = 0; i < ${perThread.m}; i++)`, () => {
      w.line(`const int position = ${positionM};`);
      w.unflatten('position', c.m);
      for (const i of c.m) w.line(`${w.name(i)}_of[i] = ${w.name(i)};`);
    });
  }
  const offset = (access: Load | Store): string | undefined =>
    c.contiguous.has(access) ? offsetInM(w, c, access) : undefined;
  overN(() =>
    overM(() => {
      if (!c.epilogueContiguous) for (const i of c.m) w.line(`const int ${w.name(i)} = ${w.name(i)}_of[i];`);
      w.body({ offset }, new Map([[c.sum, 'acc[j][i]']]));
    }),
  );
}

/** The epilogue of neighbours from `position_m` on, whose sums begin with `acc[j][i]`. */
function writeVector(w: KernelWriter, c: Contraction, vector: number): void {
  const loads = [...c.contiguous].filter((x): x is Load => 'kind' in x);
  const { buffer } = c.store;
  const names = new Map<Load | Store, string>(loads.map((load, n) => [load, `${load.buffer.name}_part${n}`]));
  names.set(c.store, `${buffer.name}_part`);
  for (const load of loads) {
    const type = storageType[load.dtype];
    const at = `${load.buffer.name} + ${offsetInM(w, c, load)}`;
    w.line(`const Vector<${vector}, ${type}> ${names.get(load)} = load_vector<${vector}>(${at});`);
  }
  w.line(`Vector<${vector}, ${storageType[buffer.dtype]}> ${names.get(c.store)};`);
  w.line('#pragma unroll');
  w.block(`for (int e = 0; e < ${vector}; e++)`, () => {
    const place = (access: Load | Store): string | undefined => {
      const name = names.get(access);
      return name === undefined ? undefined : `${name}.at[e]`;
    };
    w.body({ place }, new Map([[c.sum, 'acc[j][i + e]']]));
  });
  w.line(`store_vector<${vector}>(${buffer.name} + ${offsetInM(w, c, c.store)}, ${names.get(c.store)});`);
}
