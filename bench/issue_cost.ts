/**
 * @file What the issue engine itself costs for each word: choosing its slots and filling the launch, with code that does nothing, on the
 * host device. On a GPU the driver's launch and two events come on top (`wideword bench serve` states the sum there).
 *
 *     npx tsx bench/issue_cost.ts
 */
import { loadNative } from '../runtime/native.ts';
import { buildKernels, whole } from '../test/native/support.ts';

/** As many as ResNet-50 has, of as many virtual blocks as one of its smaller ones. */
const [tasks, blocks] = [56, 49];
const requests = 4000;

const kernels = buildKernels();
const device = loadNative().openHost(1);
try {
  const code = device.load(kernels.path, 'nothing');
  const buffer = device.allocate(256);
  for (const [tenants, classes] of [
    [1, 1],
    [4, 4],
    [16, 20],
    [64, 20],
  ] as const) {
    const all = Array.from({ length: classes }, (_, c) => c);
    const some = all.slice(0, 12);
    const launch = { code, threads: 1, sharedBytes: 0 };
    const chain = Array.from({ length: tasks }, (_, n) => ({
      class: n % classes,
      blocks,
      blockNanoseconds: 5000,
      operands: [whole(buffer), whole(buffer), whole(buffer)],
      sizes: [1, 2, 3],
    }));
    const engine = device.createEngine({
      classes,
      tenants: Array.from({ length: tenants }, () => ({ weight: 1, inputs: [], outputs: [], tasks: chain })),
      // One for each class, and one that serves several.
      codes: [
        ...all.map((c) => ({ ...launch, classes: [c], bodies: [0] })),
        { ...launch, classes: some, bodies: some },
      ],
      boundNanoseconds: 1e6,
      stretch: 4,
      launchNanoseconds: 2000,
      ahead: 2,
    });
    // A request every microsecond, of each tenant in turn.
    await engine.drive(
      Float64Array.from({ length: requests }, (_, n) => n / 1000),
      Uint32Array.from({ length: requests }, (_, n) => n % tenants),
    );
    const { issueNanoseconds, words, slots } = engine.stats();
    console.log(
      `${tenants} tenants, ${classes} classes: ${(issueNanoseconds / words / 1000).toFixed(2)} us a word of ${(slots / words).toFixed(1)} slots (${words} words)`,
    );
    engine.close();
  }
} finally {
  device.close();
  kernels.remove();
}
