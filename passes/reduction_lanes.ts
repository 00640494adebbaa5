/**
 * @file How many lanes share a point of a reduction on CUDA, and what each takes at a time: by an estimate of waiting, issuing and traffic.
 * Few rows get a block each, many a warp each. It looks at the kernel alone, since the order of its sums depends on the choice.
 */
import { coefficientOf } from '../ir/affine.ts';
import { volume } from '../ir/contraction.ts';
import type { Kernel, Load, ReductionSchedule } from '../ir/kernel.ts';
import { type LaneLoop, laneLoops } from '../ir/lane_loops.ts';
import { blocksPerUnit } from '../ir/occupancy.ts';
import type { Target } from '../ir/target.ts';
import { dtypes } from '../ir/types.ts';
import { vectorWidths } from '../ir/vector.ts';
import { verifySchedule } from '../ir/verify_schedule.ts';
import { workOf } from '../ir/work.ts';
import { clocks, opCost } from './clocks.ts';
import { widths } from './mma_tile.ts';

/** Warps of a block that shares a point, beside the powers of two that few rows need. */
const blocksOfWarps = [2, 3, 4, 6, 8, 12, 16, 24, 32];
/** Warps of a block that has a point for each of them. */
const warpsOfPoints = [1, 2, 4, 8];
const unrolls = [1, 2, 3, 4, 6, 8];
/** Elements of a lane beyond which what is kept would leave the registers. */
const mostKept = 32;

/** Lawful schedules of a kernel with plain loops, the most promising first. */
export function reductionSchedules(kernel: Kernel, target: Target): ReductionSchedule[] {
  const timed = candidates(kernel, target).map((s) => ({ s, time: reductionTime(kernel, s, target) }));
  return timed.sort((a, b) => a.time - b.time).map(({ s }) => s);
}

/** Clocks alone and eight wide, added up. */
export function reductionTime(kernel: Kernel, s: ReductionSchedule, target: Target): number {
  const time = estimate(kernel, s, target);
  return widths.reduce((sum, width) => sum + time(width), 0);
}

function candidates(kernel: Kernel, target: Target): ReductionSchedule[] {
  const shapes = [
    ...warpsOfPoints.map((warps) => ({ threads: warps * target.warp, lanes: target.warp })),
    ...blocksOfWarps.map((warps) => ({ threads: warps * target.warp, lanes: warps * target.warp })),
  ];
  const takes = [1, ...vectorWidths].flatMap((vector) => unrolls.map((unroll) => ({ vector, unroll })));
  return shapes.flatMap((shape) =>
    takes
      .filter(({ vector, unroll }) => vector * unroll <= mostKept)
      .map((take): ReductionSchedule => ({ skeleton: 'reduction', ...shape, ...take }))
      .filter((s) => {
        let isLawful = true;
        verifySchedule(kernel, s, target, () => {
          isLawful = false;
        });
        return isLawful;
      }),
  );
}

/** Clocks of the busiest multiprocessor for so many copies of the kernel side by side. */
function estimate(kernel: Kernel, s: ReductionSchedule, target: Target): (width: number) => number {
  const { threads, lanes } = s;
  const warps = threads / target.warp;
  const { issued, bytes, waits, reductions } = costOfLoops(kernel, s);
  const meeting = lanes > target.warp ? clocks.barriers + (lanes / target.warp) * clocks.sum : 0;
  const waiting = waits * clocks.memory + reductions * (5 * clocks.shuffle + meeting);
  const alone = clocks.block + waiting + clocks.alone * issued * Math.ceil(warps / clocks.schedulers);
  const blocks = Math.ceil(volume(kernel.domain) / (threads / lanes));
  const together = blocksPerUnit(workOf({ ...kernel, schedule: s }), target);
  return (width) => {
    const each = Math.ceil((width * blocks) / target.units);
    const issuing = (each * warps * issued) / clocks.schedulers;
    const moving = (each * bytes) / clocks.bytes;
    return Math.max(Math.ceil(each / together) * alone, issuing, moving) + each * clocks.start;
  };
}

/** Instructions of a warp, bytes that a block moves, how often a lane waits for memory, and how often lanes combine. */
interface LoopCost {
  issued: number;
  bytes: number;
  waits: number;
  reductions: number;
}

function costOfLoops(kernel: Kernel, s: ReductionSchedule): LoopCost {
  const { threads, lanes, vector, unroll } = s;
  const total: LoopCost = { issued: clocks.thread, bytes: 0, waits: 1, reductions: 0 };
  const kept = new Set<string>();
  for (const loop of laneLoops(kernel, s)) {
    const elements = volume(loop.over);
    const steps = Math.ceil(elements / (lanes * vector * unroll));
    // Of a vector, and of each of its elements.
    let [unit, element] = [clocks.vector, 0];
    for (const { load, isSame, width, text } of loop.loads) {
      const key = `${loop.like} ${text}`;
      if (loop.isWhole && kept.has(key)) continue;
      kept.add(key);
      unit += (isSame ? 1 : vector / width) * clocks.address;
      const { bytes } = dtypes[load.dtype];
      // Lanes that read from all over move a sector each.
      const moved = isSame ? bytes / vector : isAlong(load, loop) ? bytes : clocks.sector;
      total.bytes += (threads / lanes) * elements * moved;
    }
    for (const e of loop.values) element += opCost(e);
    total.issued += steps * unroll * (unit + vector * (element + 1));
    if (loop.store > 0) total.issued += steps * unroll * (vector / loop.store) * clocks.address;
    else {
      total.reductions++;
      total.issued += vector + clocks.combine + (lanes > 32 ? clocks.combine + lanes / 16 : 0);
    }
    if (!loop.isWhole) total.waits += steps;
  }
  return total;
}

/** True if neighbours along the loop are neighbours in memory. */
function isAlong({ at }: Load, { along }: LaneLoop): boolean {
  const last = at.at(-1);
  return (
    along !== undefined && last !== undefined && 'affine' in last && coefficientOf(last.affine, along) === 1
  );
}
