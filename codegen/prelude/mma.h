// Matrix products on tensor cores: tiles of 16-bit floats in shared memory, sums in float. Written with the instructions that
// cuda.h has.
#if __CUDA_ARCH__ >= 800

// Where a column of a row of K elements lies, in a tile without padding: groups of 8 change places within the row, so that those of eight
// rows at one column lie in different banks. Rows that are a multiple of 8 apart are alike. A row of an odd number of groups, as padded
// ones are, stays as it is.
template <int K>
__device__ inline int swizzled(int row, int column) {
  constexpr int kGroups = (K / 8) & -(K / 8), kRows = K < 64 ? 64 / K : 1;  // kRows of them fill the banks once
  return column ^ (int)((unsigned)row / kRows % (kGroups < 8 ? kGroups : 8)) * 8;
}

// Fragments of a tile for `multiply_fragments`: the left one is 16 positions of n by 16 of k, the right one two of 8 positions of m by 16
// of k, each from a multiple of 16. A tile that is k-major, tile[k][position], is transposed on its way into registers.
template <bool KMajor, typename T, int Rows, int Pitch>
__device__ inline void load_left(unsigned (&left)[4], const T (&b)[Rows][Pitch], int n, int k, int lane) {
  const int low = lane % 8 + lane / 16 * 8, high = lane / 8 % 2 * 8;  // rows of matrices 0 2, and the step from 0 to 1
  if (KMajor) load_matrices_transposed(left, &b[k + low][swizzled<Pitch>(low, n + high)]);
  else load_matrices(left, &b[n + lane % 16][swizzled<Pitch>(lane % 16, k + lane / 16 * 8)]);
}
template <bool KMajor, typename T, int Rows, int Pitch>
__device__ inline void load_right(unsigned (&right)[4], const T (&a)[Rows][Pitch], int m, int k, int lane) {
  const int low = lane % 8 + lane / 16 * 8, high = lane / 8 % 2 * 8;
  if (KMajor) load_matrices_transposed(right, &a[k + lane % 16][swizzled<Pitch>(lane % 16, m + lane / 16 * 8)]);
  else load_matrices(right, &a[m + low][swizzled<Pitch>(low, k + high)]);
}

// One warp's share of a staged step: acc[j][i] += (16 positions of n from n + 16 j) x (8 positions of m from m + 8 i), k in
// order, 16 at a time; m and n are multiples of 16.
template <int K, bool KMajorA, bool KMajorB, int FM, int FN, typename T, int RowsA, int PitchA, int RowsB, int PitchB>
__device__ inline void multiply_step(float (&acc)[FN][FM][4], const T (&a)[RowsA][PitchA], const T (&b)[RowsB][PitchB], int m, int n, int lane) {
#pragma unroll
  for (int k = 0; k < K; k += 16) {
    unsigned right[FM / 2][4];
#pragma unroll
    for (int i = 0; i < FM / 2; i++) load_right<KMajorA>(right[i], a, m + i * 16, k, lane);
#pragma unroll
    for (int j = 0; j < FN; j++) {
      unsigned left[4];
      load_left<KMajorB>(left, b, n + j * 16, k, lane);
#pragma unroll
      for (int i = 0; i < FM; i++) {
        multiply_fragments(acc[j][i], left, right[i / 2][i % 2 * 2], right[i / 2][i % 2 * 2 + 1], T{});
      }
    }
  }
}

// acc[i] += (16 rows) x (8 positions of m from 8 i), of left fragments that the warp keeps in registers and a tile, 16 k a step.
template <bool KMajor, int STEPS, int FM, typename T, int Rows, int Pitch>
__device__ inline void multiply_kept(float (&acc)[FM][4], const unsigned (&left)[STEPS][4], const T (&tile)[Rows][Pitch], int lane) {
#pragma unroll
  for (int s = 0; s < STEPS; s++) {
#pragma unroll
    for (int i = 0; i < FM; i += 2) {
      unsigned right[4];
      load_right<KMajor>(right, tile, i * 8, s * 16, lane);
      multiply_fragments(acc[i], left[s], right[0], right[1], T{});
      multiply_fragments(acc[i + 1], left[s], right[2], right[3], T{});
    }
  }
}

