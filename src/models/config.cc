#include "models/config.h"

#include <algorithm>
#include <cmath>

#include "base/bytes.h"

namespace quench {
namespace {

constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kLargest = int64_t{1} << 31;  // products of two fit int64

// mscale of YaRN (Peng et al. 2023, section 3.4): 0.1 ln(factor) + 1.
double yarn_mscale(double factor, double mscale = 1.0) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void parse_scaling(ConfigReader& reader, const Json& scaling, int64_t max_position_embeddings,
                   RopeConfig& rope) {
  ConfigReader fields(scaling);
  std::string type = "default";
  for (const char* key : {"rope_type", "type"}) {
    if (fields.has(key) && fields.at(key).is_string()) {
      type = fields.at(key).get<std::string>();
      break;
    }
  }
  if (type == "default" || type == "mrope") return;
  rope.factor = fields.number_or("factor", 1.0);
  if (!(rope.factor > 0.0)) reader.problem("rope_scaling: \"factor\" must be positive");
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.original_max_position_embeddings =
        fields.integer_or("original_max_position_embeddings", max_position_embeddings);
    rope.beta_fast = fields.number_or("beta_fast", 32.0);
    rope.beta_slow = fields.number_or("beta_slow", 1.0);
    const double mscale = fields.number_or("mscale", 0.0);
    const double mscale_all_dim = fields.number_or("mscale_all_dim", 0.0);
    const double standard =
        mscale != 0.0 && mscale_all_dim != 0.0
            ? yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all_dim)
            : yarn_mscale(rope.factor);
    rope.attention_factor = fields.number_or("attention_factor", standard);
  } else {
    reader.problem(fmt::format(
        "rope_scaling of type \"{}\" is not known; known are default, linear, yarn", type));
  }
  if (const auto done = fields.finish(); !done) reader.problem(done.error().message);
}

std::vector<int64_t> parse_windows(ConfigReader& reader, int64_t layers, SlidingRule slides) {
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  // A released config names a window and turns it off by use_sliding_window; the field alone means
  // nothing.
  if (!reader.boolean_or("use_sliding_window", false) || !reader.has("sliding_window"))
    return windows;
  const int64_t window = reader.integer("sliding_window");
  if (reader.has("layer_types")) {
    const Json& types = reader.at("layer_types");
    if (!types.is_array() || static_cast<int64_t>(types.size()) != layers) {
      reader.problem("\"layer_types\" must be a list with one entry per layer");
      return windows;
    }
    for (size_t i = 0; i < windows.size(); ++i)
      windows[i] = types[i] == "sliding_attention" ? window : 0;
    return windows;
  }
  const int64_t max_window_layers = reader.integer_or("max_window_layers", 28, 0);
  for (int64_t i = 0; i < layers; ++i) {
    if (slides(i, max_window_layers)) windows[static_cast<size_t>(i)] = window;
  }
  return windows;
}

}  // namespace

bool ConfigReader::has(const char* name) const {
  return config_.is_object() && config_.contains(name) && !config_.at(name).is_null();
}

void ConfigReader::problem(std::string message) {
  if (problem_.empty()) problem_ = std::move(message);
}

int64_t ConfigReader::integer(const char* name, int64_t low) {
  if (!has(name)) {
    problem(fmt::format("\"{}\" is missing", name));
    return low;
  }
  return integer_or(name, low, low);
}

int64_t ConfigReader::integer_or(const char* name, int64_t fallback, int64_t low) {
  if (!has(name)) return fallback;
  const Json& value = at(name);
  // Unsigned values beyond int64 would wrap in get<int64_t>.
  if (value.is_number_integer() &&
      !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 62)) {
    const auto number = value.get<int64_t>();
    if (number >= low && number <= kLargest) return number;
  }
  problem(
      fmt::format("\"{}\" must be an integer of at least {}, found {}", name, low, value.dump()));
  return std::max<int64_t>(low, 1);
}

double ConfigReader::number_or(const char* name, double fallback) {
  if (!has(name)) return fallback;
  if (at(name).is_number()) return at(name).get<double>();
  problem(fmt::format("\"{}\" must be a number, found {}", name, at(name).dump()));
  return fallback;
}

bool ConfigReader::boolean_or(const char* name, bool fallback) {
  if (!has(name)) return fallback;
  if (at(name).is_boolean()) return at(name).get<bool>();
  problem(fmt::format("\"{}\" must be true or false, found {}", name, at(name).dump()));
  return fallback;
}

std::vector<int64_t> ConfigReader::integers_or_empty(const char* name) {
  std::vector<int64_t> result;
  if (!has(name)) return result;
  for (const Json& value : at(name)) {
    if (!value.is_number_integer()) {
      problem(fmt::format("\"{}\" must be a list of integers", name));
      return {};
    }
    result.push_back(value.get<int64_t>());
  }
  return result;
}

