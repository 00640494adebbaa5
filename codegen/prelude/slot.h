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
  unsigned tenant;       // whose it is; only traces read it
  unsigned long long operand[kMaxOperands];  // device addresses: inputs, then outputs
  int size[kMaxSizes];   // generic tier: the sizes that the kernel class leaves open
};

// Entry of a word's block map for a block that has nothing to do in this round.
enum : unsigned { kIdleBlock = 0xffffffffu };

#endif
