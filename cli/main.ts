#!/usr/bin/env node
/**
 * @file The `wideword` command: a thin user of the library.
 */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { InputError } from '../compiler/errors.ts';
import { plannedKinds, wordKinds } from '../driver/plan.ts';
import { cudaTargets } from '../ir/target.ts';
import { generated } from '../models/index.ts';
import { benchConstrain } from './bench/constrain.ts';
import { benchServe } from './bench/serve.ts';
import { benchUnlike } from './bench/unlike.ts';
import { bench, parseModes } from './bench.ts';
import { compile } from './compile.ts';
import { doctor } from './doctor.ts';
import { dump, dumpPasses, stages } from './dump.ts';
import { opt } from './opt.ts';
import { reportError } from './output.ts';
import { positiveInteger, run } from './run.ts';
import { parseShape, type Shapes } from './tenants.ts';
import { trace, traceable } from './trace.ts';
import { tune } from './tune.ts';

const packageJson = ['../package.json', '../../package.json']
  .map((path) => new URL(path, import.meta.url))
  .flatMap((url) => {
    try {
      return [JSON.parse(readFileSync(url, 'utf8')) as { name?: string; version: string }];
    } catch {
      return [];
    }
  })
  .find((p) => p.name === 'wideword');

/** Lets an option's parser refuse a value with its own message. */
const parser =
  <T>(parse: (text: string, previous: T) => T) =>
  (text: string, previous: T): T => {
    try {
      return parse(text, previous);
    } catch (error) {
      if (error instanceof InputError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
const integer = parser<number>((text) => positiveInteger(text));
const integers = parser<number[]>((text) => text.split(',').map(positiveInteger));
const shape = parser<Shapes>((text, previous) => ({
  ...previous,
  ...Object.fromEntries([parseShape(text)]),
}));
const list = (text: string, previous: readonly string[]): string[] => [...previous, ...text.split(',')];
const positiveNumber = parser<number>((text) => {
  const n = Number(text);
  if (!(n >= 0)) throw new InputError(`expected a number from 0, got '${text}'`);
  return n;
});

/** How many times as long something may take. */
const stretch = parser<number>((text) => {
  const n = Number(text);
  if (!(n >= 1)) throw new InputError(`expected a number from 1, got '${text}'`);
  return n;
});
const aboveZero = parser<number>((text) => {
  const n = Number(text);
  if (!(n > 0)) throw new InputError(`expected a number above 0, got '${text}'`);
  return n;
});

const upTo16 = (least: number) =>
  parser<number>((text) => {
    if (!/^(\d|1[0-6])$/.test(text) || Number(text) < least)
      throw new InputError(`expected a whole number from ${least} to 16, got '${text}'`);
    return Number(text);
  });

/** Parts of something, above 0. */
const parts = parser<number[]>((text) =>
  text.split(',').map((part) => {
    const n = Number(part);
    if (!(n > 0 && n <= 10)) throw new InputError(`expected parts above 0, such as 0.6, got '${part}'`);
    return n;
  }),
);

const deviceKind = () =>
  new Option('--device <kind>', 'where to run').choices(['auto', 'cuda', 'host']).default('auto');
const modelsAsForBench =
  'as for bench: generated models (mlp:width=64 with other sizes) or ONNX files; mlp*8 is eight of them';
const precision = () =>
  new Option('--precision <p>', 'of weights and activations (default: fp32)').choices(['fp32', 'fp16']);
const tier = (otherwise?: string) => {
  const option = new Option(
    '--tier <tier>',
    'generic: one kernel serves all sizes; specialised: sizes are constants; auto: whichever fits a word',
  ).choices(['generic', 'specialised', 'auto']);
  return otherwise === undefined ? option : option.default(otherwise);
};
const shapes = () =>
  new Option(
    '--shape <name=D,D,…>',
    'shape of an input whose dimensions the model leaves open; may be repeated',
  )
    .argParser(shape)
    .default({}, 'none');
const words = (kinds: readonly string[] = wordKinds) =>
  new Option(
    '--words <kind>',
    'coalesced: of one class each; wide: of unlike classes side by side where that is expected to pay; ' +
      'branches: of one class, those of different tenants side by side; measured: whichever proves fastest on the device',
  )
    .choices(kinds)
    .default('coalesced');
const tuning = () => new Option('--no-tuning', 'default schedules, whatever `wideword tune` found');
const replicas = () =>
  new Option('--replicas <n>', 'tenants for each model, each with weights of its own')
    .argParser(integer)
    .default(1);

const command = new Command('wideword')
  .description("runs many tenants' models on one device as if they were one very wide instruction")
  .version(packageJson?.version ?? '0.0.0')
  .option('--verbose', 'on an error, also print where it happened')
  .enablePositionalOptions() // so that what stands behind `bench constrain` is not taken for bench's
  .exitOverride()
  .showHelpAfterError('(add --help for the options and an example)');

let exitCode = 0;

command
  .command('run')
  .description(
    'compile models (or read artefacts), run them as one program, and compare with running them in turn',
  )
  .argument(
    '<model...>',
    'ONNX files or artefacts; a.onnx*8 is eight tenants of one model; with --interpret, texts',
  )
  .option('--interpret', 'run texts of the IR (dump, opt) in the interpreter, on seeded random inputs', false)
  .addOption(deviceKind())
  .addOption(precision())
  .addOption(replicas())
  .addOption(shapes())
  .option(
    '--test-data <dir>',
    'inputs and expected outputs (a test_data_set_* folder or its parent); one, or one a model',
    (folder: string, previous: string[]) => [...previous, folder],
    [],
  )
  .option(
    '--tolerance <t>',
    'largest error allowed, relative to the largest expected value (default: 1e-4, or 1e-2 for half floats)',
    positiveNumber,
  )
  .addOption(tier())
  .addOption(words())
  .addOption(tuning())
  .option('--rounds <n>', 'rounds to time', integer, 20)
  .option('--seed <n>', 'of the random inputs where there is no test data', integer, 1)
  .option('--top <n>', 'how many of the greatest values to print', integer, 5)
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .addHelpText('after', '\nExample:\n  $ wideword run resnet.onnx*4 mlp.onnx --shape x=1,3,224,224')
  .action(async (models, options) => {
    exitCode = await run(models, options);
  });

command
  .command('dump')
  .description('print one stage of the way from model to machine code')
  .argument('<model...>', 'ONNX files; a.onnx*8 is eight tenants of one model')
  .addOption(new Option('--stage <stage>', 'what to print').choices(stages))
  .addOption(
    new Option('--after <pass>', 'print the kernels or words as they are after this pass')
      .choices(dumpPasses)
      .conflicts('stage'),
  )
  .option('--target <target>', 'sm_80, …, or host', 'sm_90')
  .addOption(precision())
  .addOption(shapes())
  .addOption(tier('generic'))
  .addOption(words(plannedKinds))
  .addHelpText('after', '\nExample:\n  $ wideword dump mlp.onnx --stage kernel')
  .action(async (models, options) => {
    exitCode = await dump(models, options);
  });

command
  .command('opt')
  .description('check a text of the IR, run passes on it, and print what comes out')
  .argument('[file]', 'what `dump --stage kernel` or `--stage word` printed, or - for standard input')
  .option('--pass <passes>', 'passes in order, with commas: fuse,coalesce,constrain=8', '')
  .option('--target <target>', 'what to schedule for (default: sm_90), and whose limits to check')
  .option('--print-after-all', 'print the IR after every pass, on standard error', false)
  .option('--verify-each', 'verify after every pass, not only after the last', false)
  .option('--time', 'print how long each pass took, on standard error', false)
  .option('--list', 'list the passes', false)
  .addHelpText(
    'after',
    '\nExample:\n  $ wideword dump mlp.onnx --stage kernel | wideword opt - --pass plan-memory=4,coalesce,constrain=8',
  )
  .action(async (file, options) => {
    exitCode = await opt(file, options);
  });

command
  .command('compile')
  .description('write an artefact that `run` and loadArtefact start from without compiling')
  .argument('<model...>', 'ONNX files; a.onnx*8 is eight tenants of one model')
  .requiredOption('-o, --output <file>', 'the artefact')
  .option('--target <targets>', `host, ${cudaTargets.join(', ')}; several with commas`, list, [])
  .addOption(precision())
  .addOption(replicas())
  .addOption(shapes())
  .addOption(tier('generic'))
  .addOption(words())
  .addOption(tuning())
  .option('--json', 'print one JSON object', false)
  .addHelpText('after', '\nExample:\n  $ wideword compile mlp.onnx*8 --target host,sm_90 -o mlp.wwa')
  .action(async (models, options) => {
    const target = options.target.length > 0 ? options.target : ['host'];
    exitCode = await compile(models, { ...options, target });
  });

const benchCommand = command
  .command('bench')
  .enablePositionalOptions()
  .description('measure throughput: tenants one after another, side by side, and coalesced')
  .argument(
    '<model...>',
    `generated models (${Object.keys(generated).join(', ')}; mlp:width=64 with other sizes) or ONNX files; mlp*8 is eight of them`,
  )
  .option(
    '--tenants <list>',
    'how many times the list of models, each a tenant of its own',
    integers,
    [1, 2, 4, 8],
  )
  .option(
    '--mode <modes>',
    'turn: one after another; space: a stream a tenant; coalesced: one program of all; wide: so, with unlike kernels side by side; branches: so, as branches of the graph; measured: whichever of these turns out fastest',
    parser((text) => parseModes(text)),
    parseModes('turn,space,coalesced'),
  )
  .addOption(deviceKind())
  .addOption(precision().default('fp32'))
  .addOption(tier('auto'))
  .addOption(tuning())
  .option('--width <n>', 'most tenants that share a word (default: all)', integer)
  .option('--seconds <s>', 'of rounds, for each mode and number of tenants', positiveNumber, 1)
  .addOption(shapes())
  .option(
    '--tolerance <t>',
    'largest error allowed, relative to the largest expected value (default: 1e-4, or 1e-2 for half floats)',
    positiveNumber,
  )
  .option('--seed <n>', 'of weights and inputs', integer, 1)
  .option('--top <n>', 'how many of the slowest kernels to print', integer, 8)
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .option('--plot <file>', 'write throughput against tenants as SVG')
  .addHelpText(
    'after',
    '\nExample:\n  $ wideword bench resnet50 --tenants 1,2,4,8 --precision fp16 --plot resnet50.svg',
  )
  .action(async (models, options) => {
    exitCode = await bench(models, options);
  });

benchCommand
  .command('constrain')
  .description('measure kernels of a model on fewer and fewer physical blocks than they have virtual ones')
  .argument('<model>', 'as for bench: a generated model (mlp:width=64 with other sizes) or an ONNX file')
  .option(
    '--kernel <name>',
    'a kernel by its name or the node it came from, or all (default: the costliest 3x3 convolution, matrix product and attention)',
  )
  .option(
    '--blocks <list>',
    "how many blocks each slot gets (default: powers of two, multiples of the device's units, and all)",
    integers,
  )
  .addOption(deviceKind())
  .addOption(precision().default('fp32'))
  .addOption(tuning())
  .option('--width <n>', 'tenants in the word, each with so many blocks', integer, 1)
  .addOption(shapes())
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .option('--plot <file>', 'write time against blocks as SVG')
  .addHelpText(
    'after',
    '\nExample:\n  $ wideword bench constrain resnet50 --precision fp16 --plot constrain.svg',
  )
  .action(async (model, options) => {
    exitCode = await benchConstrain(model, options);
  });

benchCommand
  .command('unlike')
  .description(
    'measure unlike kernels, one of each model: one after the other, in one wide word, as branches of a graph',
  )
  .argument('<model...>', modelsAsForBench)
  .option(
    '--kernel <name>',
    'a kernel that each model has, by its name or the node it came from; auto: costly ones that take about as long as each other',
    'auto',
  )
  .addOption(deviceKind())
  .addOption(precision().default('fp32'))
  .addOption(tuning())
  .option('--seconds <s>', 'of rounds, for each way', positiveNumber, 0.5)
  .addOption(shapes())
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .addHelpText(
    'after',
    '\nExample:\n  $ wideword bench unlike resnet50 mobilenetv2 vgg11 bert-base --precision fp16',
  )
  .action(async (models, options) => {
    exitCode = await benchUnlike(models, options);
  });

benchCommand
  .command('serve')
  .description('measure requests that arrive at random times, through the issue engine')
  .argument('<model...>', modelsAsForBench)
  .option('--tenants <n>', 'how many times the list of models, each a tenant of its own', integer, 4)
  .option(
    '--load <list>',
    'parts of the throughput of a captured program at which requests arrive',
    parts,
    [0.3, 0.6, 0.8],
  )
  .addOption(deviceKind())
  .addOption(precision().default('fp32'))
  .addOption(tier('generic'))
  .addOption(tuning())
  .option(
    '--stretch <n>',
    'how many times as long as its first request needs by itself a word may take (default: 4)',
    stretch,
  )
  .option('--lanes <n>', 'cohorts of requests that run side by side, at most (default: 12)', upTo16(0))
  .option(
    '--at-once <n>',
    'requests of one tenant that run at the same time (default: 4, or fewer if they take much memory)',
    upTo16(1),
  )
  .option(
    '--bound <ms>',
    'what no word may be planned to take longer than; then no cohorts (default: no bound)',
    aboveZero,
  )
  .option('--no-jit', 'compile nothing in the background')
  .option('--seconds <s>', 'for each measurement', positiveNumber, 2)
  .addOption(shapes())
  .option(
    '--tolerance <t>',
    'largest error allowed, relative to the largest expected value (default: 1e-4, or 1e-2 for half floats)',
    positiveNumber,
  )
  .option('--seed <n>', 'of weights, inputs and arrivals', integer, 1)
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .option('--plot <file>', 'write latency against load as SVG')
  .addHelpText(
    'after',
    '\nExample:\n  $ wideword bench serve resnet50 --tenants 16 --precision fp16 --load 0.6',
  )
  .action(async (models, options) => {
    exitCode = await benchServe(models, options);
  });

command
  .command('trace')
  .description(
    "write when which tenant's blocks ran where, for one round in each mode; or when its requests were served",
  )
  .argument('<model...>', modelsAsForBench)
  .requiredOption('-o, --output <file>', 'the trace, for ui.perfetto.dev and chrome://tracing')
  .option('--svg <file>', 'also write the rounds as a picture')
  .option('--tenants <n>', 'how many times the list of models, each a tenant of its own', integer, 4)
  .option(
    '--mode <modes>',
    'turn: one after another; space: a stream a tenant; coalesced: one program of all; wide, branches, measured: as for bench; engine: requests at random times, through the issue engine',
    parser((text) => parseModes(text, traceable)),
    parseModes('turn,space,coalesced', traceable),
  )
  .addOption(deviceKind())
  .addOption(precision().default('fp32'))
  .addOption(tier('auto'))
  .addOption(tuning())
  .option('--width <n>', 'most tenants that share a word (default: all)', integer)
  .addOption(shapes())
  .option('--seed <n>', 'of weights, inputs and arrivals', integer, 1)
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .addHelpText(
    'after',
    '\nOf a few rounds of each mode, after a warm-up, the median one is written. On a GPU its times are as fine as %globaltimer.' +
      '\n\nExample:\n  $ wideword trace resnet18 --tenants 4 -o trace.json --svg trace.svg',
  )
  .action(async (models, options) => {
    exitCode = await trace(models, options);
  });

command
  .command('tune')
  .description('measure schedules of the kernels of models on this device, and keep the best in the cache')
  .argument('<model...>', 'as for bench: generated models (mlp:width=64 with other sizes) or ONNX files')
  .option(
    '--width <list>',
    'tenants of a word for which kernels should be fast; each width counts alike',
    integers,
    [1, 4, 8],
  )
  .addOption(
    new Option('--device <kind>', 'what to tune for').choices(['auto', 'cuda', 'host']).default('auto'),
  )
  .addOption(precision().default('fp32'))
  .addOption(
    new Option('--tier <tier>', 'of the code that is measured; what is found serves both')
      .choices(['generic', 'specialised'])
      .default('specialised'),
  )
  .addOption(shapes())
  .option(
    '--candidates <n>',
    'schedules of a kernel that are measured, at most (default: 24 on tensor cores, else 12)',
    integer,
  )
  .option('--kernel <list>', 'only kernels of these names, or from these nodes (default: all)', (text) =>
    text.split(','),
  )
  .option('--again', 'also measure kernels that were tuned at these widths before', false)
  .option('--threads <n>', 'threads of the host device (default: one a core)', integer)
  .option('--json', 'print one JSON object', false)
  .addHelpText(
    'after',
    '\nCtrl-C ends it early and keeps what was found. To forget all of it, delete tuning/ in the cache folder.' +
      '\n\nExample:\n  $ wideword tune resnet50 bert-base --width 1,4,8,16 --precision fp16',
  )
  .action(async (models, options) => {
    exitCode = await tune(models, options);
  });

command
  .command('doctor')
  .description('list devices, compilers and the cache, and what to do about what is missing')
  .option('--json', 'print one JSON object', false)
  .addHelpText('after', '\nExample:\n  $ wideword doctor')
  .action(async (options) => {
    exitCode = await doctor(options);
  });

for (const sub of [...command.commands, ...benchCommand.commands])
  sub
    .addOption(new Option('--verbose').hideHelp())
    .exitOverride()
    .showHelpAfterError('(add --help for the options and an example)');

try {
  await command.parseAsync();
} catch (error) {
  exitCode = reportError(error, command.opts().verbose === true || process.argv.includes('--verbose'));
}
process.exitCode = exitCode;
