/**
 * @file What a device can do at most, measured with our own kernels: a copy through memory, and a large matrix product. Both go the way
 * that every model goes, so a share of them says how much of what the compiler can reach a kernel reaches.
 */
import { buildModel } from '../../compiler/onnx/writer.ts';
import type { Device } from '../../driver/device.ts';
import { compileModel, type Model, type Precision } from '../../driver/model.ts';
import type { Cost } from '../../ir/cost.ts';
import { randomInput } from '../../ir/random.ts';
import { Network } from '../../models/network.ts';
import { median } from '../output.ts';

export interface Ceilings {
  /** Bytes read and written a second, in units of 1e9. */
  readonly gbps: number;
  /** Of a matrix product in the precision of the benchmark, in units of 1e12 operations. */
  readonly tflops: number;
}

/** The higher of two measurements: a ceiling is the most that was reached. */
export const higher = (a: Ceilings, b: Ceilings): Ceilings => ({
  gbps: Math.max(a.gbps, b.gbps),
  tflops: Math.max(a.tflops, b.tflops),
});

/** Sizes past any cache, and still done in milliseconds. */
const sizes = {
  cuda: { copied: 2 ** 26, side: 4096 },
  host: { copied: 2 ** 24, side: 1024 },
} as const;

export async function measureCeilings(device: Device, precision: Precision): Promise<Ceilings> {
  const { copied, side } = sizes[device.kind];
  const copy = await compileModel(
    buildModel({
      inputs: [{ name: 'x', shape: [copied] }],
      outputs: ['y'],
      nodes: [{ op: 'Relu', name: 'copy', inputs: ['x'], outputs: ['y'] }],
    }),
    { name: 'copy' },
  );
  // A wide layer: rows of inputs by a matrix of weights, which the compiler may lay out as it likes.
  const layer = new Network(1);
  const x = layer.input('x', [side, side]);
  const weights = layer.weights([side, side], side, 1);
  const product = await compileModel(
    buildModel(layer.finish([layer.node('MatMul', [x, weights], [side, side])])),
    { name: 'matmul', precision },
  );
  return {
    gbps: (2 * 4 * copied) / (await slowestWord(device, copy)) / 1e6,
    tflops: (2 * side ** 3) / (await slowestWord(device, product)) / 1e9,
  };
}

/** Milliseconds of a model's slowest word: the one that it is all about. */
async function slowestWord(device: Device, model: Model): Promise<number> {
  const program = await device.load([{ name: 'only', model }], { tier: 'specialised' });
  try {
    // On data: zeros run faster.
    const inputs = Object.fromEntries(model.inputs.map((p) => [p.name, randomInput(p, 1)]));
    await program.run({ only: inputs });
    const rounds = await program.timeWords(10);
    return Math.max(...rounds[0]!.map((_, word) => median(rounds.map((r) => r[word]!))));
  } finally {
    program.close();
  }
}

/** How near to the nearer of the two ceilings a piece of work comes that takes so long; above 1 where caches save traffic. */
export function shareOfCeiling(
  { flops, bytes }: Cost,
  milliseconds: number,
  { gbps, tflops }: Ceilings,
): number {
  const least = Math.max(flops / (tflops * 1e9), bytes / (gbps * 1e6));
  return least / milliseconds;
}
