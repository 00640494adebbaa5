/**
 * @file The contraction skeleton on tensor cores, for operands of 16-bit floats. A block computes a tile of m by n outputs: n (output
 * channels, rows of a matrix) are the rows of the matrix instruction, m (pixels, columns) its columns, so that a tile of outputs lies
 * in memory as it does in registers. Both operands are staged through shared memory, several steps of k deep: while
 * one step is multiplied, later ones are on their way.
 *
 * k may be cut into parts, each summed in order by a group of threads (a segment) of a block (a split); their sums are added pairwise. So
 * the order of every sum is fixed by the number of parts alone (ir/mma.ts).
 */
import type { Contraction } from '../ir/contraction.ts';
import type { Load, MmaSchedule, Store } from '../ir/kernel.ts';
import { contractionStaging, sumParts, sumPitch, sumRows } from '../ir/mma.ts';
import { storageType } from './c.ts';
import { offsetInM, openTile } from './contraction_tile.ts';
import { loadsAtOnce, type Multiplication, multiplicationOf } from './mma_multiply.ts';
import { leaveSplits, openPart, openSplits, pairwise, tileNumber } from './mma_splits.ts';
import { StagedOperand } from './mma_staging.ts';
import type { KernelWriter } from './writer.ts';

export function writeMma(w: KernelWriter, schedule: MmaSchedule): void {
  const { tile, warps, stages, segments } = schedule;
  openSplits(w, schedule);
  const c = openTile(w, tile, tileNumber(schedule));
  const group = 32 * warps.m * warps.n;
  const { a, b } = contractionStaging(c, schedule);
  const both = { struct: 'Stage', batch: c.batch, k: c.k, kLimit: 'K', depth: 'TK', kFirst: 'k_first' };
  const operands = [
    new StagedOperand(w, { ...both, name: 'a', operand: c.a, plan: a, origin: 'm0', limit: 'M' }),
    new StagedOperand(w, { ...both, name: 'b', operand: c.b, plan: b, origin: 'n0', limit: 'N' }),
  ] as const;
  const product = multiplicationOf(w, schedule, operands);
  const copied = operands.filter((o) => o.copies);
  const carried = operands.filter((o) => !o.copies);

  w.line(`constexpr int STAGES = ${stages};`);
  w.line(`struct Stage { ${operands.map((o) => o.declaration()).join(' ')} };`);
  w.line(`union alignas(${product.alignment}) Shared {`);
  w.line(`  Stage stage[${segments}][STAGES];`);
  w.line(
    `  float sums[${segments}][${rowsAtOnce(c, schedule)}][${sumPitch(tile.m, schedule.instruction)}];  // after the last step`,
  );
  w.line('};');
  w.line('BLOCK_SHARED(Shared, shared);');
  if (segments === 1) w.line('const int thread = (int)threadIdx.x, segment = 0;');
  else w.line(`const int thread = (int)threadIdx.x % ${group}, segment = (int)threadIdx.x / ${group};`);
  w.line('const int lane = thread % 32, warp = thread / 32;');
  product.open();
  openPart(w, schedule);
  w.line(`float acc[${product.sums.join('][')}][4] = {};`);
  for (const o of operands) {
    w.line('');
    o.prepare();
  }
  w.line('');
  const sync = group * segments === group ? '__syncthreads();' : `sync_group<${group}>(segment);`;
  const into = (stage: string): string => `shared.stage[segment][${stage}]`;
  const ahead = `STAGES - ${stages - product.ahead}`;
  const firstSteps = (body: (k0: string) => void): void => {
    w.line('#pragma unroll 1');
    w.block(`for (int step = 0; step < ${ahead}; step++)`, () => body('k_first + step * TK'));
  };
  if (copied.length > 0) {
    w.line('// What no kernel writes, such as weights, need not wait for the word before.');
    for (const o of copied)
      w.line(`const bool ${o.side}_early = row.constants >> ${w.kernel.inputs.indexOf(o.buffer)} & 1;`);
    firstSteps((k0) => {
      for (const o of copied) w.line(`if (${o.side}_early) copy_${o.side}(${into('step')}, ${k0});`);
    });
  }
  w.line('await_word_before();');
  firstSteps((k0) => {
    for (const o of copied) w.line(`if (!${o.side}_early) copy_${o.side}(${into('step')}, ${k0});`);
    w.line('copies_commit();');
    for (const o of carried) {
      w.line(`load_${o.side}(${k0});`);
      w.line(`store_${o.side}(${into('step')});`);
    }
  });
  w.line('int stage = 0;');
  w.line('#pragma unroll 1');
  w.block('for (int step = 0; step < steps; step++)', () => {
    w.line(`copies_wait<STAGES - ${stages - product.ahead + 1}>();`);
    w.line(sync);
    // A warpgroup's products go on while it starts copies; warps have the instructions of both to themselves.
    if (schedule.instruction === 'wgmma') product.multiply(into('stage'));
    const back = stages - product.ahead;
    w.line(
      `// The stage that was multiplied ${back === 1 ? 'last' : 'before the last one'} is filled again.`,
    );
    w.line(
      `const int next = step + ${ahead}, refilled = stage < ${back} ? stage + ${ahead} : stage - ${back};`,
    );
    w.block('if (next < steps)', () => {
      for (const o of copied) w.line(`copy_${o.side}(${into('refilled')}, k_first + next * TK);`);
      for (const o of carried) w.line(`load_${o.side}(k_first + next * TK);`);
    });
    w.line('copies_commit();');
    if (schedule.instruction === 'mma') product.multiply(into('stage'));
    product.wait();
    for (const o of carried) w.line(`if (next < steps) store_${o.side}(${into('refilled')});`);
    w.line('stage = stage == STAGES - 1 ? 0 : stage + 1;');
  });
  product.close();
  w.line('');
  leaveSplits(w, schedule);
  writeEpilogue(w, schedule, c, product);
}

