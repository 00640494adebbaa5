/**
 * @file The demo that `npm start` runs: text recognisers, text-direction classifiers and wake-word heads of several
 * tenants as one program. It checks what it reads, and exits with 1 if a text comes out wrong.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { type DeviceKind, InputError, MissingToolchain, openDevice } from '../index.ts';
import { alone } from './alone.ts';
import { listen } from './listen.ts';
import { describeCode, milliseconds, seconds, showProgress, table } from './report.ts';
import { answers, failures, firstRound, rows, turnedRound } from './rounds.ts';
import { castTenants } from './tenants.ts';
import { timing } from './timing.ts';

interface Options {
  readonly device: DeviceKind;
  readonly rounds?: number;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 10_000)
    throw new InvalidArgumentError('Give a whole number from 1 to 10000.');
  return value;
}

const command = new Command('demo')
  .description('Runs tenants with three kinds of models as one program, and checks what they read.')
  .addOption(new Option('--device <kind>', 'where to run').choices(['auto', 'cuda', 'host']).default('auto'))
  .option('--rounds <n>', 'rounds to time each way (default: 20 on a GPU, 3 on the host)', positive)
  .parse();

const { device: kind, rounds } = command.opts<Options>();
try {
  process.exitCode = await demo(kind, rounds);
} catch (error) {
  // Something is missing or wrong outside the program; its message is the whole story.
  if (!(error instanceof InputError || error instanceof MissingToolchain)) throw error;
  console.error(`demo: ${error.message}`);
  process.exitCode = 1;
}

/** Runs it all; gives the exit status. */
async function demo(kind: DeviceKind, wanted?: number): Promise<number> {
  const started = performance.now();
  const device = await openDevice(kind);
  try {
    console.log(`Device: ${device.name}`);
    // A round takes about a second on two cores.
    const rounds = wanted ?? (device.kind === 'host' ? 3 : 20);

    const first = showProgress('Compiling the features');
    const heard = await listen(device, { onProgress: first.onProgress }).finally(first.stop);
    console.log(
      `Features of 3 sounds for the wake words: ${heard.stats.kernels} kernels in ${heard.stats.words} words, ` +
        `${milliseconds(heard.milliseconds)} (code: ${describeCode(heard.stats)})`,
    );

    const cast = await castTenants();
    const tenants = [...cast.readers, ...cast.classifiers, ...cast.listeners];
    const second = showProgress('Compiling the tenants');
    const program = await device.load(tenants, { onProgress: second.onProgress }).finally(second.stop);
    const { stats } = program;
    console.log(`${tenants.length} tenants loaded as one program (code: ${describeCode(stats)})`);
    console.log(
      `${stats.kernelsLowered} kernels as lowered, ${stats.kernels} after fusion, in ${stats.words} words\n`,
    );

    const requests = firstRound(cast, heard.features);
    const together = await program.run(requests);
    const turned = await turnedRound(program, cast, together.outputs);
    const found = answers(cast, together.outputs, turned);
    console.log(table([['kind', 'tenant', 'answer', 'how sure'], ...rows(found)]));
    console.log(
      '  (The sounds are made in code and nobody speaks in them: the wake words should score low.)\n',
    );

    const same = await alone(program, requests, together.outputs);
    console.log(`Each tenant run alone: ${same} of ${tenants.length} give the same bits as together`);

    console.log(`${await timing(device, program, rounds)}\n`);

    const wrong = failures(found);
    if (same < tenants.length) wrong.push(`${tenants.length - same} tenants answer differently when alone`);
    for (const line of wrong) console.error(`WRONG: ${line}`);
    if (wrong.length === 0) console.log('All texts and directions are as they should be.');
    console.log(`Total ${seconds(performance.now() - started)}`);
    return wrong.length === 0 ? 0 : 1;
  } finally {
    device.close();
  }
}
