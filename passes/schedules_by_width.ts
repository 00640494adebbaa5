/**
 * @file Which schedule words of each width get, from times that were estimated or measured. Those that a kernel has together must give the same
 * bits (ir/verify_schedule.ts).
 */
import type { Schedule, Schedules, WiderSchedule } from '../ir/kernel.ts';
import { partsOf } from '../ir/mma.ts';
import { formatSchedule } from '../ir/print.ts';

/** What the schedule of a wider word gains over that of narrower ones is at least this part; less is not worth a class of its own. */
export const leastWidthGain = 0.03;

/**
 * Schedules of a kernel from the best of each width, ascending from 1: those that gain too little over the one before are left out.
 * @param time of a schedule in words of a width.
 * @param leastGain see `leastWidthGain`; more where times are known less well.
 * @param beside that of words of one slot beside others, if it is one of its own.
 */
export function schedulesByWidth<S extends Schedule>(
  best: readonly { readonly width: number; readonly best: S }[],
  time: (schedule: S, width: number) => number,
  leastGain = leastWidthGain,
  beside?: S,
): Schedules {
  const [first, ...others] = best as [(typeof best)[number], ...(typeof best)[number][]];
  const wider: WiderSchedule[] = beside ? [{ from: 1, schedule: beside }] : [];
  let before = beside ?? first.best;
  for (const { width: from, best: schedule } of others) {
    if (time(schedule, from) > (1 - leastGain) * time(before, from)) continue;
    wider.push({ from, schedule });
    before = schedule;
  }
  return { schedule: first.best, ...(wider.length > 0 && { wider }) };
}

/** The schedule that words of so many slots get which have the device to themselves. */
export const scheduleFor = ({ schedule, wider }: Schedules, width: number): Schedule =>
  (width > 1 ? wider?.findLast((w) => w.from <= width)?.schedule : undefined) ?? schedule;

/** Candidates that may stand together in a kernel, with the best of each width, and how good they are: the less, the better. */
export interface Together<S extends Schedule> {
  readonly schedules: readonly S[];
  readonly best: readonly S[];
  /** Over all widths, the time of the best of them relative to the best of all candidates. */
  readonly score: number;
}

/**
 * Candidates by the bits that they give, the best first: those of tensor cores by their parts of k, other contractions together as their sums
 * run in order, and any other by itself.
 * @param times of each candidate at each width.
 */
export function byBits<S extends Schedule>(
  schedules: readonly S[],
  times: readonly (readonly number[])[],
): Together<S>[] {
  const widths = [...(times[0] ?? []).keys()];
  const fastest = (of: readonly number[], w: number): number =>
    of.reduce((best, n) => (times[n]![w]! < times[best]![w]! ? n : best));
  const all = [...schedules.keys()];
  const groups = new Map<string | number, number[]>();
  for (const [n, s] of schedules.entries()) {
    const key = s.skeleton === 'mma' ? `${partsOf(s)} parts` : s.skeleton === 'contraction' ? 'in order' : n;
    groups.set(key, [...(groups.get(key) ?? []), n]);
  }
  return [...groups.values()]
    .map((members) => {
      const best = widths.map((w) => fastest(members, w));
      const score = best.reduce((sum, n, w) => sum + times[n]![w]! / times[fastest(all, w)]![w]!, 0);
      return { schedules: members.map((n) => schedules[n]!), best: best.map((n) => schedules[n]!), score };
    })
    .sort((a, b) => a.score - b.score);
}

/** As many tenants' words as run beside each other, about: by their time together kernels are judged that have company. */
const company = 8;
/**
 * How much the time of many counts, where that of one alone counts 1. More makes one slower than it need be, less takes from others: on an
 * H100 requests at random waited the less the more it was, and mixes lost where a long chain paid for others (docs/performance.md).
 */
const weightOfMany = 3;

/**
 * The schedule for words of one slot beside others: what is best for one alone takes multiprocessors that others could use, what is best for
 * many is slow for one, so both times count, relative to the best of each.
 * @param times of each schedule at each width.
 * @returns undefined if the schedule of one alone is as good, or if no width says what many take.
 */
export function scheduleBeside<S extends Schedule>(
  schedules: readonly S[],
  times: readonly (readonly number[])[],
  widths: readonly number[],
  alone: S,
): S | undefined {
  const one = widths.indexOf(1);
  const far = (n: number): number => Math.abs(Math.log2(widths[n]! / company));
  const many = [...widths.keys()].reduce((a, b) => (far(b) < far(a) ? b : a));
  if (one < 0 || far(many) > 1) return undefined;
  const least = (w: number): number => Math.min(...times.map((t) => t[w]!));
  const [leastOne, leastMany] = [least(one), least(many)];
  const score = (n: number): number =>
    times[n]![one]! / leastOne + (weightOfMany * times[n]![many]!) / leastMany;
  const best = [...schedules.keys()].reduce((a, b) => (score(b) < score(a) ? b : a));
  const before = schedules.findIndex((s) => formatSchedule(s) === formatSchedule(alone));
  return score(best) <= (1 - leastWidthGain) * score(before) ? schedules[best]! : undefined;
}

export interface Choice {
  readonly schedules: Schedules;
  /** By width: the times of the defaults, and of what was chosen. */
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/**
 * The schedules that take the least time relative to the best of each width, all widths together; the defaults, unless they are worse by
 * `leastGain`.
 * @param times of each candidate at each width, those of the defaults among them.
 */
export function chooseByTime(
  candidates: readonly Schedule[],
  times: readonly (readonly number[])[],
  widths: readonly number[],
  defaults: Schedules,
  leastGain: number,
): Choice {
  const timesOf = new Map(candidates.map((s, n) => [formatSchedule(s), times[n]!]));
  const time = (s: Schedule, width: number): number =>
    timesOf.get(formatSchedule(s))![widths.indexOf(width)]!;
  const groups = byBits(candidates, times);
  const besideOf = ({ schedules }: Together<Schedule>, alone: Schedule): Schedule | undefined =>
    scheduleBeside(
      schedules,
      schedules.map((s) => timesOf.get(formatSchedule(s))!),
      widths,
      alone,
    );
  const [best] = groups;
  const found = schedulesByWidth(
    widths.map((width, w) => ({ width, best: best!.best[w]! })),
    time,
    leastWidthGain,
    besideOf(best!, best!.best[0]!),
  );
  const each = (s: Schedules): number[] => widths.map((width) => time(scheduleFor(s, width), width));
  const least = widths.map((_, w) => Math.min(...times.map((t) => t[w]!)));
  const score = (of: readonly number[]): number => of.reduce((sum, ms, w) => sum + ms / least[w]!, 0);
  const [before, after] = [each(defaults), each(found)];
  if (score(after) <= score(before) * (1 - leastGain)) return { schedules: found, before, after };
  const { schedule, wider = [] } = defaults;
  const own = groups.find((g) => g.schedules.some((s) => formatSchedule(s) === formatSchedule(schedule)));
  const beside = own && besideOf(own, schedule);
  if (!beside) return { schedules: defaults, before, after: before };
  // Wider words go on as they were.
  const two = wider[0]?.from === 2 ? [] : [{ from: 2, schedule }];
  return {
    schedules: { schedule, wider: [{ from: 1, schedule: beside }, ...two, ...wider] },
    before,
    after: before,
  };
}
