#include "runtime/native/thread_pool.h"

#include <algorithm>

namespace wideword {

namespace {

// Enough chunks that one slow block does not hold up a word, few enough that claiming costs nothing.
constexpr unsigned kChunksPerThread = 6;
// Some 20 to 30 microseconds: longer than the gap between two words of a round, shorter than that between most rounds.
constexpr unsigned kSpins = 300;

}  // namespace

ThreadPool::ThreadPool(unsigned threads) : threads_(threads) {
  // Spinning on a processor that another thread of the pool needs only delays that one.
  spins_ = threads <= std::thread::hardware_concurrency() ? kSpins : 1;
  try {
    for (unsigned i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { Help(i); });
  } catch (...) {
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  stop_.store(true, std::memory_order_release);
  started_.Notify();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void ThreadPool::Run(BlockRunner runner, const WordLaunch& launch, unsigned count) {
  if (count == 0) return;
  if (count == 1 || threads_ == 1) {
    runner(launch, 0, count, 0);
    return;
  }
  const unsigned chunk = std::max(1u, count / (threads_ * kChunksPerThread));
  const unsigned chunks = (count + chunk - 1) / chunk;
  // Close the last word for good before its fields change; see cursor_.
  const std::uint64_t number = ((cursor_.load(std::memory_order_relaxed) >> 32) + 1) << 32;
  cursor_.store(number | kNoChunk, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  runner_.store(runner, std::memory_order_relaxed);
  launch_.store(&launch, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  chunk_.store(chunk, std::memory_order_relaxed);
  chunks_.store(chunks, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  cursor_.store(number, std::memory_order_release);
  started_.Notify();
  while (RunChunk(0)) {
  }
  ended_.Wait(spins_, [&] { return done_.load(std::memory_order_acquire) == chunks; });
}

bool ThreadPool::RunChunk(unsigned unit) {
  std::uint64_t cursor = cursor_.load(std::memory_order_acquire);
  for (;;) {
    const unsigned next = static_cast<unsigned>(cursor);
    const BlockRunner runner = runner_.load(std::memory_order_relaxed);
    const WordLaunch* launch = launch_.load(std::memory_order_relaxed);
    const unsigned count = count_.load(std::memory_order_relaxed);
    const unsigned chunk = chunk_.load(std::memory_order_relaxed);
    const unsigned chunks = chunks_.load(std::memory_order_relaxed);
    if (next >= chunks) return false;
    // If any field above is of a later word, then this sees that word's number and fails.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!cursor_.compare_exchange_weak(cursor, cursor + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    const unsigned first = next * chunk;
    runner(*launch, first, std::min(count, first + chunk), unit);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) ended_.Notify();
    return true;
  }
}

void ThreadPool::Help(unsigned unit) {
  std::uint64_t seen = 0;  // number of the last word that this thread helped with
  for (;;) {
    std::uint64_t cursor = 0;
    started_.Wait(spins_, [&] {
      cursor = cursor_.load(std::memory_order_acquire);
      const bool open = static_cast<unsigned>(cursor) != kNoChunk && (cursor >> 32) != seen;
      return open || stop_.load(std::memory_order_acquire);
    });
    if (stop_.load(std::memory_order_acquire)) return;
    seen = cursor >> 32;
    while (RunChunk(unit)) {
    }
  }
}

}  // namespace wideword
