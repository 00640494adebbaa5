#include "runtime/native/packer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace wideword {

namespace {

// Times are products and sums in floating point: what fits just so must not come out a block short.
constexpr double kSlack = 1 + 1e-9;

// What these virtual blocks take with the whole device for themselves.
double AloneNs(double block_ns, unsigned blocks, unsigned at_once) {
  return block_ns * ((blocks + at_once - 1) / at_once);
}

}  // namespace

Packer::Packer(PackLimits limits, unsigned classes) : limits_(limits), codes_of_(classes) {}

void Packer::AddCode(PackCode code) {
  const auto number = static_cast<unsigned>(codes_.size());
  for (std::size_t c = 0; c < codes_of_.size(); ++c) {
    if (code.body_of[c] >= 0) codes_of_[c].push_back(number);
  }
  codes_.push_back(std::move(code));
}

bool Packer::Pack(const ReadyTask* ready, std::size_t count, PackedWord& word) {
  double best = -1;
  for (unsigned code : codes_of_[ready[0].kernel_class]) {
    PackedWord candidate;
    const double gain = Fill(code, ready, count, candidate);
    // The later code only if it is better: fused code comes behind what it is made of.
    if (gain <= best) continue;
    best = gain;
    word = candidate;
  }
  if (best < 0) return false;
  Deal(ready, word);
  return true;
}

double Packer::Fill(unsigned code, const ReadyTask* ready, std::size_t count, PackedWord& word) const {
  const PackCode& on = codes_[code];
  const double alone = limits_.launch_ns + AloneNs(ready[0].block_ns, ready[0].end - ready[0].begin, on.at_once);
  // For blocks.
  const double free = (std::min(limits_.bound_ns, alone * limits_.stretch) - limits_.launch_ns) * kSlack;
  word.code = code;
  double longest = 0;  // of the slots
  double work = 0;
  double launches = 0;  // time by itself of all that the word does
  for (std::size_t i = 0; i < count && word.count < kMaxIssued; ++i) {
    const ReadyTask& task = ready[i];
    const int body = on.body_of[task.kernel_class];
    if (body < 0) continue;
    const double block_ns = task.block_ns * on.factor;
    // Blocks that fit beside the others before the word takes too long: in all, and in waves of this slot.
    const double room = (free * on.at_once - work) / block_ns;
    const double waves = std::max(1.0, std::floor(free / block_ns));
    double blocks = std::min({static_cast<double>(task.end - task.begin), room, waves * on.at_once});
    // The first always goes on, however long its blocks take, and fewer than a wave of them take as long.
    if (i == 0) blocks = std::max(blocks, static_cast<double>(std::min(task.end - task.begin, on.at_once)));
    if (blocks < 1) continue;
    const auto taken = static_cast<unsigned>(blocks);
    // A small part of a task is not worth a slot: it would come again in every word.
    const bool is_part = taken < task.end - task.begin;
    if (i > 0 && is_part && taken < on.at_once / 4) continue;
    const unsigned n = word.count++;
    word.ready[n] = static_cast<unsigned>(i);
    word.body[n] = static_cast<unsigned>(body);
    word.begin[n] = task.begin;
    word.end[n] = task.begin + taken;
    work += taken * block_ns;
    longest = std::max(longest, AloneNs(block_ns, taken, on.at_once));
    launches += limits_.launch_ns + AloneNs(task.block_ns, taken, on.at_once);
  }
  word.expected_ns = limits_.launch_ns + std::max(work / on.at_once, longest);
  return launches / word.expected_ns;
}

void Packer::Deal(const ReadyTask* ready, PackedWord& word) const {
  const unsigned most = codes_[word.code].at_once * kBlocksAtOnce;
  std::uint64_t blocks = 0;
  double work = 0;
  for (unsigned n = 0; n < word.count; ++n) {
    const unsigned own = word.end[n] - word.begin[n];
    blocks += own;
    work += ready[word.ready[n]].block_ns * own;
  }
  for (unsigned n = 0; n < word.count; ++n) {
    const unsigned own = word.end[n] - word.begin[n];
    const double share = most * (ready[word.ready[n]].block_ns * own) / std::max(work, 1e-9);
    word.blocks[n] = blocks <= most ? own : std::clamp(static_cast<unsigned>(share), 1u, own);
  }
}

}  // namespace wideword
