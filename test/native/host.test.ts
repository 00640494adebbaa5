import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative, type NativeDevice } from '../../runtime/native.ts';
import {
  all,
  buildKernels,
  bytesOf,
  downloadFloats,
  downloadInts,
  napping,
  perBlock,
  slot,
  transfer,
  upload,
  whole,
  word,
} from './support.ts';

const native = loadNative();
let library: ReturnType<typeof buildKernels>;
beforeAll(() => {
  library = buildKernels();
});
afterAll(() => library.remove());

function withHost<T>(threads: number, body: (device: NativeDevice) => T): T {
  const device = native.openHost(threads);
  const close = () => device.close();
  const result = body(device);
  if (result instanceof Promise) return result.finally(close) as T;
  close();
  return result;
}

/** Three tenants of different lengths: c = a + b, then d = reversed c. */
function addAndReverse(device: NativeDevice, blocks: (virtual: number) => number) {
  const add = device.load(library.path, 'add');
  const reverse = device.load(library.path, 'reverse');
  const tenants = [1000, 77, 513].map((length, tenant) => {
    const a = Float32Array.from({ length }, (_, i) => Math.sin(i + tenant));
    const b = Float32Array.from({ length }, (_, i) => i * 0.1 * (tenant + 1));
    const sum = a.map((value, i) => value + b[i]!);
    return {
      expected: sum.toReversed(),
      buffers: [
        upload(device, a),
        upload(device, b),
        device.allocate(length * 4),
        device.allocate(length * 4),
      ],
      end: Math.ceil(length / perBlock),
      length,
    };
  });
  const slots = (operands: readonly number[]) =>
    tenants.map(({ buffers, end, length }, tenant) =>
      slot({
        tenant,
        end,
        blocks: blocks(end),
        operands: operands.map((i) => whole(buffers[i]!)),
        sizes: [length],
      }),
    );
  const program = device.createProgram([word(add, ...slots([0, 1, 2])), word(reverse, ...slots([2, 3]))]);
  return { program, tenants };
}

