/**
 * @file Code being made ready as spans: what was compiled, and what was found in the cache.
 */
import type { CodeProgress } from '../../driver/code.ts';
import type { Group } from './timeline.ts';

/** Steps, in milliseconds of any clock, from the time that the first began. */
export function codeGroup(steps: readonly CodeProgress[]): Group {
  const origin = Math.min(...steps.map((s) => s.begin));
  const since = (milliseconds: number): number => Math.round((milliseconds - origin) * 1e6);
  const spans = steps.map(({ name, how, begin, end }) => ({
    name: how === 'compiled' ? `compile ${name}` : name,
    begin: since(begin),
    end: since(end),
    details: { code: how },
  }));
  return { name: 'code', tracks: [{ kind: 'code', name: 'code made ready', spans }] };
}
