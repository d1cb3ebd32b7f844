// Choosing scale and zero of one tile of a Grid format: value = scale * (level[code] - zero) - min.
// The search minimises the weighted squared error over candidate scales, each refined by least
// squares for the codes it gives. Pure functions; any thread.
#pragma once

#include <cstdint>

#include "quantize/encoder.h"

namespace quench {

struct GridChoice {
  float scale = 0.0f;  // as stored
  uint8_t zero = 0;
  float min = 0.0f;
};

// A format's levels, ready for rounding.
class GridLevels {
 public:
  explicit GridLevels(const Format& format);

  // Of a plain grid. x [cols]; importance [cols], or null for 1 each.
  GridChoice choose(const float* x, const float* importance, int64_t cols) const;
  // The code whose value is nearest to x.
  uint8_t nearest(const GridChoice& choice, float x) const;
  float value(const GridChoice& choice, uint8_t code) const {
    return choice.scale * (level(code) - static_cast<float>(choice.zero)) - choice.min;
  }

 private:
  float level(uint8_t code) const {
    return format_.grid.levels != nullptr ? format_.grid.levels[code] : static_cast<float>(code);
  }
  // Codes for the choice, then the least-squares scale for them; returns the weighted error. xx:
  // the weighted sum of squares of x.
  double refine(const float* x, const float* importance, int64_t cols, double xx,
                GridChoice& choice) const;

  const Format& format_;
  int max_code_;
};

// Of group `group` of a tile.
GridChoice group_choice(const Format& format, const GridScales& scales, int64_t group);
// Of a plain grid.
GridScales as_stored(const GridChoice& choice);

// Whether the search may choose scales and codes of the format.
bool is_writable_grid(const Format& format);

// Chooses every tile on its own; a format that is no plain grid by its own encoder. stats: null for
// errors that count alike.
std::unique_ptr<Encoder> make_search_encoder(const Format& format, int64_t cols,
                                             const InputStats* stats);

}  // namespace quench