// True for all threads of the block that is the last of COUNT to come, and for that one all that the others' threads wrote before they
// came is there. The counter is zero before the first comes, and again after the last.
template <int COUNT>
__device__ inline bool comes_last(unsigned* counter) {
  fence_device();   // what this thread wrote is there
  __syncthreads();  // and what the others of its block wrote, before the block counts itself
  const bool last = __syncthreads_or(threadIdx.x == 0 && atomicInc(counter, COUNT - 1) == COUNT - 1);
  fence_device();  // what is read from here on is no older than the count
  return last;
}

// Leaves a block's sums, as its threads hold them, in a place of its own among the SPLITS blocks of a tile.
template <int THREADS, int FM, int FN>
__device__ inline void leave_sums(float* partials, int split, const float (&acc)[FN][FM][4]) {
  float* const mine = partials + (split * FN * FM * THREADS + (int)threadIdx.x) * 4;
#pragma unroll
  for (int j = 0; j < FN; j++) {
#pragma unroll
    for (int i = 0; i < FM; i++) leave_floats(mine + (j * FM + i) * THREADS * 4, acc[j][i]);
  }
}

// Writes a fragment of sums; `at` is the place of its first two.
template <int Pitch>
__device__ inline void put_fragment(float* at, const float (&sum)[4]) {
  *(float2*)at = make_float2(sum[0], sum[1]);
  *(float2*)(at + 8 * Pitch) = make_float2(sum[2], sum[3]);
}

// Writes 16 positions of n by 8 FM positions of m to sums[n...][m...].
template <int FM, int Rows, int Pitch>
__device__ inline void put_fragments(float (&sums)[Rows][Pitch], const float (&acc)[FM][4], int n, int m, int lane) {
#pragma unroll
  for (int i = 0; i < FM; i++) put_fragment<Pitch>(&sums[n + lane / 4][m + i * 8 + lane % 4 * 2], acc[i]);
}

// The sums of a fragment, of COUNT, as the SPLITS blocks of a tile have left them, added pairwise, neighbours first.
template <int SPLITS, int THREADS, int COUNT>
__device__ inline void take_sums(float (&sum)[4], const float* partials, int fragment) {
  float part[SPLITS][4];
#pragma unroll
  for (int s = 0; s < SPLITS; s++) take_floats(part[s], partials + ((s * COUNT + fragment) * THREADS + (int)threadIdx.x) * 4);
#pragma unroll
  for (int apart = 1; apart < SPLITS; apart *= 2) {
#pragma unroll
    for (int s = 0; s < SPLITS; s += 2 * apart) {
#pragma unroll
      for (int c = 0; c < 4; c++) part[s][c] += part[s + apart][c];
    }
  }
#pragma unroll
  for (int c = 0; c < 4; c++) sum[c] = part[0][c];
}

// Writes 16 positions of n by 8 FM of m of what has been left to sums[n...][m...]: row `j` of FN.
template <int SPLITS, int THREADS, int FN, int FM, int Rows, int Pitch>
__device__ inline void put_left_sums(float (&sums)[Rows][Pitch], const float* partials, int j, int n, int m, int lane) {
  constexpr int kAtOnce = SPLITS < 16 ? 16 / SPLITS : 1;  // fragments whose loads are on their way together
#pragma unroll kAtOnce
  for (int i = 0; i < FM; i++) {
    float sum[4];
    take_sums<SPLITS, THREADS, FN * FM>(sum, partials, j * FM + i);
    put_fragment<Pitch>(&sums[n + lane / 4][m + i * 8 + lane % 4 * 2], sum);
  }
}
#endif
