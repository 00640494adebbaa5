// The slot rows and block maps of a program's words, as blocks read them, and the dealing of physical blocks to the
// tenants that are active in a round.
#ifndef WIDEWORD_SLOT_TABLE_H
#define WIDEWORD_SLOT_TABLE_H

#include <vector>

#include "codegen/prelude/slot.h"
#include "runtime/native/backend.h"

namespace wideword {

class SlotTable {
 public:
  // Where a word's part of the rows and of the map is.
  struct Word {
    std::size_t first_row = 0;
    std::size_t row_count = 0;
    std::size_t first_map = 0;
    unsigned grid = 0;  // physical blocks
    unsigned busy = 0;  // how many of them, from the first, have a slot in this round
  };

  explicit SlotTable(const std::vector<WordSpec>& words);

  // Deals the blocks for these tenants; false if nothing changed since the last call.
  bool Activate(const std::vector<unsigned>& tenants);

  const std::vector<SlotRow>& rows() const { return rows_; }
  const std::vector<unsigned>& map() const { return map_; }
  const std::vector<Word>& words() const { return words_; }

 private:
  void Deal(Word& word, const std::vector<unsigned>& tenants);

  std::vector<SlotRow> rows_;
  std::vector<unsigned> weight_;  // each row's blocks when all of its word's slots are active
  std::vector<unsigned> map_;
  std::vector<Word> words_;
  std::vector<unsigned> active_;
  bool dealt_ = false;
};

// Deals `total` blocks in proportion to `weight`, at least 1 and at most `limit` each. Needs sum(weight) <= total and
// 1 <= weight <= limit. What the limits leave over is dealt to nobody. The same input always gives the same deal.
std::vector<unsigned> DealBlocks(unsigned total, const std::vector<unsigned>& weight,
                                 const std::vector<unsigned>& limit);

}  // namespace wideword

#endif
