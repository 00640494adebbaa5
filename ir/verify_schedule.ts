/**
 * @file The laws of schedules: what a skeleton can run, and what fits a target.
 */
import { attentionOf } from './attention.ts';
import { contractionOf, multiplies16Bit } from './contraction.ts';
import type {
  AttentionSchedule,
  ContractionSchedule,
  Kernel,
  MapSchedule,
  MmaSchedule,
  ReductionSchedule,
  Schedule,
} from './kernel.ts';
import { kernelVariants } from './kernel.ts';
import { hasPlainLoops, laneLoops, usesVectorLoops } from './lane_loops.ts';
import {
  attentionSharedBytes,
  attentionStaging,
  contractionStaging,
  deepestStep,
  mmaSharedBytes,
  partsOf,
  sharesRows,
} from './mma.ts';
import type { Say } from './problem.ts';
import { scratchElements, scratchOf } from './scratch.ts';
import { tileSharedBytes } from './simt.ts';
import { mostSharedBytes, type Target } from './target.ts';
import { maxElements } from './types.ts';
import { mapAccesses, vectorIndex, vectorWidths, widestOf } from './vector.ts';

/** Most groups of threads of a block: each has a barrier of its own besides the block's. */
const mostSegments = 8;

/** Most blocks that share a tile. The last of them adds up for all, so more would only make it slower. */
const mostSplits = 32;

/** All schedules of a kernel, and that a tenant's bits do not depend on which of them its word takes. */
export function verifySchedules(kernel: Kernel, target: Target | undefined, say: Say): void {
  const { schedule: first, wider = [] } = kernel;
  if (!first) return;
  for (const { kernel: variant } of kernelVariants(kernel))
    verifySchedule(kernel, variant.schedule!, target, say);
  let before = 0;
  for (const { from, schedule } of wider) {
    const complain = (text: string): void => say(kernel, `the schedule from ${from}: ${text}`);
    if (!(Number.isInteger(from) && from >= 1)) complain('words of less than one slot');
    else if (from <= before) complain(`words that are no wider than ${before}, which the one before is for`);
    before = from;
    // Without tensor cores sums run in order, whatever the tile.
    if (first.skeleton === 'contraction' && schedule.skeleton === 'contraction') continue;
    if (first.skeleton !== 'mma' || schedule.skeleton !== 'mma')
      complain('only mma schedules, or only contraction schedules, may differ by the width of the word');
    else if (partsOf(schedule) !== partsOf(first))
      complain(`${partsOf(schedule)} parts of k, ${partsOf(first)} in words of one slot: other bits`);
  }
}

export function verifySchedule(
  kernel: Kernel,
  schedule: Schedule,
  target: Target | undefined,
  say: Say,
): void {
  const complain = (text: string): void => say(kernel, text);
  const { threads } = schedule;
  if (sizesOf(schedule).some((n) => !Number.isInteger(n) || n < 1)) {
    complain('the schedule has a size that is not at least 1');
    return;
  }
  if (threads !== 1 && (threads % 32 !== 0 || threads > 1024)) complain(`${threads} threads a block`);
  if (target && threads > target.maxThreads)
    complain(`${threads} threads a block, ${target.name} has at most ${target.maxThreads}`);
  if (schedule.skeleton === 'map') verifyVector(kernel, schedule, complain);
  if (schedule.skeleton === 'reduction') {
    const { lanes } = schedule;
    if (threads % lanes !== 0) complain(`${lanes} lanes of ${threads} threads`);
    // A warp's lanes exchange values, and all of them must be there; whole warps meet in shared memory.
    else if (lanes !== 1 && lanes !== 32 && (lanes !== threads || lanes % 32 !== 0))
      complain(`${lanes} lanes: expected 1, 32, or a whole block of warps`);
    verifyLoops(kernel, schedule, complain);
  }
  if (schedule.skeleton === 'contraction') verifyTile(kernel, schedule, target, complain);
  if (schedule.skeleton === 'mma') verifyMma(kernel, schedule, target, complain);
  if (schedule.skeleton === 'attention') verifyAttention(kernel, schedule, target, complain);
}

