/** @file What the native tests share: a small library of host kernels, and short ways to describe programs. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  NativeBuffer,
  NativeDevice,
  NativeFunction,
  NativeSlot,
  NativeWord,
  Transfer,
} from '../../runtime/native.ts';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Elements that a virtual block of the test kernels serves. */
export const perBlock = 16;

const kernels = `
#include <atomic>
#include <chrono>
#include <thread>
#include "codegen/prelude/host.h"
#include "codegen/prelude/slot.h"
#include "codegen/prelude/share.h"

// The loop that codegen's shim has: physical blocks, and for each the virtual blocks of its slot.
template <class Body>
static void forBlocks(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit, Body body) {
  this_unit = unit;
  for (unsigned block = first; block < last; ++block) {
    blockIdx.x = block;
    const Share share = share_of(launch, block);
    if (share.first >= share.end) continue;
    note_begin(launch, share.row);
    for (unsigned at = share.first; at < share.end; at += share.step) body(launch.rows[share.row], at, block);
    note_end(launch);
  }
}

// c = a + b
extern "C" void add(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {
  forBlocks(launch, first, last, unit, [](const SlotRow& row, unsigned at, unsigned) {
    const float* a = (const float*)row.operand[0];
    const float* b = (const float*)row.operand[1];
    float* c = (float*)row.operand[2];
    for (int i = at * ${perBlock}; i < (int)(at + 1) * ${perBlock} && i < row.size[0]; ++i) c[i] = a[i] + b[i];
  });
}

// b = reversed a: each block reads what another block of the word before wrote.
extern "C" void reverse(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {
  forBlocks(launch, first, last, unit, [](const SlotRow& row, unsigned at, unsigned) {
    const float* a = (const float*)row.operand[0];
    float* b = (float*)row.operand[1];
    for (int i = at * ${perBlock}; i < (int)(at + 1) * ${perBlock} && i < row.size[0]; ++i) b[i] = a[row.size[0] - 1 - i];
  });
}

// Counts how often each virtual block runs, and marks the physical blocks that run any.
extern "C" void visit(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {
  forBlocks(launch, first, last, unit, [](const SlotRow& row, unsigned at, unsigned block) {
    ((std::atomic<int>*)row.operand[0])[at].fetch_add(1);
    ((std::atomic<int>*)row.operand[1])[block].store(row.tenant + 1);
  });
}

// Copies the row itself out, whole.
extern "C" void dump(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {
  forBlocks(launch, first, last, unit, [](const SlotRow& row, unsigned at, unsigned) {
    if (at == row.begin) *(SlotRow*)row.operand[0] = row;
  });
}

// Takes size[0] milliseconds a virtual block.
extern "C" void nap(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {
  forBlocks(launch, first, last, unit, [](const SlotRow& row, unsigned, unsigned) {
    std::this_thread::sleep_for(std::chrono::milliseconds(row.size[0]));
    ++*(int*)row.operand[0];
  });
}

extern "C" void nothing(const WordLaunch&, unsigned, unsigned, unsigned) {}
`;

/** The kernels above as a shared library in a folder of their own; call `remove` at the end. */
export function buildKernels(): {
  readonly path: string;
  readonly folder: string;
  readonly remove: () => void;
} {
  const folder = mkdtempSync(join(tmpdir(), 'wideword-native-'));
  const source = join(folder, 'kernels.cc');
  const path = join(folder, 'kernels.so');
  writeFileSync(source, kernels);
  execFileSync('g++', ['-std=c++17', '-O1', '-w', '-shared', '-fPIC', '-I', root, '-o', path, source]);
  return { path, folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** All of a buffer as an operand. */
export const whole = (buffer: NativeBuffer) => ({ buffer, offset: 0, bytes: buffer.bytes });

export function slot(parts: Partial<NativeSlot>): NativeSlot {
  return { tenant: 0, body: 0, begin: 0, end: 1, blocks: 1, operands: [], sizes: [], ...parts };
}

export function word(code: NativeFunction, ...slots: readonly NativeSlot[]): NativeWord {
  return { code, threads: 1, slots };
}

/** The memory behind any typed array. */
export const bytesOf = (array: Float32Array | Int32Array) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

export function transfer(
  buffer: NativeBuffer,
  array: Float32Array | Int32Array | Uint8Array,
  offset = 0,
): Transfer {
  return { buffer, offset, data: array instanceof Uint8Array ? array : bytesOf(array) };
}

export function upload(device: NativeDevice, array: Float32Array | Int32Array): NativeBuffer {
  const buffer = device.allocate(array.byteLength);
  device.write(transfer(buffer, array));
  return buffer;
}

export function downloadFloats(device: NativeDevice, buffer: NativeBuffer): Float32Array {
  const array = new Float32Array(buffer.bytes / 4);
  device.read(transfer(buffer, array));
  return array;
}

export function downloadInts(device: NativeDevice, buffer: NativeBuffer): Int32Array {
  const array = new Int32Array(buffer.bytes / 4);
  device.read(transfer(buffer, array));
  return array;
}

/** A program of one word that sleeps `milliseconds` a round and counts its rounds. */
export function napping(device: NativeDevice, path: string, milliseconds: number) {
  const count = device.allocate(4);
  const code = device.load(path, 'nap');
  const program = device.createProgram([
    word(code, slot({ operands: [whole(count)], sizes: [milliseconds] })),
  ]);
  return { program, count };
}

export const all = { writes: [], reads: [] };
