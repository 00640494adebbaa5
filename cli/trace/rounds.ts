/**
 * @file A traced round as spans: its words, each tenant's kernels, and the blocks on every unit of the device; and what it comes to.
 */
import type { RoundTrace, TracedWord } from '../../driver/trace.ts';
import type { Group, Span, Track } from './timeline.ts';

/** The units that a round ran on or could have: those that the device has, and what a host takes beyond them. */
export function unitNames(kind: 'cuda' | 'host', units: number, trace: RoundTrace): string[] {
  let most = units;
  for (const { blocks } of wordsOf(trace)) for (const unit of blocks.unit) most = Math.max(most, unit + 1);
  return Array.from({ length: most }, (_, unit) => unitName(kind, unit));
}

/** What a row of blocks is called. */
const unitName = (kind: 'cuda' | 'host', unit: number): string =>
  kind === 'cuda' ? `SM ${unit}` : `thread ${unit}`;

/** Some blocks of a word: when the first began and the last ended, and how many there are. */
interface Extent {
  begin: number;
  end: number;
  count: number;
}

/** The extents of a word's slots, by their numbers; nothing for a slot without blocks. */
function slotExtents({ blocks }: TracedWord): Map<number, Extent> {
  const extents = new Map<number, Extent>();
  blocks.begin.forEach((begin, i) => {
    const slot = blocks.slot[i]!;
    const found = extents.get(slot) ?? { begin, end: begin, count: 0 };
    extents.set(slot, found);
    found.begin = Math.min(found.begin, begin);
    found.end = Math.max(found.end, blocks.end[i]!);
    found.count++;
  });
  return extents;
}

/** The words of all programs; their places in the list are the numbers that the spans of one round name them by. */
const wordsOf = (trace: RoundTrace): TracedWord[] => trace.programs.flatMap((p) => p.words);

/**
 * A round as a group of tracks: one of its words, one a tenant with its kernels, one a unit with the blocks that ran there.
 * @param tenants of the timeline.
 */
export function roundGroup(
  name: string,
  trace: RoundTrace,
  tenants: readonly string[],
  kind: 'cuda' | 'host',
): Group {
  const numberOf = new Map(tenants.map((tenant, n) => [tenant, n]));
  const words: Span[] = [];
  const ofTenant: Span[][] = tenants.map(() => []);
  const ofUnit = new Map<number, Span[]>();
  for (const [number, word] of wordsOf(trace).entries()) {
    const extents = slotExtents(word);
    if (extents.size > 0) words.push(wordSpan(number, word, [...extents.values()]));
    for (const [slot, { begin, end, count }] of extents) {
      const { tenant: owner, task, loc } = word.slots[slot]!;
      const tenant = numberOf.get(owner)!;
      const details = { word: number, blocks: count, from: loc };
      ofTenant[tenant]!.push({ name: task, begin, end, tenant, details });
    }
    word.blocks.begin.forEach((begin, block) => {
      const { tenant: owner, task } = word.slots[word.blocks.slot[block]!]!;
      const unit = word.blocks.unit[block]!;
      const spans = ofUnit.get(unit) ?? [];
      ofUnit.set(unit, spans);
      const details = { kernel: task, word: number, block };
      const end = word.blocks.end[block]!;
      spans.push({ name: owner, begin, end, tenant: numberOf.get(owner)!, details });
    });
  }
  const units = [...ofUnit].sort(([a], [b]) => a - b);
  return {
    name,
    tracks: [
      { kind: 'word', name: 'words', spans: words },
      ...ofTenant.map((spans, n): Track => ({ kind: 'tenant', name: tenants[n]!, spans })),
      ...units.map(([unit, spans]): Track => ({ kind: 'block', name: unitName(kind, unit), spans })),
    ],
  };
}

function wordSpan(
  number: number,
  { tier, classes, kernels, slots }: TracedWord,
  extents: readonly Extent[],
): Span {
  return {
    name: `${kernels.join(' + ')} × ${slots.length}`,
    begin: Math.min(...extents.map((e) => e.begin)),
    end: Math.max(...extents.map((e) => e.end)),
    details: {
      word: number,
      tier,
      classes,
      blocks: extents.reduce((sum, e) => sum + e.count, 0),
      tenants: new Set(slots.map((s) => s.tenant)).size,
      slots: slots.map(({ tenant, task }) => `${tenant}: ${task}`),
    },
  };
}

/** A round in numbers. Times are in milliseconds. */
export interface RoundSummary {
  /** From before the first launch to the end of the last. */
  readonly milliseconds: number;
  /** From the begin of the first block to the end of the last. */
  readonly blocksMilliseconds: number;
  readonly words: number;
  readonly blocks: number;
  /** The part of that time, over all units, in which a unit had at least one block. */
  readonly busy: number;
  /** The longest stretch of that time in which no unit had a block. */
  readonly widestGap: number;
}

/** @param units how many the device has; a host that runs more programs at once than it has threads takes more. */
export function summarise(trace: RoundTrace, units: number): RoundSummary {
  const words = wordsOf(trace);
  const all: Interval[] = [];
  const ofUnit = new Map<number, Interval[]>();
  for (const { blocks } of words) {
    blocks.begin.forEach((begin, i) => {
      const interval: Interval = [begin, blocks.end[i]!];
      const unit = blocks.unit[i]!;
      all.push(interval);
      const mine = ofUnit.get(unit) ?? [];
      ofUnit.set(unit, mine);
      mine.push(interval);
    });
  }
  const length = all.reduce((most, [, end]) => Math.max(most, end), 0);
  const busy = [...ofUnit.values()].reduce((sum, mine) => sum + covered(mine).time, 0);
  return {
    milliseconds: trace.milliseconds,
    blocksMilliseconds: length / 1e6,
    words: words.length,
    blocks: all.length,
    busy: length > 0 ? busy / (length * Math.max(units, ofUnit.size)) : 0,
    widestGap: covered(all).widestGap / 1e6,
  };
}

type Interval = readonly [begin: number, end: number];

/** How long there is at least one of the intervals, and the longest time between two in which there is none. */
function covered(intervals: readonly Interval[]): { readonly time: number; readonly widestGap: number } {
  let [time, widestGap] = [0, 0];
  let until: number | undefined;
  for (const [begin, end] of [...intervals].sort((a, b) => a[0] - b[0])) {
    widestGap = Math.max(widestGap, begin - (until ?? begin));
    time += Math.max(0, end - Math.max(begin, until ?? begin));
    until = Math.max(end, until ?? end);
  }
  return { time, widestGap };
}
