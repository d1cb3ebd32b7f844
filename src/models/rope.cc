#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace quench {
namespace {

// 2^20 times the trained length is more than a 31-bit position can reach.
constexpr int kMaxNtkTables = 21;

// theta^(i / dim) in float, as the official code has it: 32-bit exponent and result.
float position_frequency(double theta, int64_t i, int64_t dim) {
  const float exponent = static_cast<float>(i) / static_cast<float>(dim);
  return static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
}

// The dimension whose wavelength fits `rotations` times into `length` positions (YaRN, appendix
// A.2).
double correction_dim(double rotations, int64_t dim, double theta, int64_t length) {
  return static_cast<double>(dim) *
         std::log(static_cast<double>(length) / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(theta));
}

void append_table(RopeBank& bank, const RopeConfig& rope, double theta, int64_t dim) {
  double low = 0.0;
  double high = 0.0;
  if (rope.scaling == RopeScaling::kYarn) {
    const int64_t length = rope.original_max_position_embeddings;
    low = std::max(std::floor(correction_dim(rope.beta_fast, dim, theta, length)), 0.0);
    high = std::min(std::ceil(correction_dim(rope.beta_slow, dim, theta, length)),
                    static_cast<double>(dim - 1));
    if (low == high) high += 0.001;
  }
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float frequency = position_frequency(theta, 2 * i, dim);
    float inverse = 1.0f / frequency;
    if (rope.scaling == RopeScaling::kLinear) {
      inverse /= static_cast<float>(rope.factor);
    } else if (rope.scaling == RopeScaling::kYarn) {
      const float interpolated = 1.0f / (static_cast<float>(rope.factor) * frequency);
      const auto ramp =
          static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
      inverse = interpolated * ramp + inverse * (1.0f - ramp);
    }
    bank.inv_freq.push_back(inverse);
  }
  bank.scales.push_back(static_cast<float>(rope.attention_factor));
  ++bank.num_tables;
}

}  // namespace

RopeBank make_rope_bank(const ModelConfig& config) {
  RopeBank bank;
  const int64_t dim = config.head_dim;
  const int tables = config.use_dynamic_ntk ? kMaxNtkTables : 1;
  for (int t = 0; t < tables; ++t) {
    const double alpha = std::exp2(t) * 2.0 - 1.0;  // 1, 3, 7, 15, ...
    const double power = static_cast<double>(dim) / static_cast<double>(dim - 2);
    append_table(bank, config.rope,
                 t == 0 ? config.rope.theta : config.rope.theta * std::pow(alpha, power), dim);
  }
  return bank;
}

int32_t rope_table_for(const ModelConfig& config, int64_t prompt_tokens) {
  if (!config.use_dynamic_ntk || prompt_tokens <= config.seq_length) return 0;
  int32_t table =
      1;  // the smallest t with seq_length * 2^t >= prompt_tokens, exactly, without logarithms
  while (table < kMaxNtkTables - 1 && config.seq_length << table < prompt_tokens) ++table;
  return table;
}

float logn_scale(const ModelConfig& config, int64_t position) {
  if (!config.use_logn_attn || position < config.seq_length) return 1.0f;
  return static_cast<float>(std::log(static_cast<double>(position + 1)) /
                            std::log(static_cast<double>(config.seq_length)));
}

}  // namespace quench
