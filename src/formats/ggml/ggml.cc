#include "formats/ggml.h"

#include <cmath>
#include <utility>

#include "formats/ggml/fit.h"
#include "formats/ggml/layout.h"
#include "formats/ggml/point_types.h"
#include "formats/table.h"

namespace quench::ggml_format {
namespace {

using namespace ggml;

constexpr const float (&kIq4Levels)[16] = table_format::kIq4;
constexpr float kMaxF16 = 65504.0f;

// As it will be read back.
float stored_f16(float x) { return f16_to_f32(f32_to_f16(std::clamp(x, -kMaxF16, kMaxF16))); }

constexpr int kIq4Offset = 127;  // of the lowest level
// The nearest level's code for every whole number between the outermost levels.
struct NearestIq4 {
  uint8_t code[241];
  constexpr NearestIq4() : code() {
    for (int x = 0; x < 241; ++x) {
      int best = 0;
      for (int c = 1; c < 16; ++c) {
        const float d = kIq4Levels[c] - static_cast<float>(x - kIq4Offset);
        const float e = kIq4Levels[best] - static_cast<float>(x - kIq4Offset);
        if ((d < 0 ? -d : d) < (e < 0 ? -e : e)) best = c;
      }
      code[x] = static_cast<uint8_t>(best);
    }
  }
};
constexpr NearestIq4 kNearestIq4;

uint8_t nearest_level(float x) {
  const float inside = std::clamp(x, -127.0f, 113.0f);
  return kNearestIq4.code[static_cast<int>(inside + 127.5f)];
}

// One group of a layout: what scale suits it, what error a scale leaves, which codes a scale gives.
template <int kIndex>
struct Group {
  static constexpr const Layout& kLayout = kLayouts[kIndex];
  static constexpr int kN = kLayout.group;
  static constexpr int kLow = -kLayout.middle();
  static constexpr int kHigh = (1 << kLayout.bits) - 1 - kLayout.middle();

  static Affine fit(const float* x) {
    if constexpr (kLayout.table) {
      return {fit_levels(x), 0.0f};
    } else if constexpr (kLayout.has_min()) {
      return fit_affine<kN>(x, kHigh, kLayout.scales == Scales::kOneAndMin);
    } else {
      return {fit_scale<kN>(x, kLow, kHigh), 0.0f};
    }
  }

  static float error(const float* x, float scale, float min) {
    if constexpr (kLayout.table) {
      const float inverse = inverse_of(scale);
      float sum = 0.0f;
      for (int i = 0; i < kN; ++i) {
        const float difference = x[i] - scale * kIq4Levels[nearest_level(x[i] * inverse)];
        sum += difference * difference;
      }
      return sum;
    } else {
      return rounding_error<kN>(x, scale, min, kLow, kHigh);
    }
  }

  static void codes(const float* x, float scale, float min, uint8_t* out) {
    if constexpr (kLayout.table) {
      const float inverse = inverse_of(scale);
      for (int i = 0; i < kN; ++i) out[i] = nearest_level(x[i] * inverse);
    } else {
      round_codes<kN>(x, scale, min, kLow, kHigh, out);
    }
  }

  // The sums of the levels that a scale gives.
  static Sums sums(const float* x, float scale, float min) {
    const float inverse = inverse_of(scale);
    if constexpr (kLayout.table) {
      Sums s;
      for (int i = 0; i < kN; ++i) {
        const float level = kIq4Levels[nearest_level(x[i] * inverse)];
        s.xq += x[i] * level;
        s.qq += level * level;
      }
      return s;
    } else {
      return round_sums<kN>(x, inverse, min * inverse, kLow, kHigh);
    }
  }

  static float level(uint8_t code) {
    return kLayout.table ? kIq4Levels[code]
                         : static_cast<float>(static_cast<int>(code) - kLayout.middle());
  }

 private:
  static float fit_levels(const float* x) {
    const float extreme = ends_of<kN>(x).extreme();
    if (std::fabs(extreme) < kNothing) return 0.0f;
    float best = 0.0f;
    float scale = 0.0f;
    const auto attempt = [&](float trial) {
      const Sums s = sums(x, trial, 0.0f);
      if (s.qq == 0.0f || s.xq * s.xq <= best * s.qq) return;
      best = s.xq * s.xq / s.qq;
      scale = s.xq / s.qq;
    };
    for (float beyond = -14.0f; beyond <= 14.0f; beyond += 3.5f) {
      attempt(extreme / (-127.0f - beyond));
      attempt(extreme / (113.0f + beyond));
    }
    if (scale != 0.0f) attempt(scale);
    return scale;
  }
};

template <int kIndex>
class Encoder {
  using Part = Group<kIndex>;
  static constexpr const Layout& kLayout = kLayouts[kIndex];
  static constexpr int kGroups = kLayout.groups();

