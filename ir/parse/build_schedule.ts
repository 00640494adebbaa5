/**
 * @file From the syntax of a schedule to the schedule.
 */
import { match, P } from 'ts-pattern';
import type { MmaSchedule, Schedule, Schedules, WiderSchedule } from '../kernel.ts';
import type { ScheduleAst, SchedulesAst } from './ast.ts';
import type { Reader } from './build_types.ts';

const tensorCores = { threads: 1, tile: 3, warps: 2, stages: 1, segments: 1, splits: 1 };

/** How many sizes each setting of a schedule has, by the name that it begins with. */
const settings = {
  map: { threads: 1, per_thread: 1, vector: 1 },
  reduction: { threads: 1, lanes: 1, vector: 1, unroll: 1 },
  contraction: { threads: 1, tile: 3, per_thread: 2, stages: 1 },
  mma: tensorCores,
  wgmma: tensorCores,
  attention: { threads: 1, tile: 2, room: 2 },
} as const satisfies { [S in Name]: Record<string, number> };

/** A skeleton, or the instruction of one. */
type Name = Schedule['skeleton'] | MmaSchedule['instruction'];

/** Settings that are 1 where they are left out. */
const optional: { readonly [S in Name]?: readonly string[] } = {
  map: ['vector'],
  reduction: ['vector', 'unroll'],
  contraction: ['stages'],
  mma: ['splits'],
  wgmma: ['splits'],
};

/** Undefined if one of them is none. */
export function buildSchedules(ast: SchedulesAst, reader: Reader): Schedules | undefined {
  const schedule = buildSchedule(ast.schedule, reader);
  const wider = ast.wider.flatMap((w): WiderSchedule[] => {
    const made = buildSchedule(w.schedule, reader);
    return made ? [{ from: w.from, schedule: made }] : [];
  });
  if (!schedule || wider.length < ast.wider.length) return undefined;
  return { schedule, ...(wider.length > 0 && { wider }) };
}

function buildSchedule({ skeleton, settings: given }: ScheduleAst, reader: Reader): Schedule | undefined {
  const name = skeleton.text;
  if (!Object.hasOwn(settings, name)) {
    const known = Object.keys(settings).join(', ');
    reader.report(skeleton.span, `no skeleton '${name}': expected one of ${known}`);
    return undefined;
  }
  const wanted: Record<string, number> = settings[name as Name];
  const values = new Map<string, readonly number[]>();
  for (const { name: setting, sizes } of given) {
    const count = Object.hasOwn(wanted, setting.text) ? wanted[setting.text] : undefined;
    if (count === undefined)
      reader.report(
        setting.span,
        `${name} has no setting '${setting.text}': expected ${Object.keys(wanted).join(', ')}`,
      );
    else if (count !== sizes.length)
      reader.report(setting.span, `${setting.text} has ${sizes.length} sizes, expected ${count}`);
    if (values.has(setting.text)) reader.report(setting.span, `${setting.text} is given twice`);
    values.set(setting.text, sizes);
  }
  const missing = Object.keys(wanted).filter((s) => !values.has(s) && !optional[name as Name]?.includes(s));
  if (missing.length > 0) reader.report(skeleton.span, `the schedule lacks ${missing.join(', ')}`);
  const size = (setting: string, n = 0): number => values.get(setting)?.[n] ?? 1;
  const threads = size('threads');
  return match(name as Name)
    .returnType<Schedule>()
    .with('map', (map) => ({ skeleton: map, threads, perThread: size('per_thread'), vector: size('vector') }))
    .with('reduction', (reduction) => ({
      skeleton: reduction,
      threads,
      lanes: size('lanes'),
      vector: size('vector'),
      unroll: size('unroll'),
    }))
    .with('contraction', (contraction) => ({
      skeleton: contraction,
      threads,
      tile: { m: size('tile'), n: size('tile', 1), k: size('tile', 2) },
      perThread: { m: size('per_thread'), n: size('per_thread', 1) },
      stages: size('stages'),
    }))
    .with(P.union('mma', 'wgmma'), (instruction) => ({
      skeleton: 'mma',
      instruction,
      threads,
      tile: { m: size('tile'), n: size('tile', 1), k: size('tile', 2) },
      warps: { m: size('warps'), n: size('warps', 1) },
      stages: size('stages'),
      segments: size('segments'),
      splits: size('splits'),
    }))
    .with('attention', (attention) => ({
      skeleton: attention,
      threads,
      tile: { queries: size('tile'), keys: size('tile', 1) },
      room: { features: size('room'), values: size('room', 1) },
    }))
    .exhaustive();
}
