/**
 * @file Checks and times models in the ONNX backend layout (model.onnx beside test_data_set_0) on one device, several tenants of each, and
 * prints a Markdown table: what docs/benchmarks.md shows.
 *
 *     node dist/bench/models.js --device cuda --tenants 3 DIR…
 */
import { basename, join } from 'node:path';
import { Command, Option } from 'commander';
import { median } from '../cli/output.ts';
import { inputsFor, outputsFor, readTestData } from '../cli/test_data.ts';
import { compileModel, type Device, type DeviceKind, openDevice, type Precision } from '../index.ts';
import { compare, tolerances } from '../ir/compare.ts';

interface Row {
  readonly model: string;
  readonly precision: Precision;
  readonly error: number;
  readonly ok: boolean;
  readonly kernels: number;
  readonly words: number;
  readonly coalesced: number;
  readonly inTurn: number;
}

async function measure(
  device: Device,
  folder: string,
  precision: Precision,
  tenants: number,
  rounds: number,
): Promise<Row> {
  const data = await readTestData(folder);
  const model = await compileModel(join(folder, 'model.onnx'), { precision, shapes: data.shapes });
  const names = Array.from({ length: tenants }, (_, n) => `t${n}`);
  const program = await device.load(
    names.map((name) => ({ name, model })),
    { tier: 'auto' },
  );
  try {
    const inputs = inputsFor(model, data);
    const expected = outputsFor(model, data);
    const { outputs } = await program.run(Object.fromEntries(names.map((name) => [name, inputs])));
    const isHalf = precision === 'fp16' || [...model.inputs, ...model.outputs].some((p) => p.dtype === 'f16');
    const results = names.flatMap((name) =>
      Object.entries(expected).map(([output, want]) =>
        compare(outputs[name]![output]!, want, isHalf ? tolerances.half : tolerances.wide),
      ),
    );
    return {
      model: basename(folder),
      precision,
      error: Math.max(...results.map((r) => r.largest)),
      ok: results.every((r) => r.ok),
      kernels: program.stats.kernels,
      words: program.stats.words,
      coalesced: median(await program.time('coalesced', rounds)),
      inTurn: median(await program.time('time-multiplexed', rounds)),
    };
  } finally {
    program.close();
  }
}

async function main(): Promise<void> {
  const command = new Command('models')
    .argument('<folder...>', 'folders with model.onnx and test_data_set_0')
    .addOption(new Option('--device <kind>').choices(['auto', 'cuda', 'host']).default('auto'))
    .option('--tenants <n>', 'tenants of each model', Number, 3)
    .option('--rounds <n>', 'rounds to time', Number, 50)
    .option('--precisions <list>', 'fp32,fp16', 'fp32,fp16')
    .parse();
  const options = command.opts<{ device: DeviceKind; tenants: number; rounds: number; precisions: string }>();
  const device = await openDevice(options.device);
  console.log(
    `${options.tenants} tenants of each model on ${device.name}, ${options.rounds} rounds, medians\n`,
  );
  console.log('| model | precision | largest error | kernels | words | coalesced ms | in turn ms | ratio |');
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
  for (const folder of command.args) {
    for (const precision of options.precisions.split(',') as Precision[]) {
      const r = await measure(device, folder, precision, options.tenants, options.rounds);
      // A figure of a wrong result is no figure.
      const times = r.ok
        ? [r.coalesced.toFixed(3), r.inTurn.toFixed(3), (r.inTurn / r.coalesced).toFixed(2)]
        : ['–', '–', '–'];
      const error = `${r.error.toExponential(1)}${r.ok ? '' : ' WRONG'}`;
      console.log(`| ${[r.model, r.precision, error, r.kernels, r.words, ...times].join(' | ')} |`);
      if (!r.ok) process.exitCode = 1;
    }
  }
  device.close();
}

await main();
