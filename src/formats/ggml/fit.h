// Searches for the scales of groups of weights: several are tried, the codes that each gives are
// fitted by least squares, and the best fit wins. Eight groups go side by side in lanes L
// (base/lanes.h), since every weight of a model goes through each trial: lane g of number i is
// weight i of group g. Pure functions; any thread.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "base/lanes.h"
#include "formats/table.h"

namespace quench::ggml {

#define QUENCH_INLINE [[gnu::always_inline]] inline

// Numbers that no f16 scale can tell from zero, and whose inverse would overflow.
constexpr float kNothing = 1e-30f;

template <class L>
QUENCH_INLINE L inverse_of(const L& scale) {
  const L one = L::splat(1.0f);
  const L nothing = L::splat(kNothing);
  const L size = magnitude(scale);
  return where_less(nothing, size, one / where_less(nothing, size, scale, one), L::splat(0.0f));
}

// x ~ scale * level - min.
template <class L>
struct Affine {
  L scale = L::splat(0.0f);
  L min = L::splat(0.0f);
};

// What a least-squares fit of x by levels q needs.
template <class L>
struct Sums {
  L xq = L::splat(0.0f);
  L qq = L::splat(0.0f);
  L q = L::splat(0.0f);
};

// The nearest whole number in [low, high].
template <class L>
struct WholeLevels {
  L low, high;
  QUENCH_INLINE WholeLevels(int low_, int high_)
      : low(L::splat(static_cast<float>(low_))), high(L::splat(static_cast<float>(high_))) {}
  QUENCH_INLINE L nearest(const L& x) const { return min(max(round_even(x), low), high); }
};

// The nearest of 16 rising whole numbers; of the two around the middle the lower one.
template <class L>
struct TableLevels {
  QUENCH_INLINE L nearest(const L& x) const {
    constexpr const float(&kLevels)[16] = table_format::kIq4;
    // From level to level, as far as x is past the middles; two sums, which wait half as long.
    L level[2] = {L::splat(kLevels[0]), L::splat(0.0f)};
#pragma GCC unroll 16
    for (int c = 1; c < 16; ++c) {
      const L middle = L::splat(0.5f * (kLevels[c - 1] + kLevels[c]));
      level[c % 2] += where_less(middle, x, L::splat(kLevels[c] - kLevels[c - 1]), L::splat(0.0f));
    }
    return level[0] + level[1];
  }
};

// Eight groups of kN weights.
template <class L, int kN>
struct Groups {
  L x[kN];

  // Group g at x + g * kN; `count` of them, the others are zeros.
  QUENCH_INLINE void load(const float* from, int count) {
    float side_by_side[kN][L::kCount] = {};
    for (int g = 0; g < count; ++g) {
      for (int i = 0; i < kN; ++i) side_by_side[i][g] = from[g * kN + i];
    }
    for (int i = 0; i < kN; ++i) x[i] = L::load(side_by_side[i]);
  }

  // Of the levels nearest to x * inverse + offset.
  template <class Levels>
  QUENCH_INLINE Sums<L> sums(const Levels& levels, const L& inverse, const L& offset) const {
    Sums<L> s;
    for (const L& v : x) {
      const L q = levels.nearest(v * inverse + offset);
      s.xq += v * q;
      s.qq += q * q;
      s.q += q;
    }
    return s;
  }

  // Squared error against scale * level - min with the nearest level.
  template <class Levels>
  QUENCH_INLINE L error(const Levels& levels, const Affine<L>& fit) const {
    const L inverse = inverse_of(fit.scale);
    L sum = L::splat(0.0f);
    for (const L& v : x) {
      const L moved = v + fit.min;
      const L difference = moved - fit.scale * levels.nearest(moved * inverse);
      sum += difference * difference;
    }
    return sum;
  }

  QUENCH_INLINE L plain_sum() const {
    L sum = L::splat(0.0f);
    for (const L& v : x) sum += v;
    return sum;
  }
  QUENCH_INLINE L lowest() const {
    L low = x[0];
    for (const L& v : x) low = min(v, low);
    return low;
  }
  QUENCH_INLINE L highest() const {
    L high = x[0];
    for (const L& v : x) high = max(v, high);
    return high;
  }
  // The one of larger magnitude.
  QUENCH_INLINE L extreme() const {
    const L low = lowest();
    const L high = highest();
    return where_less(high, L::splat(0.0f) - low, low, high);
  }
};

// The best scale so far for x ~ scale * q: maximises (x.q)^2 / (q.q), which is what the fit takes
// from the squared error.
template <class L, int kN, class Levels>
class ScaleSearch {
 public:
  QUENCH_INLINE ScaleSearch(const Groups<L, kN>& groups, const Levels& levels)
      : groups_(groups), levels_(levels) {}

