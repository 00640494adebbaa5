// What the threads of a block do together, written with the instructions that cuda.h has.

// CUDA shuffles no 16-bit floats of ours.
__device__ inline half_t __shfl_xor_sync(unsigned mask, half_t value, int step) {
  return {(unsigned short)__shfl_xor_sync(mask, (unsigned)value.bits, step)};
}
__device__ inline bf16_t __shfl_xor_sync(unsigned mask, bf16_t value, int step) {
  return {(unsigned short)__shfl_xor_sync(mask, (unsigned)value.bits, step)};
}

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
