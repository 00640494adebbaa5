// Chooses the next word of the issue engine: which of the requests that could go on now do, on which code, and with how
// many blocks. Knows neither devices nor JavaScript, allocates nothing once made, and the same input always gives the
// same word.
#ifndef WIDEWORD_PACKER_H
#define WIDEWORD_PACKER_H

#include <cstddef>
#include <vector>

#include "codegen/prelude/slot.h"

namespace wideword {

// Physical blocks for each that runs at once. Below it every virtual block gets one of its own: the device deals them
// out better than strides do. Beyond it starting them costs more than that gains.
constexpr unsigned kBlocksAtOnce = 4;

// What is left to run of one request's next task.
struct ReadyTask {
  unsigned row = 0;
  unsigned kernel_class = 0;
  unsigned begin = 0, end = 0;  // virtual blocks
  double block_ns = 0;          // that one of them is expected to take
};

// Code that words can be issued on, and the classes that it has bodies for.
struct PackCode {
  unsigned at_once = 1;        // physical blocks that the device runs at a time
  std::vector<int> body_of;    // by class; -1 if it has none
  double factor = 1;           // how much longer blocks take on it than ReadyTask says
};

struct PackLimits {
  // Nanoseconds that no word is to be expected to take longer; longer tasks are sliced.
  double bound_ns = 0;
  // How many times as long as its first request needs by itself a word may take, to serve others as well.
  double stretch = 1;
  // Nanoseconds that a launch takes beside its blocks.
  double launch_ns = 0;
};

struct PackedWord {
  unsigned code = 0;
  unsigned count = 0;                  // slots, in the order of their requests
  unsigned ready[kMaxIssued] = {};     // which of the ready tasks each slot runs
  unsigned begin[kMaxIssued] = {}, end[kMaxIssued] = {};
  unsigned blocks[kMaxIssued] = {};    // physical
  unsigned body[kMaxIssued] = {};
  double expected_ns = 0;
};

class Packer {
 public:
  Packer(PackLimits limits, unsigned classes);

  void AddCode(PackCode code);
  void SetFactor(unsigned code, double factor) { codes_[code].factor = factor; }
  const std::vector<PackCode>& codes() const { return codes_; }

  // The next word, led by the first of the ready tasks; the others come in order of precedence. False if none of the
  // codes has the first one's class.
  bool Pack(const ReadyTask* ready, std::size_t count, PackedWord& word);

 private:
  // The word on one code, and how much work by itself it does in each nanosecond.
  double Fill(unsigned code, const ReadyTask* ready, std::size_t count, PackedWord& word) const;
  void Deal(const ReadyTask* ready, PackedWord& word) const;

  const PackLimits limits_;
  std::vector<PackCode> codes_;
  std::vector<std::vector<unsigned>> codes_of_;  // by class
};

}  // namespace wideword

#endif
