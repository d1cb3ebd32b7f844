#include "formats/trellis_code.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/float16.h"

namespace quench {
namespace {

constexpr int kWindows = 1 << kTrellisWindow;
constexpr int kSteps = 8;                        // weights of a lane
constexpr int kLength = kTrellisLanes * kSteps;  // of the ring
constexpr int kOverlap = 28;  // steps on each side of the seam from which its state is found

constexpr TrellisCode make_code(int even_bits, int odd_bits, const std::array<uint16_t, 6>& masks,
                                float deviation, const std::array<int8_t, 32>& upper) {
  TrellisCode code{{even_bits, odd_bits}, {}, deviation, {}};
  for (size_t q = 0; q < 6; ++q) code.masks[q] = masks[q];
  for (size_t i = 0; i < 32; ++i) {
    code.levels[32 + i] = upper[i];
    code.levels[31 - i] = static_cast<int8_t>(-upper[i]);
  }
  return code;
}

// Maps and levels found by a search over random maps for a normal source; the tests hold their
// distortion.
constexpr TrellisCode kCodes[] = {
    make_code(2, 2, {1405, 1234, 3513, 284, 2517, 1875}, 48.90f,
              {7,  5,  7,  12, 11, 9,  8,  7,  19, 24, 22, 28, 25, 26, 25, 25,
               42, 44, 45, 47, 50, 41, 45, 53, 66, 64, 70, 70, 87, 89, 94, 127}),
    make_code(2, 3, {1604, 1234, 3513, 1308, 2694, 1875}, 45.77f,
              {4,  7,  7,  10, 11, 9,  9,  7,  18, 22, 24, 27, 25, 24, 24,  23,
               41, 41, 44, 44, 49, 40, 41, 53, 64, 65, 68, 67, 81, 87, 101, 127}),
    make_code(3, 3, {2228, 79, 1604, 961, 3959, 1836}, 43.86f,
              {5,  7,  5,  6,  9,  7,  9,  11, 19, 20, 19, 21, 27, 24, 23,  29,
               33, 36, 39, 39, 43, 44, 51, 51, 55, 62, 63, 70, 78, 85, 101, 127}),
};

int row_of(int step) { return step / kSteps / 4; }
int col_of(int step) { return step % kSteps * 4 + step / kSteps % 4; }

// The map of every window, once per code.
struct Indices {
  std::array<uint8_t, kWindows> of;
  explicit Indices(const TrellisCode& code) : of{} {
    for (int w = 0; w < kWindows; ++w)
      of[static_cast<size_t>(w)] = static_cast<uint8_t>(code.index(static_cast<uint32_t>(w)));
  }
};
const Indices& indices(const TrellisCode& code) {
  static const std::array<Indices, std::size(kCodes)> all = {Indices(kCodes[0]), Indices(kCodes[1]),
                                                             Indices(kCodes[2])};
  return all[static_cast<size_t>(code.pair_bits() - kCodes[0].pair_bits())];
}

constexpr int kIndices = 64;
constexpr int kMaxStates = kWindows >> 2;
constexpr int kMargin = 16;  // that a step may read beyond the costs
constexpr int kMaxSteps = kLength;

// Viterbi's algorithm over a run of steps. A state is what of the window the next step keeps: its
// last 12 bits less those that the next adds.
class Search {
 public:
  Search(const TrellisCode& code, const float* targets, const float* importance,
         TrellisStep one_step)
      : code_(code),
        index_(indices(code)),
        targets_(targets),
        importance_(importance),
        step_(one_step) {}

  // From any state (start < 0) or one, over `count` steps, at most kMaxSteps, from `first` on.
  void run(int first, int count, int start) {
    const float far = std::numeric_limits<float>::max() / 4;
    std::fill_n(costs(0), kMaxStates, start < 0 ? 0.0f : far);
    if (start >= 0) costs(0)[start] = 0.0f;
    first_ = first;
    count_ = count;
    for (int i = 0; i < count; ++i) {
      measure((first + i) % kLength, metric(i));
      step_({bits_at(i), bits_at(i + 1), index_.of.data(), metric(i), costs(i), costs(i + 1)});
    }
  }

