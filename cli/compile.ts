/**
 * @file `wideword compile`: models to an artefact that starts without a compiler.
 */
import { saveArtefact } from '../driver/artefact.ts';
import type { Precision } from '../driver/model.ts';
import type { WordKind } from '../driver/plan.ts';
import { targetOf } from '../ir/target.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { exitCodes, progressBar } from './output.ts';
import { readTenants, type Shapes } from './tenants.ts';

export interface CompileCliOptions {
  readonly output: string;
  readonly target: readonly string[];
  readonly precision?: Precision;
  readonly replicas: number;
  readonly shape: Shapes;
  readonly tier: TierChoice;
  readonly tuning: boolean;
  readonly words?: WordKind;
  readonly json: boolean;
}

export async function compile(specs: readonly string[], options: CompileCliOptions): Promise<number> {
  for (const target of options.target) targetOf(target);
  const { tenants } = await readTenants(specs, { ...options, shapes: options.shape, testData: [] });
  const bar = progressBar('compiling');
  const { bytes, code } = await saveArtefact(options.output, tenants, {
    targets: options.target,
    tier: options.tier,
    ...(options.words && { words: options.words }),
    tuning: options.tuning,
    onProgress: bar.update,
  }).finally(bar.stop);
  if (options.json) {
    console.log(JSON.stringify({ output: options.output, bytes, tenants: tenants.map((t) => t.name), code }));
  } else {
    const counts = Object.entries(code).map(([target, n]) => `${n} kernels for ${target}`);
    console.log(
      `${options.output}: ${tenants.length} tenants, ${counts.join(', ')}, ${(bytes / 2 ** 20).toFixed(1)} MiB`,
    );
  }
  return exitCodes.ok;
}