function sizesOf(schedule: Schedule): number[] {
  switch (schedule.skeleton) {
    case 'map':
      return [schedule.threads, schedule.perThread, schedule.vector];
    case 'reduction':
      return [schedule.threads, schedule.lanes, schedule.vector, schedule.unroll];
    case 'contraction': {
      const { threads, tile, perThread, stages } = schedule;
      return [threads, tile.m, tile.n, tile.k, perThread.m, perThread.n, stages];
    }
    case 'mma': {
      const { threads, tile, warps, stages, segments, splits } = schedule;
      return [threads, tile.m, tile.n, tile.k, warps.m, warps.n, stages, segments, splits];
    }
    case 'attention': {
      const { threads, tile, room } = schedule;
      return [threads, tile.queries, tile.keys, room.features, room.values];
    }
    default:
      return schedule satisfies never;
  }
}

function verifyVector(
  kernel: Kernel,
  { threads, vector }: MapSchedule,
  complain: (text: string) => void,
): void {
  if (vector === 1) return;
  if (!vectorWidths.some((w) => w === vector)) {
    complain(`vectors of ${vector} points: expected 1, 2, 4 or 8`);
    return;
  }
  if (threads === 1) complain(`vectors of ${vector} points, but a block of one thread walks along rows`);
  const along = vectorIndex(kernel);
  if (!along) {
    complain(`vectors of ${vector} points, but the domain is one point`);
    return;
  }
  if (along.extent % vector !== 0)
    complain(`vectors of ${vector} points along ${along.name}, which runs over ${along.extent}`);
  const widths = mapAccesses(kernel, vector);
  for (const store of kernel.stores) {
    const [proved, wanted] = [widths.get(store)!, widestOf(vector, store.buffer)];
    if (proved < wanted)
      complain(
        `vectors of ${vector} points along ${along.name}, but store %${store.buffer.name} has ${proved} at once of ${wanted} that are neighbours and aligned`,
      );
  }
}

/** Most elements that a lane of a reduction takes in a step: they stay in registers. */
const mostHeld = 64;

function verifyLoops(kernel: Kernel, schedule: ReductionSchedule, complain: (text: string) => void): void {
  if (!usesVectorLoops(schedule)) return;
  const { threads, vector, unroll } = schedule;
  if (vector !== 1 && !vectorWidths.some((w) => w === vector)) {
    complain(`vectors of ${vector} elements: expected 1, 2, 4 or 8`);
    return;
  }
  if (threads === 1) complain('a block of one thread takes its elements one by one');
  if (vector * unroll > mostHeld)
    complain(`${unroll} vectors of ${vector} elements a lane, which holds at most ${mostHeld}`);
  if (!hasPlainLoops(kernel)) {
    complain('several elements a lane at a time, but a loop has loops inside');
    return;
  }
  for (const { over, along } of laneLoops(kernel, schedule))
    if ((along?.extent ?? 1) % vector !== 0)
      complain(
        `vectors of ${vector} elements along ${(along ?? over.at(-1)!).name}, which runs over ${along?.extent ?? 1}`,
      );
}

function verifyTile(
  kernel: Kernel,
  schedule: ContractionSchedule,
  target: Target | undefined,
  complain: (text: string) => void,
): void {
  const { threads, tile, perThread, stages } = schedule;
  const c = contractionOf(kernel);
  if (!c) complain('a contraction schedule, but the kernel is no sum of products');
  if ((tile.m / perThread.m) * (tile.n / perThread.n) !== threads)
    complain(`the tile's threads are not ${threads}`);
  if (threads === 1 && stages > 1) complain(`${stages} stages of a block of one thread`);
  if (target?.kind !== 'cuda') return;
  if (threads === 1) complain(`a contraction by blocks of one thread, on ${target.name}`);
  else if (c) verifySharedBytes(tileSharedBytes(c, schedule), target, complain);
  const accumulators = perThread.m * perThread.n;
  if (accumulators > target.registers / 2)
    complain(
      `${accumulators} accumulators a thread, which has ${target.registers} registers on ${target.name}`,
    );
}

