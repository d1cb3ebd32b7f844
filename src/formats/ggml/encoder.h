// Rounds weights to blocks of a Layout, eight groups side by side (fit.h): those of one block where
// it has that many, else those of eight blocks. Pure functions; any thread.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "formats/ggml/fit.h"
#include "formats/ggml/layout.h"

namespace quench::ggml {

#define QUENCH_INLINE [[gnu::always_inline]] inline

// As it will be read back.
inline float stored_f16(float x) {
  constexpr float kMaxF16 = 65504.0f;
  return f16_to_f32(f32_to_f16(std::clamp(x, -kMaxF16, kMaxF16)));
}

// One kind of group: which levels it has, what scale suits it, which codes a scale gives.
template <int kIndex, class L>
struct GroupKind {
  static constexpr const Layout& kLayout = kLayouts[kIndex];
  static constexpr int kN = kLayout.group;
  static constexpr int kLow = -kLayout.middle();
  static constexpr int kHigh = (1 << kLayout.bits) - 1 - kLayout.middle();
  static constexpr bool kAnyMin = kLayout.scales == Scales::kOneAndMin;

  QUENCH_INLINE static auto levels() {
    if constexpr (kLayout.table) {
      return TableLevels<L>();
    } else {
      return WholeLevels<L>(kLow, kHigh);
    }
  }

  QUENCH_INLINE static Affine<L> fit(const Groups<L, kN>& groups) {
    if constexpr (kLayout.table) {
      return {fit_table_scale(groups), L::splat(0.0f)};
    } else if constexpr (kLayout.has_min()) {
      return fit_affine(groups, kHigh, kAnyMin);
    } else {
      return {fit_scale(groups, kLow, kHigh), L::splat(0.0f)};
    }
  }

  // codes [8][kN], group by group.
  QUENCH_INLINE static void codes(const Groups<L, kN>& groups, const Affine<L>& fit,
                                  uint8_t* codes) {
    const auto levels = GroupKind::levels();
    const L inverse = inverse_of(fit.scale);
    for (int i = 0; i < kN; ++i) {
      float level[L::kCount];
      levels.nearest((groups.x[i] + fit.min) * inverse).store(level);
      for (int g = 0; g < L::kCount; ++g) codes[g * kN + i] = code_of(level[g]);
    }
  }

  static float level(uint8_t code) {
    return kLayout.table ? table_format::kIq4[code]
                         : static_cast<float>(static_cast<int>(code) - kLayout.middle());
  }

 private:
  QUENCH_INLINE static uint8_t code_of(float level) {
    if constexpr (kLayout.table) {
      return static_cast<uint8_t>(
          std::lower_bound(table_format::kIq4, table_format::kIq4 + 16, level) -
          table_format::kIq4);
    } else {
      return static_cast<uint8_t>(static_cast<int>(level) - kLow);
    }
  }
};

// Blocks of one group.
template <int kIndex, class L>
class SingleEncoder {
  using Kind = GroupKind<kIndex, L>;
  static constexpr const Layout& kLayout = kLayouts[kIndex];

 public:
  static void encode(const Format&, const float* x, int64_t, int64_t, const Planes& tile) {
    encode_blocks(x, 1, tile[0]);
  }
  static void encode_run(const Format&, const float* x, int64_t tiles, const Planes& first) {
    for (int64_t t = 0; t < tiles; t += L::kCount) {
      encode_blocks(x + t * kLayout.weights,
                    static_cast<int>(std::min<int64_t>(L::kCount, tiles - t)),
                    first[0] + t * kLayout.bytes);
    }
  }

 private:
  QUENCH_INLINE static Affine<L> stored(const Affine<L>& fit) {
    return {stored(fit.scale), kLayout.has_min() ? stored(fit.min) : fit.min};
  }
  QUENCH_INLINE static L stored(const L& x) {
    float lane[L::kCount];
    x.store(lane);
    for (float& value : lane) value = stored_f16(value);
    return L::load(lane);
  }

