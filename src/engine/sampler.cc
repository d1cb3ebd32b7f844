#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "base/check.h"
#include "base/random.h"
#include "base/result.h"

namespace quench {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Entries are worked on in blocks: a block's maximum and sum let later steps skip it whole, which
// for the logits of a language model is nearly all of them.
constexpr int64_t kBlock = 64;
constexpr int64_t kLanes = 8;  // independent partial sums, so that the compiler can use vectors

int64_t num_blocks(int64_t num_entries) { return (num_entries + kBlock - 1) / kBlock; }

template <class T>
void grow(std::vector<T>& vector, int64_t num_entries) {
  if (static_cast<int64_t>(vector.size()) < num_entries) vector.resize(num_entries);
}

// What a step leaves to the next one: entries in ascending order of token ids.
struct Entries {
  const float* values;  // [num_entries] logits after temperature
  const int32_t* ids;   // [num_entries], null: the entry's index is its id
  int64_t num_entries;
  float max_value;

  int32_t id(int64_t index) const {
    return ids == nullptr ? static_cast<int32_t>(index) : ids[index];
  }
};

// exp(x) for x <= 0, within 2e-7 relative; 0 below -87 (there float32 has only subnormals) and for
// -inf. Cephes expf: x = n ln2 + r, |r| <= ln2 / 2, a polynomial of degree 5 after 1 + r. Own code,
// because vectors need it inlined and because libm's last bit differs between versions. Bit
// arithmetic instead of comparisons: GCC 12 makes branches of those, three times slower.
inline float exp_of_negative(float x) {
  constexpr int32_t kLimit = 0x42ae0000;  // the bits of 87.0f
  const auto magnitude = static_cast<int32_t>(std::bit_cast<uint32_t>(x) & 0x7fffffffu);
  const int32_t room = kLimit - magnitude;
  const int32_t beyond = room >> 31;  // all ones where |x| > 87
  const float clamped = -std::bit_cast<float>(magnitude + (room & beyond));
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the float.
  const float shifted = clamped * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;  // n * 2^23; the rest drops out
  return std::bit_cast<float>((std::bit_cast<uint32_t>(p) + exponent) &
                              ~static_cast<uint32_t>(beyond));
}

void apply_bias(const std::map<int32_t, double>& logit_bias, std::span<float> logits) {
  const auto vocab_size = static_cast<int64_t>(logits.size());
  for (const auto& [id, bias] : logit_bias) {
    if (id >= 0 && id < vocab_size) logits[id] += static_cast<float>(bias);
  }
}

void apply_repetition_penalty(float penalty, const SamplerInput& input, std::span<float> logits,
                              SamplerScratch& scratch) {
  const auto vocab_size = static_cast<int64_t>(logits.size());
  grow(scratch.stamp, vocab_size);
  if (++scratch.call == 0) {  // wrapped around: no old stamp may look new
    std::fill(scratch.stamp.begin(), scratch.stamp.end(), 0);
    scratch.call = 1;
  }
  for (std::span<const int32_t> ids : {input.prompt_ids, input.generated_ids}) {
    for (int32_t id : ids) {
      if (id < 0 || id >= vocab_size || scratch.stamp[id] == scratch.call) continue;
      scratch.stamp[id] = scratch.call;
      logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
  }
}

void apply_count_penalties(float frequency, float presence, std::span<const int32_t> generated_ids,
                           std::span<float> logits, SamplerScratch& scratch) {
  const auto vocab_size = static_cast<int64_t>(logits.size());
  grow(scratch.count, vocab_size);
  scratch.touched.clear();
  for (int32_t id : generated_ids) {
    if (id < 0 || id >= vocab_size) continue;
    if (scratch.count[id]++ == 0) scratch.touched.push_back(id);
  }
  for (int32_t id : scratch.touched) {
    logits[id] -= frequency * static_cast<float>(scratch.count[id]);
    logits[id] -= presence;
    scratch.count[id] = 0;
  }
}

// Fills block_max and returns the largest value.
Result<float> scan_blocks(std::span<const float> values, int64_t position,
                          std::vector<float>& block_max) {
  const auto num_entries = static_cast<int64_t>(values.size());
  grow(block_max, num_blocks(num_entries));
  float largest = -kInfinity;
  bool any_nan = false;
  for (int64_t block = 0; block < num_blocks(num_entries); ++block) {
    float padded[kBlock];
    const float* in = values.data() + block * kBlock;
    if (const int64_t left = num_entries - block * kBlock; left < kBlock) {
      std::fill(std::copy_n(in, left, padded), padded + kBlock, -kInfinity);
      in = padded;
    }
    float lanes[kLanes];
    int32_t nan_lanes[kLanes] = {};
    std::fill_n(lanes, kLanes, -kInfinity);
    for (int64_t i = 0; i < kBlock; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float value = in[i + lane];
        lanes[lane] = value > lanes[lane] ? value : lanes[lane];
        nan_lanes[lane] |= value != value;
      }
    }
    float max_value = -kInfinity;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      max_value = std::max(max_value, lanes[lane]);
      any_nan |= nan_lanes[lane] != 0;
    }
    block_max[block] = max_value;
    largest = std::max(largest, max_value);
  }
  if (any_nan || largest == kInfinity) {
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float v) { return std::isnan(v) || v == kInfinity; });
    return fail(ErrorCode::kInternal,
                "The logit of token {} at position {} is {}: the forward pass overflowed or a "
                "weight is not a number.",
                bad - values.begin(), position, *bad);
  }
  if (largest == -kInfinity)
    return fail(ErrorCode::kInternal,
                "All {} logits at position {} are -inf: there is no token to draw.", num_entries,
                position);
  return largest;
}

