/**
 * @file The smallest use of Wideword as a library: two tenants of one model in one round.
 *
 *     npx tsx examples/embed.ts model.onnx
 */
import { compileModel, openDevice, tensorOf } from '../index.ts';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: npx tsx examples/embed.ts model.onnx');

const model = await compileModel(file);
const device = await openDevice('auto');
const program = await device.load([
  { name: 'alice', model },
  { name: 'bob', model },
]);

// Any input will do here: alice sends ones, bob sends twos.
const filled = (value: number) =>
  Object.fromEntries(
    model.inputs.map(({ name, dtype, shape }) => {
      const count = shape.reduce((product, d) => product * d, 1);
      return [name, tensorOf(dtype, shape, Array<number>(count).fill(value))];
    }),
  );

const { outputs, milliseconds } = await program.run({ alice: filled(1), bob: filled(2) });
console.log(outputs);
console.log(
  `${program.stats.kernels} kernels in ${program.stats.words} words, ${milliseconds.toFixed(2)} ms`,
);
device.close();