function verifyMma(
  kernel: Kernel,
  schedule: MmaSchedule,
  target: Target | undefined,
  complain: (text: string) => void,
): void {
  const { threads, tile, warps, stages, segments, splits } = schedule;
  const group = 32 * warps.m * warps.n;
  if (target && !target.mma) complain(`${target.name} has no tensor cores`);
  if (group * segments !== threads)
    complain(`${segments} segments of ${group} threads are not ${threads} threads`);
  if (segments > mostSegments || stages < 2) complain(`${segments} segments, ${stages} stages`);
  if (splits > mostSplits) complain(`${splits} splits, at most ${mostSplits} blocks share a tile`);
  verifyShape(schedule, complain);
  if (schedule.instruction === 'wgmma' && target && !target.wgmma)
    complain(`${target.name} has no matrix instructions of warpgroups`);
  if (deepestStep % tile.k !== 0)
    complain(`steps of ${tile.k} of k: parts of k are whole steps of 16, 32 or 64`);
  if (!isPowerOfTwo(segments) || !isPowerOfTwo(splits))
    complain(
      `${segments} segments, ${splits} splits: sums of parts are added pairwise, so both are powers of two`,
    );
  const c = contractionOf(kernel);
  if (!c || !multiplies16Bit(c)) {
    complain('only contractions of two f16 or two bf16 operands run on tensor cores');
    return;
  }
  const staged = contractionStaging(c, schedule);
  if (schedule.instruction === 'wgmma' && [staged.a, staged.b].some((o) => o.kMajor || !o.copies))
    complain('warpgroups multiply rows of k only, staged by asynchronous copies');
  if (!sharesRows(staged))
    complain(`${group} threads cannot share out the rows of a tile of ${tile.m}x${tile.n}x${tile.k}`);
  verifySharedBytes(mmaSharedBytes(c, schedule), target, complain);
  for (const part of scratchOf({ ...kernel, schedule })) {
    const elements = scratchElements(part);
    if (elements > maxElements) complain(`${elements} ${part.name}, more than offsets reach`);
  }
}

/** That warps, or warpgroups, can share out the tile. */
function verifyShape(
  { instruction, tile, warps, stages }: MmaSchedule,
  complain: (text: string) => void,
): void {
  const each = `${warps.m}x${warps.n} warps`;
  const size = `a tile of ${tile.m}x${tile.n}x${tile.k}`;
  if (instruction === 'mma') {
    if (tile.m % (16 * warps.m) !== 0 || tile.n % (16 * warps.n) !== 0 || tile.k % 16 !== 0)
      complain(`${size} is not made of 16x16x16 for each of ${each}`);
    return;
  }
  if (stages < 3) complain(`${stages} stages, warpgroups need 3 at least`);
  const n = tile.n / warps.n;
  if (warps.m % 4 !== 0 || tile.m % (16 * warps.m) !== 0 || n % 8 !== 0 || n > 256)
    complain(`${size} is not made of 64 by 8 to 256, in steps of 8, for four of ${each} each`);
  if (tile.k !== 32 && tile.k !== 64) complain(`${size}: rows of k for warpgroups have 32 or 64 elements`);
}

function verifySharedBytes(
  bytes: number,
  target: Target | undefined,
  complain: (text: string) => void,
): void {
  const most = target?.mostSharedBytes ?? mostSharedBytes;
  if (bytes > most)
    complain(
      `${bytes} bytes of shared memory, a block${target ? ` of ${target.name}` : ''} has at most ${most}`,
    );
}

function verifyAttention(
  kernel: Kernel,
  schedule: AttentionSchedule,
  target: Target | undefined,
  complain: (text: string) => void,
): void {
  const { threads, tile, room } = schedule;
  if (target && !target.mma) complain(`${target.name} has no tensor cores`);
  if (tile.queries !== threads / 2)
    complain(`a tile of ${tile.queries} queries: ${threads} threads take ${threads / 2}`);
  const sides = [threads, tile.keys, room.features, room.values];
  if (tile.keys < 16 || room.features < 16 || room.values < 16 || sides.some((n) => !isPowerOfTwo(n)))
    complain('tile and room are not powers of two from 16');
  else if (Math.max(tile.keys, room.features, room.values) > 128) complain('a tile or room of more than 128');
  const a = attentionOf(kernel);
  if (!a) {
    complain('an attention schedule, but the kernel is no attention of 16-bit floats');
    return;
  }
  if (a.features.extent > room.features || a.width.extent > room.values)
    complain(
      `${a.features.extent} features and values of ${a.width.extent} have room for ${room.features} and ${room.values}`,
    );
  if (!sharesRows(attentionStaging(a, schedule)))
    complain(`${threads} threads cannot share out the rows of a tile`);
  verifySharedBytes(attentionSharedBytes(a, schedule), target, complain);
}

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));