  // The scale (and minimum) that fit the codes best, where that helps.
  QUENCH_INLINE static Affine<L> improved(const Groups<L, Kind::kN>& groups, const Affine<L>& fit) {
    const auto levels = Kind::levels();
    const L inverse = inverse_of(fit.scale);
    const Sums<L> s = groups.sums(levels, inverse, fit.min * inverse);
    const L zero = L::splat(0.0f);
    Affine<L> next = {where_less(zero, s.qq, (s.xq + fit.min * s.q) / s.qq, fit.scale), fit.min};
    if constexpr (kLayout.has_min()) {
      const L count = L::splat(static_cast<float>(Kind::kN));
      const L sum = groups.plain_sum();
      const L determinant = count * s.qq - s.q * s.q;
      const L enough = L::splat(1e-6f) * count * s.qq;
      next.scale =
          where_less(enough, determinant, (count * s.xq - s.q * sum) / determinant, next.scale);
      next.min = where_less(enough, determinant, (s.q * s.xq - s.qq * sum) / determinant, next.min);
    }
    next = stored(next);
    const L before = groups.error(levels, fit);
    const L after = groups.error(levels, next);
    return {where_less(after, before, next.scale, fit.scale),
            where_less(after, before, next.min, fit.min)};
  }

  QUENCH_INLINE static void encode_blocks(const float* x, int count, std::byte* blocks) {
    Groups<L, Kind::kN> groups;
    groups.load(x, count);
    const Affine<L> fit = improved(groups, stored(Kind::fit(groups)));
    uint8_t codes[L::kCount * Kind::kN];
    Kind::codes(groups, fit, codes);
    float scale[L::kCount];
    float min[L::kCount];
    fit.scale.store(scale);
    fit.min.store(min);
    for (int b = 0; b < count; ++b, blocks += kLayout.bytes) {
      put_codes<kIndex>(codes + b * Kind::kN, blocks);
      BlockScales scales;
      scales.d = scale[b];
      scales.dmin = 0.0f - min[b];
      put_scales(kLayout, scales, blocks);
    }
  }
};

// Blocks of eight or sixteen groups, whose scales and minimums are small whole numbers times those
// of the block.
template <int kIndex, class L>
class BlockEncoder {
  using Kind = GroupKind<kIndex, L>;
  static constexpr const Layout& kLayout = kLayouts[kIndex];
  static constexpr int kGroups = kLayout.groups();
  static constexpr int kBatches = kGroups / L::kCount;
  static constexpr int kMaxScale = kLayout.max_scale();

 public:
  static void encode(const Format&, const float* x, int64_t, int64_t, const Planes& tile) {
    BlockEncoder(x).write(tile[0]);
  }
  static void encode_run(const Format&, const float* x, int64_t tiles, const Planes& first) {
    for (int64_t t = 0; t < tiles; ++t)
      BlockEncoder(x + t * kLayout.weights).write(first[0] + t * kLayout.bytes);
  }

 private:
  // What is stored: of group g scale d * scale, minimum dmin * min.
  struct Scales {
    float d = 0.0f;
    float dmin = 0.0f;
    Affine<L> small[kBatches];

    QUENCH_INLINE Affine<L> of(int batch) const {
      return {L::splat(d) * small[batch].scale, L::splat(dmin) * small[batch].min};
    }
  };

  QUENCH_INLINE explicit BlockEncoder(const float* x) {
    for (int b = 0; b < kBatches; ++b) {
      groups_[b].load(x + b * L::kCount * Kind::kN, L::kCount);
      fits_[b] = Kind::fit(groups_[b]);
    }
    choose();
    improve();
  }

  // The f16 scales such that the largest small scale is used, then the small scales one by one.
  QUENCH_INLINE void choose() {
    constexpr int kEnd = kLayout.min_scale() < 0 ? kLayout.min_scale() : kMaxScale;
    float extreme = 0.0f;
    float largest_min = 0.0f;
    for (const Affine<L>& fit : fits_) {
      float scale[L::kCount];
      float min[L::kCount];
      fit.scale.store(scale);
      fit.min.store(min);
      for (int g = 0; g < L::kCount; ++g) {
        if (std::fabs(scale[g]) > std::fabs(extreme)) extreme = scale[g];
        largest_min = std::max(largest_min, min[g]);
      }
    }
    best_.d = stored_f16(extreme / static_cast<float>(kEnd));
    best_.dmin = stored_f16(largest_min / static_cast<float>(kMaxScale));
    error_ = choose_small(best_);
  }

  QUENCH_INLINE static L whole(const L& x, float step, int low, int high) {
    return WholeLevels<L>(low, high).nearest(x * inverse_of(L::splat(step)));
  }

