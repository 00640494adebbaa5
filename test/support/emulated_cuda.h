// Stands in for codegen/prelude/cuda.h when emitted CUDA is compiled for the CPU: a block's threads are fibers that take
// turns, and change places at barriers and warp instructions only. Slow; for tests on machines without a GPU.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __CUDA_ARCH__ 900
#define __global__
#define __device__ static
#define __shared__ static
#define __launch_bounds__(threads)
#define __restrict__

struct Index1 { unsigned x; };
static Index1 blockIdx, threadIdx;
struct float2 { float x, y; };
static float2 make_float2(float x, float y) { return {x, y}; }

namespace emulated {
enum { kMaxThreads = 1024, kStack = 128 << 10 };
struct Barrier { int arrived = 0, generation = 0; };
static ucontext_t scheduler, fibers[kMaxThreads];
static bool done[kMaxThreads];
static char* stacks;
static int threads;
static Barrier blockBarrier, groupBarriers[16], warpBarriers[kMaxThreads / 32];
struct Lane { const void* row; unsigned left[4], right[2]; double value; };
static Lane lanes[kMaxThreads];

static void yield() {
  const unsigned me = threadIdx.x;
  swapcontext(&fibers[me], &scheduler);
}
static void wait(Barrier& b, int count) {
  const int generation = b.generation;
  if (++b.arrived == count) {
    b.arrived = 0;
    b.generation++;
    return;
  }
  while (b.generation == generation) yield();
}
static void wait_warp() { wait(warpBarriers[threadIdx.x / 32], 32); }
static Lane* warp() { return lanes + threadIdx.x / 32 * 32; }

static void (*body)(const SlotRow*, const unsigned*);
static const SlotRow* body_rows;
static const unsigned* body_map;
static void start() {
  body(body_rows, body_map);
  done[threadIdx.x] = true;
  for (;;) yield();
}

// Runs one block of `count` threads.
static void run_block(void (*entry)(const SlotRow*, const unsigned*), const SlotRow* rows, const unsigned* map, unsigned block, int count) {
  if (!stacks) stacks = (char*)malloc((size_t)kMaxThreads * kStack);
  threads = count;
  body = entry, body_rows = rows, body_map = map;
  blockIdx.x = block;
  for (int t = 0; t < count; t++) {
    done[t] = false;
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = stacks + (size_t)t * kStack;
    fibers[t].uc_stack.ss_size = kStack;
    fibers[t].uc_link = nullptr;
    makecontext(&fibers[t], start, 0);
  }
  for (int left = count; left > 0;) {
    for (int t = 0; t < count; t++) {
      if (done[t]) continue;
      threadIdx.x = t;
      swapcontext(&scheduler, &fibers[t]);
      if (done[t]) left--;
    }
  }
}
}  // namespace emulated

static void __syncthreads() { emulated::wait(emulated::blockBarrier, emulated::threads); }
static void __syncwarp() { emulated::wait_warp(); }
template <int THREADS> void sync_group(int group) {
  if (THREADS == 32) emulated::wait_warp();
  else emulated::wait(emulated::groupBarriers[group + 1], THREADS);
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int step) {
  emulated::Lane* warp = emulated::warp();
  memcpy(&warp[threadIdx.x % 32].value, &value, sizeof value);
  emulated::wait_warp();
  T other;
  memcpy(&other, &warp[(threadIdx.x % 32) ^ step].value, sizeof other);
  emulated::wait_warp();
  return other;
}

struct half_t { unsigned short bits; };
struct bf16_t { unsigned short bits; };
static float to_float(float v) { return v; }
static float to_float(half_t v) { _Float16 h; memcpy(&h, &v, 2); return (float)h; }
static float to_float(bf16_t v) { const unsigned u = (unsigned)v.bits << 16; float f; memcpy(&f, &u, 4); return f; }
static half_t to_half(float v) { const _Float16 h = (_Float16)v; half_t r; memcpy(&r, &h, 2); return r; }
static bf16_t to_bf16(float v) {
  unsigned u;
  memcpy(&u, &v, 4);
  return {v != v ? (unsigned short)0x7fc0 : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}
static float inf_f32() { return INFINITY; }
static float nan_f32() { return NAN; }

template <int LANES, typename T, typename Combine> T across_lanes(T value, Combine combine) {
  for (int step = (LANES < 32 ? LANES : 32) / 2; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  if (LANES > 32) {
    static T partial[LANES > 32 ? LANES / 32 : 1];
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < LANES / 32; warp++) value = combine(value, partial[warp]);
  }
  return value;
}

static unsigned pack_pair(float low, float high, half_t) { return to_half(low).bits | (unsigned)to_half(high).bits << 16; }
static unsigned pack_pair(float low, float high, bf16_t) { return to_bf16(low).bits | (unsigned)to_bf16(high).bits << 16; }
static float exp_fast(float a) { return exp2f(a * 1.44269504f); }

// Copies land when they are waited for, at the latest: here at once, with their alignment checked.
template <int BYTES, typename T> void copy_async(T* to, const T* buffer, int offset, bool valid) {
  const T* from = buffer + (valid ? offset : 0);
  if ((size_t)to % BYTES != 0 || (size_t)from % BYTES != 0) {
    fprintf(stderr, "copy_async: misaligned\n");
    abort();
  }
  if (valid) memcpy(to, from, BYTES);
  else memset(to, 0, BYTES);
}
static void copies_commit() {}
template <int PENDING> void copies_wait() {}

static void load_matrices_any(unsigned (&r)[4], const void* row, bool transposed) {
  if ((size_t)row % 16 != 0) {
    fprintf(stderr, "load_matrices: misaligned\n");
    abort();
  }
  emulated::Lane* warp = emulated::warp();
  const int lane = threadIdx.x % 32, group = lane / 4, pair = lane % 4 * 2;
  warp[lane].row = row;
  emulated::wait_warp();
  for (int j = 0; j < 4; j++) {
    unsigned short two[2];
    for (int e = 0; e < 2; e++) {
      const int of = transposed ? pair + e : group, at = transposed ? group : pair + e;
      two[e] = ((const unsigned short*)warp[j * 8 + of].row)[at];
    }
    r[j] = two[0] | (unsigned)two[1] << 16;
  }
  emulated::wait_warp();
}
static void load_matrices(unsigned (&r)[4], const void* row) { load_matrices_any(r, row, false); }
static void load_matrices_transposed(unsigned (&r)[4], const void* row) { load_matrices_any(r, row, true); }

template <typename T> void multiply_fragments(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, T) {
  emulated::Lane* warp = emulated::warp();
  const int lane = threadIdx.x % 32;
  memcpy(warp[lane].left, left, sizeof left);
  warp[lane].right[0] = right0, warp[lane].right[1] = right1;
  emulated::wait_warp();
  const auto half = [](unsigned r, int e) { return to_float(T{(unsigned short)(r >> (16 * e))}); };
  for (int c = 0; c < 4; c++) {
    const int row = lane / 4, column = lane % 4 * 2 + c % 2;
    double total = sum[c];
    for (int k = 0; k < 16; k++) {
      const float l = half(warp[row * 4 + k % 8 / 2].left[c / 2 + k / 8 * 2], k % 2);
      const float r = half(warp[column * 4 + k % 8 / 2].right[k / 8], k % 2);
      total += (double)l * r;
    }
    sum[c] = (float)total;
  }
  emulated::wait_warp();
}