describe('rounds on the host device', () => {
  it('describes itself', () =>
    withHost(3, (device) => {
      expect({ ...device }).toEqual({ kind: 'host', name: 'host, 3 threads', target: 'host', units: 3 });
      expect(device.allocate(5).bytes).toBe(5);
      expect(device.load(library.path, 'add').name).toBe('add');
    }));

  for (const threads of [1, 2, 5]) {
    for (const [name, blocks] of [
      ['a physical block for each virtual one', (virtual: number) => virtual],
      ['a third of the blocks', (virtual: number) => Math.ceil(virtual / 3)],
      ['one block a slot', () => 1],
    ] as const) {
      it(`gives the same bits with ${threads} threads and ${name}`, () =>
        withHost(threads, async (device) => {
          const { program, tenants } = addAndReverse(device, blocks);
          const { milliseconds } = await program.run({ active: [0, 1, 2], ...all });
          expect(milliseconds).toBeGreaterThan(0);
          for (const { buffers, expected } of tenants)
            expect(downloadFloats(device, buffers[3]!)).toEqual(expected);
        }));
    }
  }

  it('waits for a whole word before the next one', () =>
    withHost(2, async (device) => {
      // Many rounds of dependent words; a missing barrier shows sooner or later.
      const length = 4096;
      const [add, reverse] = ['add', 'reverse'].map((entry) => device.load(library.path, entry));
      const ones = upload(device, new Float32Array(length).fill(1));
      const a = upload(
        device,
        Float32Array.from({ length }, (_, i) => i),
      );
      const b = device.allocate(length * 4);
      const common = { end: length / perBlock, blocks: 100, sizes: [length] };
      const steps = Array.from({ length: 100 }, () => [
        word(add!, slot({ ...common, operands: [a, ones, b].map(whole) })),
        word(reverse!, slot({ ...common, operands: [b, a].map(whole) })),
      ]).flat();
      const program = device.createProgram(steps);
      for (let round = 0; round < 5; round++) await program.run({ active: [0], ...all });
      expect(downloadFloats(device, a)).toEqual(Float32Array.from({ length }, (_, i) => i + 500));
    }));

  it('runs only the active tenants', () =>
    withHost(2, async (device) => {
      const { program, tenants } = addAndReverse(device, (virtual) => virtual);
      for (const active of [[1], [], [2, 0], [2, 2, 0, 0], [0, 1, 2]]) {
        const zero = tenants.map(({ length }) => new Float32Array(length));
        for (const [i, { buffers }] of tenants.entries()) device.write(transfer(buffers[3]!, zero[i]!));
        await program.run({ active, ...all });
        for (const [i, { buffers, expected }] of tenants.entries()) {
          expect(downloadFloats(device, buffers[3]!)).toEqual(active.includes(i) ? expected : zero[i]);
        }
      }
    }));

  it('deals all blocks of a word to the active tenants, within their virtual blocks', () =>
    withHost(1, async (device) => {
      const visit = device.load(library.path, 'visit');
      const sizes = [
        { end: 100, blocks: 10 },
        { end: 100, blocks: 20 },
        { end: 33, blocks: 30 },
      ];
      const tenants = sizes.map(({ end }) => device.allocate(end * 4));
      const physical = device.allocate(60 * 4);
      const program = device.createProgram([
        word(
          visit,
          ...sizes.map((size, tenant) =>
            slot({ ...size, tenant, operands: [whole(tenants[tenant]!), whole(physical)] }),
          ),
        ),
      ]);
      const cases: [number[], number[]][] = [
        [
          [0, 1, 2],
          [10, 20, 30],
        ],
        [[0], [60, 0, 0]],
        [[2], [0, 0, 33]],
        [
          [0, 1],
          [20, 40, 0],
        ],
        // 45 of 60 would be tenant 2's share, which can use 33.
        [
          [0, 2],
          [27, 0, 33],
        ],
        [
          [1, 2],
          [0, 27, 33],
        ],
      ];
      for (const [active, dealt] of cases) {
        for (const buffer of [...tenants, physical])
          device.write({ buffer, offset: 0, data: new Uint8Array(buffer.bytes) });
        await program.run({ active, ...all });
        const used = [...downloadInts(device, physical)];
        expect(sizes.map((_, tenant) => used.filter((mark) => mark === tenant + 1).length)).toEqual(dealt);
        for (const [tenant, buffer] of tenants.entries()) {
          // Every virtual block of an active tenant exactly once.
          expect(new Set(downloadInts(device, buffer))).toEqual(new Set([active.includes(tenant) ? 1 : 0]));
        }
      }
    }));

  it('runs a slice of the virtual blocks', () =>
    withHost(2, async (device) => {
      const visits = device.allocate(64 * 4);
      const physical = device.allocate(64 * 4);
      const visit = device.load(library.path, 'visit');
      const slice = slot({ begin: 10, end: 30, blocks: 7, operands: [whole(visits), whole(physical)] });
      await device.createProgram([word(visit, slice)]).run({ active: [0], ...all });
      expect([...downloadInts(device, visits)]).toEqual(
        Array.from({ length: 64 }, (_, i) => (i >= 10 && i < 30 ? 1 : 0)),
      );
    }));

  it('fills the slot rows as slot.h says', () =>
    withHost(1, async (device) => {
      const rows = [device.allocate(512), device.allocate(512)];
      const dump = device.load(library.path, 'dump');
      const program = device.createProgram([
        word(
          dump,
          slot({ tenant: 4, end: 3, blocks: 2, operands: [whole(rows[0]!)], sizes: [1] }),
          slot({
            tenant: 0xffffffff,
            body: 3,
            begin: 5,
            end: 9,
            blocks: 4,
            operands: [whole(rows[1]!), { buffer: rows[1]!, offset: 32, bytes: 480, constant: true }],
            sizes: [-1, 7, 2 ** 31 - 1, -(2 ** 31)],
          }),
        ),
      ]);
      await program.run({ active: [4, 0xffffffff], ...all });
      const data = new Uint8Array(352);
      device.read({ buffer: rows[1]!, offset: 0, data });
      const view = new DataView(data.buffer);
      const head = Array.from({ length: 8 }, (_, i) => view.getUint32(i * 4, true));
      expect(head).toEqual([2, 4, 5, 9, 3, 0xffffffff, 0b10, 0]);
      expect(view.getBigUint64(40, true) - view.getBigUint64(32, true)).toBe(32n);
      expect(view.getBigUint64(32, true) % 64n).toBe(0n);
      const sizes = Array.from({ length: 48 }, (_, i) => view.getInt32(32 + 16 * 8 + i * 4, true));
      expect(sizes).toEqual([-1, 7, 2 ** 31 - 1, -(2 ** 31), ...new Array(44).fill(0)]);
    }));

  it('copies writes in at the call and reads out at the end', () =>
    withHost(2, async (device) => {
      const { program, tenants } = addAndReverse(device, (virtual) => virtual);
      const { buffers, length } = tenants[1]!;
      const input = new Float32Array(length).fill(2);
      const output = new Float32Array(length);
      const running = program.run({
        active: [1],
        writes: [transfer(buffers[0]!, input), transfer(buffers[1]!, input)],
        reads: [transfer(buffers[3]!, output)],
      });
      input.fill(100); // the array is the caller's again
      await running;
      expect(output).toEqual(new Float32Array(length).fill(4));
      const part = new Float32Array(3);
      await program.run({
        active: [],
        writes: [transfer(buffers[3]!, Float32Array.of(7, 8, 9), 8)],
        reads: [transfer(buffers[3]!, part, 12), { buffer: buffers[3]!, offset: 0, data: new Uint8Array(0) }],
      });
      expect(part).toEqual(Float32Array.of(8, 9, 4));
    }));

  it('runs rounds of one device in the order of the calls', () =>
    withHost(2, async (device) => {
      const { program, count } = napping(device, library.path, 2);
      const seen = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const data = new Int32Array(1);
          await program.run({ active: [0], writes: [], reads: [transfer(count, data)] });
          return data[0];
        }),
      );
      expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      // A plain read comes in turn as well.
      const last = program.run({ active: [0], ...all });
      expect([...downloadInts(device, count)]).toEqual([9]);
      await last;
    }));

  it('times rounds one by one', () =>
    withHost(2, async (device) => {
      const { program, count } = napping(device, library.path, 3);
      const times = await program.time([0], 5);
      expect(times).toBeInstanceOf(Float64Array);
      expect(times).toHaveLength(5);
      for (const time of times) expect(time).toBeGreaterThanOrEqual(2.9);
      expect([...downloadInts(device, count)]).toEqual([5]);
      expect([...(await program.time([], 2))].every((time) => time < 3)).toBe(true);
    }));

  it('times words one by one', () =>
    withHost(2, async (device) => {
      const nap = device.load(library.path, 'nap');
      const counts = [1, 2].map(() => device.allocate(4));
      const words = [6, 1].map((milliseconds, n) =>
        word(nap, slot({ tenant: n, operands: [whole(counts[n]!)], sizes: [milliseconds] })),
      );
      const program = device.createProgram(words);
      const times = await program.timeWords([0, 1], 3);
      expect(times).toHaveLength(6);
      for (const round of [0, 2, 4]) {
        expect(times[round]).toBeGreaterThanOrEqual(5.9);
        expect(times[round + 1]).toBeGreaterThanOrEqual(0.9);
      }
      expect(times[0]! + times[2]! + times[4]!).toBeGreaterThan(times[1]! + times[3]! + times[5]!);
      expect((await program.timeWords([1], 1))[0]).toBeLessThan(5.9);
      expect(counts.map((c) => downloadInts(device, c)[0])).toEqual([3, 4]);
    }));

  it.each([1, 3, 4])('times several programs in turn and side by side, on %d threads', (threads) =>
    withHost(threads, async (device) => {
      const [first, second, third] = [1, 2, 3].map(() => napping(device, library.path, 20));
      const programs = [first!.program, second!.program, third!.program];
      const inTurn = await device.time(programs, 'in turn', 2);
      const sideBySide = await device.time(programs, 'side by side', 2);
      expect(inTurn).toHaveLength(2);
      for (const time of inTurn) expect(time).toBeGreaterThanOrEqual(59);
      for (const time of sideBySide) expect(time).toBeGreaterThanOrEqual(19);
      // Naps take no processor, so that three of them at once take as long as one.
      expect(Math.min(...sideBySide)).toBeLessThan(55);
      expect([first, second, third].map((p) => downloadInts(device, p!.count)[0])).toEqual([4, 4, 4]);
    }));

  it('side by side, each program computes what it does alone', () =>
    withHost(2, async (device) => {
      const sets = [1, 2, 3].map(() => addAndReverse(device, (virtual) => virtual));
      for (let i = 0; i < 20; i++)
        await device.time(
          sets.map((s) => s.program),
          'side by side',
          1,
        );
      for (const { tenants } of sets)
        for (const { buffers, expected } of tenants)
          expect(downloadFloats(device, buffers[3]!)).toEqual(expected);
    }));

  it.each([1, 3])('traces when every block ran, and on which of %d threads', (threads) =>
    withHost(threads, async (device) => {
      const { program, tenants } = addAndReverse(device, (virtual) => Math.ceil(virtual / 2));
      const blocks = tenants.flatMap(({ end }, slot) => Array<number>(Math.ceil(end / 2)).fill(slot));
      const { milliseconds, programs } = await device.trace([program], 'in turn');
      expect(programs).toHaveLength(1);
      const [add, reverse] = programs[0]!;
      expect(programs[0]).toHaveLength(2);
      for (const { begin, end, unit, slot: slots } of [add!, reverse!]) {
        expect([...slots]).toEqual(blocks);
        expect([begin.length, end.length, unit.length]).toEqual(Array(3).fill(blocks.length));
        begin.forEach((at, i) => void expect(end[i]).toBeGreaterThanOrEqual(at));
        expect(Math.max(...unit)).toBeLessThan(threads);
      }
      // A word begins when all blocks of the one before have ended; times count from the first block.
      expect(Math.min(...add!.begin)).toBe(0);
      expect(Math.min(...reverse!.begin)).toBeGreaterThanOrEqual(Math.max(...add!.end));
      expect(Math.max(...reverse!.end)).toBeLessThanOrEqual(milliseconds * 1e6);
      for (const { buffers, expected } of tenants)
        expect(downloadFloats(device, buffers[3]!)).toEqual(expected);
      // It runs all tenants, whoever ran last; and other rounds note nothing.
      await program.run({ active: [1], ...all });
      expect([...(await device.trace([program], 'in turn')).programs[0]![1]!.slot]).toEqual(blocks);
    }));

  it('traces programs in turn on the same threads, and side by side on threads of their own', () =>
    withHost(2, async (device) => {
      const programs = [1, 2, 3].map(() => napping(device, library.path, 10).program);
      const spans = async (together: 'in turn' | 'side by side') => {
        const trace = await device.trace(programs, together);
        return trace.programs.map(([nap]) => ({
          begin: nap!.begin[0]!,
          end: nap!.end[0]!,
          unit: nap!.unit[0]!,
        }));
      };
      const inTurn = await spans('in turn');
      expect(inTurn.map((s) => s.unit)).toEqual([0, 0, 0]);
      inTurn.forEach((s, i) => {
        expect(s.end - s.begin).toBeGreaterThanOrEqual(9.9e6);
        expect(s.begin).toBeGreaterThanOrEqual(inTurn[i - 1]?.end ?? 0);
      });
      const sideBySide = await spans('side by side');
      expect(sideBySide.map((s) => s.unit)).toEqual([0, 1, 2]);
      // Naps take no processor, so they are under way together.
      expect(Math.max(...sideBySide.map((s) => s.begin))).toBeLessThan(
        Math.min(...sideBySide.map((s) => s.end)),
      );
    }));

  it('leaves blocks out that note nothing', () =>
    withHost(2, async (device) => {
      const program = device.createProgram([word(device.load(library.path, 'nothing'), slot({}))]);
      const { programs } = await device.trace([program], 'in turn');
      expect(programs[0]![0]).toEqual({
        begin: new Float64Array(),
        end: new Float64Array(),
        unit: new Uint32Array(),
        slot: new Uint32Array(),
      });
    }));

  it('runs several devices at once', async () => {
    const devices = Array.from({ length: 4 }, () => native.openHost(3));
    const results = await Promise.all(
      devices.map(async (device) => {
        const { program, tenants } = addAndReverse(device, (virtual) => Math.ceil(virtual / 2));
        for (let i = 0; i < 50; i++) await program.run({ active: [0, 1, 2], ...all });
        return tenants.map(({ buffers, expected }) => ({
          got: downloadFloats(device, buffers[3]!),
          expected,
        }));
      }),
    );
    for (const device of devices) device.close();
    for (const { got, expected } of results.flat()) expect(got).toEqual(expected);
  });
});

