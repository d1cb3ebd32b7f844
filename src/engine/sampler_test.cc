#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "base/json.h"
#include "base/random.h"
#include "test_paths.h"

namespace quench {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  SamplingSettings settings;
  std::vector<float> logits;
  int64_t vocab_size = 0;
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> generated_ids;

  Result<int32_t> sample_at(double u, SamplerScratch& scratch) const {
    std::vector<float> copy = logits;
    return sample_with_draw(settings, {copy, vocab_size, prompt_ids, generated_ids, 0}, u, scratch);
  }
};

Case of_logits(std::vector<float> logits, SamplingSettings settings = {}) {
  const auto vocab_size = static_cast<int64_t>(logits.size());
  return {std::move(settings), std::move(logits), vocab_size, {}, {}};
}

// The definition, written for reading: every step a full pass or a full sort.
std::vector<float> penalized(const Case& c) {
  const SamplingSettings& s = c.settings;
  std::vector<float> x(c.logits.begin(), c.logits.begin() + c.vocab_size);
  const auto inside = [&](int32_t id) { return id >= 0 && id < c.vocab_size; };
  for (const auto& [id, bias] : s.logit_bias) {
    if (inside(id)) x[id] += static_cast<float>(bias);
  }
  std::set<int32_t> seen(c.prompt_ids.begin(), c.prompt_ids.end());
  seen.insert(c.generated_ids.begin(), c.generated_ids.end());
  const auto penalty = static_cast<float>(s.repetition_penalty);
  for (int32_t id : seen) {
    if (inside(id)) x[id] = x[id] < 0 ? x[id] * penalty : x[id] / penalty;
  }
  for (int32_t id : std::set<int32_t>(c.generated_ids.begin(), c.generated_ids.end())) {
    if (!inside(id)) continue;
    const auto count = std::count(c.generated_ids.begin(), c.generated_ids.end(), id);
    x[id] -= static_cast<float>(s.frequency_penalty) * static_cast<float>(count);
    x[id] -= static_cast<float>(s.presence_penalty);
  }
  return x;
}

std::vector<float> softmax(const std::vector<float>& x) {
  const float max_value = *std::max_element(x.begin(), x.end());
  double total = 0;
  std::vector<float> p(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const float distance = x[i] - max_value;
    p[i] = distance < -87 ? 0.0f : static_cast<float>(std::exp(static_cast<double>(distance)));
    total += p[i];
  }
  for (float& value : p) value /= static_cast<float>(total);
  return p;
}

// Logits after all filters, -inf for what they removed.
std::vector<float> filtered(const Case& c) {
  const SamplingSettings& s = c.settings;
  std::vector<float> x = penalized(c);
  for (float& value : x) value /= static_cast<float>(s.temperature);
  if (s.top_k > 0 && s.top_k < c.vocab_size) {
    std::vector<float> sorted = x;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (float& value : x) {
      if (value < sorted[s.top_k - 1]) value = -kInfinity;
    }
  }
  if (s.top_p < 1) {
    const std::vector<float> p = softmax(x);
    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return x[a] != x[b] ? x[a] < x[b] : a < b; });
    double cumulative = 0;
    for (size_t i = 0; i + 1 < order.size(); ++i) {
      cumulative += p[order[i]];
      if (static_cast<float>(cumulative) <= static_cast<float>(1.0 - s.top_p))
        x[order[i]] = -kInfinity;
    }
  }
  if (s.min_p > 0) {
    const std::vector<float> p = softmax(x);
    const float limit = static_cast<float>(s.min_p) * *std::max_element(p.begin(), p.end());
    for (size_t i = 0; i < x.size(); ++i) {
      if (p[i] < limit) x[i] = -kInfinity;
    }
  }
  return x;
}

std::vector<float> probabilities(const Case& c) { return softmax(filtered(c)); }

int32_t drawn(const std::vector<float>& p, double u) {
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  double cumulative = 0;
  int32_t last = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) continue;
    last = static_cast<int32_t>(i);
    cumulative += p[i];
    if (cumulative > u * total) break;
  }
  return last;
}