int32_t first_index_of(float value, std::span<const float> values,
                       const std::vector<float>& block_max) {
  int64_t block = 0;
  while (block_max[block] != value) ++block;
  const auto begin = values.begin() + block * kBlock;
  return static_cast<int32_t>(std::find(begin, values.end(), value) - values.begin());
}

// Calls visit(index) for the entries of every block whose maximum is at least `lowest`.
template <class Visit>
void visit_blocks(int64_t num_entries, const std::vector<float>& block_max, float lowest,
                  Visit visit) {
  for (int64_t block = 0; block < num_blocks(num_entries); ++block) {
    if (block_max[block] < lowest) continue;
    const int64_t end = std::min(num_entries, (block + 1) * kBlock);
    for (int64_t index = block * kBlock; index < end; ++index) visit(index);
  }
}

// The k-th largest, 1 <= k <= num_entries; `selection` is reordered.
float kth_largest(std::vector<float>& selection, int64_t k) {
  const auto kth = selection.begin() + (k - 1);
  std::nth_element(selection.begin(), kth, selection.end(), std::greater<>());
  return *kth;
}

// Logits >= the k-th largest; both they and block_max are after temperature, which `logits` are not
// yet. The k-th largest block maximum bounds the k-th largest logit from below, and blocks under it
// need not be looked at.
Entries keep_top_k(std::span<const float> logits, float temperature, float max_value, int64_t k,
                   SamplerScratch& scratch) {
  const auto num_entries = static_cast<int64_t>(logits.size());
  const int64_t blocks = num_blocks(num_entries);
  float bound = -kInfinity;
  if (k <= blocks) {
    scratch.selection.assign(scratch.block_max.begin(), scratch.block_max.begin() + blocks);
    bound = kth_largest(scratch.selection, k);
  }
  scratch.values.clear();
  scratch.ids.clear();
  visit_blocks(num_entries, scratch.block_max, bound, [&](int64_t index) {
    const float value = logits[index] / temperature;
    if (value < bound) return;
    scratch.values.push_back(value);
    scratch.ids.push_back(static_cast<int32_t>(index));
  });
  scratch.selection.assign(scratch.values.begin(), scratch.values.end());
  const float kth = kth_largest(scratch.selection, k);
  int64_t kept = 0;
  for (size_t index = 0; index < scratch.values.size(); ++index) {
    if (scratch.values[index] < kth) continue;
    scratch.values[kept] = scratch.values[index];
    scratch.ids[kept++] = scratch.ids[index];
  }
  return {scratch.values.data(), scratch.ids.data(), kept, max_value};
}

