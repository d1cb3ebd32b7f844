#include "quantize/grid_parts.h"

#include <algorithm>
#include <cmath>

#include "base/lanes.h"
#include "formats/scale.h"

namespace quench {
namespace {

// The natural scale puts the largest magnitude on the outermost level; smaller ones clip it and
// round the rest finer. Steps of 5 % down to 70 %, each refined by least squares, come within 1 %
// of the error of a search in steps of 0.5 % where there are at most 16 levels. More levels lie so
// dense that none is worth clipping far for: steps of 0.4 levels around the natural scale.
constexpr int kCandidates = 7;
constexpr float kStep = 0.05f;
constexpr float kLevelStep = 0.4f;

// Sums of a tile for least squares, in lanes: the order of additions is fixed.
struct Sums {
  static constexpr int64_t kLanes = Lanes<4>::kCount;
  float xl[kLanes] = {};  // weight * x * level
  float ll[kLanes] = {};  // weight * level^2

  void add(int64_t lane, float weight, float x, float level) {
    xl[lane] += weight * x * level;
    ll[lane] += weight * level * level;
  }
};

double total(const float (&lanes)[Sums::kLanes]) {
  double sum = 0.0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// With the whole numbers in [low, high] that are nearest to x * inverse. x [cols], whole lanes;
// importance [cols] or null.
template <class L>
Sums whole_number_sums(const float* x, const float* importance, int64_t cols, float inverse,
                       float low, float high) {
  const L scale = L::splat(inverse);
  const L lowest = L::splat(low);
  const L highest = L::splat(high);
  L xl = L::splat(0.0f);
  L ll = xl;
  for (int64_t i = 0; i < cols; i += L::kCount) {
    const L v = L::load(x + i);
    const L level = round_even(min(max(v * scale, lowest), highest));
    const L weight = importance != nullptr ? L::load(importance + i) : L::splat(1.0f);
    xl += weight * v * level;
    ll += weight * level * level;
  }
  Sums sums;
  xl.store(sums.xl);
  ll.store(sums.ll);
  return sums;
}

// Half to even, for |x| < 2^22.
float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

}  // namespace

GridLevels::GridLevels(const Format& format) : format_(format), max_code_((1 << format.bits) - 1) {}

uint8_t GridLevels::nearest(const GridChoice& choice, float x) const {
  if (choice.scale == 0.0f)
    return format_.grid.levels == nullptr ? choice.zero : static_cast<uint8_t>(max_code_ / 2);
  const float wanted = (x + choice.min) / choice.scale + static_cast<float>(choice.zero);
  if (format_.grid.levels == nullptr) {
    return static_cast<uint8_t>(
        round_even(std::clamp(wanted, 0.0f, static_cast<float>(max_code_))));
  }
  const float* levels = format_.grid.levels;
  const float* above = std::lower_bound(levels, levels + max_code_ + 1, wanted);
  if (above == levels) return 0;
  if (above == levels + max_code_ + 1) return static_cast<uint8_t>(max_code_);
  return static_cast<uint8_t>(above - levels - (wanted - above[-1] <= above[0] - wanted ? 1 : 0));
}

double GridLevels::refine(const float* x, const float* importance, int64_t cols, double xx,
                          GridChoice& choice) const {
  Sums sums;
  const float inverse = choice.scale != 0.0f ? 1.0f / choice.scale : 0.0f;
  if (format_.grid.levels == nullptr && cols % Sums::kLanes == 0) {
    const auto low = -static_cast<float>(choice.zero);
    const float high = static_cast<float>(max_code_) + low;
    static const auto kSums = with_avx2<whole_number_sums<Lanes<4>>, whole_number_sums<Lanes<8>>>();
    sums = kSums(x, importance, cols, inverse, low, high);
  } else {
    for (int64_t i = 0; i < cols; ++i) {
      const float l = level(nearest(choice, x[i])) - static_cast<float>(choice.zero);
      sums.add(i % Sums::kLanes, importance != nullptr ? importance[i] : 1.0f, x[i], l);
    }
  }
  const double xl = total(sums.xl);
  const double ll = total(sums.ll);
  if (ll == 0.0) return xx;
  choice.scale = stored_scale(format_.grid.scale, static_cast<float>(xl / ll));
  const double scale = choice.scale;
  return xx - 2.0 * scale * xl + scale * scale * ll;
}

GridChoice GridLevels::choose(const float* x, const float* importance, int64_t cols) const {
  const auto [low_at, high_at] = std::minmax_element(x, x + cols);
  const float low = std::min(*low_at, 0.0f);
  const float high = std::max(*high_at, 0.0f);
  double xx = 0.0;
  for (int64_t i = 0; i < cols; ++i)
    xx += (importance != nullptr ? importance[i] : 1.0f) * x[i] * x[i];
  GridChoice best;
  double best_error = -1.0;
  auto consider = [&](float scale, int zero) {
    GridChoice choice;
    choice.scale = stored_scale(format_.grid.scale, scale);
    choice.zero = static_cast<uint8_t>(zero);
    const double error = refine(x, importance, cols, xx, choice);
    if (best_error >= 0.0 && error >= best_error) return;
    best = choice;
    best_error = error;
  };
  const float extreme = -low > high ? low : high;
  const int middle = 1 << (format_.bits - 1);
  const bool is_dense = format_.bits > 4;
  const float step = is_dense ? kLevelStep / static_cast<float>(middle) : kStep;
  for (int c = 0; c < kCandidates; ++c) {
    const float shrink = 1.0f - step * static_cast<float>(is_dense ? c - 1 : c);
    if (format_.grid.levels != nullptr) {
      consider(shrink * extreme / format_.grid.levels[0], 0);
      consider(shrink * extreme / format_.grid.levels[max_code_], 0);
    } else if (format_.zero_point) {
      const float scale = shrink * (high - low) / static_cast<float>(max_code_);
      const float zero = scale > 0.0f ? std::nearbyint(-low * shrink / scale) : 0.0f;
      const int nearest_zero = std::clamp(static_cast<int>(zero), 0, max_code_);
      consider(scale, nearest_zero);
      if (nearest_zero > 0) consider(scale, nearest_zero - 1);
      if (nearest_zero < max_code_) consider(scale, nearest_zero + 1);
    } else {
      consider(-shrink * extreme / static_cast<float>(middle), middle);
      consider(shrink * std::fabs(extreme) / static_cast<float>(middle - 1), middle);
    }
  }
  consider(best.scale, best.zero);  // the codes of the fitted scale may be others
  return best;
}

bool is_writable_grid(const Format& format) {
  return format.grid.is_plain() && format.grid.write != nullptr;
}

GridChoice group_choice(const Format& format, const GridScales& scales, int64_t group) {
  GridChoice choice = {scales.scale, scales.zero, format.grid.has_min ? scales.min : 0.0f};
  if (format.grid.small_scales > 0) {
    choice.scale *= static_cast<float>(scales.group_scale[group]);
    choice.min *= static_cast<float>(scales.group_min[group]);
  }
  return choice;
}

GridScales as_stored(const GridChoice& choice) {
  GridScales scales;
  scales.scale = choice.scale;
  scales.zero = choice.zero;
  return scales;
}

namespace {

class SearchEncoder : public Encoder {
 public:
  SearchEncoder(const Format& format, int64_t cols, const InputStats* stats)
      : format_(format), cols_(cols), levels_(format) {
    if (stats != nullptr) importance_ = stats->mean_square;
  }