  int best_state() const {
    const float* last = costs(count_);
    return static_cast<int>(std::min_element(last, last + states_after(count_ - 1)) - last);
  }

  // The windows of the last run, ending in `state`, last first: visit(i, window).
  template <class Visit>
  void trace(int state, Visit visit) const {
    for (int i = count_ - 1; i >= 0; --i) {
      const int window = window_to(i, state);
      visit(i, window);
      state = window >> bits_at(i);
    }
  }

 private:
  // Of the i-th step of the run.
  int bits_at(int i) const { return code_.bits_at(first_ + i); }
  int states_after(int i) const { return kWindows >> bits_at(i + 1); }
  float* metric(int i) const { return metrics_.get() + i * kIndices; }
  float* costs(int i) const { return costs_.get() + i * (kMaxStates + kMargin); }

  // metric [64]: of the weight `at`, the cost of every index.
  void measure(int at, float* metric) const {
    const float target = targets_[row_of(at) * kTrellisCols + col_of(at)];
    const float weight = importance_ != nullptr ? importance_[col_of(at)] : 1.0f;
    for (int i = 0; i < kIndices; ++i) {
      const float difference = target - static_cast<float>(code_.levels[i]);
      metric[i] = weight * difference * difference;
    }
  }

  // By which the i-th step came to `state` at the least cost; the lowest of several.
  int window_to(int i, int state) const {
    const float* before = costs(i);
    const float* of_index = metric(i);
    int best = state;
    float least = std::numeric_limits<float>::infinity();
    for (int window = state; window < kWindows; window += states_after(i)) {
      const float cost =
          before[window >> bits_at(i)] + of_index[index_.of[static_cast<size_t>(window)]];
      best = cost < least ? window : best;
      least = std::min(cost, least);
    }
    return best;
  }

  const TrellisCode& code_;
  const Indices& index_;
  const float* targets_;
  const float* importance_;
  const TrellisStep step_;
  int first_ = 0;  // step of the last run
  int count_ = 0;  // of its steps
  // Not filled: what a run reads it has written, but for the margin, which counts for nothing.
  std::unique_ptr<float[]> metrics_ =
      std::make_unique_for_overwrite<float[]>(size_t{kMaxSteps} * kIndices);
  std::unique_ptr<float[]> costs_ =  // before every step, and after the last
      std::make_unique_for_overwrite<float[]>(size_t{kMaxSteps + 1} * (kMaxStates + kMargin));
};

}  // namespace

void trellis_step(const TrellisStepArgs& a) {
  const int states = kWindows >> a.next;
  for (int high = 0; high < 1 << a.next; ++high) {
    for (int v = 0; v < states; ++v) {
      const int window = high * states + v;
      const float cost = a.cost_in[window >> a.bits] + a.metric[a.index[window]];
      a.cost_out[v] = high == 0 ? cost : std::min(cost, a.cost_out[v]);
    }
  }
}

int TrellisCode::index(uint32_t window) const {
  int result = 0;
  for (int q = 0; q < 6; ++q) result |= (std::popcount(window & masks[q]) & 1) << q;
  return result;
}

int TrellisCode::bits_at(int m) const { return step_bits[m % 2]; }
int TrellisCode::pair_bits() const { return step_bits[0] + step_bits[1]; }
int64_t TrellisCode::tile_bytes(int64_t cols) const { return cols * pair_bits(); }
double TrellisCode::bits_per_weight() const { return 0.5 * pair_bits(); }
int64_t TrellisCode::cols_step() const { return pair_bits() % 2 == 0 ? kTrellisCols : 64; }

float trellis_row_scale(const TrellisCode& code, const float* row, int64_t cols) {
  double squares = 0.0;
  for (int64_t i = 0; i < cols; ++i) squares += static_cast<double>(row[i]) * row[i];
  const double sigma = std::sqrt(squares / static_cast<double>(cols));
  return f16_to_f32(f32_to_f16(static_cast<float>(sigma / code.deviation)));
}

std::span<const TrellisCode> trellis_codes() { return kCodes; }

namespace {

// Where a block's bits of a lane lie. They may share their first or their last byte with the next.
class LaneBits {
 public:
  LaneBits(const TrellisCode& code, int64_t block)
      : bits_(kSteps / 2 * code.pair_bits()),
        first_byte_(block * bits_ / 8),
        shift_(static_cast<int>(block * bits_ % 8)) {}