// weights = exp(value - max) and their sums per block; returns the sum of all. Where `tempered` is
// given the values are divided by the temperature on the way and written there.
double exponentiate(const Entries& entries, float* tempered, float temperature,
                    SamplerScratch& scratch) {
  const int64_t blocks = num_blocks(entries.num_entries);
  grow(scratch.weights, blocks * kBlock);
  grow(scratch.block_sum, blocks);
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    float in[kBlock];
    const int64_t begin = block * kBlock;
    const int64_t length = std::min(kBlock, entries.num_entries - begin);
    if (length < kBlock) std::fill_n(in, kBlock, -kInfinity);
    std::copy_n(entries.values + begin, length, in);
    if (tempered != nullptr) {
      for (int64_t i = 0; i < kBlock; ++i) in[i] /= temperature;
      std::copy_n(in, length, tempered + begin);
    }
    float* out = scratch.weights.data() + begin;
    for (int64_t i = 0; i < kBlock; ++i) out[i] = exp_of_negative(in[i] - entries.max_value);
    double lanes[kLanes] = {};
    for (int64_t i = 0; i < kBlock; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += out[i + lane];
    }
    scratch.block_sum[block] = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
                               ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    total += scratch.block_sum[block];
  }
  return total;
}

// Sorts by value, then by index; -0 counts as 0.
uint64_t sort_key(float value, int64_t index) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);
  const uint32_t ordered = bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
  return (uint64_t{ordered} << 32) | static_cast<uint32_t>(index);
}

float key_value(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered ^ (ordered >> 31 != 0 ? 0x80000000u : 0xffffffffu));
}

// The smallest key that top_p keeps: going up from the least probable, the first whose cumulative
// probability exceeds `limit`, or the last. `removed` is the probability of what is below all keys,
// not above `limit`. Bisection by partial selection, so that only the border is ever sorted.
uint64_t top_p_border(std::vector<uint64_t>& keys, const float* weights, float total,
                      double removed, float limit) {
  const auto probability = [&](uint64_t key) {
    return static_cast<double>(weights[static_cast<uint32_t>(key)] / total);
  };
  constexpr int64_t kSortedAtOnce = 64;
  const auto first = keys.begin();
  int64_t begin = 0;
  auto end = static_cast<int64_t>(keys.size());
  while (end - begin > kSortedAtOnce) {
    const int64_t middle = begin + (end - begin) / 2;
    std::nth_element(first + begin, first + middle, first + end);
    double cumulative = removed;
    for (int64_t i = begin; i <= middle; ++i) cumulative += probability(keys[i]);
    if (static_cast<float>(cumulative) <= limit) {
      begin = middle + 1;
      removed = cumulative;
    } else {
      end = middle;  // itself kept; the border is there or lower
    }
  }
  std::sort(first + begin, first + end);
  for (int64_t i = begin; i < end; ++i) {
    removed += probability(keys[i]);
    if (!(static_cast<float>(removed) <= limit)) return keys[i];
  }
  return end < static_cast<int64_t>(keys.size()) ? keys[end] : keys.back();
}

