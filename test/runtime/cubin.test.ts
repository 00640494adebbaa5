/**
 * @file Resources read from cubins: what NVRTC makes, both layouts of the format by hand, and files that are damaged everywhere.
 */
import { describe, expect, it } from 'vitest';
import { cubinResources } from '../../runtime/cubin.ts';
import { loadNative } from '../../runtime/native.ts';

interface Part {
  readonly name: string;
  readonly type: number;
  readonly data?: Buffer;
  readonly size?: number;
  readonly link?: number;
  readonly info?: number;
}

/** An ELF file with these sections behind the empty one and the one of names. */
function elf(parts: readonly Part[]): Buffer {
  const all: Part[] = [{ name: '', type: 0 }, { name: '.shstrtab', type: 3 }, ...parts];
  const names = Buffer.from(all.map((p) => `${p.name}\0`).join(''));
  const nameAt = (n: number): number => all.slice(0, n).reduce((at, p) => at + p.name.length + 1, 0);
  const data = all.map((p, n) => (n === 1 ? names : (p.data ?? Buffer.alloc(0))));
  const head = Buffer.alloc(64);
  head.writeUInt32LE(0x464c457f, 0);
  head.writeUInt16BE(0x0201, 4);
  const table = 64 + data.reduce((sum, d) => sum + d.length, 0);
  head.writeBigUInt64LE(BigInt(table), 0x28);
  head.writeUInt16LE(64, 0x3a);
  head.writeUInt16LE(all.length, 0x3c);
  head.writeUInt16LE(1, 0x3e);
  let at = 64;
  const headers = all.map((p, n) => {
    const h = Buffer.alloc(64);
    h.writeUInt32LE(nameAt(n), 0);
    h.writeUInt32LE(p.type, 4);
    h.writeBigUInt64LE(BigInt(at), 24);
    h.writeBigUInt64LE(BigInt(p.size ?? data[n]!.length), 32);
    h.writeUInt32LE(p.link ?? 0, 40);
    h.writeUInt32LE((p.info ?? 0) >>> 0, 44);
    at += data[n]!.length;
    return h;
  });
  return Buffer.concat([head, ...data, ...headers]);
}

const words = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer);
/** An attribute with a value behind it: of a symbol. */
const attribute = (kind: number, symbol: number, value: number): Buffer =>
  Buffer.concat([Buffer.from([4, kind, 8, 0]), words(symbol, value)]);
/** One whose value is in its head. */
const short = Buffer.from([3, 0x1b, 255, 0]);

/** As compilers since CUDA 13 write them: registers are an attribute, shared memory includes what the system takes. */
const fresh = elf([
  { name: '.strtab', type: 3, data: Buffer.from('\0other\0kernel\0') },
  { name: '.symtab', type: 2, data: Buffer.concat([0, 1, 7].map((n) => words(n, 0, 0, 0, 0, 0))), link: 2 },
  {
    name: '.nv.info',
    type: 0x70000000,
    data: Buffer.concat([
      attribute(0x2f, 1, 99),
      short,
      attribute(0x2f, 2, 72),
      attribute(0x11, 2, 48),
      attribute(0x11, 77, 1),
    ]),
  },
  { name: '.text.kernel', type: 1 },
  { name: '.nv.shared.reserved.0', type: 8 },
  // A section of this type takes no room in the file.
  { name: '.nv.shared.kernel', type: 8, size: 5120 },
]);
/** As older ones do: in the upper byte of the code's section. */
const older = elf([
  { name: '.text.kernel', type: 1, info: 0xa800000d },
  { name: '.nv.shared.kernel', type: 8, size: 4096 },
]);

describe('resources of a cubin', () => {
  it('are read from either layout', () => {
    expect(cubinResources(fresh, 'kernel')).toEqual({ registers: 72, sharedBytes: 4096, localBytes: 48 });
    expect(cubinResources(older, 'kernel')).toEqual({ registers: 168, sharedBytes: 4096, localBytes: 0 });
    // At any place of a larger buffer.
    const moved = Buffer.concat([Buffer.alloc(3), older]).subarray(3);
    expect(cubinResources(moved, 'kernel').registers).toBe(168);
  });

  it('are of a kernel that is there', () => {
    expect(() => cubinResources(fresh, 'other')).toThrow(new RangeError('the cubin has no kernel other'));
    expect(() => cubinResources(Buffer.from('no cubin at all'.repeat(9)), 'kernel')).toThrow(
      'not a cubin: no ELF file of 64 bits',
    );
  });

  it('of a damaged file are numbers or a RangeError, never anything else', () => {
    for (const whole of [fresh, older]) {
      for (let length = 0; length < whole.length; length++)
        expect(() => cubinResources(whole.subarray(0, length), 'kernel')).toThrow(RangeError);
      for (let at = 0; at < whole.length; at++)
        for (const value of [0, 1, 0x7f, 0xff]) {
          const damaged = Buffer.from(whole);
          damaged[at] = value;
          try {
            const { registers, sharedBytes, localBytes } = cubinResources(damaged, 'kernel');
            for (const n of [registers, sharedBytes, localBytes]) expect(n).toBeGreaterThanOrEqual(0);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        }
    }
  });

  const { problem } = loadNative().probe().nvrtc;
  const title = problem === undefined ? '' : ` (skipped: ${problem})`;
  it.skipIf(problem !== undefined)(`are what NVRTC gave the code${title}`, async () => {
    const source = `extern "C" __global__ void __launch_bounds__(128) kernel(float* x, int n) {
      __shared__ float shared[1024];
      float local[100];
      for (int i = 0; i < 100; i++) local[i] = x[i];
      shared[threadIdx.x] = local[n];
      __syncthreads();
      x[threadIdx.x] = shared[(threadIdx.x * 7 + n) % 128] + local[n * 3 % 100];
    }
    extern "C" __global__ void none(float* x) { x[0] = 1; }`;
    for (const target of ['sm_80', 'sm_90']) {
      const { image } = await loadNative().compileCuda(source, target);
      const found = cubinResources(image, 'kernel');
      expect(found).toMatchObject({ sharedBytes: 4096, localBytes: 400 });
      expect(found.registers).toBeGreaterThanOrEqual(8);
      expect(found.registers).toBeLessThanOrEqual(255);
      expect(cubinResources(image, 'none')).toMatchObject({ sharedBytes: 0, localBytes: 0 });
    }
  });
});
