/**
 * @file How many neighbouring points a thread of a map computes together, on CUDA: by proof, and by an estimate of what is issued.
 */
import { guardedDims } from '../ir/bounds.ts';
import { volume } from '../ir/contraction.ts';
import type { Kernel, MapSchedule } from '../ir/kernel.ts';
import type { Target } from '../ir/target.ts';
import { isUnrolled, mapAccesses, vectorIndex, vectorWidths, widestOf } from '../ir/vector.ts';
import { freeIndices, visitExprs } from '../ir/walk.ts';
import { clocks, opCost } from './clocks.ts';
import { widths } from './mma_tile.ts';

/**
 * Threads of a block with vectors: few, so that a small picture is spread over more multiprocessors; more where points are so many that blocks
 * would wait for one another to be started.
 */
const threadsOfBlocks = [64, 256];

/**
 * The schedule with the least estimated time, alone and eight wide. Many points make wide vectors. Few, whose time is latency whatever they
 * do, keep one point a thread: most threads, and one class for all extents.
 */
export function mapVector(kernel: Kernel, target: Target): MapSchedule {
  const plain: MapSchedule = { skeleton: 'map', threads: target.threads, perThread: 1, vector: 1 };
  const candidates = vectorWidths
    .filter((vector) => fits(kernel, vector))
    .flatMap((vector) => threadsOfBlocks.map((threads): MapSchedule => ({ ...plain, threads, vector })));
  const time = (s: MapSchedule): number => mapTime(kernel, s, target);
  return [plain, ...candidates].reduce((a, b) => (time(b) < time(a) ? b : a));
}

/** Clocks alone and eight wide, added up. */
export const mapTime = (kernel: Kernel, s: MapSchedule, target: Target): number =>
  widths.reduce((sum, width) => sum + estimateMap(kernel, s, width, target), 0);

/** True if everything that differs from point to point is read and written whole, and something by a whole vector at once. */
function fits(kernel: Kernel, vector: number): boolean {
  const along = vectorIndex(kernel);
  if (!along || along.extent % vector !== 0) return false;
  const accesses = [...mapAccesses(kernel, vector)];
  return (
    accesses.every(([{ buffer }, width]) => width === widestOf(vector, buffer)) &&
    accesses.some(([, width]) => width === vector)
  );
}

/** Clocks of the busiest multiprocessor for a map `width` times over. */
function estimateMap(
  kernel: Kernel,
  { threads, vector }: MapSchedule,
  width: number,
  target: Target,
): number {
  const blocks = Math.ceil(volume(kernel.domain) / (threads * vector));
  const each = Math.ceil((width * blocks) / target.units);
  const { issued, waits } = costOfThread(kernel, vector);
  const perBlock = threads / target.warp;
  const alone =
    clocks.block + waits * clocks.memory + clocks.alone * issued * Math.ceil(perBlock / clocks.schedulers);
  const busy = Math.max((perBlock * issued) / clocks.schedulers, clocks.startOfShort);
  return Math.max(clocks.least, alone, each * busy);
}

/** Instructions of a thread, and how often it waits for memory, roughly. */
function costOfThread(kernel: Kernel, vector: number): { issued: number; waits: number } {
  const along = vectorIndex(kernel);
  const accesses = mapAccesses(kernel, vector);
  const free = freeIndices();
  const domain = new Set(kernel.domain);
  let [issued, waits]: [number, number] = [clocks.thread, 1];
  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      const times = volume([...free(e)].filter((i) => !domain.has(i)));
      const points = along && free(e).has(along) ? vector : 1;
      if (e.kind === 'load') {
        const parts = points / (accesses.get(e) ?? 1);
        issued += times * (clocks.address + clocks.guard * guardedDims(e).length + parts);
      } else if (e.kind === 'reduce') {
        issued += times * points * volume(e.over);
        // Loops that are not unrolled have a few reads under way at most.
        if (vector === 1 || !isUnrolled(e.over, vector)) waits += (times * volume(e.over)) / clocks.inLoop;
      } else issued += times * points * opCost(e);
    },
  );
  for (const store of kernel.stores)
    issued += volume(store.over) * (clocks.address + vector / (accesses.get(store) ?? 1));
  return { issued, waits };
}
