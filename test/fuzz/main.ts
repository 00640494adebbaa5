/**
 * @file `npm run fuzz`: random graphs and kernels on every way there is, against the interpreter, for as long as asked.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { printItems } from '../../ir/item.ts';
import { emulatedWay, type Way, wayKinds } from '../support/ways.ts';
import { passesOf } from './cases.ts';
import { type Finding, runCases, shrink, type Tally } from './run.ts';

const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0');
  return value;
};
const whole = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('expected a whole number');
  return Number(text);
};

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly cases?: number;
  readonly ways?: readonly WayName[];
  readonly out: string;
  readonly json?: boolean;
}

/** The ways by the names that `--ways` takes. Under the race detector a run takes a second to begin with, so it gets a part of the cases. */
const wayNames = {
  host: { every: 1, open: (kinds: Kinds) => kinds.host.open() },
  memory: { every: 1, open: () => emulatedWay('memory') },
  races: { every: 4, open: () => emulatedWay('races') },
  cuda: { every: 1, open: (kinds: Kinds) => kinds.cuda.open() },
} as const;
type WayName = keyof typeof wayNames;
type Kinds = ReturnType<typeof wayKinds>;

function namesOf(text: string): WayName[] {
  return text.split(',').map((name) => {
    if (!Object.hasOwn(wayNames, name))
      throw new InvalidArgumentError(`expected some of ${Object.keys(wayNames).join(',')}`);
    return name as WayName;
  });
}

/** Cases between two looks at the clock; compiled together. */
const batch = 24;
const secondsToShrink = 60;

async function main(): Promise<number> {
  const command = new Command('fuzz')
    .description('Run random graphs and kernels in every way and compare with the interpreter')
    .option('--minutes <n>', 'how long', positive, 5)
    .option('--cases <n>', 'stop after so many', whole)
    .option('--seed <n>', 'the first case; the others follow', whole, Date.now() % 1_000_000_000)
    .option(
      '--ways <list>',
      `some of ${Object.keys(wayNames).join(',')}; all that can be had if not said`,
      namesOf,
    )
    .option('--out <folder>', 'where to write what was found, as text of the IR', 'fuzz-findings')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  $ npm run fuzz -- --minutes 20\n  $ npm run fuzz -- --seed 1234 --cases 1',
    )
    .parse();
  const {
    minutes,
    seed,
    cases = Number.POSITIVE_INFINITY,
    ways: wanted,
    out,
    json,
  } = command.opts<Options>();
  const kinds = wayKinds();
  const { problem } = kinds.cuda;
  const hasGpu = problem === undefined;
  if (wanted?.includes('cuda') && !hasGpu) {
    console.error(`fuzz: no way cuda: ${problem}`);
    return 2;
  }
  const names = wanted ?? (Object.keys(wayNames) as WayName[]).filter((n) => n !== 'cuda' || hasGpu);
  const ways = names.map((name) => ({ way: wayNames[name].open(kinds), every: wayNames[name].every }));
  const skipped = wanted || hasGpu ? '' : `; cuda is skipped: ${problem}`;
  console.error(`fuzz: from seed ${seed}, ${ways.map((w) => w.way.name).join('; ')}${skipped}`);

  const totals = new Map<Way, Tally>();
  const end = Date.now() + minutes * 60_000;
  let stopped = false;
  process.once('SIGINT', () => {
    stopped = true;
  });
  for (let done = 0; done < cases && !stopped && (done === 0 || Date.now() < end); done += batch) {
    const seeds = Array.from({ length: Math.min(batch, cases - done) }, (_, n) => seed + done + n);
    for (const { way, every } of ways) {
      const tally = await runCases(
        way,
        seeds.filter((s) => s % every === 0 || cases === 1),
      );
      for (const finding of tally.findings) await report(way, finding, out);
      totals.set(way, sum(totals.get(way), tally));
    }
    if (process.stderr.isTTY) console.error(`fuzz: ${done + seeds.length} cases`);
  }
  for (const { way } of ways) way.close();

  const rows = [...totals].map(([way, t]) => ({ way: way.name, ...t, findings: t.findings.length }));
  if (json)
    console.log(
      JSON.stringify({ seed, ways: rows, skipped: skipped === '' ? [] : [{ way: 'cuda', problem }] }),
    );
  else
    for (const r of rows)
      console.log(
        `${r.way}: ${r.cases} cases, ${r.compared} elements equal to the interpreter's, ${r.open} left open, ${r.findings} cases wrong`,
      );
  return rows.some((r) => r.findings > 0) ? 1 : 0;
}

const sum = (a: Tally | undefined, b: Tally): Tally => ({
  cases: (a?.cases ?? 0) + b.cases,
  compared: (a?.compared ?? 0) + b.compared,
  open: (a?.open ?? 0) + b.open,
  findings: [...(a?.findings ?? []), ...b.findings],
});

/** Shrinks what was found, and writes it down. */
async function report(way: Way, { seed, message }: Finding, out: string): Promise<void> {
  const small = await shrink(way, seed, secondsToShrink);
  const { module, tenants, graph } = small.smallest;
  const comments = [
    `found by: npm run fuzz -- --seed ${seed} --cases 1`,
    `way: ${way.name}`,
    `${tenants} tenants${graph ? `, from a graph in ${graph.precision}` : ''}`,
    `passes ${passesOf(small.smallest)}`,
    ...message.split('\n').slice(0, 12),
    ...(small.message === message ? [] : ['shrunk:', ...small.message.split('\n').slice(0, 12)]),
  ];
  const text = `${comments.map((line) => `; ${line}`).join('\n')}\n\n${printItems([{ kind: 'module', module }])}`;
  await mkdir(out, { recursive: true });
  const path = join(out, `${seed}-${way.name.replace(/\W+/g, '-')}.ir`);
  await writeFile(path, text);
  console.error(`fuzz: ${way.name}: seed ${seed} is wrong: ${message.split('\n')[0]} (${path})`);
}

// Devices keep threads; the work is over.
process.exit(await main());
