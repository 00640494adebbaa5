#include "runtime/native/slot_table.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace wideword {

std::vector<unsigned> DealBlocks(unsigned total, const std::vector<unsigned>& weight,
                                 const std::vector<unsigned>& limit) {
  std::vector<unsigned> share(weight.size(), 0);
  std::vector<std::size_t> open(weight.size());
  std::iota(open.begin(), open.end(), std::size_t{0});
  std::uint64_t left = total;
  // A slot whose proportional share reaches its limit gets the limit; what that frees raises the others' shares, which
  // may bring more of them to theirs.
  for (bool capped = true; capped;) {
    capped = false;
    std::uint64_t weights = 0;
    for (std::size_t slot : open) weights += weight[slot];
    const std::uint64_t available = left;
    std::vector<std::size_t> rest;
    for (std::size_t slot : open) {
      if (available * weight[slot] >= std::uint64_t{limit[slot]} * weights) {
        share[slot] = limit[slot];
        left -= limit[slot];
        capped = true;
      } else {
        rest.push_back(slot);
      }
    }
    open = std::move(rest);
  }
  // Whole shares, then one more block each to the largest remainders (the earlier slot where they are equal).
  std::uint64_t weights = 0;
  for (std::size_t slot : open) weights += weight[slot];
  std::vector<std::uint64_t> remainder(weight.size(), 0);
  const std::uint64_t available = left;
  for (std::size_t slot : open) {
    share[slot] = static_cast<unsigned>(available * weight[slot] / weights);
    remainder[slot] = available * weight[slot] % weights;
    left -= share[slot];
  }
  std::stable_sort(open.begin(), open.end(),
                   [&](std::size_t a, std::size_t b) { return remainder[a] > remainder[b]; });
  for (std::size_t i = 0; i < open.size() && left > 0; ++i, --left) ++share[open[i]];
  return share;
}

SlotTable::SlotTable(const std::vector<WordSpec>& words) {
  for (const WordSpec& spec : words) {
    Word word;
    word.first_row = rows_.size();
    word.row_count = spec.slots.size();
    word.first_map = map_.size();
    for (const SlotSpec& slot : spec.slots) {
      SlotRow row;
      std::memset(&row, 0, sizeof row);
      row.begin = slot.begin;
      row.end = slot.end;
      row.body = slot.body;
      row.tenant = slot.tenant;
      row.constants = slot.constants;
      std::copy(slot.operands.begin(), slot.operands.end(), row.operand);
      std::copy(slot.sizes.begin(), slot.sizes.end(), row.size);
      rows_.push_back(row);
      weight_.push_back(slot.blocks);
      word.grid += slot.blocks;
    }
    map_.resize(map_.size() + word.grid, kIdleBlock);
    words_.push_back(word);
  }
}

bool SlotTable::Activate(const std::vector<unsigned>& tenants) {
  if (dealt_ && tenants == active_) return false;
  for (Word& word : words_) Deal(word, tenants);
  active_ = tenants;
  dealt_ = true;
  return true;
}

void SlotTable::Deal(Word& word, const std::vector<unsigned>& tenants) {
  std::vector<std::size_t> active;  // rows within the word
  std::vector<unsigned> weight;
  std::vector<unsigned> limit;
  for (std::size_t i = 0; i < word.row_count; ++i) {
    SlotRow& row = rows_[word.first_row + i];
    row.first_block = 0;
    row.blocks = 0;
    if (!std::binary_search(tenants.begin(), tenants.end(), row.tenant)) continue;
    active.push_back(i);
    weight.push_back(weight_[word.first_row + i]);
    limit.push_back(row.end - row.begin);
  }
  const std::vector<unsigned> share = DealBlocks(word.grid, weight, limit);
  auto entry = map_.begin() + static_cast<std::ptrdiff_t>(word.first_map);
  const auto end = entry + word.grid;
  word.busy = 0;
  for (std::size_t i = 0; i < active.size(); ++i) {
    SlotRow& row = rows_[word.first_row + active[i]];
    row.first_block = word.busy;
    row.blocks = share[i];
    entry = std::fill_n(entry, share[i], static_cast<unsigned>(active[i]));
    word.busy += share[i];
  }
  std::fill(entry, end, kIdleBlock);
}

}  // namespace wideword
