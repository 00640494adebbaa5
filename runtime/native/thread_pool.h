// Persistent threads that run the blocks of one word at a time. Consecutive small words are the common case, so
// threads spin for a moment before they sleep, and a word is over when its blocks are done, not when every thread has
// shown up: one that is still waking costs nothing.
#ifndef WIDEWORD_THREAD_POOL_H
#define WIDEWORD_THREAD_POOL_H

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "codegen/prelude/slot.h"
#include "runtime/native/gate.h"

namespace wideword {

// Runs the word's physical blocks [first, last) as thread `unit` of the device.
using BlockRunner = void (*)(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit);

class ThreadPool {
 public:
  // `threads` counts the thread that calls Run.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs blocks [0, count) and returns when all are done. One caller at a time.
  void Run(BlockRunner runner, const WordLaunch& launch, unsigned count);

 private:
  void Help(unsigned unit);
  bool RunChunk(unsigned unit);
  void Stop();

  const unsigned threads_;
  unsigned spins_ = 0;
  std::vector<std::thread> helpers_;

  // The word at hand. `cursor_` is its number (upper half) and its next unclaimed chunk; claiming is a compare-and-swap
  // on both, so a thread that read the fields of a word that has since ended cannot claim a chunk of another one.
  alignas(64) std::atomic<std::uint64_t> cursor_{kNoChunk};
  alignas(64) std::atomic<unsigned> done_{0};
  alignas(64) std::atomic<BlockRunner> runner_{nullptr};
  std::atomic<const WordLaunch*> launch_{nullptr};
  std::atomic<unsigned> count_{0};
  std::atomic<unsigned> chunk_{1};
  std::atomic<unsigned> chunks_{0};
  std::atomic<bool> stop_{false};
  Gate started_;
  Gate ended_;

  static constexpr std::uint64_t kNoChunk = 0xffffffffu;
};

}  // namespace wideword

#endif
