/**
 * @file One model at one number of tenants: what PyTorch gets on this GPU, and what Wideword gets, in one call. Needs python3 with torch and
 * torchvision, and a script that takes `in --model NAME -R N` and prints a JSON line a way of running: {how, inf_per_s, round_ms, p99_ms}.
 *
 *     node dist/bench/side_by_side.js --peers torch_peers.py resnet50 --tenants 8
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';

/** What torchvision calls our generated models. */
const peerNames: { readonly [model: string]: string } = {
  mobilenetv2: 'mobilenet_v2',
  'squeezenet1.1': 'squeezenet1_1',
  'bert-base': 'bert',
};

interface Row {
  readonly how: string;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/** The standard output of a process; what it says on standard error is passed on. Throws if it fails. */
function output(command: string, args: readonly string[]): string {
  const { status, stdout, error } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}`);
  return stdout;
}

function peers(script: string, model: string, tenants: number): Row[] {
  const lines = output('python3', [script, 'in', '--model', peerNames[model] ?? model, '-R', `${tenants}`]);
  return lines
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter((row) => row.inf_per_s !== undefined)
    .map((r) => ({ how: `PyTorch: ${r.how}`, perSecond: r.inf_per_s, p50: r.round_ms, p99: r.p99_ms }));
}

interface OurFigure {
  readonly mode: string;
  readonly inferencesPerSecond: number;
  readonly milliseconds: { readonly p50: number; readonly p99: number };
}

function ours(model: string, tenants: number, options: readonly string[]): Row[] {
  const main = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const args = [
    'bench',
    model,
    '--tenants',
    `${tenants}`,
    '--device',
    'cuda',
    '--precision',
    'fp16',
    ...options,
  ];
  const { figures } = JSON.parse(output(process.execPath, [main, ...args, '--json']));
  return figures.map((f: OurFigure) => ({
    how: `Wideword: ${f.mode}`,
    perSecond: f.inferencesPerSecond,
    p50: f.milliseconds.p50,
    p99: f.milliseconds.p99,
  }));
}

const command = new Command('side_by_side')
  .argument('<model>', 'a generated model')
  .argument('[options...]', 'further options of `wideword bench`, after --')
  .requiredOption('--peers <script>', 'the script that measures PyTorch')
  .option('--tenants <n>', 'how many', Number, 8)
  .parse();
const [model, ...more] = command.args as [string, ...string[]];
const { peers: script, tenants } = command.opts<{ peers: string; tenants: number }>();
const theirs = peers(script, model, tenants);
// What runs one model for all tenants, with weights that they share, is another job.
const best = Math.max(...theirs.filter((r) => !r.how.includes('reference')).map((r) => r.perSecond));
console.log(`${model}, ${tenants} tenants, fp16\n`);
console.log('| how | inferences/s | p50 ms | p99 ms | against the best of PyTorch |');
console.log('| --- | --- | --- | --- | --- |');
for (const { how, perSecond, p50, p99 } of [...theirs, ...ours(model, tenants, more)]) {
  const cells = [how, perSecond.toFixed(0), p50.toFixed(3), p99.toFixed(3), (perSecond / best).toFixed(2)];
  console.log(`| ${cells.join(' | ')} |`);
}
