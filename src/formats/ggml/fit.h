// Searches for the scale of a group of weights: several are tried, the codes that each gives are
// fitted by least squares, and the best fit wins. Four lanes at a time, because every weight of a
// model goes through each trial. Pure functions; any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace quench::ggml {

using Vec4 = float __attribute__((vector_size(16)));

inline Vec4 splat(float x) { return Vec4{x, x, x, x}; }
inline Vec4 load4(const float* p) {
  Vec4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline float sum4(Vec4 v) { return (v[0] + v[1]) + (v[2] + v[3]); }
// Half to even for |x| < 2^22, by pushing the bits behind the point out of the mantissa.
inline Vec4 round4(Vec4 x) { return (x + splat(12582912.0f)) - splat(12582912.0f); }
inline Vec4 clamp4(Vec4 x, float low, float high) {
  const Vec4 above = x > splat(low) ? x : splat(low);
  return above < splat(high) ? above : splat(high);
}

// Numbers that no f16 scale can tell from zero, and whose inverse would overflow.
constexpr float kNothing = 1e-30f;
inline float inverse_of(float scale) { return std::fabs(scale) > kNothing ? 1.0f / scale : 0.0f; }

// What a least-squares fit of x by levels q needs.
struct Sums {
  float xq = 0.0f;
  float qq = 0.0f;
  float q = 0.0f;
};

// Of q = clamp(round(x * inverse + offset), low, high) over kN weights.
template <int kN>
Sums round_sums(const float* x, float inverse, float offset, float low, float high) {
  Vec4 xq{};
  Vec4 qq{};
  Vec4 q{};
  for (int i = 0; i < kN; i += 4) {
    const Vec4 v = load4(x + i);
    const Vec4 code = clamp4(round4(v * splat(inverse) + splat(offset)), low, high);
    xq += v * code;
    qq += code * code;
    q += code;
  }
  return {sum4(xq), sum4(qq), sum4(q)};
}

// The codes of scale * q - min with the nearest q, counted from `low`.
template <int kN>
void round_codes(const float* x, float scale, float min, float low, float high, uint8_t* codes) {
  using Int4 = int32_t __attribute__((vector_size(16)));
  const float inverse = inverse_of(scale);
  for (int i = 0; i < kN; i += 4) {
    const Vec4 v = load4(x + i) + splat(min);
    const Vec4 code = clamp4(round4(v * splat(inverse)), low, high) - splat(low);
    const Int4 whole = __builtin_convertvector(code, Int4);
    for (int l = 0; l < 4; ++l) codes[i + l] = static_cast<uint8_t>(whole[l]);
  }
}

// Squared error of x against scale * q - min with the nearest q.
template <int kN>
float rounding_error(const float* x, float scale, float min, float low, float high) {
  const float inverse = inverse_of(scale);
  Vec4 error{};
  for (int i = 0; i < kN; i += 4) {
    const Vec4 v = load4(x + i) + splat(min);
    const Vec4 code = clamp4(round4(v * splat(inverse)), low, high);
    const Vec4 difference = v - splat(scale) * code;
    error += difference * difference;
  }
  return sum4(error);
}

template <int kN>
float plain_sum(const float* x) {
  Vec4 lanes{};
  for (int i = 0; i < kN; i += 4) lanes += load4(x + i);
  return sum4(lanes);
}

struct Ends {
  float low;
  float high;
  // The one of larger magnitude.
  float extreme() const { return -low > high ? low : high; }
};
template <int kN>
Ends ends_of(const float* x) {
  Vec4 low = load4(x);
  Vec4 high = low;
  for (int i = 4; i < kN; i += 4) {
    const Vec4 v = load4(x + i);
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
  return {std::min(std::min(low[0], low[1]), std::min(low[2], low[3])),
          std::max(std::max(high[0], high[1]), std::max(high[2], high[3]))};
}

// x ~ scale * q, q in [low, high]. The extreme is put on, or a little beyond, either end of the
// levels. Maximises (x.q)^2 / (q.q), which is what the fit takes from the squared error.
template <int kN>
float fit_scale(const float* x, int low, int high) {
  const float extreme = ends_of<kN>(x).extreme();
  if (std::fabs(extreme) < kNothing) return 0.0f;
  const auto first = static_cast<float>(low);
  const auto last = static_cast<float>(high);
  float best = 0.0f;
  float scale = 0.0f;
  const auto attempt = [&](float inverse) {
    const Sums s = round_sums<kN>(x, inverse, 0.0f, first, last);
    if (s.qq == 0.0f || s.xq * s.xq <= best * s.qq) return;
    best = s.xq * s.xq / s.qq;
    scale = s.xq / s.qq;
  };
  // Wide codes lie dense whatever the scale; narrow ones are worth a search.
  const float reach = high > 64 ? 0.0f : high > 16 ? 0.5f : 1.25f;
  for (float beyond = -reach; beyond <= reach; beyond += 0.25f) {
    attempt((first - beyond) / extreme);
    attempt((last + beyond) / extreme);
  }
  if (scale != 0.0f) attempt(1.0f / scale);
  return scale;
}

// x ~ scale * q - min, q in [0, high], scale >= 0. `any_min`: min may be negative too.
struct Affine {
  float scale = 0.0f;
  float min = 0.0f;
};
template <int kN>
Affine fit_affine(const float* x, int high, bool any_min) {
  const Ends ends = ends_of<kN>(x);
  const float bottom = any_min ? ends.low : std::min(ends.low, 0.0f);
  const float top = ends.high;
  if (top - bottom < kNothing) return {0.0f, -bottom};  // all alike, or all negative and alike
  const float sum = plain_sum<kN>(x);
  const auto last = static_cast<float>(high);
  constexpr auto kCount = static_cast<float>(kN);
  float best = -1.0f;  // what the fit takes from the squared error
  Affine fit;
  const auto attempt = [&](float inverse, float min) {
    const Sums s = round_sums<kN>(x, inverse, min * inverse, 0.0f, last);
    if (s.qq == 0.0f) return;
    const float determinant = kCount * s.qq - s.q * s.q;
    float scale = s.xq / s.qq;
    float shift = 0.0f;  // -min
    if (determinant > 0.0f) {
      scale = (kCount * s.xq - s.q * sum) / determinant;
      shift = (s.qq * sum - s.q * s.xq) / determinant;
      if (!any_min && shift > 0.0f) {
        scale = s.xq / s.qq;
        shift = 0.0f;
      }
    }
    if (!(scale > 0.0f)) return;
    const float gain = 2.0f * (scale * s.xq + shift * sum) - scale * scale * s.qq -
                       2.0f * scale * shift * s.q - kCount * shift * shift;
    if (gain <= best) return;
    best = gain;
    fit = {scale, -shift};
  };
  const float step = high > 3 ? 0.5f : 0.1f;
  const float reach = high > 16 ? 0.5f : high > 3 ? 1.0f : 0.8f;
  for (float beyond = -reach; beyond <= reach; beyond += step)
    attempt((last + beyond) / (top - bottom), -bottom);
  for (int pass = 0; pass < 2 && fit.scale > 0.0f; ++pass) attempt(1.0f / fit.scale, fit.min);
  if (fit.scale == 0.0f) return {(top - bottom) / last, -bottom};
  return fit;
}

}  // namespace quench::ggml
