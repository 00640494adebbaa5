// What a thread does with neighbours in memory, written with what cuda.h has.

// COUNT neighbours at once, aligned to their size.
template <int COUNT, typename T> struct alignas(COUNT * sizeof(T)) Vector { T at[COUNT]; };
template <int COUNT, typename T>
__device__ inline Vector<COUNT, T> load_vector(const T* from) {
  Vector<COUNT, T> value = {};
  load_if(value, from, true);
  return value;
}
// What is there if it is valid to read, else `outside` COUNT times.
template <int COUNT, typename T>
__device__ inline Vector<COUNT, T> load_vector(const T* from, bool valid, T outside) {
  Vector<COUNT, T> value;
#pragma unroll
  for (int e = 0; e < COUNT; e++) value.at[e] = outside;
  load_if(value, from, valid);
  return value;
}
template <int COUNT, typename T>
__device__ inline void store_vector(T* to, const Vector<COUNT, T>& value) { *(Vector<COUNT, T>*)to = value; }

// What a thread takes of a row in shared memory: groups of WIDTH neighbours, STEP apart.
template <int COUNT, int WIDTH, int STEP>
__device__ inline void take_groups(float (&to)[COUNT], const float* row) {
#pragma unroll
  for (int g = 0; g < COUNT / WIDTH; g++) {
    const Vector<WIDTH, float> group = *(const Vector<WIDTH, float>*)(row + g * STEP);
#pragma unroll
    for (int e = 0; e < WIDTH; e++) to[g * WIDTH + e] = group.at[e];
  }
}

// acc[j][i] += a[i] * b[j], each by one instruction.
template <int M, int N>
__device__ inline void multiply_row(float (&acc)[N][M], const float (&a)[M], const float (&b)[N]) {
#pragma unroll
  for (int j = 0; j < N; j++) {
#pragma unroll
    for (int i = 0; i < M; i++) acc[j][i] = fmaf(a[i], b[j], acc[j][i]);
  }
}

// Combines the elements of a vector by halves.
template <int COUNT, typename T, typename Combine>
__device__ inline T across_vector(T (&part)[COUNT], Combine combine) {
#pragma unroll
  for (int half = COUNT / 2; half > 0; half /= 2) {
#pragma unroll
    for (int e = 0; e < half; e++) part[e] = combine(part[e], part[e + half]);
  }
  return part[0];
}
