import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../runtime/native.ts';
import { all, buildKernels, downloadInts, napping, root, slot, transfer, whole, word } from './support.ts';

const native = loadNative();
let library: ReturnType<typeof buildKernels>;
beforeAll(() => {
  library = buildKernels();
});
afterAll(() => library.remove());

describe('closing', () => {
  it('waits for the rounds in flight, whose promises still settle', async () => {
    const device = native.openHost(2);
    const { program, count } = napping(device, library.path, 20);
    const data = new Int32Array(1);
    const rounds = [
      program.run({ active: [0], ...all }),
      program.run({ active: [0], writes: [], reads: [transfer(count, data)] }),
    ];
    const times = program.time([0], 2);
    const start = performance.now();
    device.close();
    expect(performance.now() - start).toBeGreaterThan(60);
    expect(await Promise.all(rounds)).toHaveLength(2);
    expect(data[0]).toBe(2);
    expect(await times).toHaveLength(2);
    await expect(program.run({ active: [0], ...all })).rejects.toThrow('the device is closed');
    expect(() => device.allocate(1)).toThrow('the device is closed');
  });

  it('of a program waits for its rounds and leaves its buffers', async () => {
    const device = native.openHost(1);
    const { program, count } = napping(device, library.path, 10);
    const rounds = [program.run({ active: [0], ...all }), program.run({ active: [0], ...all })];
    program.close();
    program.close();
    expect([...downloadInts(device, count)]).toEqual([2]);
    await Promise.all(rounds);
    await expect(program.run({ active: [0], ...all })).rejects.toThrow('the program is closed');
    device.close();
    device.close();
    program.close();
  });

  it('of one device leaves the others running', async () => {
    const [one, two] = [native.openHost(2), native.openHost(2)];
    const first = napping(one, library.path, 5);
    const second = napping(two, library.path, 5);
    const rounds = [first.program.run({ active: [0], ...all }), second.program.run({ active: [0], ...all })];
    one.close();
    await Promise.all(rounds);
    await second.program.run({ active: [0], ...all });
    expect([...downloadInts(two, second.count)]).toEqual([2]);
    two.close();
  });

  it('can be left to the end of the process, and happens many times', () => {
    for (let i = 0; i < 200; i++) {
      const device = native.openHost(1 + (i % 3));
      const code = device.load(library.path, 'nothing');
      device.createProgram([word(code, slot({ operands: [whole(device.allocate(100))] }))]);
      if (i % 2 === 0) device.close();
    }
  });
});

/** Runs a script in a Node of its own, where it may end as it likes; gives what it printed. */
function runNode(script: string, ...flags: string[]): string {
  const file = join(library.folder, `script-${Math.random().toString(36).slice(2)}.cjs`);
  const prelude = `
    const native = require(${JSON.stringify(join(root, 'build/Release/wideword.node'))});
    const library = ${JSON.stringify(library.path)};
    const all = { active: [0], writes: [], reads: [] };
    function nap(device, milliseconds) {
      const buffer = device.allocate(64);
      const slot = { tenant: 0, body: 0, begin: 0, end: 1, blocks: 1, sizes: [milliseconds] };
      slot.operands = [{ buffer, offset: 0, bytes: 64 }];
      return device.createProgram([{ code: device.load(library, 'nap'), threads: 1, slots: [slot] }]);
    }
  `;
  writeFileSync(file, prelude + script);
  return execFileSync(process.execPath, [...flags, file], { encoding: 'utf8', timeout: 60_000 });
}

// Several Nodes are started; sanitizers make that slow.
describe('a process', { timeout: 60_000 }, () => {
  it('ends by itself with devices open, after the rounds in flight', () => {
    const script = `
      const device = native.openHost(2);
      nap(device, 1);
      nap(native.openHost(2), 50).run(all).then(() => console.log('ran'));`;
    expect(runNode(script)).toBe('ran\n');
  });

  it('exits at once with rounds in flight', () => {
    const script = `
      const program = nap(native.openHost(3), 100);
      for (let i = 0; i < 100; i++) program.run(all);
      setTimeout(() => { console.log('exit'); process.exit(0); }, 20);`;
    expect(runNode(script)).toBe('exit\n');
  });

  it('collects handles in any order, with rounds in flight', () => {
    const script = `
      let settled = 0;
      function leave(i) {
        const device = native.openHost(1 + i % 2);
        const program = nap(device, i % 5);
        const data = new Uint8Array(64);
        const buffer = device.allocate(64);
        program.run({ active: [0], writes: [{ buffer, offset: 0, data }], reads: [{ buffer, offset: 0, data }] })
          .then(() => settled++);
        if (i % 3 === 0) program.close();
        if (i % 7 === 0) device.close();
      }
      (async () => {
        for (let i = 0; i < 300; i++) {
          leave(i);
          if (i % 10 === 0) { gc(); await new Promise(setImmediate); gc(); }
        }
        while (settled < 300) { gc(); await new Promise((wake) => setTimeout(wake, 5)); }
        gc();
        const threads = () => require('fs').readdirSync('/proc/self/task').length;
        const native_threads = threads();
        for (let i = 0; i < 20; i++) { gc(); await new Promise((wake) => setTimeout(wake, 5)); }
        console.log(settled, threads() < 40 ? 'few threads' : threads());
      })();`;
    expect(runNode(script, '--expose-gc')).toBe('300 few threads\n');
  });

  it('uses the addon in worker threads, also ones that are terminated', () => {
    const script = `
      const { Worker, isMainThread, parentPort } = require('worker_threads');
      if (isMainThread) {
        const program = nap(native.openHost(1), 1);
        const workers = Array.from({ length: 8 }, () => new Worker(__filename));
        let ready = 0;
        for (const worker of workers) worker.on('message', async () => {
          if (++ready < workers.length) return;
          await Promise.all(workers.map((other) => other.terminate()));
          await program.run(all);
          console.log('main still runs');
        });
      } else {
        const program = nap(native.openHost(2), 3);
        const forever = () => program.run(all).then(forever);
        for (let i = 0; i < 4; i++) forever();
        native.compileCuda('__global__ void f() {}', 'sm_90').catch(() => {});
        program.run(all).then(() => parentPort.postMessage('ready'));
      }`;
    for (let i = 0; i < 3; i++) expect(runNode(script)).toBe('main still runs\n');
  });
});