  uint32_t get(const std::byte* tile, int lane) const {
    uint32_t word = 0;
    for (int i = 0; 8 * i < shift_ + bits_; ++i)
      word |= static_cast<uint32_t>(tile[at(i, lane)]) << (8 * i);
    return word >> shift_ & mask();
  }
  void put(uint32_t value, int lane, std::byte* tile) const {
    for (int i = 0; 8 * i < shift_ + bits_; ++i) {
      std::byte& byte = tile[at(i, lane)];
      byte = (byte & ~static_cast<std::byte>(mask() << shift_ >> (8 * i))) |
             static_cast<std::byte>(value << shift_ >> (8 * i));
    }
  }

 private:
  uint32_t mask() const { return (1u << bits_) - 1; }
  int64_t at(int i, int lane) const { return (first_byte_ + i) * kTrellisLanes + lane; }

  int bits_;
  int64_t first_byte_;
  int shift_;
};

// Lanes [begin, end) of a block, primed with the lane before them: use(step, level).
template <class Use>
void decode_lanes(const TrellisCode& code, const std::byte* tile, int64_t block, int begin, int end,
                  Use use) {
  const Indices& index = indices(code);
  const LaneBits lanes(code, block);
  uint64_t window = 0;  // the stream's bits so far, the newest lowest
  for (int lane = begin - 1; lane < end; ++lane) {
    uint32_t column = lanes.get(tile, lane < 0 ? kTrellisLanes - 1 : lane);
    for (int m = 0; m < kSteps; ++m) {
      for (int b = 0; b < code.bits_at(m); ++b, column >>= 1) window = window << 1 | (column & 1u);
      if (lane < begin) continue;
      use(lane * kSteps + m, code.levels[index.of[window & (kWindows - 1)]]);
    }
  }
}

}  // namespace

void decode_trellis_block(const TrellisCode& code, const std::byte* tile, int64_t block,
                          int8_t* levels) {
  decode_lanes(code, tile, block, 0, kTrellisLanes, [&](int step, int8_t level) {
    levels[row_of(step) * kTrellisCols + col_of(step)] = level;
  });
}

void decode_trellis_row(const TrellisCode& code, const std::byte* tile, int64_t block, int row,
                        int8_t* levels) {
  decode_lanes(code, tile, block, 4 * row, 4 * row + 4,
               [&](int step, int8_t level) { levels[col_of(step)] = level; });
}

void encode_trellis_block(const TrellisCode& code, const float* targets, const float* importance,
                          std::byte* tile, int64_t block, TrellisStep step) {
  Search search(code, targets, importance, step);
  // The state at the seam of the ring, from what lies on both sides of it; then the ring with that
  // state at both of its ends.
  search.run(kLength - kOverlap, 2 * kOverlap, -1);
  int seam = 0;
  search.trace(search.best_state(), [&](int i, int window) {
    if (i == kOverlap) seam = window >> code.bits_at(0);
  });
  search.run(0, kLength, seam);
  const LaneBits lanes(code, block);
  uint32_t column = 0;  // the last weight's newest bit comes first, and ends highest
  search.trace(seam, [&](int at_step, int window) {
    for (int b = 0; b < code.bits_at(at_step); ++b)
      column = column << 1 | (static_cast<uint32_t>(window) >> b & 1u);
    if (at_step % kSteps != 0) return;
    lanes.put(column, at_step / kSteps, tile);
    column = 0;
  });
}

}  // namespace quench
