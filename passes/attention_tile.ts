/**
 * @file Picks the tile of attention on tensor cores, by shape alone.
 */
import type { Attention } from '../ir/attention.ts';
import { type Operand, volume } from '../ir/contraction.ts';
import type { AttentionSchedule } from '../ir/kernel.ts';
import { attentionStaging, sharesRows } from '../ir/mma.ts';
import type { Target } from '../ir/target.ts';

/** The least room there is, and the most; between them powers of two, so that any number of threads shares out a row. */
const [leastRoom, mostRoom] = [16, 128];

/** Elements of a tile that a thread carries in registers, where neighbours cannot be copied together. */
const mostCarried = 64;

/** Fewer blocks than this leave a GPU idle even when several tenants run; smaller tiles of queries then pay. */
const fewBlocks = 32;

/** The schedule for a kernel that is attention; undefined if the target or the skeleton cannot run it. */
export function attentionSchedule(a: Attention, target: Target): AttentionSchedule | undefined {
  const sizes = [a.features.extent, a.width.extent];
  if (!target.mma || sizes.some((n) => n % 8 !== 0 || n > mostRoom)) return undefined;
  const [features, values] = sizes.map(roomFor) as [number, number];
  // What a thread holds of a tile of scores and of the sums together stays within its registers.
  const keys = Math.min(roomFor(a.key.extent), Math.max(features, values) > 64 ? 32 : 64);
  const queries = tileOfQueries(volume(a.query), volume(a.batch));
  return withTile(a, { queries, keys }, { features, values });
}

/** Other tiles that are worth measuring. More keys a tile are fewer steps, one after another; more queries share what is read. */
export function attentionCandidates(a: Attention, target: Target): AttentionSchedule[] {
  const first = attentionSchedule(a, target);
  if (!first) return [];
  const most = roomFor(a.key.extent);
  const keys = [32, 64, 128].filter(
    (n) => n <= most && n * Math.max(...Object.values(first.room)) <= 128 * 64,
  );
  return [16, 32, 64, 128]
    .filter((queries) => queries <= roomFor(volume(a.query)))
    .flatMap((queries) => keys.flatMap((n) => withTile(a, { queries, keys: n }, first.room) ?? []));
}

function withTile(
  a: Attention,
  tile: AttentionSchedule['tile'],
  room: AttentionSchedule['room'],
): AttentionSchedule | undefined {
  const threads = 2 * tile.queries;
  const carried = (o: Operand, width: number): number => (o.vector > 1 ? 0 : (tile.keys * width) / threads);
  if (carried(a.k, room.features) + carried(a.v, room.values) > mostCarried) return undefined;
  const s = { skeleton: 'attention', threads, tile, room } as const;
  return sharesRows(attentionStaging(a, s)) ? s : undefined;
}

/** The least power of two that holds so many. */
const roomFor = (n: number): number => Math.max(leastRoom, 2 ** Math.ceil(Math.log2(n)));

function tileOfQueries(queries: number, batch: number): number {
  const blocks = (tile: number): number => batch * Math.ceil(queries / tile);
  const most = Math.min(64, roomFor(queries));
  return most === 64 && blocks(64) < fewBlocks ? 32 : most;
}
