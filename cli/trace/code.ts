/**
 * @file Code being made ready as spans: what was compiled, and what was found in the cache.
 */
import type { CodeProgress } from '../../driver/code.ts';
import type { Compiled } from './engine.ts';
import type { Group } from './timeline.ts';

/** Steps, in milliseconds of any clock, from the time that the first began; and what an engine compiled in the background, if it did. */
export function codeGroup(steps: readonly CodeProgress[], compiled: readonly Compiled[] = []): Group {
  const origin = Math.min(...[...steps, ...compiled].map((s) => s.begin));
  const since = (milliseconds: number): number => Math.round((milliseconds - origin) * 1e6);
  const spans = steps.map(({ name, how, begin, end }) => ({
    name: how === 'compiled' ? `compile ${name}` : name,
    begin: since(begin),
    end: since(end),
    details: { code: how },
  }));
  const beside = compiled.map((event) => ({
    name: `compile ${event.kernels.join(' + ')}`,
    begin: since(event.begin),
    end: since(event.end),
    details: {
      code: event.kind,
      why: event.why,
      kernels: event.kernels,
      ...(event.kind === 'failed' && { problem: event.problem }),
    },
  }));
  return {
    name: 'code',
    tracks: [
      { kind: 'code', name: 'code made ready', spans },
      ...(beside.length > 0
        ? [{ kind: 'code' as const, name: 'compiled in the background', spans: beside }]
        : []),
    ],
  };
}
