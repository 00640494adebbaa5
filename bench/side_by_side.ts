/**
 * @file One model at one number of tenants, or a mix of models: what PyTorch gets on this GPU, and what Wideword gets, in one call. Needs
 * python3 with torch and torchvision, and a script that takes `in --model NAME -R N` or `mix --mix A` and prints a JSON line a way of
 * running: {how, inf_per_s, round_ms, p99_ms}.
 *
 *     node dist/bench/side_by_side.js --peers torch_peers.py resnet50 --tenants 8
 *     node dist/bench/side_by_side.js --peers torch_peers.py --mix B -- --mode turn,space,coalesced,wide
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';

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

/** The same tenants as the script's mixes. */
const mixes: { readonly [name: string]: readonly string[] } = {
  A: ['resnet50*4', 'bert-base*4', 'mobilenetv2*8', 'mlp*16'],
  B: ['resnet18', 'resnet34', 'resnet50', 'mobilenetv2', 'squeezenet1.1', 'vgg11', 'bert-base', 'mlp'],
};

function peers(script: string, args: readonly string[]): Row[] {
  return output('python3', [script, ...args])
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

function ours(models: readonly string[], tenants: number, options: readonly string[]): Row[] {
  const main = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const args = [
    'bench',
    ...models,
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
  .argument('[model]', 'a generated model, where no mix is asked for')
  .argument('[options...]', 'further options of `wideword bench`, after --')
  .requiredOption('--peers <script>', 'the script that measures PyTorch')
  .option('--tenants <n>', 'how many of the model', Number, 8)
  .addOption(new Option('--mix <name>', 'a mix of models').choices(Object.keys(mixes)))
  .parse();
const { peers: script, tenants, mix } = command.opts<{ peers: string; tenants: number; mix?: string }>();
const [model, ...more] = command.args;
if ((mix === undefined) === (model === undefined || model.startsWith('-')))
  command.error('a model, or --mix A or B');
const theirs = peers(
  script,
  mix === undefined
    ? ['in', '--model', peerNames[model!] ?? model!, '-R', `${tenants}`]
    : ['mix', '--mix', mix],
);
const rows = mix === undefined ? ours([model!], tenants, more) : ours(mixes[mix]!, 1, command.args);
// What runs one model for all tenants, with weights that they share, is another job.
const best = Math.max(...theirs.filter((r) => !r.how.includes('reference')).map((r) => r.perSecond));
console.log(`${mix === undefined ? `${model}, ${tenants} tenants` : `mix ${mix}`}, fp16\n`);
console.log('| how | inferences/s | p50 ms | p99 ms | against the best of PyTorch |');
console.log('| --- | --- | --- | --- | --- |');
for (const { how, perSecond, p50, p99 } of [...theirs, ...rows]) {
  const cells = [how, perSecond.toFixed(0), p50.toFixed(3), p99.toFixed(3), (perSecond / best).toFixed(2)];
  console.log(`| ${cells.join(' | ')} |`);
}