Result<void> ConfigReader::finish() const {
  if (problem_.empty()) return {};
  return fail(ErrorCode::kInvalidFile, "config.json: {}.", problem_);
}

int64_t parse_num_layers(ConfigReader& reader) {
  const int64_t layers = reader.integer("num_hidden_layers");
  if (layers <= kMaxLayers) return layers;
  reader.problem(
      fmt::format("\"num_hidden_layers\" must be at most {}, found {}", kMaxLayers, layers));
  return 1;
}

bool slides_from_max_window_layers(int64_t layer, int64_t max_window_layers) {
  return layer >= max_window_layers;
}

ModelConfig parse_common(ConfigReader& reader, SlidingRule slides) {
  ModelConfig config;
  config.hidden_size = reader.integer("hidden_size");
  config.num_hidden_layers = parse_num_layers(reader);
  config.num_attention_heads = reader.integer("num_attention_heads");
  config.num_key_value_heads = reader.integer_or("num_key_value_heads", config.num_attention_heads);
  config.head_dim = reader.integer_or(
      "head_dim", std::max<int64_t>(config.hidden_size / config.num_attention_heads, 1));
  config.intermediate_size = reader.integer("intermediate_size");
  config.vocab_size = reader.integer("vocab_size");
  config.max_position_embeddings = reader.integer_or("max_position_embeddings", 32768);
  config.rms_norm_eps = reader.number_or("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = reader.boolean_or("tie_word_embeddings", false);
  if (reader.has("hidden_act") && reader.at("hidden_act") != "silu") {
    reader.problem(
        fmt::format("\"hidden_act\" must be \"silu\", found {}", reader.at("hidden_act").dump()));
  }
  const char* nested = reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  config.rope.theta = reader.number_or("rope_theta", 10000.0);
  if (reader.has(nested)) {
    const Json& scaling = reader.at(nested);
    if (!scaling.is_object()) {
      reader.problem(fmt::format("\"{}\" must be an object", nested));
    } else {
      config.rope.theta = ConfigReader(scaling).number_or("rope_theta", config.rope.theta);
      parse_scaling(reader, scaling, config.max_position_embeddings, config.rope);
    }
  }
  config.windows = parse_windows(reader, config.num_hidden_layers, slides);
  return config;
}

MoeConfig parse_moe(ConfigReader& reader, const ModelConfig& config) {
  MoeConfig moe;
  moe.num_experts = reader.integer("num_experts");
  moe.num_experts_per_tok = reader.integer("num_experts_per_tok");
  moe.moe_intermediate_size = reader.integer("moe_intermediate_size");
  moe.shared_expert_intermediate_size = reader.integer_or("shared_expert_intermediate_size", 0, 0);
  moe.norm_topk_prob = reader.boolean_or("norm_topk_prob", false);
  const int64_t step = reader.integer_or("decoder_sparse_step", 1);
  const std::vector<int64_t> dense = reader.integers_or_empty("mlp_only_layers");
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
    moe.sparse_layers.push_back(!listed && (i + 1) % step == 0);
  }
  if (moe.num_experts_per_tok > moe.num_experts) {
    reader.problem(fmt::format("\"num_experts_per_tok\" ({}) exceeds \"num_experts\" ({})",
                               moe.num_experts_per_tok, moe.num_experts));
  }
  return moe;
}

Result<ModelConfig> checked(const ConfigReader& reader, ModelConfig config) {
  QUENCH_TRY_VOID(reader.finish());
  auto refuse = [](std::string what) {
    return fail(ErrorCode::kInvalidFile, "config.json: {}.", what);
  };
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return refuse(fmt::format("{} attention heads cannot be shared by {} key/value heads",
                              config.num_attention_heads, config.num_key_value_heads));
  }
  if (!(config.rms_norm_eps > 0.0) || !(config.rope.theta > 0.0)) {
    return refuse(fmt::format("\"rms_norm_eps\" ({}) and \"rope_theta\" ({}) must be positive",
                              config.rms_norm_eps, config.rope.theta));
  }
  const std::pair<const char*, int64_t> sizes[] = {{"hidden_size", config.hidden_size},
                                                   {"heads * head_dim", config.q_dim()},
                                                   {"intermediate_size", config.intermediate_size},
                                                   {"vocab_size", config.vocab_size},
                                                   {"num_experts", config.moe.num_experts}};
  for (const auto& [name, value] : sizes) {
    if (value > (int64_t{1} << 24))
      return refuse(fmt::format("{} is {}, beyond any known model", name, value));
  }
  if (config.head_dim < 2 || config.head_dim % 2 != 0 || config.head_dim > 512) {
    return refuse(
        fmt::format("\"head_dim\" must be even, from 2 to 512, found {}", config.head_dim));
  }
  return config;
}

}  // namespace quench
