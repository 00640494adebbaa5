/**
 * @file A benchmark's results, as a text for people and as an object for machines.
 */
import type { Cost } from '../../ir/cost.ts';
import { formatMs, table } from '../output.ts';
import { type Ceilings, shareOfCeiling } from './ceilings.ts';
import type { KernelTime, WordTime } from './kernels.ts';
import type { Figure, Measured, Mode } from './measure.ts';

/** All that was asked, and what came out. */
export interface BenchReport {
  readonly device: { readonly kind: string; readonly name: string; readonly target: string };
  readonly models: readonly string[];
  readonly precision: string;
  readonly tier: string;
  /** Whether kernels have the schedules that `wideword tune` found for this device. */
  readonly tuning: boolean;
  readonly width: number | null;
  /** What outputs were checked against. */
  readonly reference: string;
  readonly ceilings: Ceilings;
  /** One for each number of tenants. */
  readonly measured: readonly Measured[];
}

/** The q-th quantile (0 to 1) of ascending values: the least that is not below so large a part of them. */
export const quantile = (ascending: readonly number[], q: number): number =>
  ascending[Math.max(0, Math.ceil(q * ascending.length) - 1)] ?? Number.NaN;

export const modeNames: { readonly [M in Mode | 'engine']: string } = {
  turn: 'time multiplexed',
  space: 'space multiplexed',
  coalesced: 'coalesced',
  wide: 'wide words',
  branches: 'branches',
  measured: 'measured choice',
  engine: 'issue engine',
};

/** Inferences a second, at the median round. */
export const throughput = ({ tenants, rounds }: Figure): number => (tenants * 1000) / quantile(rounds, 0.5);

const rates = ({ flops, bytes }: Cost, milliseconds: number) => ({
  tflops: flops / milliseconds / 1e9,
  gbps: bytes / milliseconds / 1e6,
});

export function toJson({ measured, ceilings, ...head }: BenchReport): object {
  return {
    ...head,
    ceilings: { gbPerSecond: ceilings.gbps, tflops: ceilings.tflops },
    figures: measured.flatMap(({ figures }) =>
      figures.map((f) => {
        const p50 = quantile(f.rounds, 0.5);
        const { tflops, gbps } = rates(f, p50);
        return {
          tenants: f.tenants,
          mode: f.mode,
          inferencesPerSecond: throughput(f),
          milliseconds: { p50, p99: quantile(f.rounds, 0.99) },
          rounds: f.rounds.length,
          tflops,
          gbPerSecond: gbps,
          ofCeilings: { tflops: tflops / ceilings.tflops, gbPerSecond: gbps / ceilings.gbps },
          launches: f.launches,
          widest: f.widest,
          largestError: f.largestError,
        };
      }),
    ),
    words: measured.flatMap(({ figures, words }) =>
      words.map((w) => ({ tenants: figures[0]!.tenants, ...w })),
    ),
    notes: measured.flatMap((m) => m.notes),
    kernels: measured.flatMap(({ figures, kernels }) => {
      const total = sumOf(kernels);
      return kernels.map((k) => {
        const { tflops, gbps } = rates(k, k.milliseconds);
        return {
          tenants: figures[0]!.tenants,
          name: k.name,
          loc: k.loc,
          words: k.words,
          slots: k.slots,
          milliseconds: k.milliseconds,
          share: k.milliseconds / total,
          tflops,
          gbPerSecond: gbps,
          ofCeiling: shareOfCeiling(k, k.milliseconds, ceilings),
        };
      });
    }),
    ok: true,
  };
}

const sumOf = (kernels: readonly KernelTime[]): number => kernels.reduce((n, k) => n + k.milliseconds, 0);

export const percent = (share: number): string => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** A number with three digits that mean something, and no exponent. */
export function formatNumber(n: number): string {
  if (n >= 1000) return Math.round(n).toLocaleString('en-US');
  if (n === 0 || n < 0.001) return n === 0 ? '0' : n.toExponential(1);
  return n >= 100 ? n.toFixed(0) : n.toPrecision(3);
}

