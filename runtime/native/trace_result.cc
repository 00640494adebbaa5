#include "runtime/native/trace_result.h"

#include <algorithm>
#include <cstdint>

namespace wideword {

namespace {

bool IsIdle(const BlockTime& block) { return block.begin == 0; }

// When the first block began.
unsigned long long OriginOf(const TracedRound& round) {
  unsigned long long origin = ~0ull;
  for (const ProgramTimes& program : round.programs) {
    for (const std::vector<BlockTime>& word : program) {
      for (const BlockTime& block : word) {
        if (!IsIdle(block)) origin = std::min(origin, block.begin);
      }
    }
  }
  return origin;
}

// Sets a property to a new typed array of the values that `read` gives for the blocks that ran.
template <class Element, class Read>
bool SetColumn(napi_env env, napi_value object, const char* name, napi_typedarray_type type,
               const std::vector<BlockTime>& word, Read read) {
  const auto idle = static_cast<std::size_t>(std::count_if(word.begin(), word.end(), IsIdle));
  const std::size_t count = word.size() - idle;
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  if (napi_create_arraybuffer(env, count * sizeof(Element), &data, &buffer) != napi_ok) return false;
  auto* to = static_cast<Element*>(data);
  for (const BlockTime& block : word) {
    if (!IsIdle(block)) *to++ = read(block);
  }
  return napi_create_typedarray(env, type, count, buffer, 0, &array) == napi_ok &&
         napi_set_named_property(env, object, name, array) == napi_ok;
}

napi_value MakeWord(napi_env env, const std::vector<BlockTime>& word, unsigned long long origin) {
  const auto since = [origin](unsigned long long at) { return static_cast<double>(at - origin); };
  napi_value object = nullptr;
  const bool is_made =
      napi_create_object(env, &object) == napi_ok &&
      SetColumn<double>(env, object, "begin", napi_float64_array, word, [&](const BlockTime& b) { return since(b.begin); }) &&
      SetColumn<double>(env, object, "end", napi_float64_array, word,
                        [&](const BlockTime& b) { return since(std::max(b.begin, b.end)); }) &&
      SetColumn<std::uint32_t>(env, object, "unit", napi_uint32_array, word, [](const BlockTime& b) { return b.unit; }) &&
      SetColumn<std::uint32_t>(env, object, "slot", napi_uint32_array, word, [](const BlockTime& b) { return b.row; });
  return is_made ? object : nullptr;
}

// An array of what `make` makes of each; null if one of them is.
template <class Items, class Make>
napi_value MakeList(napi_env env, const Items& items, Make make) {
  napi_value list = nullptr;
  if (napi_create_array_with_length(env, items.size(), &list) != napi_ok) return nullptr;
  for (std::size_t i = 0; i < items.size(); ++i) {
    // A round may have as many words as there are blocks; their handles go as they are done with.
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return nullptr;
    const napi_value item = make(items[i]);
    const bool is_set = item && napi_set_element(env, list, static_cast<std::uint32_t>(i), item) == napi_ok;
    napi_close_handle_scope(env, scope);
    if (!is_set) return nullptr;
  }
  return list;
}

}  // namespace

napi_value MakeTraceResult(napi_env env, const TracedRound& round) {
  const unsigned long long origin = OriginOf(round);
  const napi_value programs = MakeList(env, round.programs, [&](const ProgramTimes& program) {
    return MakeList(env, program, [&](const std::vector<BlockTime>& word) { return MakeWord(env, word, origin); });
  });
  napi_value milliseconds = nullptr;
  napi_value result = nullptr;
  if (!programs || napi_create_double(env, round.milliseconds, &milliseconds) != napi_ok ||
      napi_create_object(env, &result) != napi_ok ||
      napi_set_named_property(env, result, "milliseconds", milliseconds) != napi_ok ||
      napi_set_named_property(env, result, "programs", programs) != napi_ok) {
    return nullptr;
  }
  return result;
}

}  // namespace wideword
