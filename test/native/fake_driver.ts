/**
 * @file The CUDA path against a stand-in for the driver (fake_cuda/), which checks every handle, address and the order of calls, and counts
 * what is left at the end. In a process of its own, as a process opens the driver once.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './support.ts';

export interface FakeDriver {
  readonly folder: string;
  /** Runs the script behind the prelude below; gives what it printed, and what the driver wrote in its log. */
  run(script: string, more?: Readonly<Record<string, string>>): { printed: string; log: string };
  remove(): void;
}

const prelude = `
  const native = require(${JSON.stringify(join(root, 'build/Release/wideword.node'))});
  const image = Buffer.from('.version 8.0 // the fake driver knows the entries');
  const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const whole = (buffer) => ({ buffer, offset: 0, bytes: buffer.bytes });
  const print = (text) => console.log(text);
  function failure(act) { try { act(); return 'no error'; } catch (error) { return error.message; } }
  function upload(device, values) {
    const buffer = device.allocate(values.length * 4);
    device.write({ buffer, offset: 0, data: bytes(Float32Array.from(values)) });
    return buffer;
  }
  function download(device, buffer) {
    const array = new Float32Array(buffer.bytes / 4);
    device.read({ buffer, offset: 0, data: bytes(array) });
    return [...array].join();
  }
  function setUp(device, entry = 'add') {
    const code = device.load(image, entry);
    const tenants = [0, 1].map((tenant) => {
      const [a, b, c] = [[1, 2, 3, 4], [10, 20, 30, 40], [0, 0, 0, 0]].map((values) =>
        upload(device, values.map((value) => value * (tenant + 1))));
      const operands = [a, b, c].map(whole);
      return { a, b, c, slot: { tenant, body: 0, begin: 0, end: 4, blocks: 1 + tenant, operands, sizes: [4] } };
    });
    const word = { code, threads: 128, slots: tenants.map(({ slot }) => slot) };
    return { tenants, code, word, program: device.createProgram([word, word]) };
  }
  (async () => {`;

/** Builds the stand-in in a folder of its own; call `remove` at the end. */
export function buildFakeDriver(): FakeDriver {
  const folder = mkdtempSync(join(tmpdir(), 'wideword-cuda-'));
  const source = join(root, 'test/native/fake_cuda/fake_cuda.cc');
  const flags = ['-std=c++17', '-Wno-psabi', '-fvisibility=hidden', '-shared', '-fPIC', '-g', '-I', root];
  execFileSync('g++', [...flags, '-o', join(folder, 'libfake.so'), source]);
  // Without what older drivers lack.
  execFileSync('g++', [...flags, '-DFAKE_CUDA_OLD', '-o', join(folder, 'libold.so'), source]);
  return {
    folder,
    run(script, more = {}) {
      const log = join(folder, `log-${Math.random().toString(36).slice(2)}`);
      const file = `${log}.cjs`;
      writeFileSync(file, `${prelude}${script}})().catch((error) => { console.log('unexpected', error); });`);
      const fake = { WIDEWORD_LIBCUDA: join(folder, 'libfake.so'), FAKE_CUDA_LOG: log };
      const env = { ...process.env, ...fake, ...more };
      const options = { encoding: 'utf8', env, timeout: 60_000 } as const;
      const printed = execFileSync(process.execPath, ['--expose-gc', file], options);
      return { printed, log: existsSync(log) ? readFileSync(log, 'utf8') : '' };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
