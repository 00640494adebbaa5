// What emitted kernels need on a GPU. Includes nothing, so NVRTC needs no headers.

#define WORD_LAUNCH const __grid_constant__ WordLaunch

// A word may begin while the one before it ends (programmatic dependent launch, sm_90 and later). Every block of every word does both:
// lets the next word's blocks come as soon as all of its own have a place, and waits for the end of the word before, and thus of all
// before that, ere it reads or writes what any of them may write. Where other words could use the places (lanes, branches) it waits first,
// so that no more than one word of a chain holds places for nothing.
__device__ inline void let_next_word_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ inline void await_word_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  let_next_word_begin();
}

__device__ inline unsigned long long nanoseconds() {
  unsigned long long ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}
__device__ inline unsigned unit_index() {
  unsigned multiprocessor;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
  return multiprocessor;
}

// Half floats as their bits; arithmetic on them is done in float.
struct half_t { unsigned short bits; };
struct bf16_t { unsigned short bits; };

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(half_t v) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
  return f;
}
__device__ inline float to_float(bf16_t v) { return __uint_as_float((unsigned)v.bits << 16); }
__device__ inline half_t to_half(float v) {
  half_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(v));
  return h;
}
__device__ inline bf16_t to_bf16(float v) {
  const unsigned u = __float_as_uint(v);
  bf16_t b;
  b.bits = v != v ? 0x7fc0 : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  return b;
}

// For all floats, without a branch: an exact quotient has one for operands near the ends of their range.
__device__ inline float div_nearly(float a, float b) {
  float r;
  asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}

__device__ inline float inf_f32() { return __int_as_float(0x7f800000); }
__device__ inline float nan_f32() { return __int_as_float(0x7fc00000); }

// One instruction each on sm_80 and later.
#if __CUDA_ARCH__ >= 800
template <> __device__ inline float max_of<float>(float a, float b) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
template <> __device__ inline float min_of<float>(float a, float b) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
#endif

// Reads sizeof(V) bytes (1, 2, 4, 8 or 16, and aligned to as many) from device memory if that is valid, without a branch.
template <typename V>
__device__ inline void load_if(V& value, const void* from, bool valid) {
  union { V value; unsigned short half; unsigned word[4]; } to;
  to.value = value;
  const unsigned long long at = __cvta_generic_to_global(from);
  if (sizeof(V) == 16) {
    asm("{ .reg .pred p; setp.ne.s32 p, %5, 0; @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4]; }"
        : "+r"(to.word[0]), "+r"(to.word[1]), "+r"(to.word[2]), "+r"(to.word[3]) : "l"(at), "r"((int)valid));
  } else if (sizeof(V) == 8) {
    asm("{ .reg .pred p; setp.ne.s32 p, %3, 0; @p ld.global.v2.u32 {%0, %1}, [%2]; }" : "+r"(to.word[0]), "+r"(to.word[1]) : "l"(at), "r"((int)valid));
  } else if (sizeof(V) == 4) {
    asm("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p ld.global.u32 %0, [%1]; }" : "+r"(to.word[0]) : "l"(at), "r"((int)valid));
  } else if (sizeof(V) == 2) {
    asm("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p ld.global.u16 %0, [%1]; }" : "+h"(to.half) : "l"(at), "r"((int)valid));
  } else {
    asm("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p ld.global.u8 %0, [%1]; }" : "+h"(to.half) : "l"(at), "r"((int)valid));
  }
  value = to.value;
}

// Reads before this point start before anything that uses one of them: without it few of many are under way together.
__device__ inline void reads_first() { asm volatile("fence.acq_rel.cta;" ::: "memory"); }

// Floats that blocks leave for one another within a launch. Reads go past the cache that each multiprocessor has of its own.
__device__ inline void leave_floats(float* at, const float (&v)[4]) {
  asm volatile("st.global.cg.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(at)), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]) : "memory");
}
__device__ inline void take_floats(float (&v)[4], const float* at) {
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "l"(__cvta_generic_to_global(at)));
}
// Keeps what a thread reads and writes before it apart from what comes after it, for all of the device.
__device__ inline void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// A variable in the shared memory that a block is given at launch: the kernels of a wide word have the same bytes for theirs.
#define BLOCK_SHARED(type, name)                          \
  extern __shared__ __align__(1024) unsigned char asked[]; \
  type& name = *(type*)asked

