// Stands in for codegen/prelude/cuda.h when emitted CUDA is compiled for the CPU. Slow; for tests on machines without a GPU.
#include <math.h>

#define __CUDA_ARCH__ 900
#define __global__ static
#define __device__ static
#define __launch_bounds__(...)
#define __restrict__

#define WORD_LAUNCH const WordLaunch&
#define BLOCK_SHARED(type, name) __shared__ type name

static void let_next_word_begin() {}
static void await_word_before() {}

// Its clock counts what threads ask for the time.
UNSEEN static unsigned long long nanoseconds() { static unsigned long long now; return ++now; }
static unsigned unit_index() { return 0; }

struct float2 { float x, y; };
static float2 make_float2(float x, float y) { return {x, y}; }

namespace emulated {
// What a lane shows to its warp.
struct Lane { const void* row; unsigned left[4], right[2]; double value; };
static Lane lanes[kMaxThreads];
UNSEEN static Lane* warp() { return lanes + threadIdx.x / 32 * 32; }
UNSEEN static void meet_warp() { barriers.warp[threadIdx.x / 32].wait(32, false); }

template <typename T> UNSEEN static T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(double), "a value that fits a lane");
  __builtin_memcpy(&warp()[threadIdx.x % 32].value, &value, sizeof value);
  meet_warp();
  T other;
  __builtin_memcpy(&other, &warp()[from].value, sizeof other);
  meet_warp();
  return other;
}
}  // namespace emulated

static void __syncthreads() { emulated::barriers.block.wait(emulated::present, true); }
static void __syncwarp() { emulated::barriers.warp[threadIdx.x / 32].wait(32, true); }
template <int THREADS> static void sync_group(int group) {
  if (THREADS == 32) __syncwarp();
  else emulated::barriers.group[group + 1].wait(THREADS, true);
}
static int __syncthreads_or(int mine) {
  static int any;
  const auto gather = [](int value, bool sets) __attribute__((noinline, no_sanitize("thread"))) { return any = sets ? value : any | value; };
  gather(mine, false);
  __syncthreads();
  const int result = gather(0, false);
  __syncthreads();
  if (threadIdx.x == 0) gather(0, true);
  __syncthreads();
  return result;
}
// For the types that CUDA has it for, and no others.
#define SHUFFLE(T) \
  static T __shfl_xor_sync(unsigned, T value, int step) { return emulated::exchange(value, (threadIdx.x % 32) ^ (unsigned)step); }
SHUFFLE(int) SHUFFLE(unsigned) SHUFFLE(long) SHUFFLE(unsigned long) SHUFFLE(long long) SHUFFLE(unsigned long long) SHUFFLE(float) SHUFFLE(double)
#undef SHUFFLE

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
static unsigned pack_pair(float low, float high, half_t) { return to_half(low).bits | (unsigned)to_half(high).bits << 16; }
static unsigned pack_pair(float low, float high, bf16_t) { return to_bf16(low).bits | (unsigned)to_bf16(high).bits << 16; }
static float div_nearly(float a, float b) { return a / b; }
static float exp_fast(float a) { return exp2f(a * 1.44269504f); }
static float inf_f32() { return INFINITY; }
static float nan_f32() { return NAN; }

static void reads_first() {}
template <typename V> static void load_if(V& value, const void* from, bool valid) {
  if (valid) value = *(const V*)from;
}

namespace emulated {
// What a thread leaves for other blocks lands as late as it may, at its next fence; that of a thread without one is never seen.
struct Left { float* at; float value[4]; };
struct Leavings { Left left[256]; int count; unsigned block; };
static Leavings* leavings[kMaxThreads];

UNSEEN static Leavings& own_leavings() {
  Leavings*& own = leavings[threadIdx.x];
  if (!own) own = (Leavings*)calloc(1, sizeof(Leavings)), own->block = ~0u;
  if (own->block != blockIdx.x) own->count = 0, own->block = blockIdx.x;
  return *own;
}
UNSEEN static void leave(float* at, const float* value) {
  Leavings& own = own_leavings();
  if ((size_t)at % 16 != 0) fail("a vector that is not aligned");
  if (own.count == 256) fail("too much left for other blocks at once");
  Left& left = own.left[own.count++];
  left.at = at;
  for (int n = 0; n < 4; n++) left.value[n] = value[n];
}
UNSEEN static bool take_leaving(Left& taken) {
  Leavings& own = own_leavings();
  if (own.count == 0) return false;
  taken = own.left[--own.count];
  return true;
}
UNSEEN static void note_fence() { fenced[threadIdx.x] = atomics; }
UNSEEN static void need_fence() {
  if (fenced[threadIdx.x] != atomics) fail("what other blocks left is read without a fence after the count");
}
// Wraps round beyond `last`. Orders those who count, for the thread sanitizer.
UNSEEN static unsigned count_up(unsigned* counter, unsigned last) {
  for (Leavings* l : leavings)
    if (l && l->block == blockIdx.x && l->count > 0) fail("a block counts itself, but no fence stands behind what it left");
  atomics++;
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(counter);
  __tsan_release(counter);
#endif
  const unsigned old = *counter;
  *counter = old >= last ? 0 : old + 1;
  return old;
}
}  // namespace emulated

