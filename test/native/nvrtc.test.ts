import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadNative } from '../../runtime/native.ts';
import { root } from './support.ts';

const native = loadNative();
const { nvrtc } = native.probe();
const skipped = nvrtc.problem ? ` (skipped: ${nvrtc.problem})` : '';

const slotHeader = readFileSync(join(root, 'codegen/prelude/slot.h'), 'utf8');
const kernel = `${slotHeader}
extern "C" __global__ void addRows(const __grid_constant__ WordLaunch launch) {
  const unsigned slot = launch.block_slot[blockIdx.x];
  if (slot == kIdleBlock) return;
  const SlotRow& row = launch.rows[slot];
  const float* a = (const float*)row.operand[0];
  float* b = (float*)row.operand[1];
  for (unsigned at = row.begin + (blockIdx.x - row.first_block); at < row.end; at += row.blocks) {
    const int i = at * blockDim.x + threadIdx.x;
    if (i < row.size[0]) b[i] = a[i] * 3.0f + b[i];
  }
}
`;

describe('probe', () => {
  it('says what there is, or in one line why not', () => {
    const probe = native.probe();
    expect(Object.keys(probe).sort()).toEqual(['cuda', 'nvrtc']);
    expect(Array.isArray(probe.cuda.devices)).toBe(true);
    for (const part of [probe.cuda, probe.nvrtc]) {
      if (part.problem !== undefined) expect(part.problem).toMatch(/^[^\n]{10,}$/);
    }
    if (!probe.cuda.problem) {
      expect(probe.cuda.driver).toMatch(/^\d+\.\d+$/);
      for (const device of probe.cuda.devices) expect(device.target).toMatch(/^sm_\d+$/);
    }
    if (!probe.nvrtc.problem) {
      expect(probe.nvrtc.path).toMatch(/libnvrtc/);
      expect(probe.nvrtc.version).toMatch(/^\d+\.\d+$/);
    }
  });

  it('blames WIDEWORD_NVRTC when NVRTC is not there', () => {
    const script = `
      const native = require(${JSON.stringify(join(root, 'build/Release/wideword.node'))});
      console.log(native.probe().nvrtc.problem);
      native.compileCuda('', 'sm_90').catch((error) => console.log(error.message));`;
    const run = (place: string) =>
      execFileSync(process.execPath, ['-e', script], {
        encoding: 'utf8',
        env: { ...process.env, WIDEWORD_NVRTC: place },
      });
    const problem = 'NVRTC was not found at WIDEWORD_NVRTC=/nowhere/at/all';
    expect(run('/nowhere/at/all')).toBe(`${problem}\n${problem}\n`);
    expect(run(import.meta.filename)).toMatch(/nvrtc.test.ts: .*(invalid ELF header|file too short)/);
  });
});

describe(`compileCuda${skipped}`, () => {
  const itCompiles = it.skipIf(nvrtc.problem);

  itCompiles('makes a cubin of a kernel that has the slot table', async () => {
    const { image, log } = await native.compileCuda(kernel, 'sm_90');
    expect(Buffer.from(image.subarray(0, 4)).toString('latin1')).toBe('\x7fELF');
    expect(Buffer.from(image).toString('latin1')).toContain('addRows');
    expect(log).toMatch(/Used \d+ registers/);
  });

  itCompiles('makes PTX, and contracts no multiply and add', async () => {
    const { image } = await native.compileCuda(kernel, 'compute_90');
    const text = Buffer.from(image).toString('latin1');
    expect(text).toMatch(/\.target sm_90/);
    expect(text).toMatch(/mul\.(rn\.)?f32/);
    expect(text).not.toContain('fma');
  });

  itCompiles('gives the same bytes each time, several at once', async () => {
    const images = await Promise.all(Array.from({ length: 6 }, () => native.compileCuda(kernel, 'sm_90')));
    for (const { image } of images)
      expect(Buffer.from(image).equals(Buffer.from(images[0]!.image))).toBe(true);
  });

  itCompiles('explains an error in one line, then in full', async () => {
    const failing = native.compileCuda('extern "C" __global__ void f() {\n  int x = ;\n}', 'sm_90');
    const error = await failing.then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    expect(error).toBeInstanceOf(Error);
    const lines = error!.message.split('\n');
    expect(lines[0]).toMatch(
      /^CUDA compilation for sm_90 failed: NVRTC_ERROR_COMPILATION: .*\(2\): error: expected an expression$/,
    );
    expect(lines[1]).toMatch(/\(2\): error: expected an expression/);
  });

  itCompiles('refuses a target that NVRTC does not know', async () => {
    await expect(native.compileCuda(kernel, 'sm_12')).rejects.toThrow(
      /^CUDA compilation for sm_12 failed: .*\n.*arch/,
    );
  });

  itCompiles('includes nothing', async () => {
    await expect(native.compileCuda('#include <vector>\n', 'sm_90')).rejects.toThrow(/vector/);
  });
});
