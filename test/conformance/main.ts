/**
 * @file `npm run conformance`: runs ONNX's backend tests and prints how many pass, are refused or come out wrong, by
 * operator. Fails if any is wrong.
 */
import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import { progressBar } from '../../cli/output.ts';
import { openDevice } from '../../driver/device.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import { deviceRunner } from './device_runner.ts';
import { archive, listTests, type Outcome, type Runner, runTest, testFolder } from './suite.ts';

/** Ways to run a module. */
const runners: { readonly [name: string]: () => Promise<Runner> } = {
  host: async () => deviceRunner(await openDevice('host')),
  cuda: async () => deviceRunner(await openDevice('cuda')),
  interpret: async () => interpretModule,
};

interface Options {
  readonly runner: string;
  readonly filter?: string;
  readonly json?: boolean;
}

async function main(): Promise<number> {
  const command = new Command('conformance')
    .description("Run ONNX's backend tests through the compiler")
    .addOption(
      new Option('--runner <name>', 'what runs the kernels').choices(Object.keys(runners)).default('host'),
    )
    .option('--filter <text>', 'only tests whose name contains this')
    .option('--json', 'print every outcome as JSON')
    .parse();
  const { runner, filter, json } = command.opts<Options>();
  const folder = await testFolder();
  if (!folder) {
    console.error(`conformance: not run, there is no ${archive} (seen from the repository's root)`);
    return 1;
  }
  const run = await runners[runner]!();
  const tests = listTests(folder).filter((t) => !filter || t.name.includes(filter));
  // The interpreter would take hours for the models of real size.
  const skipped = tests.filter((t) => runner === 'interpret' && t.group === 'light');
  const chosen = tests.filter((t) => !skipped.includes(t));
  const bar = progressBar('conformance');
  // A few at once: while one waits for the compiler, another is read and lowered.
  const outcomes = new Array<Outcome>(chosen.length);
  const queue = chosen.entries();
  let done = 0;
  const worker = async (): Promise<void> => {
    for (const [n, test] of queue) {
      outcomes[n] = await runTest(test, run);
      bar.update({ done: ++done, total: chosen.length, cached: 0, name: test.name });
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  bar.stop();

  if (json) console.log(JSON.stringify({ runner, skipped: skipped.map((t) => t.name), outcomes }, null, 1));
  else print(outcomes, skipped.length);
  return outcomes.some((o) => o.status === 'wrong') ? 1 : 0;
}

function print(outcomes: readonly Outcome[], skipped: number): void {
  const rows = new Map<string, { pass: number; unsupported: number; wrong: number }>();
  const total = { pass: 0, unsupported: 0, wrong: 0 };
  for (const { operator, status } of outcomes) {
    const row = rows.get(operator) ?? { pass: 0, unsupported: 0, wrong: 0 };
    rows.set(operator, row);
    row[status]++;
    total[status]++;
  }
  const line = (name: string, a: string | number, b: string | number, c: string | number): void =>
    console.log(
      `${name.padEnd(28)}${String(a).padStart(8)}${String(b).padStart(13)}${String(c).padStart(8)}`,
    );
  line('operator', 'pass', 'unsupported', 'wrong');
  for (const [name, row] of [...rows].sort(([a], [b]) => a.localeCompare(b))) {
    line(name, row.pass, row.unsupported, row.wrong);
  }
  line('all', total.pass, total.unsupported, total.wrong);
  if (skipped > 0)
    console.log(`skipped: ${skipped} models of real size, which the interpreter is too slow for`);
  for (const o of outcomes.filter((w) => w.status === 'wrong'))
    console.log(`wrong: ${o.group}/${o.name}: ${o.reason}`);
}

// Devices keep threads; the work is over.
process.exit(await main());