static unsigned atomicInc(unsigned* counter, unsigned last) { return emulated::count_up(counter, last); }
static void leave_floats(float* at, const float (&v)[4]) { emulated::leave(at, v); }
static void take_floats(float (&v)[4], const float* at) {
  emulated::need_fence();
  for (int n = 0; n < 4; n++) v[n] = at[n];
}
static void fence_device() {
  for (emulated::Left left; emulated::take_leaving(left);)
    for (int n = 0; n < 4; n++) left.at[n] = left.value[n];
  emulated::note_fence();
}

namespace emulated {
// Copies land as late as they may, when they are waited for, so that one that nobody waits for shows; their target is in use from the
// start.
struct Copy { void* to; const void* from; int bytes; bool valid; };
enum { kMaxCopies = 512, kMaxBatches = 16 };
struct Copies {
  Copy copy[kMaxCopies];
  int count, batches, ends[kMaxBatches];  // ends of the committed batches
  unsigned block;
};
static Copies* copies[kMaxThreads];

UNSEEN static Copies& own_copies() {
  Copies*& own = copies[threadIdx.x];
  if (!own) own = (Copies*)calloc(1, sizeof(Copies)), own->block = ~0u;
  if (own->block != blockIdx.x) own->count = own->batches = 0, own->block = blockIdx.x;
  return *own;
}
UNSEEN static void start_copy(void* to, const void* from, int bytes, bool valid) {
  if ((size_t)to % bytes != 0 || (valid && (size_t)from % bytes != 0)) fail("a copy that is not aligned");
  Copies& own = own_copies();
  if (own.count == kMaxCopies) fail("too many copies");
  own.copy[own.count++] = {to, from, bytes, valid};
#if defined(__SANITIZE_THREAD__)
  __tsan_write_range(to, (unsigned long)bytes);
#endif
}
// Takes the next copy that must have landed for at most `pending` batches to be under way; false if there is none.
UNSEEN static bool take_copy(int pending, Copy& taken) {
  Copies& own = own_copies();
  while (own.batches > pending && own.ends[0] == 0) {
    own.batches--;
    for (int b = 0; b < own.batches; b++) own.ends[b] = own.ends[b + 1];
  }
  if (own.batches <= pending) return false;
  taken = own.copy[0];
  own.count--;
  for (int c = 0; c < own.count; c++) own.copy[c] = own.copy[c + 1];
  for (int b = 0; b < own.batches; b++) own.ends[b]--;
  return true;
}
}  // namespace emulated

namespace emulated {
// Products of warpgroups that are under way, by thread: each thread works out the sums that it holds.
struct Product { float* sums; const void *left, *right; int k, n; void (*multiply)(const Product&); };
enum { kMaxProducts = 128 };
struct Products {
  Product product[kMaxProducts];
  int count, batches, ends[kMaxBatches];
  unsigned block;
};
static Products* products[kMaxThreads];

UNSEEN static Products& own_products() {
  Products*& own = products[threadIdx.x];
  if (!own) own = (Products*)calloc(1, sizeof(Products)), own->block = ~0u;
  if (own->block != blockIdx.x) own->count = own->batches = 0, own->block = blockIdx.x;
  return *own;
}
UNSEEN static void add_product(const Product& p) {
  Products& own = own_products();
  if (own.count == kMaxProducts) fail("too many products");
  own.product[own.count++] = p;
}
UNSEEN static void commit_products() {
  Products& own = own_products();
  if (own.batches == kMaxBatches) fail("too many batches of products");
  own.ends[own.batches++] = own.count;
}
// The next product that must be done for at most `pending` batches to be under way; false if there is none.
UNSEEN static bool take_product(int pending, Product& taken) {
  Products& own = own_products();
  while (own.batches > pending && own.ends[0] == 0) {
    own.batches--;
    for (int b = 0; b < own.batches; b++) own.ends[b] = own.ends[b + 1];
  }
  if (own.batches <= pending) return false;
  taken = own.product[0];
  own.count--;
  for (int p = 0; p < own.count; p++) own.product[p] = own.product[p + 1];
  for (int b = 0; b < own.batches; b++) own.ends[b]--;
  return true;
}
static void multiply_pending(int pending) {
  for (Product p; take_product(pending, p);) p.multiply(p);
}
}  // namespace emulated

