// Attention on tensor cores: the softmax of a tile of scores while more are to come. Each thread of a warp holds two rows, lane / 4 and
// 8 more, of which it sees the columns that `multiply_fragments` gives it; the four threads of a row speak by shuffle.
#if __CUDA_ARCH__ >= 800

template <typename Combine>
__device__ inline float across_row(float value, Combine combine) {
  value = combine(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return combine(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

// Takes in a tile of scores, 8 FM keys of 16 rows: their weights against the greatest score so far, as left fragments, and what
// was summed before on the scale of these weights. `total` is this thread's share. Where all scores so far are -inf the weights are
// zeros; a NaN or an infinity makes the row's total NaN, and so everything after it.
template <int FM, int FN, typename T>
__device__ inline void weigh_scores(float (&score)[FM][4], float (&acc)[FN][4], float (&most)[2], float (&total)[2], unsigned (&weights)[FM / 2][4], T) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float top = most[r];
#pragma unroll
    for (int i = 0; i < FM; i++) top = max_of<float>(top, max_of<float>(score[i][2 * r], score[i][2 * r + 1]));
    top = across_row(top, [](float a, float b) { return max_of<float>(a, b); });
    const float base = top == -inf_f32() ? 0.0f : top;
    const float scale = exp_fast(most[r] - base);
    most[r] = top;
    total[r] *= scale;
#pragma unroll
    for (int i = 0; i < FN; i++) acc[i][2 * r] *= scale, acc[i][2 * r + 1] *= scale;
#pragma unroll
    for (int i = 0; i < FM; i++) {
      const float first = exp_fast(score[i][2 * r] - base), second = exp_fast(score[i][2 * r + 1] - base);
      total[r] += first + second;
      weights[i / 2][i % 2 * 2 + r] = pack_pair(first, second, T{});
    }
  }
}

// The total of a row: NaN where all its scores are -inf, as -inf - -inf makes it.
__device__ inline float total_of(float most, float total) {
  const float sum = across_row(total, [](float a, float b) { return a + b; });
  return most == -inf_f32() ? nan_f32() : sum;
}
#endif
