/**
 * @file The attention skeleton, on tensor cores: a block takes a tile of queries, 16 a warp, over all keys. Tiles of keys and values come
 * through shared memory, the next pair while one is worked on. Scores go from the sums of the first product straight to the left
 * operand of the second, in registers; what was summed is scaled whenever a greater score turns up. So the order in which a
 * query's keys are summed is that of the tiles of keys, whoever else runs.
 */
import { type Attention, attentionOf } from '../ir/attention.ts';
import { buffer } from '../ir/build.ts';
import type { AttentionSchedule, Store } from '../ir/kernel.ts';
import { attentionStaging, sumPitch } from '../ir/mma.ts';
import { storageType } from './c.ts';
import { StagedOperand } from './mma_staging.ts';
import type { KernelWriter } from './writer.ts';

export function writeAttention(w: KernelWriter, schedule: AttentionSchedule): void {
  const { room } = schedule;
  const a = attentionOf(w.kernel);
  if (!a) throw new Error(`kernel ${w.kernel.name} is not attention`);
  openTile(w, schedule, a);
  const plans = attentionStaging(a, schedule);
  const stage = {
    struct: 'Stage',
    batch: a.batch,
    origin: '0',
    limit: 'FEATURES',
    kLimit: 'KEYS',
    depth: 'TK',
  };
  const start = { ...stage, struct: 'Start', kLimit: 'QUERIES', depth: 'TQ' };
  const query = new StagedOperand(w, {
    ...start,
    name: 'query',
    operand: a.q,
    plan: plans.query,
    k: a.query,
  });
  const key = new StagedOperand(w, { ...stage, name: 'key', operand: a.k, plan: plans.key, k: [a.key] });
  const value = new StagedOperand(w, {
    ...{ ...stage, limit: 'WIDTH' },
    ...{ name: 'value', operand: a.v, plan: plans.value, k: [a.valueKey] },
  });
  const type = storageType[a.v.load.dtype];

  w.line(`struct Stage { ${key.declaration()} ${value.declaration()} };`);
  w.line(`struct Start { ${query.declaration()} };`);
  w.line('struct Work { Stage stage[2]; Start start; };');
  w.line(
    `struct Result { float sums[TQ][${sumPitch(room.values)}]; float totals[TQ]; };  // after the last tile`,
  );
  w.line('union alignas(16) Shared { Work work; Result result; };');
  w.line('BLOCK_SHARED(Shared, shared);');
  w.line('const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;');
  for (const o of [query, key, value]) {
    w.line('');
    o.prepare();
  }
  w.line('');
  const fill = (o: StagedOperand, to: string, k0: string): void => {
    if (o.copies) return w.line(`copy_${o.side}(${to}, ${k0});`);
    w.line(`load_${o.side}(${k0});`);
    w.line(`store_${o.side}(${to});`);
  };
  /** Keys and values of a tile, a batch of copies each, though there be none: so many batches later a tile is there. */
  const fillStage = (stage: string, k0: string, condition?: string): void => {
    for (const o of [key, value]) {
      if (condition) w.block(`if (${condition})`, () => fill(o, `shared.work.stage[${stage}]`, k0));
      else fill(o, `shared.work.stage[${stage}]`, k0);
      w.line('copies_commit();');
    }
  };
  w.line(
    '// The first keys come with the queries; scores are computed while values and the second tile are on their way.',
  );
  fill(query, 'shared.work.start', 'q0');
  fillStage('0', '0');
  fillStage('1', 'TK', 'TK < KEYS');
  w.line('copies_wait<3>();');
  w.line('__syncthreads();');
  w.line(`unsigned queries[${room.features / 16}][4];`);
  w.line('#pragma unroll');
  w.block(`for (int s = 0; s < ${room.features / 16}; s++)`, () =>
    w.line(`load_left<${!query.kMajor}>(queries[s], shared.work.start.query, warp * 16, s * 16, lane);`),
  );
  w.line(`float acc[${room.values / 8}][4] = {};`);
  w.line('float most[2] = {-inf_f32(), -inf_f32()}, total[2] = {};');
  w.block('for (int k0 = 0, stage = 0; k0 < KEYS; k0 += TK, stage ^= 1)', () => {
    w.line('copies_wait<3>();  // its keys are there');
    w.line('__syncthreads();');
    w.line('float score[TK / 8][4] = {};');
    w.line(`multiply_kept<${!key.kMajor}>(score, queries, shared.work.stage[stage].key, lane);`);
    writeScores(w, a);
    w.line('unsigned weights[TK / 16][4];');
    w.line(`weigh_scores(score, acc, most, total, weights, ${type}{});`);
    w.line('copies_wait<2>();  // its values');
    w.line('__syncthreads();');
    w.line(`multiply_kept<${value.kMajor}>(acc, weights, shared.work.stage[stage].value, lane);`);
    w.line('__syncthreads();');
    fillStage('stage', 'k0 + 2 * TK', 'k0 + 2 * TK < KEYS');
  });
  w.line('');
  writeResult(w, schedule, a);
}