  void encode(const float* rows, int64_t num_rows, const Planes& first) const override {
    if (!is_writable_grid(format_)) return format_.encode_rows(rows, num_rows, cols_, first);
    const int64_t width = format_.tile_width(cols_);
    std::vector<uint8_t> codes(static_cast<size_t>(width));
    for (int64_t r = 0; r < num_rows; ++r) {
      Planes tile = format_.row_planes(first, r, cols_);
      for (int64_t column = 0; column < cols_; column += width) {
        const float* x = rows + r * cols_ + column;
        const float* importance = importance_.empty() ? nullptr : importance_.data() + column;
        const GridChoice choice = levels_.choose(x, importance, width);
        for (int64_t i = 0; i < width; ++i)
          codes[static_cast<size_t>(i)] = levels_.nearest(choice, x[i]);
        format_.grid.write(format_, codes.data(), width, as_stored(choice), tile);
        for (size_t p = 0; p < format_.planes.size(); ++p)
          tile[p] += format_.plane_bytes(static_cast<int>(p), 1, width);
      }
    }
  }

 private:
  const Format& format_;
  int64_t cols_;
  GridLevels levels_;
  std::vector<float> importance_;
};

}  // namespace

std::unique_ptr<Encoder> make_search_encoder(const Format& format, int64_t cols,
                                             const InputStats* stats) {
  return std::make_unique<SearchEncoder>(format, cols, stats);
}

}  // namespace quench