 public:
  static void encode(const Format&, const float* x, int64_t, int64_t, const Planes& tile) {
    Encoder(x).write(tile[0]);
  }

 private:
  explicit Encoder(const float* x) : x_(x) {
    for (int g = 0; g < kGroups; ++g) fits_[g] = Part::fit(group(g));
    if constexpr (kGroups == 1) {
      best_.d = stored_f16(fits_[0].scale);
      best_.scale[0] = 1;
      if constexpr (kLayout.has_min()) {
        best_.dmin = stored_f16(-fits_[0].min);
        best_.min[0] = -1;
      }
      improve();
    } else {
      choose();
      improve();
    }
  }

  const float* group(int g) const { return x_ + g * kLayout.group; }

  // The f16 scales such that the largest small scale is used, then the small scales one by one.
  void choose() {
    constexpr int kEnd = kLayout.min_scale() < 0 ? kLayout.min_scale() : kLayout.max_scale();
    float extreme = 0.0f;
    float largest_min = 0.0f;
    for (const Affine& fit : fits_) {
      if (std::fabs(fit.scale) > std::fabs(extreme)) extreme = fit.scale;
      largest_min = std::max(largest_min, fit.min);
    }
    best_.d = stored_f16(extreme / static_cast<float>(kEnd));
    best_.dmin = stored_f16(largest_min / static_cast<float>(kLayout.max_scale()));
    for (int g = 0; g < kGroups; ++g) choose_group(g, best_);
  }

  static int nearest(float x, float step, int low, int high) {
    if (std::fabs(step) < kNothing) return 0;
    return static_cast<int>(
        std::clamp(std::nearbyint(x / step), static_cast<float>(low), static_cast<float>(high)));
  }

  // Of the small scales around the fitted ones, those with the least error.
  void choose_group(int g, BlockScales& scales) const {
    const int scale = nearest(fits_[g].scale, scales.d, kLayout.min_scale(), kLayout.max_scale());
    const int min = nearest(fits_[g].min, scales.dmin, 0, kLayout.max_scale());
    constexpr int kReach = kLayout.bits > 5 ? 0 : 1;
    constexpr int kMinReach = kLayout.scales == Scales::kQ2K ? 1 : 0;
    float least = -1.0f;
    for (int s = scale - kReach; s <= scale + kReach; ++s) {
      if (s < kLayout.min_scale() || s > kLayout.max_scale()) continue;
      for (int m = min - kMinReach; m <= min + kMinReach; ++m) {
        if (m < 0 || (m > 0 && m > kLayout.max_scale())) continue;
        const float error = Part::error(group(g), scales.d * static_cast<float>(s),
                                        scales.dmin * static_cast<float>(m));
        if (least >= 0.0f && error >= least) continue;
        least = error;
        scales.scale[g] = s;
        scales.min[g] = m;
      }
    }
  }

  float error(const BlockScales& scales) const {
    float sum = 0.0f;
    for (int g = 0; g < kGroups; ++g) {
      sum += Part::error(group(g), scales.d * static_cast<float>(scales.scale[g]),
                         scales.dmin * static_cast<float>(scales.min[g]));
    }
    return sum;
  }

  // The f16 scales that fit the codes best, as long as that helps.
  void improve() {
    float least = error(best_);
    for (int pass = 0; pass < kPasses && least > 0.0f; ++pass) {
      BlockScales next = refitted();
      if constexpr (kGroups > 1 && kLayout.bits < 4) {
        for (int g = 0; g < kGroups; ++g) choose_group(g, next);
      }
      const float e = error(next);
      if (!(e < least)) return;
      least = e;
      best_ = next;
    }
  }