/** Writes where the block's tile begins, `q0` and the batch indices, and the sizes. */
function openTile(w: KernelWriter, { tile }: AttentionSchedule, a: Attention): void {
  w.prologue();
  w.line(`constexpr int TQ = ${tile.queries}, TK = ${tile.keys};`);
  w.line(`const int QUERIES = ${w.volume(a.query)}, KEYS = ${w.extent(a.key)};`);
  w.line(`const int FEATURES = ${w.extent(a.features)}, WIDTH = ${w.extent(a.width)};`);
  w.line('const int query_tiles = (QUERIES + TQ - 1) / TQ;');
  w.line('const int q0 = (int)block % query_tiles * TQ;');
  if (a.batch.length > 0) {
    w.line('const int batch = (int)block / query_tiles;');
    w.unflatten('batch', a.batch);
  }
}

/** What comes between a sum of products and the softmax. Beyond the last query or key the last one's masks are read. */
function writeScores(w: KernelWriter, a: Attention): void {
  const score: Store = { buffer: buffer('score', 'f32', []), at: [], over: [], value: a.score };
  w.line('#pragma unroll');
  w.block('for (int i = 0; i < TK / 8; i++)', () => {
    w.line('#pragma unroll');
    w.block('for (int e = 0; e < 4; e++)', () => {
      w.line('const int row = q0 + warp * 16 + lane / 4 + e / 2 * 8;');
      w.line('const int column = k0 + i * 8 + lane % 4 * 2 + e % 2;');
      w.line('const int position = row < QUERIES ? row : QUERIES - 1;');
      w.unflatten('position', a.query);
      w.line(`const int ${w.name(a.key)} = column < KEYS ? column : KEYS - 1;`);
      const place = (access: object): string | undefined => (access === score ? 'score[i][e]' : undefined);
      w.body({ place }, new Map([[a.product, 'score[i][e]']]), [score]);
      w.line('if (column >= KEYS) score[i][e] = -inf_f32();');
    });
  });
}

/**
 * Computes what comes after the sums, and stores. The sums go through shared memory, so that neighbouring threads store neighbours,
 * several at once where they are aligned; each warp reads the rows that it wrote.
 */
function writeResult(w: KernelWriter, { room }: AttentionSchedule, a: Attention): void {
  const { store, storeVector: vector } = a;
  const across = room.values / vector;
  w.line('copies_wait<0>();');
  w.line('__syncthreads();');
  w.line(`put_fragments<${room.values / 8}>(shared.result.sums, acc, warp * 16, 0, lane);`);
  w.line('#pragma unroll');
  w.block('for (int s = 0; s < 2; s++)', () => {
    w.line('const float whole = total_of(most[s], total[s]);');
    w.line('if (lane % 4 == 0) shared.result.totals[warp * 16 + lane / 4 + s * 8] = whole;');
  });
  w.line('__syncwarp();');
  w.block(`for (int unit = lane; unit < ${16 * across}; unit += 32)`, () => {
    w.line(`const int row = warp * 16 + unit / ${across}, column = unit % ${across} * ${vector};`);
    w.line('const int position = q0 + row;');
    w.line('if (position >= QUERIES || column >= WIDTH) continue;');
    w.unflatten('position', a.query);
    w.line(`Vector<${vector}, ${storageType[store.buffer.dtype]}> part;`);
    const storeLoops = (_over: unknown, body: () => void): void => {
      w.line('#pragma unroll');
      w.block(`for (int e = 0; e < ${vector}; e++)`, () => {
        w.line(`const int ${w.name(a.width)} = column + e;`);
        body();
      });
    };
    const place = (access: object): string | undefined => (access === store ? 'part.at[e]' : undefined);
    const given = new Map([
      [a.sum, 'shared.result.sums[row][column + e]'],
      [a.total, 'shared.result.totals[row]'],
    ]);
    w.body({ storeLoops, place }, given);
    const width = w.name(a.width);
    w.rename(a.width, 'column');
    w.line(`store_vector<${vector}>(${store.buffer.name} + ${w.offset(store.buffer, store.at)}, part);`);
    w.rename(a.width, width);
  });
  w.line('__syncthreads();');
}
