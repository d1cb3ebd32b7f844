// Eight floats side by side, for loops over every weight of a model: in registers of four, which
// every x86-64 has, or of eight, in functions compiled by with_avx2(). The same arithmetic in the
// same order either way, so that both give the same bits. Inlined everywhere: no vector crosses a
// call, so no ABI of vectors matters.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#define QUENCH_INLINE [[gnu::always_inline]] inline
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"

namespace quench {

using Vec4 = float __attribute__((vector_size(16)));
using Vec8 = float __attribute__((vector_size(32)));

template <int kWidth>
struct Register;
template <>
struct Register<4> {
  using Type = Vec4;
};
template <>
struct Register<8> {
  using Type = Vec8;
};

// kWidth: numbers in a register.
template <int kWidth>
struct Lanes {
  static constexpr int kCount = 8;
  static constexpr int kParts = kCount / kWidth;
  using Part = typename Register<kWidth>::Type;
  Part part[kParts] = {};

  QUENCH_INLINE static Lanes load(const float* p) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) std::memcpy(&r.part[i], p + i * kWidth, sizeof(Part));
    return r;
  }
  QUENCH_INLINE static Lanes splat(float x) {
    Lanes r;
    for (Part& p : r.part) p = x - Part{};
    return r;
  }
  QUENCH_INLINE void store(float* p) const {
    for (int i = 0; i < kParts; ++i) std::memcpy(p + i * kWidth, &part[i], sizeof(Part));
  }

  QUENCH_INLINE friend Lanes operator+(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] + b.part[i];
    return r;
  }
  QUENCH_INLINE friend Lanes operator-(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] - b.part[i];
    return r;
  }
  QUENCH_INLINE friend Lanes operator*(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] * b.part[i];
    return r;
  }
  QUENCH_INLINE friend Lanes operator/(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] / b.part[i];
    return r;
  }
  // Where a < b, x; elsewhere, also where one is not a number, y.
  QUENCH_INLINE friend Lanes where_less(const Lanes& a, const Lanes& b, const Lanes& x,
                                        const Lanes& y) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] < b.part[i] ? x.part[i] : y.part[i];
    return r;
  }
  QUENCH_INLINE float least() const {
    float lane[kCount];
    store(lane);
    return *std::min_element(lane, lane + kCount);
  }
  QUENCH_INLINE float largest() const {
    float lane[kCount];
    store(lane);
    return *std::max_element(lane, lane + kCount);
  }
  QUENCH_INLINE float sum() const {
    float lane[kCount];
    store(lane);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  }
  QUENCH_INLINE Lanes& operator+=(const Lanes& b) { return *this = *this + b; }
  // As MINPS and MAXPS: the second where one is not a number.
  QUENCH_INLINE friend Lanes min(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] < b.part[i] ? a.part[i] : b.part[i];
    return r;
  }
  QUENCH_INLINE friend Lanes max(const Lanes& a, const Lanes& b) {
    Lanes r;
    for (int i = 0; i < kParts; ++i) r.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
    return r;
  }
};

template <int kWidth>
QUENCH_INLINE Lanes<kWidth> magnitude(const Lanes<kWidth>& x) {
  return max(x, Lanes<kWidth>::splat(0.0f) - x);
}
// Half to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no bits behind the point.
template <int kWidth>
QUENCH_INLINE Lanes<kWidth> round_even(const Lanes<kWidth>& x) {
  const auto magic = Lanes<kWidth>::splat(12582912.0f);
  return x + magic - magic;
}

// Calls use(lanes of x, index of the first) for all of x [count]; what the last lanes lack is zero.
template <class L, class Use>
QUENCH_INLINE void for_each_lanes(const float* x, int64_t count, const Use& use) {
  int64_t i = 0;
  for (; i + L::kCount <= count; i += L::kCount) use(L::load(x + i), i);
  if (i == count) return;
  float rest[L::kCount] = {};
  std::copy(x + i, x + count, rest);
  use(L::load(rest), i);
}

#undef QUENCH_INLINE

#pragma GCC diagnostic pop

// kWide compiled for AVX2, all that it calls with it, where the processor has that; else kPlain.
// There is no FMA in it, so nothing is contracted.
template <auto kWide>
struct Avx2;
template <class R, class... Args, R (*kWide)(Args...)>
struct Avx2<kWide> {
  [[gnu::target("avx2"), gnu::flatten]] static R run(Args... args) { return kWide(args...); }
};

template <auto kPlain, auto kWide = kPlain>
auto with_avx2() {
  if (__builtin_cpu_supports("avx2")) return &Avx2<kWide>::run;
  return kPlain;
}

}  // namespace quench
