// Which words must wait for which.
#ifndef WIDEWORD_WORD_ORDER_H
#define WIDEWORD_WORD_ORDER_H

#include <cstddef>
#include <vector>

#include "runtime/native/backend.h"

namespace wideword {

// For each word the earlier ones that it waits for, ascending and without repeats: for each of its tenants the last one with a slot
// of theirs. That is enough: the words of one tenant, slices of one kernel among them, thereby follow each other, and
// tenants share no memory that is written.
std::vector<std::vector<std::size_t>> WaitedFor(const std::vector<WordSpec>& words);

}  // namespace wideword

#endif