// The smallest key of the entries that top_p keeps; `total` is the sum of the weights.
uint64_t find_top_p(const Entries& entries, double top_p, double total, SamplerScratch& scratch) {
  const auto limit = static_cast<float>(1.0 - top_p);
  const auto total_f32 = static_cast<float>(total);
  // Most of the probability often lies within a few units of the largest logit, in a few blocks:
  // take those, if what is left out does not reach into the part that stays.
  constexpr int64_t kFewBlocks = 64;
  const float lowest = entries.max_value - 3;
  const auto block_max = scratch.block_max.begin();
  const int64_t high_blocks = std::count_if(block_max, block_max + num_blocks(entries.num_entries),
                                            [&](float value) { return value >= lowest; });
  double removed = 0;
  if (high_blocks <= kFewBlocks) {
    double head = 0;
    scratch.keys.clear();
    visit_blocks(entries.num_entries, scratch.block_max, lowest, [&](int64_t index) {
      if (entries.values[index] < lowest) return;
      scratch.keys.push_back(sort_key(entries.values[index], index));
      head += scratch.weights[index];
    });
    removed = std::max(0.0, (total - head) / total);
    if (static_cast<float>(removed) <= limit)
      return top_p_border(scratch.keys, scratch.weights.data(), total_f32, removed, limit);
  }

  // Else find by histogram the hundredth of a unit in which the border lies. Two histograms in
  // turns, so that additions to one bucket seldom wait for each other.
  constexpr int kBuckets = 4096;  // the last one also holds what is further down
  const auto bucket_of = [&](int64_t index) {
    const float distance = (entries.max_value - entries.values[index]) * 128.0f;
    return static_cast<int>(distance < kBuckets - 1.0f ? distance : kBuckets - 1.0f);
  };
  double mass[2][kBuckets] = {};
  for (int64_t index = 0; index < entries.num_entries; ++index)
    mass[index & 1][bucket_of(index)] += scratch.weights[index];
  removed = 0;
  int border = kBuckets - 1;
  const auto share = [&] { return (mass[0][border] + mass[1][border]) / total; };
  while (border > 0 && static_cast<float>(removed + share()) <= limit) {
    removed += share();
    --border;
  }
  scratch.keys.clear();
  for (int64_t begin = 0; begin < entries.num_entries; begin += kBlock) {
    const int64_t end = std::min(entries.num_entries, begin + kBlock);
    int found = 0;
    for (int64_t index = begin; index < end; ++index) found += bucket_of(index) == border;
    for (int64_t index = begin; index < end && found > 0; ++index) {
      if (bucket_of(index) == border)
        scratch.keys.push_back(sort_key(entries.values[index], index));
    }
  }
  return top_p_border(scratch.keys, scratch.weights.data(), total_f32, removed, limit);
}

// Moves the weights and ids of the entries that `keep` chooses to the front of the scratch arrays,
// whose new entries they are; returns how many.
template <class Keep>
int64_t compact(const Entries& entries, float lowest, SamplerScratch& scratch, Keep keep) {
  if (entries.ids == nullptr) grow(scratch.ids, entries.num_entries);
  int64_t kept = 0;
  visit_blocks(entries.num_entries, scratch.block_max, lowest, [&](int64_t index) {
    const bool is_kept = keep(index);  // before the entry may be written over
    scratch.weights[kept] = scratch.weights[index];
    scratch.ids[kept] = entries.id(index);
    kept += is_kept;  // no branch: in a flat distribution nobody can predict it
  });
  return kept;
}

// The sum of weights [0, num_entries), also per block.
double sum_weights(int64_t num_entries, SamplerScratch& scratch) {
  grow(scratch.block_sum, num_blocks(num_entries));
  double total = 0;
  for (int64_t block = 0; block < num_blocks(num_entries); ++block) {
    double sum = 0;
    const int64_t end = std::min(num_entries, (block + 1) * kBlock);
    for (int64_t index = block * kBlock; index < end; ++index) sum += scratch.weights[index];
    scratch.block_sum[block] = sum;
    total += sum;
  }
  return total;
}

// The first entry whose cumulative weight exceeds u * total. Where the sums of the blocks and of
// their entries round differently, the last entry of the block with a weight is taken.
int64_t draw(int64_t num_entries, double total, double u, const SamplerScratch& scratch) {
  const double target = u * total;
  double cumulative = 0;
  double before_block = 0;
  int64_t last_block = 0;
  for (int64_t block = 0; block < num_blocks(num_entries) && cumulative <= target; ++block) {
    if (scratch.block_sum[block] == 0) continue;
    last_block = block;
    before_block = cumulative;
    cumulative += scratch.block_sum[block];
  }
  cumulative = before_block;
  int64_t last_index = 0;
  const int64_t end = std::min(num_entries, (last_block + 1) * kBlock);
  for (int64_t index = last_block * kBlock; index < end; ++index) {
    if (scratch.weights[index] == 0) continue;
    last_index = index;
    cumulative += scratch.weights[index];
    if (cumulative > target) break;
  }
  return last_index;
}

}  // namespace

