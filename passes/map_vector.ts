/**
 * @file How many neighbouring points a thread of a map computes together, on CUDA: by proof, and by an estimate of what is issued.
 */
import { guardedDims } from '../ir/bounds.ts';
import { volume } from '../ir/contraction.ts';
import type { Kernel, MapSchedule } from '../ir/kernel.ts';
import type { Target } from '../ir/target.ts';
import { mapAccesses, vectorIndex, vectorWidths, widestOf } from '../ir/vector.ts';
import { freeIndices, visitExprs } from '../ir/walk.ts';
import { widths } from './mma_tile.ts';

/**
 * Guesses. Instructions of a thread before and after its points, of an address, and of one coordinate's guard; and the clocks in which a
 * block finds its slot, reads and writes, which hide what is issued in as many.
 */
const cost = { thread: 40, address: 4, guard: 2, latency: 2000 };

/** Threads of a block with vectors: few, so that a small picture is spread over more multiprocessors. */
const threads = 64;

/**
 * The schedule with the least estimated time, alone and eight wide. Many points make wide vectors. Few, whose time is latency whatever they
 * do, keep one point a thread: most threads, and one class for all extents.
 */
export function mapVector(kernel: Kernel, target: Target): MapSchedule {
  const plain: MapSchedule = { skeleton: 'map', threads: target.threads, perThread: 1, vector: 1 };
  const candidates = vectorWidths
    .filter((vector) => fits(kernel, vector))
    .map((vector): MapSchedule => ({ ...plain, threads, vector }));
  const time = (s: MapSchedule): number =>
    widths.reduce((sum, width) => sum + estimateMap(kernel, s, width, target), 0);
  return [plain, ...candidates].reduce((a, b) => (time(b) < time(a) ? b : a));
}

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
  const warps = (Math.ceil((width * blocks) / target.units) * threads) / 32;
  return Math.max(cost.latency, (warps * instructions(kernel, vector)) / 4);
}

/** What a thread issues, roughly. */
function instructions(kernel: Kernel, vector: number): number {
  const along = vectorIndex(kernel);
  const accesses = mapAccesses(kernel, vector);
  const free = freeIndices();
  const domain = new Set(kernel.domain);
  let sum = cost.thread;
  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      const times = volume([...free(e)].filter((i) => !domain.has(i)));
      const points = along && free(e).has(along) ? vector : 1;
      if (e.kind === 'load') {
        const parts = points / (accesses.get(e) ?? 1);
        sum += times * (cost.address + cost.guard * guardedDims(e).length + parts);
      } else if (e.kind === 'reduce') sum += times * points * volume(e.over);
      else if (e.kind !== 'const') sum += times * points;
    },
  );
  for (const store of kernel.stores)
    sum += volume(store.over) * (cost.address + vector / (accesses.get(store) ?? 1));
  return sum;
}
