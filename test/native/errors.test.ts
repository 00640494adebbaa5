import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  loadNative,
  type NativeBuffer,
  type NativeDevice,
  type NativeFunction,
  type NativeProgram,
} from '../../runtime/native.ts';
import { all, buildKernels, slot, whole, word } from './support.ts';

const native = loadNative();
// biome-ignore lint/suspicious/noExplicitAny: everything in here is given values that the types forbid.
type Any = any;

let library: ReturnType<typeof buildKernels>;
let device: NativeDevice;
let other: NativeDevice;
let closed: NativeDevice;
let buffer: NativeBuffer;
let released: NativeBuffer;
let foreign: NativeBuffer;
let orphan: NativeBuffer;
let code: NativeFunction;
let foreignCode: NativeFunction;
let program: NativeProgram;
let closedProgram: NativeProgram;
let orphanProgram: NativeProgram;

beforeAll(() => {
  library = buildKernels();
  writeFileSync(join(library.folder, 'broken.so'), 'no library');
  device = native.openHost(2);
  other = native.openHost(1);
  closed = native.openHost(1);
  buffer = device.allocate(1024);
  released = device.allocate(1024);
  device.release(released);
  foreign = other.allocate(1024);
  code = device.load(library.path, 'nothing');
  foreignCode = other.load(library.path, 'nothing');
  program = device.createProgram([word(code, slot({}))]);
  closedProgram = device.createProgram([word(code, slot({}))]);
  closedProgram.close();
  orphan = closed.allocate(16);
  orphanProgram = closed.createProgram([word(closed.load(library.path, 'nothing'), slot({}))]);
  closed.close();
});
afterAll(() => {
  device.close();
  other.close();
  library.remove();
});

/** Values that are no integer in any range we take. */
const notIntegers: [string, Any][] = [
  ['undefined', undefined],
  ['null', null],
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
  ['a fraction', 1.5],
  ['a string', '1'],
  ['a bigint', 1n],
  ['a boolean', true],
  ['an object', { valueOf: () => 1 }],
  ['an array', [1]],
  ['a symbol', Symbol('1')],
  ['-1', -1],
  ['2^53', 2 ** 53],
  ['1e300', 1e300],
];
const notObjects: [string, Any][] = [
  ['undefined', undefined],
  ['null', null],
  ['a number', 5],
  ['a string', 'x'],
];
const notArrays: [string, Any][] = [
  ...notObjects,
  ['an object', {}],
  ['an array-like', { length: 1, 0: 0 }],
  ['a typed array', new Int32Array(1)],
  ['a proxy', new Proxy([], {})],
];
const notHandles: [string, () => Any][] = [
  ['nothing', () => undefined],
  ['a number', () => 7],
  ['a plain object', () => ({ bytes: 1024, name: 'x' })],
  ['the device', () => device],
  ['a proxy of a buffer', () => new Proxy(buffer, {})],
  ['an heir of a buffer', () => Object.create(buffer)],
  ['a copy of a buffer', () => ({ ...buffer })],
  ['a program', () => program],
  ['a Uint8Array', () => new Uint8Array(1024)],
];
const notBuffers: [string, () => Any][] = [
  ...notHandles,
  ['a function', () => code],
  ['a released buffer', () => released],
  ["another device's buffer", () => foreign],
  ["a closed device's buffer", () => orphan],
];
const notBytes: [string, Any][] = [
  ...notObjects,
  ['an array', [1, 2]],
  ['a Float32Array', new Float32Array(2)],
  ['a Uint8ClampedArray', new Uint8ClampedArray(2)],
  ['a DataView', new DataView(new ArrayBuffer(2))],
  ['an ArrayBuffer', new ArrayBuffer(2)],
];

type Case = [name: string, act: () => unknown, message?: RegExp | undefined];