/** Units of the epilogue whose loads a thread has on their way together. */
const unitsAtOnce = 2;

/**
 * Adds what comes after the sum, and stores. The sums take the way over shared memory, some rows of each warp at a time, so that
 * neighbouring threads read and write neighbouring positions of m, several at once where they are aligned.
 */
function writeEpilogue(
  w: KernelWriter,
  schedule: MmaSchedule,
  c: Contraction,
  product: Multiplication,
): void {
  const { tile, warps } = schedule;
  const warpN = tile.n / warps.n;
  const each = sumRows(schedule);
  const parts = warpN / each;
  const atOnce = sumParts(c, schedule);
  // What is in registers has places known when the code is compiled; what other blocks left is asked for several places at a time.
  const atATime = Math.max(1, loadsAtOnce / (schedule.splits * product.leftAtOnce));
  const unroll = schedule.splits === 1 ? '#pragma unroll' : `#pragma unroll ${atATime}`;
  w.line('// The sums go through shared memory, so that neighbouring threads store neighbouring positions.');
  w.line('copies_wait<0>();');
  w.line('__syncthreads();');
  const put = (row: string, part: string): void =>
    w.line(schedule.splits === 1 ? product.put(part, row) : product.putLeft(part, row));
  if (atOnce === parts) {
    w.line(unroll);
    w.block(`for (int part = 0; part < ${parts}; part++)`, () => put(`warp_n + part * ${each}`, 'part'));
    w.line('__syncthreads();');
    writeUnits(w, schedule, c, 'n0 + row_n');
    // A constrained slot's next block stages where the sums are.
    w.line('__syncthreads();');
    return;
  }
  w.line(schedule.splits === 1 ? unroll : '#pragma unroll 1');
  w.block(`for (int first = 0; first < ${parts}; first += ${atOnce})`, () => {
    w.line(unroll);
    w.block(`for (int part = 0; part < ${atOnce}; part++)`, () => {
      if (parts % atOnce !== 0) w.line(`if (first + part >= ${parts}) break;`);
      put(`warp_n / ${warpN} * ${each * atOnce} + part * ${each}`, 'first + part');
    });
    w.line('__syncthreads();');
    const inWarp = `(first + row_n / ${each} % ${atOnce}) * ${each} + row_n % ${each}`;
    writeUnits(
      w,
      schedule,
      c,
      `n0 + row_n / ${each * atOnce} * ${warpN} + ${inWarp}`,
      parts % atOnce !== 0 ? `first + row_n / ${each} % ${atOnce} < ${parts}` : undefined,
    );
    w.line('__syncthreads();');
  });
}

