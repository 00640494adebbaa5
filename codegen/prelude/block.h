// What the threads of a block do together, written with the instructions that cuda.h has.

// Room for a number of each warp of a block. All that meets here uses the same.
__device__ inline void* warp_results() {
  __shared__ unsigned long long results[32];
  return results;
}

// Combines one value of each of LANES neighbouring threads by a butterfly, so every lane gets the same bits. Up to a warp
// the values travel by shuffle, beyond it the warps' results meet in shared memory.
template <int LANES, typename T, typename Combine>
__device__ inline T across_lanes(T value, Combine combine) {
  for (int step = (LANES < 32 ? LANES : 32) / 2; step > 0; step /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  if (LANES > 32) {
    T* const partial = (T*)warp_results();
    __syncthreads();  // an earlier use of it is over
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < LANES / 32; warp++) value = combine(value, partial[warp]);
  }
  return value;
}

// acc[j][i] += a[k][m] * b[k][n] over the K rows of two staged tiles, k in order. Thread (tx, ty) holds the positions
// m = tx + i * TX and n = ty + j * TY.
template <int RM, int RN, int TX, int TY, int K, int PitchA, int PitchB>
__device__ inline void multiply_tiles(float (&acc)[RN][RM], const float (&a)[K][PitchA], const float (&b)[K][PitchB], int tx, int ty) {
#pragma unroll 8
  for (int k = 0; k < K; k++) {
    float am[RM], bn[RN];
#pragma unroll
    for (int i = 0; i < RM; i++) am[i] = a[k][tx + i * TX];
#pragma unroll
    for (int j = 0; j < RN; j++) bn[j] = b[k][ty + j * TY];
#pragma unroll
    for (int j = 0; j < RN; j++) {
#pragma unroll
      for (int i = 0; i < RM; i++) acc[j][i] = fmaf(am[i], bn[j], acc[j][i]);
    }
  }
}
