// Scalar helpers that mean the same on every device. Each is the C spelling of an IR operation that C itself leaves
// undefined or spells otherwise (see ir/ops.ts).

// The greater and the lesser of two values; a NaN on either side wins.
template <typename T> __device__ inline T max_of(T a, T b) { return (a > b || a != a) ? a : b; }
template <typename T> __device__ inline T min_of(T a, T b) { return (a < b || a != a) ? a : b; }

template <typename T> __device__ inline T sign_of(T a) { return a > T(0) ? T(1) : a < T(0) ? T(-1) : a; }
template <typename T> __device__ inline T abs_of(T a) { return a < T(0) ? T(-a) : a; }

// Integer division truncates; by zero it gives 0, and the one quotient that overflows wraps.
template <typename T> __device__ inline T div_int(T a, T b) {
  return b == T(0) ? T(0) : b == T(-1) && T(-1) < T(0) ? T(0ull - (unsigned long long)a) : T(a / b);
}
template <typename T> __device__ inline T rem_int(T a, T b) {
  return b == T(0) || (b == T(-1) && T(-1) < T(0)) ? T(0) : T(a % b);
}

// Integer arithmetic wraps, as two's complement does.
template <typename T> __device__ inline T add_int(T a, T b) { return T((unsigned long long)a + (unsigned long long)b); }
template <typename T> __device__ inline T sub_int(T a, T b) { return T((unsigned long long)a - (unsigned long long)b); }
template <typename T> __device__ inline T mul_int(T a, T b) { return T((unsigned long long)a * (unsigned long long)b); }

// Float to integer saturates, and NaN gives 0. `low` and `high` are exact floats; high is the first value too large.
template <typename T> __device__ inline T to_int(float v, float low, float high, T least, T most) {
  return v != v ? T(0) : v < low ? least : v >= high ? most : T(v);
}

// Floor division and remainder by a positive constant, for index arithmetic that may be negative.
__device__ inline int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
__device__ inline int floor_mod(int a, int b) { return a - floor_div(a, b) * b; }

// True if 0 <= at < extent.
__device__ inline bool inside(int at, int extent) { return (unsigned)at < (unsigned)extent; }

// a / b within two units in the last place; each device has its own.
__device__ inline float div_nearly(float a, float b);

// The error function within 4e-7 of it, relative as well: x P(x^2) / Q(x^2), fitted to 0 <= x <= 3.9 (weighted least squares, rounded to
// floats); beyond, 1 to the last place.
__device__ inline float erf_nearly(float v) {
  const float x = v < -3.9f ? -3.9f : v > 3.9f ? 3.9f : v, t = x * x;
  const float p = fmaf(fmaf(fmaf(fmaf(fmaf(2.05749928e-06f, t, 0.000286262351f), t, 0.0037897389f), t, 0.0528244691f), t, 0.190858888f), t, 1.1283791f);
  const float q = fmaf(fmaf(fmaf(fmaf(fmaf(3.82406913e-05f, t, 0.00116997437f), t, 0.015016256f), t, 0.114310926f), t, 0.502476622f), t, 1.0f);
  return div_nearly(x * p, q);
}