template <int BYTES, typename T> static void copy_async(T* to, const T* buffer, int offset, bool valid) {
  emulated::start_copy(to, valid ? buffer + offset : buffer, BYTES, valid);
}
UNSEEN static void copies_commit() {
  emulated::Copies& own = emulated::own_copies();
  if (own.batches == emulated::kMaxBatches) emulated::fail("too many batches of copies");
  own.ends[own.batches++] = own.count;
}
template <int PENDING> static void copies_wait() {
  for (emulated::Copy c; emulated::take_copy(PENDING, c);) {
    if (c.valid) memcpy(c.to, c.from, (size_t)c.bytes);
    else memset(c.to, 0, (size_t)c.bytes);
  }
}

namespace emulated {
UNSEEN static void show_row(const void* row) {
  if ((size_t)row % 16 != 0) fail("a matrix row that is not aligned");
  warp()[threadIdx.x % 32].row = row;
  meet_warp();
}
UNSEEN static const unsigned short* row_of(int lane) { return (const unsigned short*)warp()[lane].row; }
}  // namespace emulated

static void load_matrices_any(unsigned (&r)[4], const void* row, bool transposed) {
  const int lane = threadIdx.x % 32, group = lane / 4, pair = lane % 4 * 2;
  emulated::show_row(row);
  for (int j = 0; j < 4; j++) {
    unsigned short two[2];
    for (int e = 0; e < 2; e++) {
      const int of = transposed ? pair + e : group, at = transposed ? group : pair + e;
      two[e] = emulated::row_of(j * 8 + of)[at];
    }
    r[j] = two[0] | (unsigned)two[1] << 16;
  }
  emulated::meet_warp();
}
static void load_matrices(unsigned (&r)[4], const void* row) { load_matrices_any(r, row, false); }
static void load_matrices_transposed(unsigned (&r)[4], const void* row) { load_matrices_any(r, row, true); }

template <typename T> UNSEEN static void multiply_fragments(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, T) {
  emulated::Lane* warp = emulated::warp();
  const int lane = threadIdx.x % 32;
  for (int n = 0; n < 4; n++) warp[lane].left[n] = left[n];
  warp[lane].right[0] = right0, warp[lane].right[1] = right1;
  emulated::meet_warp();
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
  emulated::meet_warp();
}

// Products of warpgroups are carried out as late as they may be, when they are waited for, on what their tiles hold then.
static void products_begin() {}
static void products_commit() { emulated::commit_products(); }
template <int PENDING> static void multiplied() { emulated::multiply_pending(PENDING); }
template <int COUNT> static void hold_sums(float (&)[COUNT][4]) {}
#define WARPGROUP_PRODUCT(...)

template <int K> static int swizzled(int row, int column);
template <int K, int N, typename T> static void start_product(float (&sums)[N / 8][4], const T* left, const T* right, int k) {
  if ((size_t)left % (16 * K) != 0 || (size_t)right % (16 * K) != 0) emulated::fail("a tile for a warpgroup that is not aligned");
  emulated::add_product({&sums[0][0], left, right, k, N, [](const emulated::Product& p) {
    const int row = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    const auto at = [&](const void* tile, int r, int k) { return (double)to_float(((const T*)tile)[r * K + swizzled<K>(r, k)]); };
    for (int i = 0; i < p.n / 8; i++)
      for (int c = 0; c < 4; c++) {
        double total = p.sums[i * 4 + c];
        for (int e = p.k; e < p.k + 16; e++) total += at(p.left, row + c / 2 * 8, e) * at(p.right, i * 8 + column + c % 2, e);
        p.sums[i * 4 + c] = (float)total;
      }
  }});
}