describe('memory on the host device', () => {
  it('is zero when allocated, also where other data was before', () =>
    withHost(1, (device) => {
      const sizes = [1, 63, 64, 65, 4096, 1 << 20];
      for (let round = 0; round < 20; round++) {
        for (const bytes of sizes) {
          const buffer = device.allocate(bytes);
          const data = new Uint8Array(bytes).fill(1);
          device.read({ buffer, offset: 0, data });
          expect(data.every((value) => value === 0)).toBe(true);
          device.write({ buffer, offset: 0, data: data.fill(255) });
          device.release(buffer);
        }
      }
    }));

  it('is written and read in part', () =>
    withHost(1, (device) => {
      const buffer = device.allocate(10);
      device.write({ buffer, offset: 3, data: Uint8Array.of(1, 2, 3) });
      device.write({ buffer, offset: 9, data: Buffer.from([9]) });
      const back = new Uint8Array(10);
      device.read({ buffer, offset: 0, data: back });
      expect([...back]).toEqual([0, 0, 0, 1, 2, 3, 0, 0, 0, 9]);
      device.read({ buffer, offset: 4, data: back.subarray(1, 3) });
      expect([...back]).toEqual([0, 2, 3, 1, 2, 3, 0, 0, 0, 9]);
      device.write({ buffer, offset: 10, data: new Uint8Array(0) });
      expect(bytesOf(new Float32Array(2))).toHaveLength(8);
    }));

  it('stays as long as a program uses it', () =>
    withHost(2, async (device) => {
      const { program, tenants } = addAndReverse(device, (virtual) => virtual);
      const output = tenants[0]!.buffers[3]!;
      const copy = device.createProgram([
        word(
          device.load(library.path, 'reverse'),
          slot({
            end: 63,
            blocks: 5,
            operands: [whole(output), whole(tenants[0]!.buffers[2]!)],
            sizes: [1000],
          }),
        ),
      ]);
      for (const { buffers } of tenants) for (const buffer of buffers.slice(0, 2)) device.release(buffer);
      device.release(tenants[0]!.buffers[2]!);
      for (let i = 0; i < 10; i++) device.allocate(4000); // would take the place of freed memory
      await program.run({ active: [0, 1, 2], ...all });
      expect(downloadFloats(device, output)).toEqual(tenants[0]!.expected);
      program.close();
      await copy.run({ active: [0], ...all });
      copy.close();
      expect(downloadFloats(device, output)).toEqual(tenants[0]!.expected);
    }));
});
