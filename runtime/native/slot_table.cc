#include "runtime/native/slot_table.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_map>

namespace wideword {

namespace {

// Weights that are fetched ahead, at most: a part of the L2 cache that leaves room for what words read twice.
constexpr std::size_t kMostAhead = std::size_t{16} << 20;
// Fewer come soon enough by themselves, such as biases.
constexpr std::size_t kLeastAhead = std::size_t{64} << 10;

}  // namespace

bool AreWorthFetching(const Weights& weights) { return weights.bytes >= kLeastAhead; }

void FetchAhead(SlotRow& row, const Weights& weights) {
  row.ahead = weights.address;
  row.ahead_bytes = static_cast<unsigned>(std::min(weights.bytes, kMostAhead) / 16 * 16);
}

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
  LookAhead(words);
}

// While a tenant's word computes by itself, its blocks ask for the weights that come next: memory is idle where a word is all waiting
// and arithmetic. Words of several slots keep it busy themselves: eight to 64 tenants lost 8 to 13 % by it on an H100.
void SlotTable::LookAhead(const std::vector<WordSpec>& words) {
  std::unordered_map<unsigned, Weights> next;  // by tenant
  for (std::size_t w = words.size(); w-- > 0;) {
    const std::vector<SlotSpec>& slots = words[w].slots;
    if (slots.size() == 1) FetchAhead(rows_[words_[w].first_row], next[slots.front().tenant]);
    for (const SlotSpec& slot : slots) {
      Weights largest;
      for (std::size_t i = 0; i < slot.operands.size(); ++i) {
        if ((slot.constants >> i & 1u) != 0 && slot.bytes[i] > largest.bytes) largest = {slot.operands[i], slot.bytes[i]};
      }
      if (AreWorthFetching(largest)) next[slot.tenant] = largest;
    }
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
