/**
 * @file `wideword run`: tenants as one program, their outputs, and what running them together brought.
 */
import { InputError } from '../compiler/errors.ts';
import { type Device, type DeviceKind, openDevice } from '../driver/device.ts';
import type { Precision } from '../driver/model.ts';
import type { WordKind } from '../driver/plan.ts';
import { type Comparison, compare } from '../ir/compare.ts';
import { randomInput } from '../ir/random.ts';
import { formatType } from '../ir/types.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import type { Tensors } from '../runtime/tenants.ts';
import { interpretTexts } from './interpret.ts';
import { exitCodes, formatMs, median, progressBar, table } from './output.ts';
import { type CliTenant, readTenants, type Shapes } from './tenants.ts';
import { inputsFor, outputsFor, toleranceOf } from './test_data.ts';
import { formatOutput, topValues } from './values.ts';

export interface RunOptions {
  readonly device: DeviceKind;
  readonly precision?: Precision;
  readonly replicas: number;
  readonly shape: Shapes;
  readonly testData: readonly string[];
  readonly tolerance?: number;
  readonly tier?: TierChoice;
  readonly tuning?: boolean;
  readonly words?: WordKind;
  readonly rounds: number;
  readonly seed: number;
  readonly top: number;
  readonly threads?: number;
  readonly json: boolean;
  readonly interpret?: boolean;
}

export async function run(specs: readonly string[], options: RunOptions): Promise<number> {
  if (options.interpret) return interpretTexts(specs, options);
  const text = specs.find((s) => s.endsWith('.ir'));
  if (text !== undefined) throw new InputError(`${text} is a text of the IR: run it with --interpret`);
  const device = await openDevice(
    options.device,
    options.threads === undefined ? {} : { threads: options.threads },
  );
  try {
    return await runOn(device, specs, options);
  } finally {
    device.close();
  }
}

async function runOn(device: Device, specs: readonly string[], options: RunOptions): Promise<number> {
  const { tenants, tier } = await readTenants(specs, { ...options, shapes: options.shape });
  const bar = progressBar('compiling');
  const { tuning = true, words = 'coalesced' } = options;
  const program = await device
    .load(tenants, { tier: options.tier ?? tier ?? 'generic', words, tuning, onProgress: bar.update })
    .finally(bar.stop);

  const requests = Object.fromEntries(tenants.map((t, n) => [t.name, requestOf(t, options.seed + n)]));
  const { outputs } = await program.run(requests);
  const comparisons = new Map(tenants.flatMap((t) => checked(t, outputs[t.name]!, options)));
  const coalesced = median(await program.time('coalesced', options.rounds));
  const inTurn = median(await program.time('time-multiplexed', options.rounds));
  const ok = [...comparisons.values()].every((c) => c.ok);

  if (options.json) {
    const report = {
      device: { kind: device.kind, name: device.name, target: device.target },
      program: program.stats,
      words: program.plan.kind,
      notes: program.plan.notes,
      milliseconds: { coalesced, timeMultiplexed: inTurn },
      rounds: options.rounds,
      tenants: tenants.map((t) => ({
        name: t.name,
        outputs: t.model.outputs.map(({ name }) => {
          const tensor = outputs[t.name]![name]!;
          const c = comparisons.get(`${t.name}/${name}`);
          return {
            name,
            type: formatType(tensor),
            top: topValues(tensor, options.top),
            ...(c && { comparison: c }),
          };
        }),
      })),
      ok,
    };
    console.log(JSON.stringify(report));
    return ok ? exitCodes.ok : exitCodes.failure;
  }

  for (const t of tenants) {
    console.log(t.name);
    for (const { name } of t.model.outputs) {
      const tensor = outputs[t.name]![name]!;
      const c = comparisons.get(`${t.name}/${name}`);
      const verdict = c
        ? `  ${c.ok ? 'as expected' : 'WRONG'}: largest error ${c.largest.toExponential(1)} (allowed ${c.tolerance})`
        : '';
      console.log(formatOutput(name, tensor, options.top, verdict));
    }
  }
  const s = program.stats;
  const sources = [
    s.compiled > 0 && `${s.compiled} compiled`,
    s.cached > 0 && `${s.cached} from the cache`,
    s.shipped > 0 && `${s.shipped} from the artefact`,
  ].filter(Boolean);
  console.log(`\non ${device.name} (${device.target}), ${options.rounds} rounds, medians`);
  console.log(
    table([
      ['tenants', tenants.length],
      ['kernels as lowered', s.kernelsLowered],
      ['kernels after fusion', s.kernels],
      ['words', s.words],
      ['widest word', s.widest],
      ['code', s.compiled === 0 ? `nothing compiled: ${sources.join(', ')}` : sources.join(', ')],
      [program.plan.kind, formatMs(coalesced)],
      ['time multiplexed', `${formatMs(inTurn)} (${(inTurn / coalesced).toFixed(2)} times as long)`],
    ]),
  );
  for (const note of program.plan.notes) console.log(`note: ${note}`);
  program.close();
  return ok ? exitCodes.ok : exitCodes.failure;
}

/** Test data where there is some, else seeded random inputs. */
function requestOf(t: CliTenant, seed: number): Tensors {
  if (t.testData) return inputsFor(t.model, t.testData);
  return Object.fromEntries(t.model.inputs.map((port, i) => [port.name, randomInput(port, seed * 31 + i)]));
}

function checked(t: CliTenant, outputs: Tensors, options: RunOptions): [string, Comparison][] {
  if (!t.testData) return [];
  if (t.testData.outputs.length === 0) {
    throw new InputError(`${t.testData.folder} has no output_N.pb: there is nothing to check against`);
  }
  const tolerance = options.tolerance ?? toleranceOf(t.model);
  return Object.entries(outputsFor(t.model, t.testData)).map(([name, expected]) => [
    `${t.name}/${name}`,
    compare(outputs[name]!, expected, tolerance),
  ]);
}

/** Reads `--rounds 20` and the like. */
export function positiveInteger(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new InputError(`expected a whole number from 1, got '${text}'`);
  return n;
}
