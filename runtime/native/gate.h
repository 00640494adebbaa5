// Waiting for a change that another thread makes: spins for a moment, then sleeps. Waking a sleeping thread takes tens
// of microseconds, which is more than many a word does.
#ifndef WIDEWORD_GATE_H
#define WIDEWORD_GATE_H

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace wideword {

class Gate {
 public:
  // Returns once `ready()`, which reads what other threads change.
  template <class Ready>
  void Wait(unsigned spins, Ready ready) {
    for (unsigned i = 0; i < spins; ++i) {
      if (ready()) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    // Pairs with the fence in Notify: either that sees this sleeper, or the check below sees the change.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    changed_.wait(lock, ready);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  // To be called after the change.
  void Notify() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_relaxed) == 0) return;
    // Taking the lock makes sure that a sleeper is not between its check and its sleep.
    { std::lock_guard<std::mutex> lock(mutex_); }
    changed_.notify_all();
  }

 private:
  static void Pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<unsigned> sleepers_{0};
};

}  // namespace wideword

#endif
