// A block's threads as fibers of one CPU thread. They change places at barriers and warp instructions only, in an order that differs
// from turn to turn. Sanitizers are told of every change: to the thread sanitizer each thread of each block is a thread of its own, which
// only barriers and atomic instructions order, so it finds every pair of accesses, within a block or between blocks of one launch, that
// nothing else keeps apart.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_write_range(void* address, unsigned long size);
// Meant for the heaps of Java machines: memory that is freed and allocated again is nobody's, and orders nobody.
void __tsan_java_init(unsigned long heap, unsigned long bytes);
void __tsan_java_free(unsigned long address, unsigned long bytes);
void __tsan_java_alloc(unsigned long address, unsigned long bytes);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
}
#endif

// Marks the emulator's own work, which is no access of the emulated program.
#define UNSEEN __attribute__((noinline, no_sanitize("thread", "address")))

struct Index1 { unsigned x; };
static Index1 blockIdx, threadIdx;

// Where shared variables lie, so that a block finds them unset, as on a GPU.
#define __shared__ static __attribute__((section("block_shared")))
__attribute__((used)) __shared__ char any_shared_at_all[16];  // so that the section is there
extern "C" char __start_block_shared[], __stop_block_shared[];

namespace emulated {

enum { kMaxThreads = 1024, kStack = 256 << 10 };

[[noreturn]] UNSEEN static void fail(const char* what) {
  fprintf(stderr, "emulator: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
  exit(70);
}

// What orders the accesses of threads, for the thread sanitizer.
struct Order {
  char at;
  UNSEEN void release() {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&at);
#endif
  }
  UNSEEN void acquire() {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&at);
#endif
  }
};

struct Fiber {
#if defined(__x86_64__)
  void* top;  // of the stack, while the fiber does not run
#else
  ucontext_t context;
#endif
  char* stack;
  void* sanitized;
  bool done;
};
static Fiber fibers[kMaxThreads], scheduler;
static unsigned random_state;
// Arrivals at barriers, departures and ends: a turn of all threads without one means that they wait for ever.
static unsigned long progress;
static Order launch_begin, launch_end;

// From here on the memory (of whole 8 bytes) is another block's: what was done to it before is no matter of races, and orders nobody.
UNSEEN static void forget(void* from, size_t bytes) {
#if defined(__SANITIZE_THREAD__)
  __tsan_java_free((unsigned long)from, bytes + 7 & ~7ul);
  __tsan_java_alloc((unsigned long)from, bytes + 7 & ~7ul);
#endif
}

#if defined(__x86_64__)
// Saves what a call must keep and the stack, and takes up another one. swapcontext does more: two system calls.
__attribute__((naked, noinline, no_sanitize("thread", "address", "undefined"))) static void swap_stacks(void**, void*) {
  asm("pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
      "movq %rsp, (%rdi); movq %rsi, %rsp\n"
      "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}
#endif

// Lets a fiber begin at `start` when it is next switched to.
UNSEEN static void prepare(Fiber& f, void (*start)()) {
#if defined(__x86_64__)
  void** top = (void**)(f.stack + kStack) - 3;
  *top = nullptr;  // a return address of nobody: the stack is then aligned as after a call
  *--top = (void*)start;
  f.top = top - 6;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = kStack;
  f.context.uc_link = nullptr;
  makecontext(&f.context, start, 0);
#endif
}

UNSEEN static void switch_to(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.sanitized, 1);  // 1: orders nothing
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, to.stack, kStack);
#endif
#if defined(__x86_64__)
  swap_stacks(&from.top, to.top);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}
UNSEEN static void yield() { switch_to(fibers[threadIdx.x], scheduler); }

// A barrier of `count` threads. One that orders memory does so for the thread sanitizer, too.
struct Barrier {
  int arrived = 0;
  unsigned generation = 0;
  Order order[2];  // in turns, as a fast thread may be at the next barrier before a slow one has left this

  UNSEEN void open() {
    arrived = 0;
    generation++;
  }
  UNSEEN void wait(int count, bool orders_memory) {
    const unsigned now = generation;
    if (orders_memory) order[now % 2].release();
    progress++;
    if (++arrived == count) {
      open();
    } else {
      while (generation == now) yield();
    }
    progress++;
    if (orders_memory) order[now % 2].acquire();
  }
};
// Threads of the block that have not ended: only these are waited for where the whole block meets.
static int present;
static struct alignas(8) Barriers {
  Barrier block, group[16], warp[kMaxThreads / 32];
} barriers;
// Atomic instructions of all blocks so far, and how many there had been at each thread's last fence.
static unsigned long atomics, fenced[kMaxThreads];

using Entry = void (*)(const WordLaunch&);
static Entry body;
static const WordLaunch* body_launch;

UNSEEN static void start() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  scheduler.stack = (char*)bottom;
#endif
  launch_begin.acquire();
  body(*body_launch);
  launch_end.release();
  fibers[threadIdx.x].done = true;
  progress++;
  if (--present > 0 && barriers.block.arrived == present) barriers.block.open();
  for (;;) yield();
}

UNSEEN static unsigned random_below(unsigned n) {
  random_state = random_state * 1664525u + 1013904223u;
  return (unsigned)((unsigned long long)random_state * n >> 32);
}

// Runs one block of `threads` threads.
UNSEEN static void run_block(Entry entry, const WordLaunch& launch, unsigned block, int threads) {
  if (threads > kMaxThreads) fail("too many threads");
  for (char* at = __start_block_shared; at < __stop_block_shared; at++) *at = (char)0xff;
  body = entry, body_launch = &launch;
  blockIdx.x = block;
  present = threads;
  forget(__start_block_shared, __stop_block_shared - __start_block_shared);
  forget(&barriers, sizeof barriers);
  barriers = Barriers();
  atomics++;  // a fence of the block before is none of this one's
  static int order[kMaxThreads];
#if defined(__SANITIZE_THREAD__)
  scheduler.sanitized = __tsan_get_current_fiber();
#endif
  for (int t = 0; t < threads; t++) {
    Fiber& f = fibers[t];
    if (!f.stack) f.stack = (char*)malloc(kStack);
#if defined(__SANITIZE_THREAD__)
    forget(f.stack, kStack);
    f.sanitized = __tsan_create_fiber(0);
#endif
    f.done = false;
    prepare(f, start);
    order[t] = t;
  }
  for (int left = threads; left > 0;) {
    for (int t = threads - 1; t > 0; t--) {
      const int other = (int)random_below((unsigned)t + 1), held = order[t];
      order[t] = order[other], order[other] = held;
    }
    const unsigned long before = progress;
    for (int n = 0; n < threads; n++) {
      Fiber& f = fibers[order[n]];
      if (f.done) continue;
      threadIdx.x = (unsigned)order[n];
      switch_to(scheduler, f);
      if (f.done) left--;
    }
    if (progress == before) fail("threads wait at a barrier that others never reach");
  }
#if defined(__SANITIZE_THREAD__)
  for (int t = 0; t < threads; t++) __tsan_destroy_fiber(fibers[t].sanitized);
#endif
}
}  // namespace emulated
