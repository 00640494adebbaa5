// The slot table as blocks read it. This one file is part of every emitted kernel and of the native runtime that
// fills the rows, so the two cannot disagree.
#ifndef WIDEWORD_SLOT_H
#define WIDEWORD_SLOT_H

enum { kMaxOperands = 16, kMaxSizes = 48 };

// One row: one tenant's kernel inside a word.
struct SlotRow {
  unsigned first_block;  // the word's first physical block that serves this slot
  unsigned blocks;       // how many physical blocks do (a grid-stride loop over the virtual ones)
  unsigned begin, end;   // the range of virtual blocks to run
  unsigned body;         // which of a wide word's kernel bodies
  unsigned tenant;       // whose it is; nothing computed depends on it
  unsigned constants;    // a bit for each operand that no kernel writes
  unsigned unused;
  unsigned long long operand[kMaxOperands];  // device addresses: inputs, then outputs
  int size[kMaxSizes];   // generic tier: the sizes that the kernel class leaves open
};

// Entry of a word's block map for a block that has nothing to do in this round.
enum : unsigned { kIdleBlock = 0xffffffffu };

enum { kMaxIssued = 32 };

// A slot of a word that is issued by itself. Its physical blocks end where those of the next one begin.
struct IssuedSlot {
  unsigned row, body;
  unsigned first_block;
  unsigned begin, end;  // the range of virtual blocks to run
};

// When and where a physical block ran.
struct BlockTime {
  unsigned long long begin, end;  // nanoseconds of the device's clock
  unsigned unit;                  // multiprocessor, or thread of the host
  unsigned row;
};

// What a word is launched with. In a program the blocks are dealt out in device memory, so that a captured launch can be
// replayed for other tenants; a word that is issued by itself brings its slots along.
struct WordLaunch {
  const SlotRow* rows;
  const unsigned* block_slot;  // the row of each physical block; null if the slots stand below
  BlockTime* times;            // one a physical block; null if nobody asks
  unsigned slots, blocks;      // how many slots stand below, and how many physical blocks they have
  unsigned eager;              // the next word's blocks may come before this one's have waited for the word before
  IssuedSlot slot[kMaxIssued];
};

#endif
