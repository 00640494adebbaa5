#include "runtime/native/word_order.h"

#include <algorithm>
#include <unordered_map>

namespace wideword {

std::vector<std::vector<std::size_t>> WaitedFor(const std::vector<WordSpec>& words) {
  std::unordered_map<unsigned, std::size_t> last;  // word of each tenant so far
  std::vector<std::vector<std::size_t>> waited;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::vector<std::size_t>& before = waited.emplace_back();
    for (const SlotSpec& slot : words[i].slots) {
      const auto [found, is_first] = last.try_emplace(slot.tenant, i);
      // A tenant may have several slots in a word.
      if (!is_first && found->second != i) before.push_back(found->second);
      found->second = i;
    }
    std::sort(before.begin(), before.end());
    before.erase(std::unique(before.begin(), before.end()), before.end());
  }
  return waited;
}

}  // namespace wideword
