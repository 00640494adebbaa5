// When the blocks of programs ran: what a traced round gives.
#ifndef WIDEWORD_BLOCK_TIMES_H
#define WIDEWORD_BLOCK_TIMES_H

#include <vector>

#include "codegen/prelude/slot.h"

namespace wideword {

// Of each word of a program, of each of its physical blocks; all zero for a block that was idle.
using ProgramTimes = std::vector<std::vector<BlockTime>>;

// One round of some programs, in their order.
struct TracedRound {
  double milliseconds = 0;  // as Backend::TimeTogether gives them
  std::vector<ProgramTimes> programs;
};

}  // namespace wideword

#endif
