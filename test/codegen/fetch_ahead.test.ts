/**
 * @file Weights that are fetched ahead: the pieces of all threads of all blocks are what the row says, each once, and end there, however many
 * blocks and threads there are.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from '../native/support.ts';

const program = `
#include <cstdio>
#include <map>
#define bring_near bring_near_of_host
#include "codegen/prelude/host.h"
#undef bring_near
static std::map<unsigned long long, unsigned> pieces;
static bool twice = false;
static void bring_near(unsigned long long address, unsigned bytes) { twice = twice || !pieces.emplace(address, bytes).second; }
#include "codegen/prelude/slot.h"
#include "codegen/prelude/share.h"

int main() {
  const unsigned shapes[][3] = {{1, 1, 64}, {3, 32, 40000}, {132, 128, 4096 * 132 + 16}, {8192, 256, 1 << 24}, {1u << 21, 256, 1 << 24}, {5, 64, 0}};
  for (auto [blocks, threads, bytes] : shapes) {
    SlotRow row = {};
    row.ahead = 1ull << 40;
    row.ahead_bytes = bytes;
    pieces.clear();
    // Blocks and threads beyond the pieces there are take none, so that only some of many are worth a look.
    for (unsigned place = 0; place < blocks; place += place < 5000 ? 1 : 50021)
      for (unsigned thread = 0; thread < threads; thread++) fetch_ahead(row, {0, 0, 0, blocks, 0, place}, thread, threads);
    unsigned long long at = row.ahead;
    bool whole = !twice;
    for (auto [address, size] : pieces) whole = whole && address == at && size % 16 == 0 && size <= 4096, at += size;
    printf("%d %llu\\n", whole, at - row.ahead);
  }
}
`;

it('asks for each piece once, and for no more', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wideword-ahead-'));
  try {
    const [source, file] = [join(folder, 'main.cc'), join(folder, 'main')];
    writeFileSync(source, program);
    execFileSync('g++', ['-std=c++17', '-O1', '-w', '-I', root, '-o', file, source]);
    const lines = execFileSync(file, { encoding: 'utf8', timeout: 20_000 }).trim().split('\n');
    expect(lines).toEqual(['1 64', '1 40000', `1 ${4096 * 132 + 16}`, `1 ${2 ** 24}`, `1 ${2 ** 24}`, '1 0']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
