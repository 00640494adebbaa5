/**
 * @file The models that the project generates: small ones against onnxruntime, and the published sizes by what is known of them.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runPeer } from '../../cli/bench/onnxruntime.ts';
import { readModel } from '../../compiler/index.ts';
import { compileModel, type Device, openDevice } from '../../index.ts';
import { compare, tolerances } from '../../ir/compare.ts';
import { randomInput } from '../../ir/random.ts';
import { toNumbers } from '../../ir/tensor.ts';
import { generate, generated, parseRecipe } from '../../models/index.ts';

/** Each model scaled down, in the command's notation. In half floats one of each kind runs, since kernels take long to compile. */
const small = [
  'resnet18:size=32,width=8,layers=1,classes=10',
  'resnet34:size=33,width=4,classes=5',
  'resnet50:size=32,width=4,layers=2,classes=10',
  'mobilenetv2:size=32,width=8,layers=2,classes=10',
  'squeezenet1.1:size=48,width=8,classes=10',
  'vgg11:size=32,width=4,classes=10',
  'bert-base:layers=2,width=32,heads=4,sequence=9,vocabulary=50',
  'mlp:layers=3,width=40',
  'sgemm:m=24,n=17,k=33',
];
const inHalves = ['resnet50', 'mobilenetv2', 'bert-base', 'sgemm'];

/** Parameters of the published networks, batch norms folded into the convolutions, in millions. */
const parameters: { readonly [name: string]: number } = {
  resnet18: 11.684,
  resnet34: 21.789,
  resnet50: 25.53,
  mobilenetv2: 3.487,
  'squeezenet1.1': 1.235,
  vgg11: 132.863,
  'bert-base': 108.3,
  mlp: 4.198,
  sgemm: 0.295,
};

let device: Device;
beforeAll(async () => {
  device = await openDevice('host');
});
afterAll(() => device.close());

describe('generated models', () => {
  it('all have a small one here', () => {
    expect(small.map((text) => parseRecipe(text)!.name).sort()).toEqual(Object.keys(generated).sort());
  });

  for (const text of small) {
    const { name, sizes, integers } = parseRecipe(text)!;
    const precisions = inHalves.includes(name) ? (['fp32', 'fp16'] as const) : (['fp32'] as const);
    it(`${text} gives what onnxruntime gives, in ${precisions.join(' and ')}`, async () => {
      const bytes = generate(name, 3, sizes);
      for (const precision of precisions) {
        const model = await compileModel(bytes, { name, precision });
        const inputs = Object.fromEntries(model.inputs.map((p) => [p.name, randomInput(p, 5, integers)]));
        const program = await device.load([{ name: 'only', model }]);
        const { outputs } = await program.run({ only: inputs });
        program.close();
        const expected = await runPeer(bytes, new Map(Object.entries(inputs)));
        for (const [output, want] of expected) {
          const tolerance = tolerances[precision === 'fp16' ? 'half' : 'wide'];
          expect(compare(outputs.only![output]!, want, tolerance)).toMatchObject({ ok: true });
          const largest = Math.max(...toNumbers(want).map(Math.abs));
          expect(largest).toBeGreaterThan(0.05);
          expect(largest).toBeLessThan(100);
        }
      }
    });
  }

  it('depend on the seed, and on nothing else', () => {
    const { name, sizes } = parseRecipe('mlp:width=8')!;
    expect(generate(name, 1, sizes)).toEqual(generate(name, 1, sizes));
    expect(generate(name, 1, sizes)).not.toEqual(generate(name, 2, sizes));
  });

  for (const [name, millions] of Object.entries(parameters)) {
    it(`${name} has the published network's ${millions} M parameters`, () => {
      const { constants } = readModel(generate(parseRecipe(name)!.name, 1), name);
      const floats = [...constants.values()].filter((t) => t.dtype === 'f32' && t.shape.length > 0);
      const count = floats.reduce((n, t) => n + t.data.length, 0);
      expect(count / 1e6 / millions).toBeCloseTo(1, 2);
    });
  }
});

describe('recipes', () => {
  it('that are no name are left to be a file', () => {
    expect(parseRecipe('model.onnx')).toBeUndefined();
    expect(parseRecipe('toString')).toBeUndefined();
  });

  it('with wrong sizes are refused in one line', () => {
    for (const text of ['mlp:depth=3', 'mlp:width=0', 'mlp:width', 'mlp:width=1e3', 'mlp:toString=1'])
      expect(() => parseRecipe(text)).toThrow(/is none of the sizes of mlp: layers=4, width=1024$/);
    const tiny = parseRecipe('vgg11:size=16')!;
    expect(() => generate(tiny.name, 1, tiny.sizes)).toThrow(/vgg11: a picture of .* is too small/);
    const odd = parseRecipe('bert-base:width=100')!;
    expect(() => generate(odd.name, 1, odd.sizes)).toThrow('width 100 is not a multiple of 12 heads');
  });
});