// Normal logits, or multiples of a half so that ties are everywhere.
Case random_case(std::mt19937& random) {
  const auto pick = [&](auto... values) {
    const double list[] = {static_cast<double>(values)...};
    return list[random() % std::size(list)];
  };
  const auto chance = [&](int percent) { return static_cast<int>(random() % 100) < percent; };
  Case c;
  c.vocab_size = static_cast<int64_t>(pick(1, 2, 7, 63, 64, 65, 500, 1000, 5000, 20011));
  const auto rows = c.vocab_size + static_cast<int64_t>(pick(0, 0, 1, 300));
  std::normal_distribution<float> normal(static_cast<float>(pick(-20, 0, 5)),
                                         static_cast<float>(pick(0.1, 1, 3, 8)));
  const bool ties = chance(30);
  for (int64_t i = 0; i < rows; ++i) {
    const float value = normal(random);
    c.logits.push_back(ties ? std::round(value * 2) / 2 : value);
  }
  for (int64_t i = c.vocab_size; i < rows; ++i) c.logits[i] = static_cast<float>(pick(50, NAN));
  if (chance(20)) {
    for (int64_t i = 0; i + 1 < c.vocab_size; ++i) {
      if (chance(50)) c.logits[i] = -kInfinity;
    }
  }
  const auto ids = [&](int64_t length) {
    std::vector<int32_t> list(length);
    for (int32_t& id : list) id = static_cast<int32_t>(random() % (c.vocab_size + 5)) - 2;
    return list;
  };
  c.prompt_ids = ids(random() % 60);
  c.generated_ids = ids(random() % 200);
  SamplingSettings& s = c.settings;
  s.temperature = pick(0.2, 0.6, 0.7, 1, 1, 1.5, 3);
  if (chance(50)) s.top_k = static_cast<int>(pick(1, 2, 5, 20, 50, 300, 1000, 30000));
  if (chance(50)) s.top_p = pick(0, 0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.9999);
  if (chance(30)) s.min_p = pick(0.01, 0.05, 0.3, 1);
  if (chance(40)) s.repetition_penalty = pick(0.8, 1.05, 1.1, 2);
  if (chance(30)) s.presence_penalty = pick(-1, 0.5, 1.5);
  if (chance(30)) s.frequency_penalty = pick(-0.5, 0.1, 1);
  if (chance(30)) {
    for (int i = 0; i < 5; ++i) s.logit_bias[ids(1)[0]] = pick(-100, -3, 2, 10);
  }
  return c;
}

TEST(Sampler, EqualsTheDefinitionForRandomSettings) {
  std::mt19937 random(20240607);
  SamplerScratch scratch;  // shared by all, of different sizes
  for (int round = 0; round < 600; ++round) {
    const Case c = random_case(random);
    const std::vector<float> p = probabilities(c);
    for (const double u : {0.0, 1 - 1e-9, random_uniform(7, 3 * round),
                           random_uniform(7, 3 * round + 1), random_uniform(7, 3 * round + 2)}) {
      const auto token = c.sample_at(u, scratch);
      ASSERT_TRUE(token) << token.error().message;
      ASSERT_EQ(*token, drawn(p, u))
          << "round " << round << " vocab " << c.vocab_size << " u " << u << " temperature "
          << c.settings.temperature << " top_k " << c.settings.top_k << " top_p "
          << c.settings.top_p << " min_p " << c.settings.min_p;
    }
    // At the very end the order of additions decides; it must be a token that can be drawn.
    ASSERT_GT(p[*c.sample_at(1 - 0x1p-53, scratch)], 0);
    Case greedy = c;
    greedy.settings.greedy = true;
    const std::vector<float> x = penalized(c);
    ASSERT_EQ(*greedy.sample_at(0.9, scratch), std::max_element(x.begin(), x.end()) - x.begin());
  }
}

// tests/golden/README.md: the outcome of the processors of transformers, made by
// tools/make_golden.py; null is off.
Case golden_case(const Json& golden, int64_t vocab_size) {
  const auto value = [&](const char* key, double off) {
    return golden[key].is_null() ? off : golden[key].get<double>();
  };
  Case c;
  c.vocab_size = vocab_size;
  uint64_t state = golden["seed"].get<uint64_t>();
  const int drop_bits = golden["drop_bits"].get<int>();
  for (int64_t i = 0; i < vocab_size; ++i) {
    // splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    uint64_t mixed = state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    mixed ^= mixed >> 31;
    const uint64_t bits = mixed >> 40 >> drop_bits << drop_bits;
    c.logits.push_back((static_cast<float>(bits) / 0x1p24f - 0.5f) *
                       golden["logit_scale"].get<float>());
  }
  // The penalty sees prompt and output alike.
  const auto previous = golden["previous"].get<std::vector<int32_t>>();
  const auto middle = previous.begin() + static_cast<int64_t>(previous.size() / 2);
  c.prompt_ids.assign(previous.begin(), middle);
  c.generated_ids.assign(middle, previous.end());
  c.settings.repetition_penalty = value("repetition_penalty", 1);
  c.settings.temperature = value("temperature", 1);
  c.settings.top_k = static_cast<int>(value("top_k", 0));
  c.settings.top_p = value("top_p", 1);
  c.settings.min_p = value("min_p", 0);
  return c;
}