const transfers = (name: string, act: (transfer: Any) => unknown): Case[] => {
  const good = { offset: 0, data: new Uint8Array(8) };
  return [
    ...notObjects.map(([what, value]): Case => [`${name} of ${what}`, () => act(value)]),
    ...notBuffers.map(
      ([what, value]): Case => [
        `${name} with ${what} as buffer`,
        () => act({ ...good, buffer: value() }),
        /buffer must be/,
      ],
    ),
    ...notIntegers.map(
      ([what, value]): Case => [
        `${name} at ${what}`,
        () => act({ ...good, buffer, offset: value }),
        /offset must be/,
      ],
    ),
    ...notBytes.map(
      ([what, value]): Case => [
        `${name} of data ${what}`,
        () => act({ ...good, buffer, data: value }),
        /data must be a Uint8Array/,
      ],
    ),
    [`${name} past the end`, () => act({ ...good, buffer, offset: 1017 }), /within the buffer's 1024 bytes/],
    [
      `${name} from behind the end`,
      () => act({ ...good, buffer, offset: 1025, data: new Uint8Array(0) }),
      /within/,
    ],
    [`${name} at a huge offset`, () => act({ ...good, buffer, offset: Number.MAX_SAFE_INTEGER }), /within/],
    [`${name} that is too long`, () => act({ buffer, offset: 0, data: new Uint8Array(1025) }), /within/],
    ...['buffer', 'offset', 'data'].map(
      (field): Case => [
        `${name} whose ${field} throws`,
        () => act(trap({ ...good, buffer }, field)),
        /thrown by a getter/,
      ],
    ),
    [
      `${name} to a buffer that a getter releases`,
      () => {
        const temporary = device.allocate(64);
        return act({
          buffer: temporary,
          get offset() {
            device.release(temporary);
            return 0;
          },
          data: new Uint8Array(8),
        });
      },
      /has not been released/,
    ],
    [
      `${name} of data that a getter takes away`,
      () => {
        const data = new Uint8Array(2000);
        return act({
          buffer,
          data,
          get offset() {
            structuredClone(data, { transfer: [data.buffer] });
            return 2000;
          },
        });
      },
      /within/,
    ],
  ];
};

/** An object whose field throws when it is read. */
const trap = (object: object, field: string): Any =>
  Object.defineProperty(object, field, {
    get() {
      throw new Error('thrown by a getter');
    },
  });

const slots = (name: string, parts: Any, message?: RegExp): Case => [
  `a slot with ${name}`,
  () => device.createProgram([word(code, slot(parts))]),
  message,
];
const operand = (name: string, parts: Any, message?: RegExp): Case => [
  `an operand with ${name}`,
  () => device.createProgram([word(code, slot({ operands: [{ buffer, offset: 0, bytes: 16, ...parts }] }))]),
  message,
];

const cases: Record<string, Case[]> = {
  openHost: [
    ...notIntegers.map(
      ([what, value]): Case => [what, () => native.openHost(value), /threads must be an integer/],
    ),
    ['0', () => native.openHost(0), /from 1 to/],
    ['100000', () => native.openHost(100000), /from 1 to/],
  ],
  openCuda: notIntegers.map(([what, value]): Case => [what, () => native.openCuda(value), /ordinal must be/]),
  allocate: [
    ...notIntegers.map(
      ([what, value]): Case => [what, () => device.allocate(value), /bytes must be an integer/],
    ),
    ['0', () => device.allocate(0), /from 1 to/],
    ['more than there is', () => device.allocate(2 ** 50), /cannot allocate 1125899906842624 bytes/],
    ['all there is of numbers', () => device.allocate(Number.MAX_SAFE_INTEGER), /cannot allocate/],
    ['on a closed device', () => closed.allocate(1), /the device is closed/],
  ],
  release: [
    ...notBuffers.map(([what, value]): Case => [what, () => device.release(value()), /buffer must be/]),
    ['on a closed device', () => closed.release(orphan), /the device is closed/],
  ],
  write: [
    ...transfers('a write', (transfer) => device.write(transfer)),
    [
      'on a closed device',
      () => closed.write({ buffer: orphan, offset: 0, data: new Uint8Array(1) }),
      /closed/,
    ],
  ],
  read: [
    ...transfers('a read', (transfer) => device.read(transfer)),
    [
      'on a closed device',
      () => closed.read({ buffer: orphan, offset: 0, data: new Uint8Array(1) }),
      /closed/,
    ],
  ],
  load: [
    ...notObjects
      .filter(([what]) => what !== 'a string')
      .map(([what, value]): Case => [what, () => device.load(value, 'x')]),
    ['bytes on the host device', () => device.load(new Uint8Array(8), 'x'), /path on the host/],
    ['a file that is not there', () => device.load('/nowhere/x.so', 'add'), /cannot load \/nowhere\/x.so/],
    ['a bare name', () => device.load('libc.so.6', 'malloc'), /cannot load libc.so.6/],
    ['an empty path', () => device.load('', 'add'), /cannot load/],
    ['a folder', () => device.load(library.folder, 'add'), /cannot load/],
    ['a file that is no library', () => device.load(join(library.folder, 'broken.so'), 'add'), /cannot load/],
    ['a path with a NUL', () => device.load(`${library.path}\0x`, 'add'), /NUL/],
    ['no such entry', () => device.load(library.path, 'subtract'), /has no entry subtract/],
    ['no entry', () => (device as Any).load(library.path), /entry must be a string/],
    ['an empty entry', () => device.load(library.path, ''), /entry must be a name/],
    ['an entry with a NUL', () => device.load(library.path, 'add\0'), /NUL/],
    ['a number as entry', () => device.load(library.path, 5 as Any), /entry must be a string/],
    ['on a closed device', () => closed.load(library.path, 'add'), /closed/],
  ],
  createProgram: [
    ...notArrays.map(
      ([what, value]): Case => [
        `words: ${what}`,
        () => device.createProgram(value),
        /words must be an array/,
      ],
    ),
    ['no words', () => device.createProgram([]), /words must be at least one word/],
    ...notObjects
      .filter(([, value]) => value !== undefined)
      .map(
        ([what, value]): Case => [
          `options: ${what}`,
          () => device.createProgram([word(code, slot({}))], value),
          /options must be an object/,
        ],
      ),
    ...([5, null, 'tree', ''] as const).map(
      (order): Case => [
        `order: ${order}`,
        () => device.createProgram([word(code, slot({}))], { order: order as Any }),
        /options\.order must be (a string|'chain', 'strict' or 'branches')/,
      ],
    ),
    ['a sparse array', () => device.createProgram(new Array(5)), /words\[0\] must be an object/],
    ['a huge sparse array', () => device.createProgram(new Array(2 ** 32 - 1)), /words must be at most/],
    ...notObjects.map(
      ([what, value]): Case => [`a word: ${what}`, () => device.createProgram([value]), /words\[0\]/],
    ),
    ...[...notHandles, ['a buffer', () => buffer] as [string, () => Any]].map(
      ([what, value]): Case => [
        `${what} as code`,
        () => device.createProgram([word(value(), slot({}))]),
        /words\[0\]\.code must be a function/,
      ],
    ),
    [
      "another device's code",
      () => device.createProgram([word(foreignCode, slot({}))]),
      /a function of this device/,
    ],
    ...[...notIntegers, ['0', 0], ['1025', 1025]].map(
      ([what, value]): Case => [
        `threads: ${what}`,
        () => device.createProgram([{ code, threads: value as Any, slots: [slot({})] }]),
        /words\[0\]\.threads must be an integer from 1 to 1024/,
      ],
    ),
    ...[null, '1', Number.NaN, -0.1, 1.1].map(
      (urgency): Case => [
        `urgency: ${urgency}`,
        () => device.createProgram([{ ...word(code, slot({})), urgency: urgency as Any }]),
        /words\[0\]\.urgency must be a number from 0/,
      ],
    ),
    ...notArrays.map(
      ([what, value]): Case => [
        `slots: ${what}`,
        () => device.createProgram([{ code, threads: 1, slots: value }]),
        /words\[0\]\.slots must be an array/,
      ],
    ),
    ['no slots', () => device.createProgram([word(code)]), /at least one slot/],
    [
      'a good and a bad word',
      () => device.createProgram([word(code, slot({})), word(code, slot({}), slot({ end: 0 }))]),
      /words\[1\]\.slots\[1\]\.end/,
    ],
    ...notObjects.map(
      ([what, value]): Case => [
        `a slot: ${what}`,
        () => device.createProgram([word(code, value)]),
        /slots\[0\] must be an object/,
      ],
    ),
    ...['tenant', 'body', 'begin', 'end', 'blocks'].flatMap((field) => [
      ...notIntegers.map(([what, value]) =>
        slots(`${field} ${what}`, { [field]: value }, new RegExp(`slots\\[0\\]\\.${field} must be`)),
      ),
      slots(`${field} 2^32`, { [field]: 2 ** 32 }, new RegExp(`${field} must be`)),
    ]),
    slots('no virtual blocks', { begin: 3, end: 3 }, /end must be an integer from 4/),
    slots('an end before its begin', { begin: 3, end: 2 }, /end must be/),
    slots('an end of 2^31', { end: 2 ** 31 }, /end must be/),
    slots('no blocks', { blocks: 0 }, /blocks must be an integer from 1 to 1/),
    slots(
      'more blocks than virtual ones',
      { begin: 2, end: 5, blocks: 4 },
      /blocks must be an integer from 1 to 3/,
    ),
    slots(
      'too many blocks for one program',
      { end: 2 ** 31 - 1, blocks: 2 ** 31 - 1 },
      /at most 67108864 physical blocks/,
    ),
    [
      'too many blocks in several words',
      () =>
        device.createProgram(
          Array.from({ length: 3 }, () => word(code, slot({ end: 2 ** 25, blocks: 2 ** 25 }))),
        ),
      /words\[2\].*physical blocks/,
    ],
    ...notArrays.map(([what, value]) =>
      slots(`operands ${what}`, { operands: value }, /operands must be an array/),
    ),
    ...notArrays.map(([what, value]) => slots(`sizes ${what}`, { sizes: value }, /sizes must be an array/)),
    slots('17 operands', { operands: new Array(17).fill({}) }, /operands must be at most 16/),
    slots('49 sizes', { sizes: new Array(49).fill(1) }, /sizes must be at most 48/),
    ...notIntegers
      .filter(([what]) => what !== '-1')
      .map(([what, value]) => slots(`a size ${what}`, { sizes: [1, value] }, /sizes\[1\] must be/)),
    slots('a size of 2^31', { sizes: [2 ** 31] }, /sizes\[0\] must be/),
    slots('a size below -2^31', { sizes: [-(2 ** 31) - 1] }, /sizes\[0\] must be/),
    ...notObjects.map(([what, value]) =>
      slots(`an operand: ${what}`, { operands: [value] }, /operands\[0\] must be an object/),
    ),
    ...notIntegers.map(([what, value]) =>
      operand(`offset ${what}`, { offset: value }, /operands\[0\]\.offset must be/),
    ),
    ...notIntegers.map(([what, value]) =>
      operand(`bytes ${what}`, { bytes: value }, /operands\[0\]\.bytes must be/),
    ),
    operand('offset 8', { offset: 8 }, /a multiple of 16/),
    operand(
      'bytes past the end',
      { offset: 16, bytes: 1009 },
      /within the buffer's 1024 bytes, not 1009 bytes from 16/,
    ),
    operand('an offset past the end', { offset: 1040, bytes: 0 }, /within/),
    operand('huge numbers', { offset: 2 ** 53 - 16, bytes: 2 ** 53 - 1 }, /within/),
    [
      'operands: bad buffers',
      () =>
        device.createProgram([
          word(code, slot({ operands: [{ ...whole(buffer), buffer: undefined as Any }] })),
        ]),
      /operands\[0\]\.buffer/,
    ],
    ...['code', 'threads', 'slots'].map(
      (field): Case => [
        `a word whose ${field} throws`,
        () => device.createProgram([trap(word(code, slot({})), field)]),
        /thrown by a getter/,
      ],
    ),
    ...['tenant', 'begin', 'operands', 'sizes'].map(
      (field): Case => [
        `a slot whose ${field} throws`,
        () => device.createProgram([word(code, trap(slot({}), field))]),
        /thrown by a getter/,
      ],
    ),
    [
      'a proxy that throws',
      () =>
        device.createProgram([
          new Proxy(
            {},
            {
              get() {
                throw new Error('thrown by a getter');
              },
            },
          ) as Any,
        ]),
      /thrown by a getter/,
    ],
    [
      'an array that a getter shortens',
      () => {
        const list: Any[] = [slot({}), slot({}), slot({})];
        list[0] = Object.defineProperty(slot({}), 'body', {
          get() {
            list.length = 1;
            return 0;
          },
        });
        device.createProgram([{ code, threads: 1, slots: list }]);
      },
      /slots\[1\] must be an object, not undefined/,
    ],
    [
      'a device that a getter closes',
      () => {
        const brief = native.openHost(1);
        const its = brief.load(library.path, 'nothing');
        brief.createProgram([
          word(
            its,
            Object.defineProperty(slot({}), 'sizes', {
              get() {
                brief.close();
                return [];
              },
            }),
          ),
        ]);
      },
      /the device is closed/,
    ],
    ['on a closed device', () => closed.createProgram([]), /closed/],
  ],
  run: [
    ...notObjects.map(([what, value]): Case => [what, () => program.run(value), /round must be an object/]),
    ...notArrays.flatMap(([what, value]): Case[] => [
      [`active: ${what}`, () => program.run({ ...all, active: value }), /round\.active must be an array/],
      [
        `writes: ${what}`,
        () => program.run({ active: [], reads: [], writes: value }),
        /round\.writes must be an array/,
      ],
      [
        `reads: ${what}`,
        () => program.run({ active: [], writes: [], reads: value }),
        /round\.reads must be an array/,
      ],
    ]),
    ...notIntegers.map(
      ([what, value]): Case => [
        `active: [${what}]`,
        () => program.run({ ...all, active: [0, value] }),
        /round\.active\[1\] must be/,
      ],
    ),
    ['a tenant of no slot', () => program.run({ ...all, active: [0, 9] }), /and 9 is not/],
    ...transfers('a write', (transfer) => program.run({ active: [], reads: [], writes: [transfer] })),
    ...transfers('a read', (transfer) => program.run({ active: [], writes: [], reads: [transfer] })),
    ['a closed program', () => closedProgram.run({ active: [0], ...all }), /the program is closed/],
    ["a closed device's program", () => orphanProgram.run({ active: [0], ...all }), /the device is closed/],
    [
      'data that is taken away meanwhile',
      () => {
        const data = new Uint8Array(8);
        const running = program.run({ active: [], writes: [], reads: [{ buffer, offset: 0, data }] });
        structuredClone(data, { transfer: [data.buffer] });
        return running;
      },
      /changed its size/,
    ],
  ],
  time: [
    ...notArrays.map(
      ([what, value]): Case => [`active: ${what}`, () => program.time(value, 1), /active must be an array/],
    ),
    ...notIntegers.map(
      ([what, value]): Case => [`rounds: ${what}`, () => program.time([0], value), /rounds must be/],
    ),
    ['0 rounds', () => program.time([0], 0), /from 1 to/],
    ['a tenant of no slot', () => program.time([1], 1), /and 1 is not/],
    ['a closed program', () => closedProgram.time([0], 1), /closed/],
    ["a closed device's program", () => orphanProgram.time([0], 1), /closed/],
  ],
  timeWords: [
    ...notArrays.map(
      ([what, value]): Case => [
        `active: ${what}`,
        () => program.timeWords(value, 1),
        /active must be an array/,
      ],
    ),
    ...notIntegers.map(
      ([what, value]): Case => [`rounds: ${what}`, () => program.timeWords([0], value), /rounds must be/],
    ),
    ['0 rounds', () => program.timeWords([0], 0), /from 1 to/],
    ['more rounds than fit', () => program.timeWords([0], 1_000_001), /from 1 to 1000000/],
    ['a tenant of no slot', () => program.timeWords([1], 1), /and 1 is not/],
    ['a closed program', () => closedProgram.timeWords([0], 1), /closed/],
    ["a closed device's program", () => orphanProgram.timeWords([0], 1), /closed/],
  ],
  'time of several programs': [
    ...notArrays.map(
      ([what, value]): Case => [
        `programs: ${what}`,
        () => device.time(value, 'in turn', 1),
        /programs must be an array/,
      ],
    ),
    ...notObjects.map(
      ([what, value]): Case => [
        `programs: [${what}]`,
        () => device.time([value], 'in turn', 1),
        /programs\[0\] must be a program made by/,
      ],
    ),
    ...notIntegers.map(
      ([what, value]): Case => [
        `rounds: ${what}`,
        () => device.time([program], 'in turn', value),
        /rounds must be/,
      ],
    ),
    ['no programs', () => device.time([], 'in turn', 1), /programs must be at least one/],
    [
      'too many programs',
      () => device.time(Array(257).fill(program), 'in turn', 1),
      /programs must be at most 256 long/,
    ],
    ['0 rounds', () => device.time([program], 'in turn', 0), /from 1 to/],
    ['no way to run', () => device.time([program], undefined as Any, 1), /together must be a string/],
    ['another way to run', () => device.time([program], 'at once' as Any, 1), /must be 'in turn' or 'side/],
    ['a program twice', () => device.time([program, program], 'side by side', 1), /programs\[1\] must be a/],
    ['a closed program', () => device.time([program, closedProgram], 'side by side', 1), /closed/],
    ["another device's program", () => other.time([program], 'in turn', 1), /a program of this device/],
    ["a closed device's program", () => device.time([orphanProgram], 'in turn', 1), /closed/],
    ['a closed device', () => closed.time([orphanProgram], 'in turn', 1), /closed/],
    [
      'a device that is closed while its programs are read',
      () => {
        const passing = native.openHost(1);
        const mine = passing.createProgram([word(passing.load(library.path, 'nothing'), slot({}))]);
        const list = [mine, mine];
        Object.defineProperty(list, 1, {
          get: () => {
            passing.close();
            return mine;
          },
        });
        return passing.time(list, 'in turn', 1);
      },
      /closed/,
    ],
  ],
  trace: [
    ...notArrays.map(
      ([what, value]): Case => [
        `programs: ${what}`,
        () => device.trace(value, 'in turn'),
        /programs must be an array/,
      ],
    ),
    ...notObjects.map(
      ([what, value]): Case => [
        `programs: [${what}]`,
        () => device.trace([value], 'in turn'),
        /programs\[0\] must be a program made by/,
      ],
    ),
    ['no programs', () => device.trace([], 'in turn'), /programs must be at least one/],
    [
      'too many programs',
      () => device.trace(Array(257).fill(program), 'in turn'),
      /programs must be at most 256 long/,
    ],
    [
      'too many blocks',
      () => {
        const blocks = 2 ** 21 + 1;
        const wide = word(code, slot({ end: blocks, blocks }));
        return device.trace([device.createProgram([wide]), device.createProgram([wide])], 'in turn');
      },
      /programs must be of at most 4194304 physical blocks to be traced, not 4194306/,
    ],
    ['no way to run', () => device.trace([program], undefined as Any), /together must be a string/],
    ['another way to run', () => device.trace([program], 'at once' as Any), /must be 'in turn' or 'side/],
    ['a program twice', () => device.trace([program, program], 'side by side'), /programs\[1\] must be a/],
    ['a closed program', () => device.trace([program, closedProgram], 'side by side'), /closed/],
    ["another device's program", () => other.trace([program], 'in turn'), /a program of this device/],
    ['a closed device', () => closed.trace([orphanProgram], 'in turn'), /closed/],
  ],
  compileCuda: [
    ...notObjects
      .filter(([what]) => what !== 'a string')
      .flatMap(([what, value]): Case[] => [
        [`source ${what}`, () => native.compileCuda(value, 'sm_90'), /source must be a string/],
        [`target ${what}`, () => native.compileCuda('', value), /target must be a string/],
      ]),
    ['a source with a NUL', () => native.compileCuda('int x;\0', 'sm_90'), /NUL/],
    ...['', 'sm_', 'sm_9', 'sm_90aa', 'sm_90 --fmad=true', 'compute_', 'gfx90a', 'SM_90', 'sm_1234'].map(
      (target): Case => [
        `target '${target}'`,
        () => native.compileCuda('', target),
        /target must be such as sm_90/,
      ],
    ),
  ],
};

for (const [method, list] of Object.entries(cases)) {
  describe(`${method} refuses`, () => {
    it.each(list)('%s', async (_, act, message) => {
      const outcome = await (async () => act())().then(
        () => 'no error',
        (error: unknown) => error,
      );
      expect(outcome).toBeInstanceOf(Error);
      expect((outcome as Error).message).toMatch(message ?? /must be/);
    });
  });
}

describe('the classes behind the handles', () => {
  it('make no instances for JavaScript', () => {
    for (const handle of [device, buffer, code, program] as Any[]) {
      const Made = Object.getPrototypeOf(handle).constructor;
      expect(() => new Made()).toThrow('only the addon makes these objects');
      expect(() => new Made(handle)).toThrow('only the addon makes these objects');
      expect(() => Made()).toThrow();
      expect(() => new (class extends Made {})()).toThrow('only the addon makes these objects');
      expect(() => Reflect.construct(Made, [], Object)).toThrow();
    }
    expect(device.allocate(1).bytes).toBe(1);
  });

  it('refuse their methods to other objects', () => {
    for (const [from, name] of [
      [device, 'allocate'],
      [device, 'close'],
      [device, 'createProgram'],
      [program, 'run'],
      [program, 'timeWords'],
      [device, 'time'],
      [device, 'trace'],
      [program, 'close'],
    ] as [Any, string][]) {
      for (const self of [
        undefined,
        null,
        1,
        {},
        [],
        buffer,
        code,
        from === device ? program : device,
        Object.create(from),
      ]) {
        expect(() => from[name].call(self, 1)).toThrow();
      }
    }
  });

  it('have properties that cannot be changed', () => {
    for (const [handle, name] of [
      [buffer, 'bytes'],
      [code, 'name'],
      [device, 'kind'],
      [device, 'units'],
    ] as [Any, string][]) {
      expect(() => {
        handle[name] = 1e9;
      }).toThrow(TypeError);
      expect(() => Object.defineProperty(handle, name, { value: 1e9 })).toThrow(TypeError);
    }
  });

  it('are unharmed by all of the above', async () => {
    expect((await program.run({ active: [0], ...all })).milliseconds).toBeGreaterThanOrEqual(0);
  });
});