/** `top` is how many kernels to print. */
export function toText(report: BenchReport, top: number): string {
  const { device, models, precision, tier, tuning, width, ceilings, reference, measured } = report;
  const lines = [
    `${models.join(' ')}, ${precision}, tier ${tier}${width === null ? '' : `, words of at most ${width}`}${tuning ? '' : ', default schedules'}, on ${device.name} (${device.target})`,
    `ceilings, by our own kernels: copy ${formatNumber(ceilings.gbps)} GB/s, matrix product ${formatNumber(ceilings.tflops)} TFLOP/s`,
    `outputs checked against ${reference}, and bit by bit against each tenant alone`,
    '',
  ];
  const head = [
    'tenants',
    'mode',
    'inferences/s',
    'p50 of a round',
    'p99',
    'rounds',
    'TFLOP/s',
    'of ceiling',
    'GB/s',
    'of ceiling',
    'launches',
    'widest',
    'largest error',
  ];
  const rows = measured.flatMap(({ figures }) =>
    figures.map((f) => {
      const p50 = quantile(f.rounds, 0.5);
      const { tflops, gbps } = rates(f, p50);
      return [
        f.tenants,
        modeNames[f.mode],
        formatNumber(throughput(f)),
        formatMs(p50),
        formatMs(quantile(f.rounds, 0.99)),
        f.rounds.length,
        formatNumber(tflops),
        percent(tflops / ceilings.tflops),
        formatNumber(gbps),
        percent(gbps / ceilings.gbps),
        f.launches,
        f.widest,
        f.largestError.toExponential(1),
      ];
    }),
  );
  const last = measured.at(-1)!;
  lines.push(table([head, ...rows]), '', ...kernelLines(last, ceilings, top), ...wordLines(last, top));
  return lines.join('\n');
}

function kernelLines({ figures, kernels }: Measured, ceilings: Ceilings, top: number): string[] {
  const total = sumOf(kernels);
  const shown = kernels.slice(0, top);
  const rows = shown.map((k) => {
    const { tflops, gbps } = rates(k, k.milliseconds);
    return [
      k.name,
      k.loc[0] ?? '',
      k.words,
      k.slots,
      formatMs(k.milliseconds),
      percent(k.milliseconds / total),
      formatNumber(tflops),
      formatNumber(gbps),
      percent(shareOfCeiling(k, k.milliseconds, ceilings)),
    ];
  });
  const head = ['kernel', 'first from', 'words', 'slots', 'time', 'of all', 'TFLOP/s', 'GB/s', 'of ceiling'];
  return [
    `slowest ${shown.length} of ${kernels.length} kernels at ${figures[0]!.tenants} tenants, timed word by word (${formatMs(total)} in all)`,
    table([head, ...rows]),
  ];
}

/** The longest words of the wide mode against what was expected of them, and all of them. */
function wordLines({ figures, words, notes }: Measured, top: number): string[] {
  if (words.length === 0) return [];
  const sum = (of: (w: WordTime) => number): number => words.reduce((ms, w) => ms + of(w), 0);
  const shown = [...words.entries()].sort(([, a], [, b]) => b.measured - a.measured).slice(0, top);
  const brief = (text: string): string => (text.length > 60 ? `${text.slice(0, 59)}…` : text);
  const row = (w: Pick<WordTime, 'predicted' | 'measured'>): string[] => [
    formatMs(w.predicted),
    formatMs(w.measured),
    (w.measured / w.predicted).toFixed(2),
  ];
  const all = { predicted: sum((w) => w.predicted), measured: sum((w) => w.measured) };
  const off = words.map((w) => Math.abs(Math.log(w.measured / w.predicted))).sort((a, b) => a - b);
  const wide = words.filter((w) => w.classes > 1).length;
  return [
    '',
    `slowest ${shown.length} of ${words.length} words at ${figures[0]!.tenants} tenants (${wide} of more than one class), against their plan`,
    table([
      ['word', 'tasks', 'slots', 'predicted', 'measured', 'ratio'],
      ...shown.map(([n, w]) => [n, brief(w.tasks), w.slots, ...row(w)]),
      ['all', '', sum((w) => w.slots), ...row(all)],
    ]),
    `half of the words are within a factor of ${Math.exp(quantile(off, 0.5)).toFixed(2)} of their plan`,
    ...notes.map((note) => `note: ${note}`),
  ];
}