TEST(Sampler, EqualsTheGoldenFilesOfTransformers) {
  const auto file = read_json_file(source_path("tests/golden/sampling/settings.json"));
  ASSERT_TRUE(file) << file.error().message;
  SamplerScratch scratch;
  int index = 0;
  for (const Json& golden : (*file)["settings"]) {
    const Case c = golden_case(golden, (*file)["vocab_size"].get<int64_t>());
    const std::vector<float> x = filtered(c);
    EXPECT_EQ(c.vocab_size - std::count(x.begin(), x.end(), -kInfinity),
              golden["survivors"].get<int64_t>())
        << index;
    const auto token = c.sample_at(golden["u"].get<double>(), scratch);
    ASSERT_TRUE(token) << token.error().message;
    EXPECT_EQ(*token, golden["token"].get<int32_t>()) << index;
    ++index;
  }
  EXPECT_EQ(index, 200);
}

TEST(Sampler, ExponentialIsAccurate) {
  // Two tokens whose logits differ by d: the first is drawn while u < 1 / (1 + e^-d).
  SamplerScratch scratch;
  for (double d = 0; d < 20; d += 0.0037) {
    const Case c = of_logits({0.0f, -static_cast<float>(d)});
    const double weight = std::exp(-static_cast<double>(static_cast<float>(d)));
    // The share of the second token is off by at most 4e-7 of itself.
    const double share = weight / (1 + weight);
    const double above = 1 - share * (1 - 4e-7);
    const double below = 1 - share * (1 + 4e-7);
    EXPECT_EQ(*c.sample_at(above, scratch), 1) << d;
    EXPECT_EQ(*c.sample_at(below, scratch), 0) << d;
  }
}

TEST(Sampler, GreedyTakesTheLowestIdOfTheLargest) {
  SamplerScratch scratch;
  SamplingSettings settings;
  settings.temperature = 0;
  std::vector<float> logits(200, -1);
  logits[77] = logits[130] = logits[199] = 4;
  EXPECT_EQ(*of_logits(logits, settings).sample_at(0.999, scratch), 77);
  settings.temperature = 1;
  settings.greedy = true;
  settings.top_k = 3;
  settings.repetition_penalty = 1.1;
  Case c = of_logits(logits, settings);
  c.prompt_ids = {77, 77};
  EXPECT_EQ(*c.sample_at(0.999, scratch), 130);
}

TEST(Sampler, PaddingRowsAreNeverDrawn) {
  SamplerScratch scratch;
  std::vector<float> logits(151936, 0);
  std::fill(logits.begin() + 151669, logits.end(), 100.0f);
  for (const int top_k : {0, 50, 5000}) {
    for (const double u : {0.0, 0.5, 1 - 0x1p-53}) {
      SamplingSettings settings;
      settings.top_k = top_k;
      settings.logit_bias[151700] = 100;
      Case c = of_logits(logits, settings);
      c.vocab_size = 151669;
      EXPECT_LT(*c.sample_at(u, scratch), 151669);
      c.settings.greedy = true;
      EXPECT_EQ(*c.sample_at(u, scratch), 0);
    }
  }
}