  // Least squares for d (and dmin) over the block, all else as it is.
  BlockScales refitted() const {
    double xa = 0.0, xb = 0.0, aa = 0.0, ab = 0.0, bb = 0.0;  // x ~ d * a - dmin * b
    for (int g = 0; g < kGroups; ++g) {
      const Sums sums = Part::sums(group(g), best_.d * static_cast<float>(best_.scale[g]),
                                   best_.dmin * static_cast<float>(best_.min[g]));
      const auto s = static_cast<double>(best_.scale[g]);
      const auto m = static_cast<double>(best_.min[g]);
      xa += s * sums.xq;
      aa += s * s * sums.qq;
      xb += m * plain_sum<kLayout.group>(group(g));
      ab += s * m * sums.q;
      bb += m * m * kLayout.group;
    }
    BlockScales next = best_;
    const double determinant = aa * bb - ab * ab;
    if (kLayout.has_min() && determinant > 1e-9 * aa * bb) {
      next.d = stored_f16(static_cast<float>((xa * bb - ab * xb) / determinant));
      next.dmin = stored_f16(static_cast<float>((xa * ab - aa * xb) / determinant));
    } else if (aa > 0.0) {
      next.d = stored_f16(static_cast<float>((xa + next.dmin * ab) / aa));
    }
    return next;
  }

  void write(std::byte* block) const {
    uint8_t codes[kLayout.weights];
    for (int g = 0; g < kGroups; ++g) {
      Part::codes(group(g), best_.d * static_cast<float>(best_.scale[g]),
                  best_.dmin * static_cast<float>(best_.min[g]), codes + g * kLayout.group);
    }
    put_codes<kIndex>(codes, block);
    put_scales(kLayout, best_, block);
  }

  static constexpr int kPasses = kLayout.bits < 4 ? 3 : 1;
  const float* x_;
  Affine fits_[kGroups];
  BlockScales best_;
};

template <int kIndex>
void decode(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  uint8_t codes[kLayout.weights];
  get_codes<kIndex>(tile[0], codes);
  const BlockScales scales = get_scales(kLayout, tile[0]);
  for (int g = 0; g < kLayout.groups(); ++g) {
    const float scale = scales.d * static_cast<float>(scales.scale[g]);
    const float min = scales.dmin * static_cast<float>(scales.min[g]);
    for (int i = g * kLayout.group; i < (g + 1) * kLayout.group; ++i)
      x[i] = scale * Group<kIndex>::level(codes[i]) - min;
  }
}

template <int kIndex>
void read_grid(const Format&, const ConstPlanes& tile, int64_t, uint8_t* codes,
               GridScales* scales) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  get_codes<kIndex>(tile[0], codes);
  const BlockScales stored = get_scales(kLayout, tile[0]);
  scales->scale = stored.d;
  scales->zero = static_cast<uint8_t>(kLayout.middle());
  // A minimum alone in its block is added, one with small numbers subtracted.
  scales->min = kLayout.scales == Scales::kOneAndMin ? -stored.dmin : stored.dmin;
  for (int g = 0; g < kLayout.groups(); ++g) {
    scales->group_scale[g] = static_cast<int8_t>(stored.scale[g]);
    scales->group_min[g] = static_cast<uint8_t>(stored.min[g]);
  }
}

template <int kIndex>
void write_grid(const Format&, const uint8_t* codes, int64_t, const GridScales& scales,
                const Planes& tile) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  BlockScales stored;
  stored.d = scales.scale;
  stored.dmin = kLayout.scales == Scales::kOneAndMin ? -scales.min : scales.min;
  for (int g = 0; g < kLayout.groups(); ++g) {
    stored.scale[g] = scales.group_scale[g];
    stored.min[g] = scales.group_min[g];
  }
  put_codes<kIndex>(codes, tile[0]);
  put_scales(kLayout, stored, tile[0]);
}

template <int kIndex>
Format make() {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  Format format;
  format.name = kLayout.name;
  format.description = kLayout.description;
  format.tile_cols = kLayout.weights;
  format.planes = {{"blocks", 0, kLayout.bytes}};
  format.bits = kLayout.bits;
  format.encode = Encoder<kIndex>::encode;
  format.decode = decode<kIndex>;
  format.grid.read = read_grid<kIndex>;
  format.grid.write = write_grid<kIndex>;
  format.grid.levels = kLayout.table ? kIq4Levels : nullptr;
  format.grid.has_min = kLayout.has_min();
  format.grid.small_scales = kLayout.groups() > 1 ? kLayout.group : 0;
  return format;
}

template <int... kIndices>
std::vector<Format> make_all(std::integer_sequence<int, kIndices...>) {
  return {make<kIndices>()...};
}

}  // namespace

std::vector<Format> formats() {
  std::vector<Format> table = make_all(std::make_integer_sequence<int, kNumLayouts>());
  for (Format& format : point_formats()) table.push_back(std::move(format));
  return table;
}

}  // namespace quench::ggml_format
