/**
 * @file The map skeleton: each thread computes whole points of the domain. Element-wise work, pooling, small reductions.
 */
import { mapPointsPerBlock } from '../ir/blocks.ts';
import type { MapSchedule } from '../ir/kernel.ts';
import { writeVectorMap } from './map_vector.ts';
import type { KernelWriter } from './writer.ts';

export function writeMap(w: KernelWriter, schedule: MapSchedule): void {
  if (schedule.vector > 1) return writeVectorMap(w, schedule);
  const { domain } = w.kernel;
  const chunk = mapPointsPerBlock(schedule);
  w.prologue();
  w.line(`const int points = ${w.volume(domain)};`);
  w.line(`const int first = (int)block * ${chunk};`);
  w.line(`const int last = points - first < ${chunk} ? points : first + ${chunk};`);

  if (schedule.threads > 1) {
    w.block(`for (int point = first + (int)threadIdx.x; point < last; point += ${schedule.threads})`, () => {
      w.unflatten('point', domain);
      w.body();
    });
    return;
  }

  // One thread walks its points row by row, so that the innermost loop is a plain one that the compiler vectorises.
  const at = domain.findLastIndex((i) => i.extent > 1);
  const inner = domain[at];
  if (!inner) {
    w.block('if (first < last)', () => {
      w.unflatten('0', domain);
      w.body();
    });
    return;
  }
  const outer = domain.filter((i) => i !== inner);
  const i = w.name(inner);
  w.block('for (int point = first; point < last;)', () => {
    w.line(`const int from = point % ${w.extent(inner)};`);
    w.unflatten(`point / ${w.extent(inner)}`, outer);
    w.line(`const int left = ${w.extent(inner)} - from;`);
    w.line('const int run = left < last - point ? left : last - point;');
    w.block(`for (int ${i} = from; ${i} < from + run; ${i}++)`, () => w.body());
    w.line('point += run;');
  });
}