  QUENCH_INLINE void attempt(const L& inverse) {
    const Sums<L> s = groups_.sums(levels_, inverse, L::splat(0.0f));
    const L square = s.xq * s.xq;
    const L threshold = best_ * s.qq;  // 0 where q.q is: nothing is less than 0
    scale_ = where_less(threshold, square, s.xq / s.qq, scale_);
    best_ = where_less(threshold, square, square / s.qq, best_);
  }
  QUENCH_INLINE void refine() { attempt(inverse_of(scale_)); }
  QUENCH_INLINE L scale() const { return scale_; }

 private:
  const Groups<L, kN>& groups_;
  const Levels& levels_;
  L best_ = L::splat(0.0f);
  L scale_ = L::splat(0.0f);
};

// x ~ scale * q, q in [low, high]. The extreme is put on, or a little beyond, either end.
template <class L, int kN>
QUENCH_INLINE L fit_scale(const Groups<L, kN>& groups, int low, int high) {
  const WholeLevels<L> levels(low, high);
  const L unit = inverse_of(groups.extreme());
  ScaleSearch<L, kN, WholeLevels<L>> search(groups, levels);
  // Wide codes lie dense whatever the scale; narrow ones are worth a search.
  const float reach = high > 64 ? 0.0f : high > 16 ? 0.5f : 1.25f;
  for (float beyond = -reach; beyond <= reach; beyond += 0.25f) {
    search.attempt(L::splat(static_cast<float>(low) - beyond) * unit);
    search.attempt(L::splat(static_cast<float>(high) + beyond) * unit);
  }
  search.refine();
  return search.scale();
}

// x ~ scale * level of the table. The extreme is put near either end of it.
template <class L, int kN>
QUENCH_INLINE L fit_table_scale(const Groups<L, kN>& groups) {
  const TableLevels<L> levels;
  const L unit = inverse_of(groups.extreme());
  ScaleSearch<L, kN, TableLevels<L>> search(groups, levels);
  for (float beyond = -14.0f; beyond <= 14.0f; beyond += 3.5f) {
    search.attempt(L::splat(table_format::kIq4[0] - beyond) * unit);
    search.attempt(L::splat(table_format::kIq4[15] + beyond) * unit);
  }
  search.refine();
  return search.scale();
}

// x ~ scale * q - min, q in [0, high], scale >= 0. `any_min`: min may be negative too.
template <class L, int kN>
QUENCH_INLINE Affine<L> fit_affine(const Groups<L, kN>& groups, int high, bool any_min) {
  const WholeLevels<L> levels(0, high);
  const L zero = L::splat(0.0f);
  const L count = L::splat(static_cast<float>(kN));
  const L low = groups.lowest();
  const L bottom = any_min ? low : min(low, zero);
  const L range = groups.highest() - bottom;
  const L sum = groups.plain_sum();
  const auto last = static_cast<float>(high);
  L best = L::splat(-1.0f);  // what the fit takes from the squared error
  // Where nothing fits: all alike, or all negative and alike.
  Affine<L> fit = {where_less(range, L::splat(kNothing), zero, range * L::splat(1.0f / last)),
                   zero - bottom};
  const auto attempt = [&](const L& inverse, const L& min) __attribute__((always_inline)) {
    const Sums<L> s = groups.sums(levels, inverse, min * inverse);
    const L determinant = count * s.qq - s.q * s.q;
    const L free_scale = (count * s.xq - s.q * sum) / determinant;
    const L free_shift = (s.qq * sum - s.q * s.xq) / determinant;  // -min
    // Through zero: where there is one level only, or the minimum would be negative.
    const L barred = any_min ? L::splat(std::numeric_limits<float>::max()) : zero;
    const L shift =
        where_less(zero, determinant, where_less(barred, free_shift, zero, free_shift), zero);
    const L bound_scale = s.xq / s.qq;
    const L scale = where_less(
        zero, determinant, where_less(barred, free_shift, bound_scale, free_scale), bound_scale);
    const L two = L::splat(2.0f);
    const L gain = two * (scale * s.xq + shift * sum) - scale * scale * s.qq -
                   two * scale * shift * s.q - count * shift * shift;
    const L valid = where_less(zero, scale, gain, L::splat(-1.0f));
    fit.scale = where_less(best, valid, scale, fit.scale);
    fit.min = where_less(best, valid, zero - shift, fit.min);
    best = where_less(best, valid, valid, best);
  };
  const float step = high > 3 ? 0.5f : 0.1f;
  const float reach = high > 16 ? 0.5f : high > 3 ? 1.0f : 0.8f;
  const L unit = inverse_of(range);
  for (float beyond = -reach; beyond <= reach; beyond += step)
    attempt(L::splat(last + beyond) * unit, zero - bottom);
  for (int pass = 0; pass < 2; ++pass) attempt(inverse_of(fit.scale), fit.min);
  return fit;
}

#undef QUENCH_INLINE
}  // namespace quench::ggml
