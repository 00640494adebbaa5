/**
 * @file The reduction skeleton: a group of lanes (a warp or a whole block) shares each point of the domain. The point's
 * reductions and its store loops are dealt out over the lanes; partial results meet in a fixed order.
 */
import { reductionPointsPerBlock } from '../ir/blocks.ts';
import type { ReductionSchedule } from '../ir/kernel.ts';
import { usesVectorLoops } from '../ir/lane_loops.ts';
import { scalarType } from './c.ts';
import { VectorLoops } from './reduction_vector.ts';
import type { KernelWriter } from './writer.ts';

export function writeReduction(w: KernelWriter, schedule: ReductionSchedule): void {
  const { lanes } = schedule;
  const { domain } = w.kernel;
  const perBlock = reductionPointsPerBlock(schedule);
  w.prologue();
  w.line(`const int lane = (int)threadIdx.x % ${lanes};`);
  w.line(`const int point = (int)block * ${perBlock} + (int)threadIdx.x / ${lanes};`);
  // All lanes of a point leave together, so the shuffles and barriers below stay uniform.
  w.line(`if (point >= ${w.volume(domain)}) return;`);
  w.unflatten('point', domain);

  if (usesVectorLoops(schedule)) return new VectorLoops(w, schedule).write();
  w.body({
    reduce(s, linear) {
      const e = s.expr;
      const type = scalarType[e.dtype];
      const flat = w.fresh('e');
      w.line(`${type} v${s.id} = ${w.start(e)};`);
      w.block(`for (int ${flat} = lane; ${flat} < ${w.volume(e.over)}; ${flat} += ${lanes})`, () => {
        w.unflatten(flat, e.over);
        w.inner(s.body, linear);
        w.line(`v${s.id} = ${w.combine(e, `v${s.id}`, `v${linear.idOf(s.body, e.body)}`)};`);
      });
      w.line(
        `v${s.id} = across_lanes<${lanes}>(v${s.id}, [](${type} a, ${type} b) { return ${w.combine(e, 'a', 'b')}; });`,
      );
    },
    storeLoops(over, body) {
      const flat = w.fresh('e');
      w.block(`for (int ${flat} = lane; ${flat} < ${w.volume(over)}; ${flat} += ${lanes})`, () => {
        w.unflatten(flat, over);
        body();
      });
    },
    storeGuard: 'lane == 0',
  });
}