  // Of the small scales around the fitted ones, those with the least error, which is returned.
  QUENCH_INLINE float choose_small(Scales& scales) const {
    constexpr int kReach = kLayout.bits > 5 ? 0 : 1;
    constexpr int kMinReach = kLayout.scales == ggml::Scales::kQ2K ? 1 : 0;
    const auto levels = Kind::levels();
    const WholeLevels<L> scale_range(kLayout.min_scale(), kMaxScale);
    const WholeLevels<L> min_range(0, kMaxScale);
    L total = L::splat(0.0f);
    for (int b = 0; b < kBatches; ++b) {
      const L scale = whole(fits_[b].scale, scales.d, kLayout.min_scale(), kMaxScale);
      const L min = whole(fits_[b].min, scales.dmin, 0, kMaxScale);
      Affine<L>& small = scales.small[b];
      L least = L::splat(std::numeric_limits<float>::infinity());
      for (int s = -kReach; s <= kReach; ++s) {
        for (int m = -kMinReach; m <= kMinReach; ++m) {
          const Affine<L> trial = {scale_range.nearest(scale + L::splat(static_cast<float>(s))),
                                   min_range.nearest(min + L::splat(static_cast<float>(m)))};
          const L error = groups_[b].error(
              levels, {L::splat(scales.d) * trial.scale, L::splat(scales.dmin) * trial.min});
          small.scale = where_less(error, least, trial.scale, small.scale);
          small.min = where_less(error, least, trial.min, small.min);
          least = where_less(error, least, error, least);
        }
      }
      total += least;
    }
    return total.sum();
  }

  QUENCH_INLINE float error(const Scales& scales) const {
    const auto levels = Kind::levels();
    L total = L::splat(0.0f);
    for (int b = 0; b < kBatches; ++b) total += groups_[b].error(levels, scales.of(b));
    return total.sum();
  }

  // The f16 scales that fit the codes best, as long as that helps.
  QUENCH_INLINE void improve() {
    constexpr int kPasses = kLayout.bits < 4 ? 3 : 1;
    for (int pass = 0; pass < kPasses && error_ > 0.0f; ++pass) {
      Scales next = refitted();
      float e = 0.0f;
      if constexpr (kLayout.bits < 4) {
        e = choose_small(next);
      } else {
        e = error(next);
      }
      if (!(e < error_)) return;
      error_ = e;
      best_ = next;
    }
  }

  // Least squares for d (and dmin) over the block, all else as it is.
  QUENCH_INLINE Scales refitted() const {
    const auto levels = Kind::levels();
    double xa = 0.0, xb = 0.0, aa = 0.0, ab = 0.0, bb = 0.0;  // x ~ d * a - dmin * b
    for (int b = 0; b < kBatches; ++b) {
      const Affine<L> fit = best_.of(b);
      const L inverse = inverse_of(fit.scale);
      const Sums<L> sums = groups_[b].sums(levels, inverse, fit.min * inverse);
      const L& s = best_.small[b].scale;
      const L& m = best_.small[b].min;
      xa += (s * sums.xq).sum();
      aa += (s * s * sums.qq).sum();
      if constexpr (kLayout.has_min()) {
        xb += (m * groups_[b].plain_sum()).sum();
        ab += (s * m * sums.q).sum();
        bb += (m * m).sum() * static_cast<double>(Kind::kN);
      }
    }
    Scales next = best_;
    const double determinant = aa * bb - ab * ab;
    // Sums in f32 leave about 1e-6 of their terms.
    if (kLayout.has_min() && determinant > 1e-5 * aa * bb) {
      next.d = stored_f16(static_cast<float>((xa * bb - ab * xb) / determinant));
      next.dmin = stored_f16(static_cast<float>((xa * ab - aa * xb) / determinant));
    } else if (aa > 0.0) {
      next.d = stored_f16(static_cast<float>((xa + next.dmin * ab) / aa));
    }
    return next;
  }

  QUENCH_INLINE void write(std::byte* block) const {
    uint8_t codes[kLayout.weights];
    BlockScales scales;
    scales.d = best_.d;
    scales.dmin = best_.dmin;
    for (int b = 0; b < kBatches; ++b) {
      Kind::codes(groups_[b], best_.of(b), codes + b * L::kCount * Kind::kN);
      float scale[L::kCount];
      float min[L::kCount];
      best_.small[b].scale.store(scale);
      best_.small[b].min.store(min);
      for (int g = 0; g < L::kCount; ++g) {
        scales.scale[b * L::kCount + g] = static_cast<int>(scale[g]);
        scales.min[b * L::kCount + g] = static_cast<int>(min[g]);
      }
    }
    put_codes<kIndex>(codes, block);
    put_scales(kLayout, scales, block);
  }

  Groups<L, Kind::kN> groups_[kBatches];
  Affine<L> fits_[kBatches];
  Scales best_;
  float error_ = 0.0f;
};

#undef QUENCH_INLINE
}  // namespace quench::ggml