TEST(Sampler, EdgeRulesOfTheFilters) {
  SamplerScratch scratch;
  const auto kept = [&](std::vector<float> logits, SamplingSettings settings) {
    const Case c = of_logits(std::move(logits), std::move(settings));
    std::set<int32_t> tokens;
    for (int i = 0; i < 400; ++i) tokens.insert(*c.sample_at(i / 400.0, scratch));
    return std::vector<int32_t>(tokens.begin(), tokens.end());
  };
  using Ids = std::vector<int32_t>;
  SamplingSettings top_k;
  top_k.top_k = 2;
  EXPECT_EQ(kept({1, 2, 3, 2, 0}, top_k), (Ids{1, 2, 3}));  // ties at the k-th stay
  SamplingSettings top_p;
  top_p.top_p = 0.9;  // ten of a tenth each: 0.1 <= 1 - 0.9 in float32, the lowest id goes
  EXPECT_EQ(kept(std::vector<float>(10, 1.0f), top_p), (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  top_p.top_p = 0;
  EXPECT_EQ(kept({1, 3, 3, 2}, top_p), (Ids{2}));  // the last in order stays
  top_p.top_p = 0.5;
  EXPECT_EQ(kept({0.0f, -0.0f, 0.0f, -0.0f}, top_p), (Ids{2, 3}));  // -0 is 0
  SamplingSettings min_p;
  min_p.min_p = 1;
  EXPECT_EQ(kept({1, 3, 3, 2}, min_p), (Ids{1, 2}));
  SamplingSettings one;
  one.top_k = 1;
  EXPECT_EQ(kept({-kInfinity, -5, -kInfinity}, one), (Ids{1}));
}

TEST(Sampler, RowsThatAreNotNumbersAreErrors) {
  SamplerScratch scratch;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool greedy : {false, true}) {
    for (const int top_k : {0, 3}) {
      SamplingSettings settings;
      settings.greedy = greedy;
      settings.top_k = top_k;
      for (const size_t at : {0, 5, 63, 64, 99}) {
        for (const float bad : {nan, -nan, kInfinity}) {
          std::vector<float> logits(100, 1);
          logits[at] = bad;
          const auto token = of_logits(logits, settings).sample_at(0.5, scratch);
          ASSERT_FALSE(token);
          EXPECT_EQ(token.error().code, ErrorCode::kInternal);
          EXPECT_NE(token.error().message.find("token " + std::to_string(at) + " "),
                    std::string::npos);
        }
      }
      EXPECT_FALSE(of_logits(std::vector<float>(70, -kInfinity), settings).sample_at(0, scratch));
    }
  }
  SamplingSettings settings;
  settings.temperature = 1e-5;  // 1e35 / 1e-5 is beyond float32
  EXPECT_FALSE(of_logits({1e35f, 1}, settings).sample_at(0.5, scratch));
  settings.temperature = 1e300;  // flat, and -inf still cannot be drawn
  EXPECT_EQ(*of_logits({-kInfinity, 1, 9, -kInfinity}, settings).sample_at(0.4, scratch), 1);
  EXPECT_EQ(*of_logits({-kInfinity, 1, 9, -kInfinity}, settings).sample_at(0.9, scratch), 2);
}

TEST(Sampler, SeedAndPositionDecideTheDraw) {
  SamplingSettings settings;
  settings.seed = 42;
  const std::vector<float> logits(1000, 0);
  const auto sequence = [&](SamplerScratch& scratch) {
    std::vector<int32_t> tokens;
    for (int position = 0; position < 50; ++position) {
      std::vector<float> copy = logits;
      tokens.push_back(*sample(settings, {copy, 1000, {}, {}, position}, scratch));
    }
    return tokens;
  };
  SamplerScratch fresh;
  const auto first = sequence(fresh);
  EXPECT_EQ(sequence(fresh), first);
  for (int position = 0; position < 50; ++position)
    EXPECT_EQ(first[position], static_cast<int32_t>(random_uniform(42, position) * 1000));
  settings.seed = 43;
  EXPECT_NE(sequence(fresh), first);
}

TEST(Sampler, TheEndOfTheIntervalIsTheLastTokenThatCanBeDrawn) {
  SamplerScratch scratch;
  for (const int top_k : {0, 700}) {
    SamplingSettings settings;
    settings.top_k = top_k;
    std::vector<float> logits(1000, 0.3f);
    std::fill(logits.begin() + 900, logits.end(), -kInfinity);
    EXPECT_EQ(*of_logits(logits, settings).sample_at(1 - 0x1p-53, scratch), 899);
    logits[899] = -80;  // its share of the sum is rounded away: the one before
    EXPECT_EQ(*of_logits(logits, settings).sample_at(1 - 0x1p-53, scratch), 898);
  }
}

// Pearson's test: the statistic of k cells is about k - 1 +- sqrt(2 (k - 1)) for a true sampler.
TEST(Sampler, FrequenciesFollowTheProbabilities) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 1.5);
  SamplerScratch scratch;
  for (int variant = 0; variant < 4; ++variant) {
    Case c;
    c.vocab_size = 150;
    for (int i = 0; i < 150; ++i) c.logits.push_back(normal(random));
    c.settings.temperature = 0.7;
    c.settings.seed = 1000 + variant;
    c.settings.repetition_penalty = 1.1;
    c.prompt_ids = {1, 2, 3};
    if (variant & 1) c.settings.top_k = 40;
    if (variant & 2) c.settings.top_p = 0.9;
    const std::vector<float> p = probabilities(c);
    constexpr int kDraws = 200000;
    std::vector<int> counts(150);
    for (int position = 0; position < kDraws; ++position) {
      std::vector<float> copy = c.logits;
      ++counts[*sample(c.settings, {copy, 150, c.prompt_ids, {}, position}, scratch)];
    }
    double statistic = 0;
    int cells = 0;
    double rest_expected = 0;  // cells below 10 draws are joined
    int rest_count = 0;
    for (int i = 0; i < 150; ++i) {
      const double expected = static_cast<double>(p[i]) * kDraws;
      if (expected == 0) {
        ASSERT_EQ(counts[i], 0);
      } else if (expected < 10) {
        rest_expected += expected;
        rest_count += counts[i];
      } else {
        statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
        ++cells;
      }
    }
    if (rest_expected >= 10) {
      statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
      ++cells;
    }
    EXPECT_LT(statistic, cells - 1 + 4 * std::sqrt(2.0 * (cells - 1))) << variant;
    EXPECT_GT(statistic, cells - 1 - 4 * std::sqrt(2.0 * (cells - 1))) << variant;
    RecordProperty("chi_square_" + std::to_string(variant), std::to_string(statistic));
  }
}

}  // namespace
}  // namespace quench