Result<int32_t> sample(const SamplingSettings& settings, const SamplerInput& input,
                       SamplerScratch& scratch) {
  const double u = random_uniform(settings.seed, static_cast<uint64_t>(input.position));
  return sample_with_draw(settings, input, u, scratch);
}

Result<int32_t> sample_with_draw(const SamplingSettings& settings, const SamplerInput& input,
                                 double u, SamplerScratch& scratch) {
  QUENCH_CHECK(u >= 0 && u < 1, "u is {}", u);
  QUENCH_CHECK(input.vocab_size > 0 &&
                   input.vocab_size <= static_cast<int64_t>(input.logits.size()) &&
                   input.vocab_size <= std::numeric_limits<int32_t>::max(),
               "vocab_size {} with {} logits", input.vocab_size, input.logits.size());
  const std::span<float> logits = input.logits.first(input.vocab_size);
  apply_bias(settings.logit_bias, logits);
  if (settings.repetition_penalty != 1.0)
    apply_repetition_penalty(static_cast<float>(settings.repetition_penalty), input, logits,
                             scratch);
  if (settings.frequency_penalty != 0 || settings.presence_penalty != 0)
    apply_count_penalties(static_cast<float>(settings.frequency_penalty),
                          static_cast<float>(settings.presence_penalty), input.generated_ids,
                          logits, scratch);
  QUENCH_TRY(const float max_logit, scan_blocks(logits, input.position, scratch.block_max));
  if (settings.greedy || settings.temperature < kMinTemperature)
    return first_index_of(max_logit, logits, scratch.block_max);

  constexpr double kMaxFloat = std::numeric_limits<float>::max();
  const auto temperature = static_cast<float>(std::min(settings.temperature, kMaxFloat));
  const float max_value = max_logit / temperature;
  if (!std::isfinite(max_value))
    return fail(ErrorCode::kInternal, "The largest logit at position {} is {}, too far from 0.",
                input.position, max_logit);
  for (int64_t block = 0; block < num_blocks(input.vocab_size); ++block)
    scratch.block_max[block] /= temperature;  // division by a positive number keeps the order

  Entries entries{logits.data(), nullptr, input.vocab_size, max_value};
  double total = 0;
  if (settings.top_k > 0 && settings.top_k < input.vocab_size) {
    entries = keep_top_k(logits, temperature, max_value, settings.top_k, scratch);
    QUENCH_TRY_VOID(scan_blocks({entries.values, static_cast<size_t>(entries.num_entries)},
                                input.position, scratch.block_max));
    total = exponentiate(entries, nullptr, 1, scratch);
  } else {
    total = exponentiate(entries, logits.data(), temperature, scratch);
  }
  float visited_from = -kInfinity;
  if (settings.min_p > 0) {  // e^-0.001: well below the limit that min_p will compute
    visited_from = max_value + static_cast<float>(std::log(settings.min_p)) - 1e-3f;
  }
  if (settings.top_p < 1) {
    const uint64_t border = find_top_p(entries, settings.top_p, total, scratch);
    const float lowest = key_value(border);
    const auto first = static_cast<int64_t>(border & 0xffffffffu);
    entries.num_entries = compact(entries, lowest, scratch, [&](int64_t index) {
      const float value = entries.values[index];
      return (value > lowest) | ((value == lowest) & (index >= first));
    });
    entries.values = nullptr;
    entries.ids = scratch.ids.data();
    total = sum_weights(entries.num_entries, scratch);
    visited_from = -kInfinity;  // block_max is no longer that of the entries
  }
  if (settings.min_p > 0) {
    const auto total_f32 = static_cast<float>(total);
    const float limit = static_cast<float>(settings.min_p) * (1.0f / total_f32);
    entries.num_entries = compact(entries, visited_from, scratch, [&](int64_t index) {
      return !(scratch.weights[index] / total_f32 < limit);
    });
    entries.values = nullptr;
    entries.ids = scratch.ids.data();
    total = sum_weights(entries.num_entries, scratch);
  }
  return entries.id(draw(entries.num_entries, total, u, scratch));
}

}  // namespace quench
