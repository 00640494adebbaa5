// Matrix products by warpgroups: four warps together multiply 64 positions of m by N of n, and the tensor cores read both tiles from shared
// memory by themselves (wgmma, sm_90a). Sums of a warp: rows of m from 16 times its number in the four, columns of n.
#if __CUDA_ARCH__ >= 900

// Starts one warpgroup's share of a staged step: acc[f] += (64 positions of m from m + 64 f) x (N positions of n from n), k in order, 16 at a
// time. The sums are not to be touched, nor the tiles changed, before `multiplied` says so.
template <int K, int N, int FM, typename T, int RowsA, int RowsB>
__device__ inline void start_step(float (&acc)[FM][N / 8][4], const T (&a)[RowsA][K], const T (&b)[RowsB][K], int m, int n) {
  products_begin();
#pragma unroll
  for (int k = 0; k < K; k += 16) {
#pragma unroll
    for (int f = 0; f < FM; f++) start_product<K, N>(acc[f], &a[m + 64 * f][0], &b[n][0], k);
  }
  products_commit();
}

// Writes a warp's sums of 8 positions of n to sums[n...][m...]: part `i` of each of FM times 64 positions of m.
template <int FM, int PARTS, int Rows, int Pitch>
__device__ inline void put_columns(float (&sums)[Rows][Pitch], const float (&acc)[FM][PARTS][4], int i, int n, int m, int lane) {
#pragma unroll
  for (int f = 0; f < FM; f++) {
    float* const at = &sums[n + lane % 4 * 2][m + 64 * f + lane / 4];
    at[0] = acc[f][i][0];
    at[Pitch] = acc[f][i][1];
    at[8] = acc[f][i][2];
    at[Pitch + 8] = acc[f][i][3];
  }
}

// Likewise of what the SPLITS blocks of a tile have left, added in the order of the splits.
template <int SPLITS, int THREADS, int FM, int PARTS, int Rows, int Pitch>
__device__ inline void put_left_columns(float (&sums)[Rows][Pitch], const float* partials, int i, int n, int m, int lane) {
  float left[FM][1][4];
#pragma unroll
  for (int f = 0; f < FM; f++) take_sums<SPLITS, THREADS, FM * PARTS>(left[f][0], partials, f * PARTS + i);
  put_columns(sums, left, 0, n, m, lane);
}
#endif
