// What stands in for CUDA when an emitted kernel is compiled for the CPU: one thread a block, blocks dealt out by the
// runtime's pool. Shared memory is the thread's own stack, a barrier is nothing.
#include <math.h>
#include <time.h>

#define __global__
#define __device__ static
#define __shared__ alignas(64)
#define __launch_bounds__(...)
#define __syncthreads() ((void)0)

struct BlockIndex { unsigned x; };
static thread_local BlockIndex blockIdx;
static constexpr struct { unsigned x; } threadIdx = {0};
#define WORD_LAUNCH const WordLaunch&
#define BLOCK_SHARED(type, name) __shared__ type name

static thread_local unsigned this_unit;
__device__ inline unsigned unit_index() { return this_unit; }
__device__ inline unsigned long long nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

typedef _Float16 half_t;
struct bf16_t { unsigned short bits; };

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(half_t v) { return (float)v; }
__device__ inline float to_float(bf16_t v) {
  const unsigned u = (unsigned)v.bits << 16;
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}
__device__ inline half_t to_half(float v) { return (half_t)v; }
__device__ inline bf16_t to_bf16(float v) {
  unsigned u;
  __builtin_memcpy(&u, &v, 4);
  bf16_t b;
  b.bits = v != v ? 0x7fc0 : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  return b;
}

__device__ inline float div_nearly(float a, float b) { return a / b; }
__device__ inline float inf_f32() { return __builtin_inff(); }
__device__ inline float nan_f32() { return __builtin_nanf(""); }

template <int LANES, typename T, typename Combine>
__device__ inline T across_lanes(T value, Combine) {
  static_assert(LANES == 1, "the host schedule has one thread a block");
  return value;
}

// The widest vector of floats the CPU has, loaded from any address.
#if defined(__AVX512F__)
enum { kVector = 16 };
#else
enum { kVector = 8 };
#endif
typedef float vector_t __attribute__((vector_size(4 * kVector), aligned(4), may_alias));
typedef float native_t __attribute__((vector_size(4 * kVector)));

// a * b + c: fused where the CPU can, so that results do not depend on how the compiler groups things.
__device__ inline vector_t multiply_add(vector_t a, vector_t b, vector_t c) {
#if defined(__AVX512F__)
  return (vector_t)__builtin_ia32_vfmaddps512_mask((native_t)a, (native_t)b, (native_t)c, (unsigned short)-1, 4);
#elif defined(__FMA__)
  return (vector_t)__builtin_ia32_vfmaddps256((native_t)a, (native_t)b, (native_t)c);
#else
  return a * b + c;
#endif
}
__device__ inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// One register block of the product: V vectors along m by J columns, over all of K.
template <int V, int J, int TM, int TN, int K>
__device__ inline void multiply_block(float (*acc)[TM], const float (*a)[TM], const float (*b)[TN]) {
  vector_t sum[J][V];
  for (int j = 0; j < J; j++)
    for (int v = 0; v < V; v++) sum[j][v] = *(const vector_t*)&acc[j][v * kVector];
  for (int k = 0; k < K; k++) {
    vector_t am[V];
    for (int v = 0; v < V; v++) am[v] = *(const vector_t*)&a[k][v * kVector];
    for (int j = 0; j < J; j++) {
      const vector_t bn = b[k][j] - vector_t{};  // a broadcast: subtracting +0 keeps every bit
      for (int v = 0; v < V; v++) sum[j][v] = multiply_add(am[v], bn, sum[j][v]);
    }
  }
  for (int j = 0; j < J; j++)
    for (int v = 0; v < V; v++) *(vector_t*)&acc[j][v * kVector] = sum[j][v];
}

// acc[j][i] += a[k][i] * b[k][j] over the K rows of two staged tiles, k in order.
template <int RM, int RN, int K>
__device__ inline void multiply_tiles(float (&acc)[RN][RM], const float (&a)[K][RM], const float (&b)[K][RN]) {
  static_assert(RM % (2 * kVector) == 0, "the host schedule's tile");
  enum { kColumns = RN % 6 == 0 ? 6 : RN % 4 == 0 ? 4 : 1 };
  for (int j = 0; j < RN; j += kColumns)
    for (int i = 0; i < RM; i += 2 * kVector)
      multiply_block<2, kColumns, RM, RN, K>((float (*)[RM])&acc[j][i], (const float (*)[RM])&a[0][i], (const float (*)[RN])&b[0][j]);
}
