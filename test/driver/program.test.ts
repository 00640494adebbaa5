/**
 * @file Programs on the host device through the public API: tenants, rounds, requests, isolation.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildModel } from '../../compiler/onnx/writer.ts';
import {
  compileModel,
  type Device,
  type Model,
  openDevice,
  type Program,
  RequestError,
} from '../../index.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { convModel, mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';

let device: Device;
beforeAll(async () => void (device = await openDevice('host', { threads: 2 })));
afterAll(() => device.close());

const mlp = (seed: number, sizes = [20, 33, 12]): Promise<Model> =>
  compileModel(mlpModel(sizes, seed), { name: `mlp${seed}` });
const input = (seed: number, width = 20) => ({ x: randomTensor('f32', [1, width], seed) });

/** What a tenant gives when it is the only one there. */
async function alone(model: Model, inputs: ReturnType<typeof input>): Promise<Uint8Array> {
  const program = await device.load([{ name: 'only', model }]);
  const { outputs } = await program.run({ only: inputs });
  program.close();
  return bytesOf(outputs.only!.y!);
}

describe('a program', () => {
  it('gives each tenant the bits it gets alone, whoever else is there', async () => {
    const models = [await mlp(1), await mlp(2), await mlp(3, [20, 64, 12]), await compileModel(convModel())];
    const requests = [input(1), input(2), input(3), { x: randomTensor('f32', [1, 3, 12, 12], 4) }];
    const names = ['a', 'b', 'c', 'conv'];
    const program = await device.load(models.map((model, n) => ({ name: names[n]!, model })));
    const all = Object.fromEntries(names.map((name, n) => [name, requests[n]!]));
    const expected = await Promise.all(models.map((m, n) => alone(m, requests[n]!)));
    for (const subset of [names, ['a'], ['b', 'conv'], ['c', 'a'], names]) {
      const { outputs } = await program.run(Object.fromEntries(subset.map((name) => [name, all[name]!])));
      expect(Object.keys(outputs).sort()).toEqual([...subset].sort());
      for (const name of subset) expect(bytesOf(outputs[name]!.y!)).toEqual(expected[names.indexOf(name)]);
    }
    expect(program.stats.widest).toBe(3);
    program.close();
  });

  it('gives the same bits in wide words, and says what it expects of them', async () => {
    const models = [await mlp(1), await mlp(2, [20, 64, 12]), await compileModel(convModel())];
    const inputs = [input(1), input(2), { x: randomTensor('f32', [1, 3, 12, 12], 4) }];
    const tenants = models.map((model, n) => ({ name: `t${n}`, model }));
    const requests = Object.fromEntries(inputs.map((x, n) => [`t${n}`, x]));
    for (const tier of ['generic', 'specialised', 'auto'] as const) {
      const coalesced = await device.load(tenants, { tier });
      const wide = await device.load(tenants, { tier, words: 'wide' });
      expect(wide.plan.words.some((w) => w.classes.length > 1)).toBe(true);
      expect(wide.stats.words).toBeLessThan(coalesced.stats.words);
      expect(wide.plan.predicted).toHaveLength(wide.stats.words);
      expect(coalesced.plan.predicted).toBeUndefined();
      const [a, b] = [await wide.run(requests), await coalesced.run(requests)];
      for (const { name } of tenants)
        expect(bytesOf(a.outputs[name]!.y!)).toEqual(bytesOf(b.outputs[name]!.y!));
      // One tenant of them, and all of them one after another on the same code.
      const one = await wide.run({ t1: inputs[1]! });
      expect(bytesOf(one.outputs.t1!.y!)).toEqual(bytesOf(b.outputs.t1!.y!));
      for (const ms of await wide.time('time-multiplexed', 2)) expect(ms).toBeGreaterThan(0);
      wide.close();
      coalesced.close();
    }
    await expect(device.load(tenants, { words: 'narrow' as 'wide' })).rejects.toThrow(
      "no words 'narrow': coalesced, wide, branches, measured",
    );
  });

  it('gives the same bits in branches, for all tenants and for some', async () => {
    const models = [await mlp(1), await compileModel(convModel()), await mlp(2, [20, 64, 12])];
    const inputs = [input(1), { x: randomTensor('f32', [1, 3, 12, 12], 4) }, input(2)];
    const tenants = models.map((model, n) => ({ name: `t${n}`, model }));
    const requests = Object.fromEntries(inputs.map((x, n) => [`t${n}`, x]));
    for (const tier of ['generic', 'specialised', 'auto'] as const) {
      const chain = await device.load(tenants, { tier });
      const branches = await device.load(tenants, { tier, words: 'branches' });
      expect(branches.plan).toMatchObject({ kind: 'branches', order: 'branches', notes: [] });
      expect(branches.plan.words).toEqual(chain.plan.words);
      // A tenant's words are the less urgent the fewer follow them, and the longest chain begins with the most urgent one.
      const urgency = branches.plan.urgency!;
      expect(Math.max(...urgency)).toBe(1);
      for (const tenant of [0, 1, 2]) {
        const own = urgency.filter((_, n) => branches.plan.words[n]!.slots.some((s) => s.tenant === tenant));
        expect(own.length).toBeGreaterThan(1);
        for (const [n, u] of own.entries()) expect(u).toBeLessThan(own[n - 1] ?? 2);
      }
      const expected = await chain.run(requests);
      for (const names of [['t0', 't1', 't2'], ['t1'], ['t2', 't0']]) {
        const got = await branches.run(Object.fromEntries(names.map((name) => [name, requests[name]!])));
        for (const name of names)
          expect(bytesOf(got.outputs[name]!.y!)).toEqual(bytesOf(expected.outputs[name]!.y!));
      }
      expect(await branches.timeWords(1)).toEqual([branches.plan.words.map(() => expect.any(Number))]);
      branches.close();
      chain.close();
    }
  });

  it('has no branches where every word needs the one before it, and says so', async () => {
    const model = await mlp(1);
    const tenants = ['a', 'b'].map((name) => ({ name, model }));
    const program = await device.load(tenants, { words: 'branches' });
    expect(program.plan).toMatchObject({ kind: 'coalesced', notes: [expect.stringMatching(/no branches/)] });
    expect(program.plan.order ?? 'chain').toBe('chain');
    program.close();
  });

  it('keeps the kind of words that measures fastest, in one set of buffers, and says so', async () => {
    const models = [await mlp(1), await compileModel(convModel())];
    const tenants = models.map((model, n) => ({ name: `t${n}`, model }));
    const requests = { t0: input(1), t1: { x: randomTensor('f32', [1, 3, 12, 12], 4) } };
    const coalesced = await device.load(tenants);
    const expected = (await coalesced.run(requests)).outputs;
    const measured = await device.load(tenants, { words: 'measured' });
    const number = String.raw`\d[\d.e-]*`;
    const kind = String.raw`(coalesced|wide|branches|branches with \d+ of \d+ wide words)`;
    expect(measured.plan.notes).toEqual([
      expect.stringMatching(
        `^measured: ${kind}, at ${number} ms a round(; ${kind} takes ${number} times as long)(, ${kind} takes ${number} times as long)+$`,
      ),
    ]);
    // Without any wide words they were measured, too.
    expect(measured.plan.notes[0]).toMatch(/branches with 0 of [1-9]\d* wide words/);
    const found = measured.plan.kind;
    expect(measured.plan.notes[0]).toContain(
      `measured: ${found === 'mixed' ? 'branches with' : `${found}, `}`,
    );
    const again = await device.load(tenants, found === 'mixed' ? {} : { words: found });
    if (found !== 'mixed') expect(measured.plan.words).toEqual(again.plan.words);
    for (const program of [measured, again]) {
      const { outputs } = await program.run(requests);
      for (const name of ['t0', 't1'])
        expect(bytesOf(outputs[name]!.y!)).toEqual(bytesOf(expected[name]!.y!));
    }
    for (const program of [coalesced, measured, again]) program.close();
  });

  it('measures nothing where all kinds of words are the same', async () => {
    const program = await device.load([{ name: 'a', model: await mlp(1) }], { words: 'measured' });
    expect(program.plan).toMatchObject({ kind: 'coalesced', notes: [] });
    program.close();
  });

  it('is not loaded with a row that would leave its buffers', async () => {
    const model = await mlp(1);
    const compiled = model.compiledFor('host');
    const [first, ...rest] = compiled.tasks;
    const broken = { ...compiled, tasks: [{ ...first!, sizes: first!.sizes.map((s) => s + 8) }, ...rest] };
    const tampered: Model = {
      ...model,
      name: model.name,
      compiledFor: () => broken,
      classOf: (target, key) => model.classOf(target, key),
      codeOf: () => undefined,
    };
    await expect(device.load([{ name: 'a', model: tampered }])).rejects.toThrow(
      /^tenant 'a', task \S+: (with sizes .* is not inside|operand \d+ takes \d+ bytes, its place has \d+)$/,
    );
  });

  it('replicas have weights and activations of their own', async () => {
    const model = await mlp(1);
    const program = await device.load([1, 2, 3].map((n) => ({ name: `t${n}`, model })));
    const { outputs } = await program.run({ t1: input(1), t2: input(2), t3: input(1) });
    expect(bytesOf(outputs.t1!.y!)).toEqual(bytesOf(outputs.t3!.y!));
    expect(bytesOf(outputs.t1!.y!)).not.toEqual(bytesOf(outputs.t2!.y!));
    expect(program.stats).toMatchObject({ kernels: 6, words: 2, widest: 3 });
    program.close();
  });

  it('NaN of one tenant changes nothing for another', async () => {
    const model = await mlp(1);
    const program = await device.load([1, 2].map((n) => ({ name: `t${n}`, model })));
    const bad = { x: randomTensor('f32', [1, 20], 9) };
    (bad.x.data as Float32Array).fill(Number.NaN);
    const { outputs } = await program.run({ t1: bad, t2: input(2) });
    expect([...(outputs.t1!.y!.data as Float32Array)].every(Number.isNaN)).toBe(true);
    expect(bytesOf(outputs.t2!.y!)).toEqual(await alone(model, input(2)));
    program.close();
  });

  it('loading and closing another program disturbs nothing', async () => {
    const [first, second] = [await mlp(1), await mlp(2)];
    const program = await device.load([{ name: 'a', model: first }]);
    const before = bytesOf((await program.run({ a: input(1) })).outputs.a!.y!);
    const other = await device.load([{ name: 'a', model: second }]);
    const [mine] = await Promise.all([program.run({ a: input(1) }), other.run({ a: input(1) })]);
    expect(bytesOf(mine.outputs.a!.y!)).toEqual(before);
    other.close();
    expect(bytesOf((await program.run({ a: input(1) })).outputs.a!.y!)).toEqual(before);
    program.close();
  });

  it('the tiers give the same bits', async () => {
    const model = await compileModel(convModel());
    const x = { x: randomTensor('f32', [1, 3, 12, 12], 4) };
    const results: Uint8Array[] = [];
    for (const tier of ['generic', 'specialised', 'auto'] as const) {
      const program = await device.load(
        [
          { name: 'a', model },
          { name: 'b', model },
        ],
        { tier },
      );
      const { outputs } = await program.run({ a: x, b: x });
      results.push(bytesOf(outputs.a!.y!), bytesOf(outputs.b!.y!));
      program.close();
    }
    for (const bits of results) expect(bits).toEqual(results[0]);
  });

  it('gives the same bits at every width', async () => {
    const models = [await mlp(1), await mlp(2), await mlp(3)];
    const tenants = models.map((model, n) => ({ name: `t${n}`, model }));
    const requests = { t0: input(1), t1: input(2), t2: input(3) };
    const expected = await Promise.all(models.map((m, n) => alone(m, input(n + 1))));
    for (const width of [1, 2, 3]) {
      const program = await device.load(tenants, { width });
      expect(program.stats.widest).toBe(width);
      const { outputs } = await program.run(requests);
      expect(tenants.map(({ name }) => bytesOf(outputs[name]!.y!))).toEqual(expected);
      program.close();
    }
    await expect(device.load(tenants, { width: 0 })).rejects.toThrow('at least one slot');
  });

  it('times words, and programs in turn and side by side, which compute what they do when run', async () => {
    const models = [await mlp(1), await mlp(2), await mlp(3)];
    const programs = await Promise.all(models.map((model) => device.load([{ name: 'only', model }])));
    const expected = await Promise.all(models.map((m, n) => alone(m, input(n + 1))));
    const outputs = () => programs.map((p) => bytesOf(p.readOutputs().only!.y!));
    for (const together of ['in turn', 'side by side'] as const) {
      for (const p of programs) await p.run({ only: input(9) });
      for (const [n, p] of programs.entries()) p.setInputs({ only: input(n + 1) });
      expect(outputs()).not.toEqual(expected);
      const times = await device.time(programs, together, 3);
      expect(times).toHaveLength(3);
      expect(times.every((t) => t > 0)).toBe(true);
      expect(outputs()).toEqual(expected);
    }
    const words = await programs[0]!.timeWords(4);
    expect(words.map((round) => round.length)).toEqual([2, 2, 2, 2]);
    expect(words.flat().every((t) => t > 0)).toBe(true);
    expect(() => programs[0]!.setInputs({ only: input(1, 21) })).toThrow(RequestError);
    programs[0]!.close();
    await expect(device.time(programs, 'in turn', 1)).rejects.toThrow('closed');
    expect(() => programs[0]!.setInputs({})).toThrow('closed');
    expect(() => programs[0]!.readOutputs()).toThrow('closed');
    await expect(programs[0]!.timeWords(1)).rejects.toThrow('closed');
    for (const p of programs) p.close();
  });

  it('traces words, with the names of what ran, also beside a program that has none', async () => {
    const nothing = await compileModel(
      buildModel({
        inputs: [{ name: 'x', shape: [0] }],
        outputs: ['y'],
        nodes: [{ op: 'Relu', inputs: ['x'], outputs: ['y'] }],
      }),
    );
    const [one, empty, two] = [
      await device.load([
        { name: 'a', model: await mlp(1) },
        { name: 'b', model: await mlp(2) },
      ]),
      await device.load([{ name: 'none', model: nothing }]),
      await device.load([{ name: 'c', model: await mlp(3) }]),
    ];
    for (const together of ['in turn', 'side by side'] as const) {
      one.setInputs({ a: input(1), b: input(2) });
      two.setInputs({ c: input(3) });
      const { milliseconds, programs } = await device.trace([one, empty, two], together);
      expect(milliseconds).toBeGreaterThan(0);
      expect(programs.map((p) => p.tenants)).toEqual([['a', 'b'], ['none'], ['c']]);
      expect(programs.map((p) => p.words.map((w) => w.slots.map((s) => `${s.tenant} ${s.task}`)))).toEqual([
        [
          ['a gemm_relu', 'b gemm_relu'],
          ['a gemm', 'b gemm'],
        ],
        [],
        [['c gemm_relu'], ['c gemm']],
      ]);
      const [first] = programs[0]!.words;
      expect(first).toMatchObject({
        tier: 'generic',
        kernels: ['gemm_relu'],
        classes: one.plan.words[0]!.classes,
      });
      expect(first!.slots[0]!.loc.join()).toContain('fc0');
      const slots = one.plan.words[0]!.slots.flatMap((s, n) => Array<number>(s.blocks).fill(n));
      expect([...first!.blocks.slot]).toEqual(slots);
      expect(bytesOf(one.readOutputs().b!.y!)).toEqual(await alone(await mlp(2), input(2)));
    }
    expect(await device.trace([empty], 'in turn')).toEqual({
      milliseconds: 0,
      programs: [{ tenants: ['none'], words: [] }],
    });
    for (const p of [one, empty, two]) p.close();
    await expect(device.trace([one], 'in turn')).rejects.toThrow('closed');
  });

  it('times both ways of running', async () => {
    const model = await mlp(1);
    const program = await device.load([1, 2].map((n) => ({ name: `t${n}`, model })));
    for (const mode of ['coalesced', 'time-multiplexed'] as const) {
      const times = await program.time(mode, 5);
      expect(times).toHaveLength(5);
      expect(times.every((t) => t > 0)).toBe(true);
    }
    program.close();
  });
});