/** Rows of sums that are in shared memory together. */
const rowsAtOnce = (c: Contraction, s: MmaSchedule): number => sumRows(s) * s.warps.n * sumParts(c, s);

/** What a block's threads do with the sums in shared memory: `position` is the place in n of `row_n`, a row of them. */
function writeUnits(
  w: KernelWriter,
  schedule: MmaSchedule,
  c: Contraction,
  position: string,
  condition?: string,
): void {
  const { threads, tile, segments } = schedule;
  const vector = c.epilogueVector;
  const units = (rowsAtOnce(c, schedule) * tile.m) / vector;
  const across = tile.m / vector;
  const place = (unit: string): void => {
    w.line(`const int row_n = ${unit} / ${across}, column = ${unit} % ${across} * ${vector};`);
    w.line(`const int position_n = ${position}, position_m = m0 + column;`);
  };
  const within = ['position_n < N', 'position_m < M', ...(condition ? [condition] : [])];
  const unflatten = (): void => {
    w.unflatten('position_n', c.n);
    if (!c.epilogueContiguous) w.unflatten('position_m', c.m);
  };
  const sum = (e: string): string =>
    pairwise(Array.from({ length: segments }, (_, s) => `shared.sums[${s}][row_n][column${e}]`));

  if (vector === 1) {
    w.block(`for (int unit = (int)threadIdx.x; unit < ${units}; unit += ${threads})`, () => {
      place('unit');
      w.line(`if (!(${within.join(' && ')})) continue;`);
      unflatten();
      w.line(`const float sum = ${sum('')};`);
      const offset = (access: Load | Store): string | undefined =>
        c.contiguous.has(access) ? offsetInM(w, c, access) : undefined;
      w.body({ offset }, new Map([[c.sum, 'sum']]));
    });
    return;
  }

  const loads = [...c.contiguous].filter((x): x is Load => 'kind' in x);
  const atOnce = Math.min(unitsAtOnce, Math.ceil(units / threads));
  const names = new Map(
    loads.map((load, n): [Load | Store, string] => [load, `${load.buffer.name}_part${n}`]),
  );
  const { buffer } = c.store;
  const out = `${buffer.name}_part`;
  const inside = units % (threads * atOnce) === 0 ? within : [`unit < ${units}`, ...within];
  const overUnits = (body: () => void): void => {
    w.line('#pragma unroll');
    w.block(`for (int u = 0; u < ${atOnce}; u++)`, () => {
      w.line(`const int unit = start + u * ${threads};`);
      place('unit');
      w.line(`if (!(${inside.join(' && ')})) continue;`);
      unflatten();
      body();
    });
  };
  w.block(`for (int start = (int)threadIdx.x; start < ${units}; start += ${threads * atOnce})`, () => {
    for (const load of loads)
      w.line(`Vector<${vector}, ${storageType[load.dtype]}> ${names.get(load)}[${atOnce}];`);
    // All loads are on their way before the first is waited for.
    if (loads.length > 0)
      overUnits(() => {
        for (const load of loads)
          w.line(
            `${names.get(load)}[u] = load_vector<${vector}>(${load.buffer.name} + ${offsetInM(w, c, load)});`,
          );
      });
    overUnits(() => {
      w.line(`Vector<${vector}, ${storageType[buffer.dtype]}> ${out};`);
      w.line('#pragma unroll');
      w.block(`for (int e = 0; e < ${vector}; e++)`, () => {
        w.line(`const float sum = ${sum(' + e')};`);
        const at = (access: Load | Store): string | undefined => {
          if (access === c.store) return `${out}.at[e]`;
          const name = names.get(access);
          return name === undefined ? undefined : `${name}[u].at[e]`;
        };
        w.body({ place: at }, new Map([[c.sum, 'sum']]));
      });
      w.line(`store_vector<${vector}>(${buffer.name} + ${offsetInM(w, c, c.store)}, ${out});`);
    });
  });
}
