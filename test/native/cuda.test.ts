import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../runtime/native.ts';
import { buildFakeDriver, type FakeDriver } from './fake_driver.ts';
import { all, bytesOf, downloadFloats, root, slot, upload, whole } from './support.ts';

const native = loadNative();
const { cuda, nvrtc } = native.probe();
const problem = cuda.problem ?? nvrtc.problem;

describe('openCuda', () => {
  it('says why there is no such device', () => {
    expect(() => native.openCuda(1000)).toThrow(cuda.problem ? /CUDA/ : /there is no CUDA device 1000/);
  });
});

/** See fake_driver.ts. */
describe('the CUDA device on the fake driver', () => {
  let fake: FakeDriver;
  beforeAll(() => {
    fake = buildFakeDriver();
  });
  afterAll(() => fake.remove());
  const run: FakeDriver['run'] = (script, more) => fake.run(script, more);

  it('is found by probe and describes itself', () => {
    const { printed, log } = run(`
      print(JSON.stringify(native.probe().cuda));
      const device = native.openCuda(0);
      print(JSON.stringify({ ...device }));
      print(failure(() => native.openCuda(1)));
      device.close();`);
    const [probe, device, error] = printed.split('\n');
    const known = { name: 'Fake GPU', target: 'sm_90' };
    expect(JSON.parse(probe!)).toEqual({
      driver: '13.1',
      devices: [{ ordinal: 0, ...known, multiprocessors: 4, memoryBytes: 2 ** 30 }],
    });
    expect(JSON.parse(device!)).toEqual({ kind: 'cuda', ...known, units: 4 });
    expect(error).toBe('there is no CUDA device 1, only 1');
    expect(log).toBe('contexts 1, allocations 0, modules 0, graphs 0, launches 0, complaints 0\n');
  });

  it('runs programs, captured once, and leaves nothing behind', () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const { tenants, program } = setUp(device);
      const out = new Float32Array(4);
      for (const active of [[0, 1], [1], [], [0]]) {
        for (const { c } of tenants) device.write({ buffer: c, offset: 0, data: new Uint8Array(16) });
        const reads = [{ buffer: tenants[1].c, offset: 0, data: bytes(out) }];
        const { milliseconds } = await program.run({ active, writes: [], reads });
        print([milliseconds, ...tenants.map(({ c }) => download(device, c)), out.join()].join(' '));
      }
      print((await program.time([0, 1], 3)).join());
      device.release(tenants[0].a);
      const data = bytes(Float32Array.of(5, 5, 5, 5));
      await program.run({ active: [0], writes: [{ buffer: tenants[0].b, offset: 0, data }], reads: [] });
      print(download(device, tenants[0].c));
      device.close();`);
    expect(printed.split('\n')).toEqual([
      '0.25 11,22,33,44 22,44,66,88 22,44,66,88',
      '0.25 0,0,0,0 22,44,66,88 22,44,66,88',
      '0.25 0,0,0,0 0,0,0,0 0,0,0,0',
      '0.25 11,22,33,44 0,0,0,0 0,0,0,0',
      '0.25,0.25,0.25',
      '6,7,8,9',
      '',
    ]);
    expect(log).toBe('contexts 1, allocations 8, modules 1, graphs 1, launches 8, complaints 0\n');
  });

  it('times words one by one, and programs in turn and side by side', async () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const [one, two, three] = [setUp(device), setUp(device), setUp(device)];
      const sets = [one, two, three];
      const clear = () => sets.forEach((s) => s.tenants.forEach(({ c }) =>
        device.write({ buffer: c, offset: 0, data: new Uint8Array(16) })));
      const show = () => print(sets.map((s) => s.tenants.map(({ c }) => download(device, c)).join(' ')).join(' | '));
      for (const together of ['in turn', 'side by side', 'in turn', 'side by side']) {
        clear();
        print([...await device.time([one.program, two.program], together, 2)].join());
        show();
      }
      clear();
      print([...await three.program.timeWords([1], 2)].join());
      show();
      await one.program.run({ active: [0], writes: [], reads: [] });
      two.program.close();
      print([...await device.time([three.program], 'side by side', 1)].join());
      device.close();`);
    const [ran, idle] = ['11,22,33,44 22,44,66,88', '0,0,0,0 0,0,0,0'];
    const both = ['0.25,0.25', `${ran} | ${ran} | ${idle}`];
    expect(printed.split('\n')).toEqual([
      ...[both, both, both, both].flat(),
      '0.25,0.25,0.25,0.25',
      `${idle} | ${idle} | 0,0,0,0 22,44,66,88`,
      '0.25',
      '',
    ]);
    // Two graphs with the words, one of them run by itself too, and one with marks between the words.
    expect(log).toBe('contexts 1, allocations 24, modules 3, graphs 4, launches 20, complaints 0\n');
  });

  /** Tenants with five buffers each, and slots that add two of one's buffers into a third, or a part of them. */
  const adders = `
    const device = native.openCuda(0);
    const code = device.load(image, 'add');
    const tenants = [0, 1, 2].map((t) => [1, 10, 100, 0, 0].map((v) => upload(device, [1, 2, 3, 4].map((i) => i * v * (t + 1)))));
    const add = (tenant, [a, b, c], begin = 0, end = 4) => ({ tenant, body: 0, begin, end, blocks: 1,
      operands: [a, b, c].map((n) => whole(tenants[tenant][n])), sizes: [4] });
    const word = (...slots) => ({ code, threads: 32, slots });
    const all = { active: [0, 1, 2], writes: [], reads: [] };
    const show = () => print(tenants.map((t) => download(device, t[4])).join(' '));`;

  it('orders the words of branches as tenants demand, and no further', async () => {
    const { printed, log } = run(`${adders}
      const words = [
        word(add(0, [0, 1, 3]), add(1, [0, 1, 3])),
        word(add(0, [3, 2, 2])),
        word(add(1, [3, 2, 1])),
        word(add(2, [0, 1, 3], 0, 1), add(2, [0, 1, 3], 1, 2)),
        word(add(0, [3, 2, 4]), add(1, [3, 1, 4])),
        word(add(2, [0, 1, 3], 2, 4)),
        word(add(2, [3, 3, 4])),
      ];
      const [chain, branches] = ['chain', 'branches'].map((order) => device.createProgram(words, { order }));
      const fresh = () => tenants.forEach((buffers, t) => [1, 10, 100, 0, 0].forEach((v, n) =>
        device.write({ buffer: buffers[n], offset: 0, data: bytes(Float32Array.from([1, 2, 3, 4], (i) => i * v * (t + 1))) })));
      for (const program of [chain, branches]) {
        fresh();
        await program.run(all);
        show();
        fresh();
        await program.run({ active: [1], writes: [], reads: [] });
        show();
        fresh();
        print([...await program.timeWords([0, 1, 2], 1)].length);
        show();
      }
      fresh();
      const { programs: [traced] } = await device.trace([branches], 'side by side');
      print(traced.map(({ begin }) => begin.length).join());
      show();
      device.close();`);
    const everyone = '122,244,366,488 244,488,732,976 66,132,198,264';
    const results = [everyone, '0,0,0,0 244,488,732,976 0,0,0,0', '7', everyone];
    expect(printed.split('\n')).toEqual([...results, ...results, '2,1,1,2,2,1,1', everyone, '']);
    // Node 0 is the start, node n word n - 1, node 8 the end. Words overlap with the one they wait for (~), and with nothing else.
    const edges = 'edges 0() 1(0) 2(~1) 3(~1) 4(0) 5(2,3) 6(~4) 7(~6) 8(5,7)\n';
    expect(log).toBe(
      `${edges}${edges}contexts 1, allocations 20, modules 1, graphs 5, launches 7, complaints 0\n`,
    );
  });

  it('gives kernels of branches priorities by their urgency, and those of a chain none', async () => {
    const { printed, log } = run(`${adders}
      const words = [word(add(0, [0, 1, 3])), word(add(1, [0, 1, 3])), word(add(0, [3, 2, 4])), word(add(2, [0, 1, 4]))]
        .map((w, n) => ({ ...w, urgency: [1, 0.6, 0.17, 0][n] }));
      for (const order of ['branches', 'chain']) {
        await device.createProgram(words, { order }).run(all);
        show();
      }
      device.close();`);
    expect(printed).toBe('111,222,333,444 0,0,0,0 33,66,99,132\n'.repeat(2));
    const counts = 'contexts 1, allocations 19, modules 1, graphs 2, launches 2, complaints 0';
    expect(log).toBe(`edges 0() 1(0) 2(0) 3(~1) 4(0) 5(2,3,4)\npriorities -5 -3 -1 0\n${counts}\n`);
  });

  const twice = `
    const program = device.createProgram([word(add(0, [0, 1, 3])), word(add(1, [0, 1, 3])), word(add(0, [3, 2, 4]), add(1, [3, 2, 4]))],
      { order: 'branches' });
    await program.run({ ...all, active: [0, 1] });`;

  it.each([
    ['the driver', { WIDEWORD_LIBCUDA: 'libold.so' }],
    ['the GPU', { FAKE_CUDA_MAJOR: '8' }],
  ])('lets no words of branches overlap where %s cannot', (_, {
    WIDEWORD_LIBCUDA,
    ...more
  }: Record<string, string>) => {
    const library = WIDEWORD_LIBCUDA ? { WIDEWORD_LIBCUDA: join(fake.folder, WIDEWORD_LIBCUDA) } : {};
    const { printed, log } = run(`${adders}${twice}show(); device.close();`, { ...library, ...more });
    expect(printed).toBe('111,222,333,444 222,444,666,888 0,0,0,0\n');
    expect(log).toMatch(/^edges 0\(\) 1\(0\) 2\(0\) 3\(1,2\) 4\(3\)\n.* complaints 0\n$/);
  });

  it('relies on it that every word waits for those before it, which the fake driver notices', () => {
    // The word in the middle waits for nothing, so the last one, which only has an edge to that, is sure of no word before.
    const script = (entry: string) => `${adders}
      const middle = { code: device.load(image, '${entry}'), threads: 32, slots: [add(0, [0, 1, 2])] };
      const program = device.createProgram([word(add(0, [0, 1, 3])), middle, word(add(0, [3, 1, 4]))], { order: 'branches' });
      await program.run({ ...all, active: [0] });
      device.close();`;
    expect(run(script('add')).log).toContain('complaints 0\n');
    expect(run(script('hasty')).log).toMatch(/complaint: a write that waits for no node that used this\n/);
  });

  it('gives what a chain does, for words of any tenants and slots', async () => {
    const { printed, log } = run(`${adders}
      let state = 7;
      const below = (n) => (state = (state * 48271) % 2147483647) % n;
      const several = (n, make) => Array.from({ length: 1 + below(n) }, make);
      for (let n = 0; n < 40; n++) {
        const words = several(14, () => word(...several(3, (_, i) => i).flatMap(() => {
          const tenant = below(3);
          // Slots of one word may run in any order: each writes a float of its own and reads what no word writes, or that float.
          const at = below(4);
          return [add(tenant, [below(3), 3, 3], at, at + 1)];
        }).filter((s, i, all) => all.findIndex((o) => o.tenant === s.tenant && o.begin === s.begin) === i)));
        const results = [];
        for (const order of ['chain', 'strict', 'branches']) {
          tenants.forEach((buffers) => device.write({ buffer: buffers[3], offset: 0, data: new Uint8Array(16) }));
          const program = device.createProgram(words, { order });
          const active = [...new Set(words.flatMap((w) => w.slots.map((s) => s.tenant)))];
          await program.run({ ...all, active });
          results.push(tenants.map((buffers) => download(device, buffers[3])).join(' '));
          program.close();
        }
        if (new Set(results).size > 1) print(n + ': ' + results.join(' against '));
      }
      device.close();`);
    expect(printed).toBe('');
    expect(log).not.toContain('complaint:');
    expect(log.match(/^edges /gm)).toHaveLength(40);
  });

  it('leaves words of different tenants without order, which the fake driver notices', async () => {
    const script = (order: string) => `${adders}
      const shared = { ...add(1, [0, 1, 4]), operands: [0, 1].map((t) => whole(tenants[t][3])).concat(whole(tenants[1][4])) };
      const program = device.createProgram([word(add(0, [0, 1, 3])), word(shared)], { order: '${order}' });
      await program.run({ ...all, active: [0, 1] });
      device.close();`;
    expect(run(script('chain')).log).toContain('complaints 0\n');
    expect(run(script('branches')).log).toContain(
      'complaint: a write that waits for no node that used this\n',
    );
  });

  it('issues words of requests that arrive at any time, and rounds of a program for all', () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const { tenants, code, program } = setUp(device);
      const spec = {
        classes: 1,
        boundNanoseconds: 1e9,
        stretch: 2,
        launchNanoseconds: 1000,
        ahead: 2,
        tenants: tenants.map(({ a, b, c, slot }) => {
          const task = { class: 0, blocks: 4, blockNanoseconds: 1000, operands: slot.operands, sizes: [4] };
          return { weight: 1, inputs: [whole(a), whole(b)], outputs: [whole(c)], tasks: [task, task] };
        }),
        codes: [{ code, threads: 128, sharedBytes: 100 * 1024, classes: [0], bodies: [0] }],
      };
      const engine = device.createEngine({ ...spec, program });
      const request = async (tenant, x) => {
        const out = new Float32Array(4);
        const inputs = [Float32Array.of(x, x, x, x), Float32Array.of(1, 2, 3, 4)];
        await engine.submit(tenant, inputs.map(bytes), [bytes(out)]);
        return out.join();
      };
      print(await request(0, 10));
      print((await Promise.all([request(1, 20), request(0, 30), request(1, 40)])).join(' '));
      await engine.drive(new Float64Array(64), Uint32Array.from({ length: 64 }, (_, n) => n % 2));
      const stats = engine.stats();
      print([stats.requests, stats.rounds > 0, stats.words > 0].join());
      engine.close();
      process.env.FAKE_CUDA_FAIL = 'cuLaunchKernel:2:700';
      const failing = device.createEngine(spec);
      print(await failing.submit(0, [bytes(new Float32Array(4)), bytes(new Float32Array(4))], [bytes(new Float32Array(4))]).catch((e) => e.message));
      print(await failing.submit(1, [bytes(new Float32Array(4)), bytes(new Float32Array(4))], [bytes(new Float32Array(4))]).catch((e) => e.message));
      device.close();`);
    expect(printed.split('\n')).toEqual([
      '11,12,13,14',
      '21,22,23,24 31,32,33,34 41,42,43,44',
      '68,true,true',
      'the CUDA device cannot be used any more: issuing a word failed: CUDA_ERROR_ILLEGAL_ADDRESS (said by the fake)',
      'the CUDA device cannot be used any more: issuing a word failed: CUDA_ERROR_ILLEGAL_ADDRESS (said by the fake)',
      '',
    ]);
    expect(log).toMatch(/^contexts 1, allocations \d+, modules 1, graphs 1, launches \d+, complaints 0\n$/);
  });

  it('traces blocks in a graph of its own, clears what the last round noted, and keeps other rounds as they are', () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const [one, two] = [setUp(device), setUp(device)];
      const show = ({ milliseconds, programs }) => print([milliseconds, ...programs.map((words) => words.map((w) =>
        [w.begin, w.end, w.unit, w.slot].map((column) => column.join()).join(' ')).join(' / '))].join(' | '));
      show(await device.trace([one.program, two.program], 'side by side'));
      print(download(device, two.tenants[1].c));
      show(await device.trace([one.program], 'in turn'));
      await one.program.run({ active: [1], writes: [], reads: [] });
      show(await device.trace([one.program], 'in turn'));
      const { programs } = await device.trace([two.program], 'in turn');
      print(Object.values(programs[0][1]).map((column) => column.constructor.name).join());
      device.close();`);
    // The fake's blocks take five nanoseconds, one behind the other.
    const words = (at: number) =>
      [at, at + 15]
        .map((t) => `${t},${t + 5},${t + 10} ${t + 5},${t + 10},${t + 15} 0,1,2 0,1,1`)
        .join(' / ');
    expect(printed.split('\n')).toEqual([
      `0.25 | ${words(0)} | ${words(30)}`,
      '22,44,66,88',
      `0.25 | ${words(0)}`,
      `0.25 | ${words(0)}`,
      'Float64Array,Float64Array,Uint32Array,Uint32Array',
      '',
    ]);
    // Of each program the traced graph; one of them ran plainly, too.
    expect(log).toBe('contexts 1, allocations 18, modules 2, graphs 3, launches 6, complaints 0\n');
  });

  it('asks for shared memory before it launches with it', () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const { tenants, word } = setUp(device);
      const program = device.createProgram([{ ...word, sharedBytes: 226 * 1024 }, { ...word, sharedBytes: 0 }, word]);
      await program.run({ active: [0, 1], writes: [], reads: [] });
      print(download(device, tenants[1].c));
      device.close();`);
    expect(printed).toBe('22,44,66,88\n');
    expect(log).toMatch(/ complaints 0\n$/);
  });

  it('frees what is collected, closed or released, and the rest at the end', () => {
    const { printed, log } = run(`
      for (let i = 0; i < 30; i++) {
        const device = native.openCuda(0);
        const { tenants, program } = setUp(device);
        const round = program.run({ active: [0], writes: [], reads: [] });
        if (i % 2) device.release(tenants[0].c);
        if (i % 3 === 0) program.close();
        if (i % 5) device.close();
        await round;
      }
      for (let i = 0; i < 10; i++) { gc(); await new Promise((wake) => setTimeout(wake, 5)); }
      native.openCuda(0).close();
      print('end');`);
    expect(printed).toBe('end\n');
    expect(log.trim().split('\n').at(-1)).toMatch(/^contexts 31, .* complaints 0$/);
  });

  it('refuses what the device cannot run', () => {
    const { printed, log } = run(`
      const device = native.openCuda(0);
      const { word, tenants } = setUp(device);
      print(failure(() => device.createProgram([{ ...word, threads: 257 }])));
      print(failure(() => device.createProgram([{ ...word, sharedBytes: 226 * 1024 + 1 }])));
      print(failure(() => device.load(image, 'subtract')));
      print(failure(() => device.load('/a/path.so', 'add')));
      print(failure(() => device.load(Buffer.from('text'), 'add')));
      print(failure(() => device.load(new Uint8Array(0), 'add')));
      print(failure(() => device.load(Buffer.from('\\x7fELF'), 'add')));
      print(failure(() => device.load(require('fs').readFileSync(process.execPath).subarray(0, 4096), 'add')));
      print(failure(() => device.allocate(2 ** 31)));
      print(failure(() => native.openHost(1).release(tenants[0].a)));
      device.close();`);
    expect(printed.trim().split('\n')).toEqual([
      'words[0].threads must be an integer from 1 to 256, not 257',
      'words[0].sharedBytes must be an integer from 0 to 231424, not 231425',
      'finding subtract in CUDA code failed: CUDA_ERROR_NOT_FOUND (said by the fake)',
      'code must be a Uint8Array, not a string',
      'the code is neither a cubin nor PTX',
      'the code is neither a cubin nor PTX',
      'the cubin is cut short',
      'the code is an ELF file for another machine than CUDA',
      'allocating 2147483648 bytes of device memory failed: CUDA_ERROR_OUT_OF_MEMORY (said by the fake)',
      'buffer must be a buffer of this device',
    ]);
    expect(log).toMatch(/complaints 0\n$/);
  });

  it('takes no cubin that is cut short anywhere', async ({ skip }) => {
    if (nvrtc.problem) skip(nvrtc.problem);
    const { image } = await native.compileCuda('extern "C" __global__ void f(int* p) { *p = 1; }', 'sm_90');
    const file = join(fake.folder, 'whole.cubin');
    writeFileSync(file, image);
    const { printed } = run(`
      const device = native.openCuda(0);
      const cubin = require('fs').readFileSync(${JSON.stringify(file)});
      const messages = new Set();
      for (let length = 4; length < cubin.length; length++) {
        messages.add(failure(() => device.load(cubin.subarray(0, length), 'f')));
      }
      print([...messages].join());
      print(failure(() => device.load(cubin, 'f')));`);
    // The fake driver knows no cubins: the whole one got as far as that.
    expect(printed).toBe(
      'the cubin is cut short\nloading CUDA code failed: CUDA_ERROR_OTHER (said by the fake)\n',
    );
  });

  const sessions = {
    rounds: `
      const other = device.createProgram([setUp(device).word]);
      await device.time([program, other], 'side by side', 2);
      await program.timeWords([1], 1);
      await device.time([other, program], 'in turn', 1);`,
    traces: `await device.trace([program], 'side by side');`,
    branches: `
      const branches = device.createProgram([setUp(device).word, setUp(device).word], { order: 'branches' });
      await branches.run({ active: [0, 1], writes: [], reads: [] });`,
    engine: `
      const served = setUp(device);
      const engine = device.createEngine({
        ...{ classes: 1, boundNanoseconds: 1e9, stretch: 2, launchNanoseconds: 1000, ahead: 2 },
        program: served.program,
        tenants: served.tenants.map(({ a, b, c, slot }) => {
          const task = { class: 0, blocks: 4, blockNanoseconds: 1000, operands: slot.operands, sizes: [4] };
          return { weight: 1, inputs: [whole(a), whole(b)], outputs: [whole(c)], tasks: [task, task] };
        }),
        codes: [{ code: served.code, threads: 128, sharedBytes: 0, classes: [0], bodies: [0] }],
      });
      const of = (n) => Array.from({ length: n }, () => new Uint8Array(16));
      // All of them end, well or not, before the session does.
      const ends = await Promise.allSettled([0, 1, 1].map((tenant) => engine.submit(tenant, of(2), of(1))));
      for (const { reason } of ends) if (reason) throw reason;
      await engine.drive(new Float64Array(16), Uint32Array.from({ length: 16 }, (_, n) => n % 2));
      engine.close();
      await device.time([program], 'side by side', 1);`,
  };
  it.each(
    Object.entries(sessions),
  )('%s: an Error, and all clean, whichever call of the driver fails', (name, session) => {
    const building = [
      'cuGraphCreate',
      'cuGraphAddKernelNode',
      'cuGraphKernelNodeSetAttribute',
      'cuGraphAddDependencies',
      'cuGraphAddEventRecordNode',
    ];
    const others = [
      'cuDeviceGet',
      'cuDevicePrimaryCtxRetain',
      'cuCtxSetCurrent',
      'cuCtxGetStreamPriorityRange',
      'cuStreamCreate',
      'cuStreamWaitEvent',
      'cuMemAlloc',
      'cuMemcpyHtoDAsync',
      'cuModuleLoadData',
      'cuModuleGetFunction',
      'cuFuncGetAttribute',
      'cuEventCreate',
      'cuStreamBeginCapture',
      'cuEventRecordWithFlags',
      'cuLaunchKernelEx',
      ...(name === 'engine' ? ['cuLaunchKernel'] : []),
      'cuStreamEndCapture',
      'cuGraphInstantiate',
      'cuGraphLaunch',
      'cuMemcpyDtoHAsync',
      'cuEventElapsedTime',
    ];
    const { printed, log } = run(`
      async function session() {
        const device = native.openCuda(0);
        try {
          const { tenants, program } = setUp(device);
          const reads = [{ buffer: tenants[0].c, offset: 0, data: new Uint8Array(16) }];
          await program.run({ active: [0], writes: [], reads });
          ${session}
          return (await program.run({ active: [0, 1], writes: [], reads })).milliseconds;
        } finally {
          device.close();
        }
      }
      for (const call of ${JSON.stringify(name === 'branches' ? building : others)}) {
        let failed = 0;
        for (const error of [801, 12345, 700]) {
          for (let n = 1; n < 16; n++) {
            process.env.FAKE_CUDA_FAIL = [call, n, error].join(':');
            const message = await session().then(() => '', (problem) => problem.message);
            delete process.env.FAKE_CUDA_FAIL;
            if (message) failed++;
            if (message && !/ failed: (CUDA_ERROR_|CUDA error 12345$)/.test(message)) print(call + ' ' + n + ' ' + message);
            if (await session() !== 0.25) print('the next session failed');
          }
        }
        if (failed === 0) print(call + ' never failed');
      }`);
    expect(printed).toBe('');
    expect(log).not.toContain('complaint:');
  });

  it.each([
    ['opens anew', {}, '11,22,33,44'],
    [
      'says that only a new process will do',
      { FAKE_CUDA_KEEP_FAULT: '1' },
      'making the CUDA context failed: CUDA_ERROR_ILLEGAL_ADDRESS (said by the fake); ' +
        'after a fault on the GPU a process has to be started anew to use it',
    ],
  ])('says after a kernel fault that devices cannot be used, and then %s', (_, driver, outcome) => {
    const { printed, log } = run(
      `
      const device = native.openCuda(0);
      const beside = native.openCuda(0);
      const { tenants, program, code } = setUp(device);
      const other = setUp(beside);
      const buffer = tenants[0].a;
      const round = { active: [0], writes: [], reads: [] };
      const faulty = device.createProgram([{ code: device.load(image, 'fault'), threads: 1, slots: [tenants[0].slot] }]);
      print(await faulty.run(round).catch((error) => error.message));
      const later = [
        () => device.allocate(64),
        () => device.write({ buffer, offset: 0, data: new Uint8Array(4) }),
        () => device.read({ buffer, offset: 0, data: new Uint8Array(4) }),
        () => device.load(image, 'add'),
        () => device.createProgram([{ code, threads: 1, slots: [tenants[0].slot] }]),
      ];
      const messages = [...later.map(failure), await program.run(round).catch((error) => error.message),
        await program.time([0], 2).catch((error) => error.message)];
      print([...new Set(messages)].join('|'));
      // Devices of a process share one context.
      print(await other.program.run(round).catch((error) => error.message));
      device.release(buffer);
      program.close();
      device.close();
      const opensBeside = failure(() => native.openCuda(0));
      beside.close();
      try {
        const again = native.openCuda(0);
        const next = setUp(again);
        await next.program.run(round);
        print(download(again, next.tenants[0].c));
        again.close();
      } catch (error) {
        print(error.message);
      }
      print(opensBeside);`,
      driver,
    );
    const lost = 'the CUDA device cannot be used any more';
    const error = 'CUDA_ERROR_ILLEGAL_ADDRESS (said by the fake)';
    const [first, then, beside, anew, opensBeside] = printed.trim().split('\n');
    expect(first).toBe(`${lost}: waiting for the CUDA device failed: ${error}`);
    expect(then).toBe(first);
    expect(beside).toBe(`${lost}: writing a slot table failed: ${error}`);
    expect(anew).toBe(outcome);
    expect(opensBeside).toMatch(/a process has to be started anew to use it$/);
    expect(log).not.toContain('complaint:');
  });

  it('reports a driver that is no driver', () => {
    const script = `
      const native = require(${JSON.stringify(join(root, 'build/Release/wideword.node'))});
      console.log(native.probe().cuda.problem);
      try { native.openCuda(0); } catch (error) { console.log(error.message); }`;
    const run = (library: string) =>
      execFileSync(process.execPath, ['-e', script], {
        encoding: 'utf8',
        env: { ...process.env, WIDEWORD_LIBCUDA: library },
      });
    expect(run('/nowhere.so')).toMatch(/^(no CUDA driver: \/nowhere.so: .*\n)\1$/);
    expect(run('libc.so.6')).toMatch(/^(the CUDA driver is too old: it lacks cuInit\n)\1$/);
  });
});

describe(`the CUDA device${problem ? ` (skipped: ${problem})` : ''}`, () => {
  const itRuns = it.skipIf(problem);
  const header = readFileSync(join(root, 'codegen/prelude/slot.h'), 'utf8');
  const source = `${header}
    // As emitted words do (codegen/prelude/cuda.h).
    __device__ void let_next_word_begin() {
    #if __CUDA_ARCH__ >= 900
      asm volatile("griddepcontrol.launch_dependents;");
    #endif
    }
    __device__ void await_word_before() {
    #if __CUDA_ARCH__ >= 900
      asm volatile("griddepcontrol.wait;" ::: "memory");
    #endif
    }
    extern "C" __global__ void add(const __grid_constant__ WordLaunch launch) {
      let_next_word_begin();
      await_word_before();
      const unsigned slot = launch.block_slot[blockIdx.x];
      if (slot == kIdleBlock) return;
      const SlotRow& row = launch.rows[slot];
      for (unsigned at = row.begin + (blockIdx.x - row.first_block); at < row.end; at += row.blocks) {
        const int i = at * blockDim.x + threadIdx.x;
        if (i < row.size[0]) ((float*)row.operand[2])[i] = ((float*)row.operand[0])[i] + ((float*)row.operand[1])[i];
      }
    }
    extern "C" __global__ void fault(const __grid_constant__ WordLaunch) { *(volatile int*)16 = 1; }`;

  itRuns('runs active tenants, and zeroes memory', async () => {
    const device = native.openCuda(0);
    const { image } = await native.compileCuda(source, device.target);
    const add = device.load(image, 'add');
    const tenants = [1000, 77, 513].map((length) => {
      const values = Float32Array.from({ length }, (_, i) => Math.sin(i));
      const buffers = [upload(device, values), upload(device, values), device.allocate(length * 4)];
      return { length, buffers, expected: values.map((value) => value + value) };
    });
    const slots = tenants.map(({ length, buffers }, tenant) =>
      slot({ tenant, end: Math.ceil(length / 32), blocks: 2, operands: buffers.map(whole), sizes: [length] }),
    );
    const program = device.createProgram([{ code: add, threads: 32, slots }]);
    for (const active of [[1], [0, 2], [], [0, 1, 2]]) {
      for (const { buffers } of tenants)
        device.write({ buffer: buffers[2]!, offset: 0, data: new Uint8Array(buffers[2]!.bytes) });
      expect((await program.run({ active, ...all })).milliseconds).toBeGreaterThan(0);
      for (const [i, { buffers, length, expected }] of tenants.entries()) {
        expect(downloadFloats(device, buffers[2]!)).toEqual(
          active.includes(i) ? expected : new Float32Array(length),
        );
      }
    }
    const times = await program.time([0, 1, 2], 10);
    expect(times.every((time) => time > 0 && time < 10)).toBe(true);
    expect(downloadFloats(device, device.allocate(1 << 20)).every((value) => value === 0)).toBe(true);
    device.close();
  });

  itRuns('runs words as branches, in the order that tenants demand', async () => {
    const device = native.openCuda(0);
    const { image } = await native.compileCuda(source, device.target);
    const add = device.load(image, 'add');
    const length = 100_000;
    // Each tenant doubles its own numbers word by word; now and then a word has slots of two.
    const tenants = [0, 1, 2].map((t) => {
      const values = Float32Array.from({ length }, (_, i) => ((i + t) % 1000) / 7);
      return { values, buffer: upload(device, values) };
    });
    const doubling = (tenant: number) => {
      const { buffer } = tenants[tenant]!;
      const operands = [buffer, buffer, buffer].map(whole);
      return slot({ tenant, end: Math.ceil(length / 32), blocks: 64, operands, sizes: [length] });
    };
    const words = [[0], [1], [2], [0, 1], [2], [2], [1], [0], [1, 2], [0]].map((who, n) => ({
      code: add,
      threads: 32,
      urgency: 1 - n / 10,
      slots: who.map(doubling),
    }));
    const program = device.createProgram(words, { order: 'branches' });
    for (let round = 0; round < 3; round++) {
      for (const { buffer, values } of tenants) device.write({ buffer, offset: 0, data: bytesOf(values) });
      expect((await program.run({ active: [0, 1, 2], ...all })).milliseconds).toBeGreaterThan(0);
      // Each has been in four of them.
      for (const { buffer, values } of tenants)
        expect(downloadFloats(device, buffer)).toEqual(values.map((v) => v * 16));
    }
    device.close();
  });

  itRuns('reports a kernel fault, which no other process notices', async () => {
    const device = native.openCuda(0);
    const { image } = await native.compileCuda(source, device.target);
    const values = Float32Array.from({ length: 1000 }, (_, i) => i);
    const kept = upload(device, values);
    // The driver may take no more work from a process after a fault, so it is another one's.
    const script = `
      const native = require(${JSON.stringify(join(root, 'build/Release/wideword.node'))});
      const message = (act) => { try { return act(); } catch (error) { return error.message; } };
      (async () => {
        const device = native.openCuda(0);
        const code = device.load(Buffer.from(${JSON.stringify(Buffer.from(image).toString('base64'))}, 'base64'), 'fault');
        const slot = { tenant: 0, body: 0, begin: 0, end: 1, blocks: 1, operands: [], sizes: [] };
        const program = device.createProgram([{ code, threads: 1, slots: [slot] }]);
        const ran = program.run({ active: [0], writes: [], reads: [] });
        console.log(await ran.then(() => 'no fault', (error) => error.message));
        console.log(message(() => device.allocate(16)));
        device.close();
        console.log(message(() => native.openCuda(0).allocate(16).bytes));
      })();`;
    const printed = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 60_000 });
    const [fault, later, anew] = printed.trim().split('\n');
    expect(fault).toMatch(/^the CUDA device cannot be used any more: .*CUDA_ERROR_ILLEGAL_ADDRESS/);
    expect(later).toBe(fault);
    // Which of the two is the driver's choice.
    expect(anew).toMatch(/^(16|.*CUDA_ERROR_ILLEGAL_ADDRESS.* a process has to be started anew to use it)$/);
    expect(downloadFloats(device, kept)).toEqual(values);
    device.close();
  });
});