// Instructions of sm_80 and later, for products of 16-bit floats on tensor cores (see mma.h).
#if __CUDA_ARCH__ >= 800

__device__ inline unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Starts a copy of BYTES (4, 8 or 16, and aligned to as many) from buffer[offset] to shared memory; zeros if it is not valid.
template <int BYTES, typename T>
__device__ inline void copy_async(T* to, const T* buffer, int offset, bool valid) {
  const T* from = buffer + (valid ? offset : 0);
  const int size = valid ? BYTES : 0;
  if (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(size) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(BYTES), "r"(size) : "memory");
  }
}
// Copies started since the last commit form a batch; waits until at most PENDING batches of this thread are under way.
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ inline void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// Four 8x8 matrices, one register of each a thread; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ inline void load_matrices_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// sum (16 by 8) += left (16 by 16) * right (16 by 8).
__device__ inline void multiply_fragments(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, half_t) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}
__device__ inline void multiply_fragments(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, bf16_t) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// Two floats as a register of 16-bit floats, as fragments have them.
__device__ inline unsigned pack_pair(float low, float high, half_t) {
  unsigned r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
__device__ inline unsigned pack_pair(float low, float high, bf16_t) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// e to the power a, for what is rounded to 16 bits or summed next: within 2^-21 of it for the a <= 0 of a softmax.
__device__ inline float exp_fast(float a) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a * 1.44269504f));
  return r;
}

// A barrier of the THREADS threads of one group; `group` is less than 15.
template <int THREADS>
__device__ inline void sync_group(int group) {
  if (THREADS == 32) {
    __syncwarp();
  } else {
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(THREADS) : "memory");
  }
}
#endif

// Instructions of sm_90a, for products of warpgroups (see warpgroup.h).
#if __CUDA_ARCH__ >= 900

// Around the products of a step: what is in the sums is there; they are one batch. What asynchronous copies brought is seen once their threads have
// waited for it and met at a barrier, as in CUTLASS's multistage kernels; the proxy fence that the PTX manual asks for would also wait for all the
// copies of later steps.
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most PENDING batches of products are under way.
template <int PENDING>
__device__ inline void multiplied() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }
// Keeps the compiler from reading sums before this point.
template <int COUNT>
__device__ inline void hold_sums(float (&sums)[COUNT][4]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(sums[i][0]), "+f"(sums[i][1]), "+f"(sums[i][2]), "+f"(sums[i][3])::"memory");
}

// Where the tensor cores find a tile: rows of K 16-bit floats, in groups of eight rows, `swizzled` as the hardware does it.
template <int K>
__device__ inline unsigned long long tile_descriptor(const void* rows) {
  static_assert(K == 32 || K == 64, "rows of 64 or 128 bytes");
  constexpr unsigned long long kSwizzle = K == 64 ? 1 : 2, kEightRows = 8 * K * 2;
  return (shared_address(rows) >> 4 & 0x3fff) | 1ull << 16 | kEightRows >> 4 << 32 | kSwizzle << 62;
}

// sums (64 by N) += left (64 by 16) * right (N by 16, transposed), by one instruction; WARPGROUP_PRODUCT defines it for an N.
template <int N, typename T>
struct Product;
template <int K, int N, typename T>
__device__ inline void start_product(float (&sums)[N / 8][4], const T* left, const T* right, int k) {
  Product<N, T>::start(sums, tile_descriptor<K>(left) + k / 8, tile_descriptor<K>(right) + k / 8);
}
#define WARPGROUP_PRODUCT(N, T, TYPES, SUMS, LEFT, RIGHT, ...)                                                                     \
  template <>                                                                                                                     \
  struct Product<N, T> {                                                                                                          \
    static __device__ inline void start(float (&sums)[N / 8][4], unsigned long long left, unsigned long long right) {             \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPES " {" SUMS "}, " LEFT ", " RIGHT ", 1, 1, 1, 0, 0;" \
                   : __VA_ARGS__ : "l"(left), "l"(right));                                                                        \
    }                                                                                                                             \
  }
#define EIGHT_COLUMNS(i) "+f"(sums[i][0]), "+f"(sums[i][1]), "+f"(sums[i][2]), "+f"(sums[i][3])
#endif