describe('requests', () => {
  let program: Program;
  let model: Model;
  beforeAll(async () => {
    model = await mlp(1);
    program = await device.load([1, 2, 3].map((n) => ({ name: `t${n}`, model })));
  });

  it('that arrive together are answered each with its own', async () => {
    const seeds = Array.from({ length: 40 }, (_, n) => n);
    const answers = await Promise.all(seeds.map((n) => program.submit(`t${(n % 3) + 1}`, input(n))));
    const expected = await Promise.all(seeds.map((n) => alone(model, input(n))));
    answers.forEach((a, n) => expect(bytesOf(a.y!)).toEqual(expected[n]));
  });

  it('that do not fit are refused alone, in one line', async () => {
    const good = program.submit('t1', input(1));
    const bad = {
      'an unknown tenant': program.submit('t9', input(1)),
      'a missing input': program.submit('t2', {}),
      'a wrong shape': program.submit('t2', input(1, 21)),
      'a wrong type': program.submit('t2', { x: randomTensor('i32', [1, 20], 1) }),
      'data of another type': program.submit('t2', { x: { ...input(1).x, data: new Uint8Array(80) } }),
      'a plain array': program.submit('t2', { x: { ...input(1).x, data: Array(20).fill(1) as never } }),
      'no object': program.submit('t2', null as never),
      'no tensor': program.submit('t2', { x: [1, 2] as never }),
      'an input too many': program.submit('t2', { ...input(1), z: randomTensor('f32', [1], 1) }),
    };
    for (const promise of Object.values(bad)) await expect(promise).rejects.toThrow(RequestError);
    await expect(bad['a wrong shape']).rejects.toThrow(
      "tenant 't2': input 'x' is f32[1,21], expected f32[1,20]",
    );
    expect(bytesOf((await good).y!)).toEqual(await alone(model, input(1)));
  });

  it('to a closed program are refused', async () => {
    const other = await device.load([{ name: 'a', model }]);
    const waiting = other.submit('a', input(1));
    other.close();
    await expect(waiting).rejects.toThrow('closed');
    await expect(other.submit('a', input(1))).rejects.toThrow('closed');
    await expect(other.run({ a: input(1) })).rejects.toThrow('closed');
  });

  it('names must be unique, and there must be a tenant', async () => {
    await expect(
      device.load([
        { name: 'a', model },
        { name: 'a', model },
      ]),
    ).rejects.toThrow(RangeError);
    await expect(device.load([])).rejects.toThrow(RangeError);
  });
});
