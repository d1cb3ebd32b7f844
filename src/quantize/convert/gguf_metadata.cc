#include "quantize/convert/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "engine/gguf_text.h"

namespace quench {
namespace {

// "general.file_type" for a file whose matrices mostly have this format (llama_ftype in llama.h).
// Readers go by the tensors' own types.
struct FileType {
  const char* format;
  uint32_t id;
};
constexpr FileType kFileTypes[] = {
    {"f32", 0},   {"f16", 1},   {"q4_0", 2},    {"q4_1", 3},    {"q8_0", 7},
    {"q5_0", 8},  {"q5_1", 9},  {"q2_k", 10},   {"q3_k", 12},   {"q4_k", 14},
    {"q5_k", 16}, {"q6_k", 18}, {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32},
};

void add_general(const ModelFiles& files, const GgufFamily& family, const Format& main_format,
                 GgufKeys& keys) {
  keys.add_string("general.architecture", family.name);
  keys.add_string("general.type", "model");
  keys.add_string("general.name", files.name);
  keys.add_u32("general.quantization_version", 2);
  for (const FileType& row : kFileTypes) {
    if (main_format.name == row.format) keys.add_u32("general.file_type", row.id);
  }
  const auto number = [&](const char* hf) {
    const auto it = files.generation_json.find(hf);
    return it != files.generation_json.end() && it->is_number() ? &*it : nullptr;
  };
  if (const Json* v = number("temperature")) keys.add_f32("general.sampling.temp", v->get<float>());
  if (const Json* v = number("top_p")) keys.add_f32("general.sampling.top_p", v->get<float>());
  if (const Json* v = number("min_p")) keys.add_f32("general.sampling.min_p", v->get<float>());
  if (const Json* v = number("repetition_penalty"))
    keys.add_f32("general.sampling.penalty_repeat", v->get<float>());
  if (const Json* v = number("top_k"); v != nullptr && v->is_number_unsigned())
    keys.add_u32("general.sampling.top_k", v->get<uint32_t>());
}

void add_rope(const ModelConfig& config, const std::string& prefix, GgufKeys& keys) {
  keys.add_f32(prefix + "rope.freq_base", static_cast<float>(config.rope.theta));
  keys.add_u32(prefix + "rope.dimension_count", static_cast<uint32_t>(config.head_dim));
  const RopeConfig& rope = config.rope;
  if (rope.scaling == RopeScaling::kNone) return;
  const std::string scaling = prefix + "rope.scaling.";
  const bool yarn = rope.scaling == RopeScaling::kYarn;
  keys.add_string(scaling + "type", yarn ? "yarn" : "linear");
  keys.add_f32(scaling + "factor", static_cast<float>(rope.factor));
  if (!yarn) return;
  keys.add_u32(scaling + "original_context_length",
               static_cast<uint32_t>(rope.original_max_position_embeddings));
  keys.add_f32(scaling + "yarn_beta_fast", static_cast<float>(rope.beta_fast));
  keys.add_f32(scaling + "yarn_beta_slow", static_cast<float>(rope.beta_slow));
  // llama.cpp's counts from YaRN's own factor, quench's is the whole.
  const double standard = rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
  if (std::fabs(rope.attention_factor / standard - 1.0) < 1e-6) return;
  keys.add_f32(scaling + "attn_factor", static_cast<float>(rope.attention_factor / standard));
  keys.add_f32(scaling + "attention_factor", static_cast<float>(rope.attention_factor));
}

void add_sizes(const ModelConfig& config, const GgufFamily& family, GgufKeys& keys) {
  const std::string prefix = std::string(family.name) + ".";
  const auto add = [&](const char* key, int64_t value) {
    keys.add_u32(prefix + key, static_cast<uint32_t>(value));
  };
  add("context_length", config.max_position_embeddings);
  add("embedding_length", config.hidden_size);
  add("block_count", config.num_hidden_layers);
  // Qwen of 2023 counts gate and up together.
  add("feed_forward_length", config.intermediate_size * (family.first_generation ? 2 : 1));
  add("attention.head_count", config.num_attention_heads);
  add("attention.head_count_kv", config.num_key_value_heads);
  add("attention.key_length", config.head_dim);
  add("attention.value_length", config.head_dim);
  keys.add_f32(prefix + "attention.layer_norm_rms_epsilon",
               static_cast<float>(config.rms_norm_eps));
  add_rope(config, prefix, keys);
  if (config.moe.num_experts > 0) {
    add("expert_count", config.moe.num_experts);
    add("expert_used_count", config.moe.num_experts_per_tok);
    add("expert_feed_forward_length", config.moe.moe_intermediate_size);
    if (config.moe.shared_expert_intermediate_size > 0)
      add("expert_shared_feed_forward_length", config.moe.shared_expert_intermediate_size);
    keys.add_bool(prefix + "expert_weights_norm", config.moe.norm_topk_prob);
  }
  if (family.first_generation) {
    add("seq_length", config.seq_length);
    keys.add_bool(prefix + "use_dynamic_ntk", config.use_dynamic_ntk);
    keys.add_bool(prefix + "use_logn_attn", config.use_logn_attn);
  }
}

Result<void> check_config(const ModelFiles& files, const GgufFamily& family,
                          std::vector<std::string>& notes) {
  const ModelConfig& config = files.config;
  if (std::any_of(config.windows.begin(), config.windows.end(), [](int64_t w) { return w != 0; })) {
    return fail(ErrorCode::kUnsupported,
                "{}: some layers have a sliding window, which llama.cpp does not know for {}; the "
                "file would answer differently. Set \"use_sliding_window\" to false if the context "
                "stays within the window.",
                files.name, family.name);
  }
  if (config.use_dynamic_ntk || config.use_logn_attn) {
    notes.push_back(
        fmt::format("beyond {} tokens llama.cpp will answer differently: it has neither dynamic "
                    "NTK nor LogN; quench reads both from the file",
                    config.seq_length));
  }
  const MoeConfig& moe = config.moe;
  if (moe.num_experts > 0 && moe.norm_topk_prob != family.norm_topk_prob) {
    notes.push_back(
        fmt::format("llama.cpp always has norm_topk_prob {} for {} and will answer differently; "
                    "quench reads {} from the file",
                    family.norm_topk_prob, family.name, moe.norm_topk_prob));
  }
  if (moe.num_experts > 0 &&
      std::count(moe.sparse_layers.begin(), moe.sparse_layers.end(), false) > 0) {
    notes.emplace_back("llama.cpp will refuse the file: some layers have no experts");
  }
  if (config.attention_output_bias || (config.qk_norm && config.attention_bias))
    notes.emplace_back("llama.cpp will refuse the file: it has attention biases");
  if (config.tie_word_embeddings &&
      (family.first_generation || family.name == std::string("qwen2moe")))
    notes.emplace_back("llama.cpp will refuse the file: the head is the embedding");
  return {};
}

// Of each token the one merge that byte pair encoding makes it by, in the order of the ids: what
// tiktoken's ranks are as a list. Tokens that no merge reaches have none.
std::vector<BytePairEncoder::Merge> merges_of_ranks(const Vocabulary& vocabulary) {
  std::vector<BytePairEncoder::Merge> merges;
  for (int64_t i = 0; i < vocabulary.id_end(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view bytes = vocabulary.bytes(id);
    std::vector<std::pair<size_t, size_t>> parts;  // begin and end
    for (size_t b = 0; b < bytes.size(); ++b) parts.emplace_back(b, b + 1);
    while (parts.size() > 2) {
      TokenId best = id;
      size_t at = parts.size();
      for (size_t p = 0; p + 1 < parts.size(); ++p) {
        const size_t begin = parts[p].first;
        const auto joined = vocabulary.find(bytes.substr(begin, parts[p + 1].second - begin));
        if (!joined || *joined >= best) continue;
        best = *joined;
        at = p;
      }
      if (at == parts.size()) break;
      parts[at].second = parts[at + 1].second;
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    if (parts.size() != 2) continue;
    const auto left = vocabulary.find(bytes.substr(0, parts[1].first));
    const auto right = vocabulary.find(bytes.substr(parts[1].first));
    if (left && right) merges.push_back({*left, *right, id, static_cast<uint32_t>(id)});
  }
  return merges;
}

// "eos_token_id": an integer or a list, of generation_config.json or config.json.
std::vector<int64_t> token_ids(const ModelFiles& files, const char* key) {
  std::vector<int64_t> ids;
  for (const Json* config : {&files.generation_json, &files.config_json}) {
    const auto it = config->find(key);
    if (it == config->end() || !ids.empty()) continue;
    if (it->is_number_unsigned()) ids.push_back(it->get<int64_t>());
    for (const Json& id : it->is_array() ? *it : Json::array()) {
      if (id.is_number_unsigned()) ids.push_back(id.get<int64_t>());
    }
  }
  return ids;
}

Result<void> add_tokenizer(const ModelFiles& files, GgufKeys& keys) {
  QUENCH_TRY(const Tokenizer tokenizer, load_tokenizer(files));
  const TokenizerParts& parts = tokenizer.parts();
  const auto count = static_cast<size_t>(files.config.vocab_size);
  std::vector<std::string> tokens(count);
  std::vector<int32_t> types(count, static_cast<int32_t>(GgufTokenType::kUnused));
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    tokens[i] = fmt::format("[PAD{}]", i);
    if (!parts.vocabulary.contains(id)) continue;
    tokens[i] = byte_level_text(parts.vocabulary.bytes(id));
    types[i] = static_cast<int32_t>(GgufTokenType::kNormal);
  }
  for (const AddedToken& token : parts.added_tokens) {
    const auto i = static_cast<size_t>(token.id);
    if (i >= count) continue;
    tokens[i] = token.content;
    types[i] =
        static_cast<int32_t>(token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
  }
  std::vector<BytePairEncoder::Merge> pairs =
      parts.whole_pieces_first ? merges_of_ranks(parts.vocabulary) : tokenizer.merges();
  std::vector<std::string> merges;
  for (const BytePairEncoder::Merge& merge : pairs) {
    merges.push_back(byte_level_text(parts.vocabulary.bytes(merge.left)) + " " +
                     byte_level_text(parts.vocabulary.bytes(merge.right)));
  }
  keys.add_string("tokenizer.ggml.model", "gpt2");
  keys.add_string("tokenizer.ggml.pre", "qwen2");
  keys.add_strings("tokenizer.ggml.tokens", tokens);
  keys.add_i32s("tokenizer.ggml.token_type", types);
  keys.add_strings("tokenizer.ggml.merges", merges);
  const auto add_id = [&](const char* key, int64_t id) {
    if (id >= 0 && id < files.config.vocab_size)
      keys.add_u32(std::string("tokenizer.ggml.") + key, static_cast<uint32_t>(id));
  };
  std::vector<int64_t> stops = token_ids(files, "eos_token_id");
  // Configs of 2023 leave it to the tokenizer's code.
  if (const auto end = tokenizer.find("<|endoftext|>"); stops.empty() && end) stops.push_back(*end);
  if (!stops.empty()) add_id("eos_token_id", stops[0]);
  if (stops.size() > 1) add_id("eot_token_id", stops[1]);
  for (const auto& [hf, gguf] :
       {std::pair("bos_token_id", "bos_token_id"), std::pair("pad_token_id", "padding_token_id")}) {
    if (const std::vector<int64_t> ids = token_ids(files, hf); !ids.empty()) add_id(gguf, ids[0]);
  }
  keys.add_bool("tokenizer.ggml.add_bos_token", false);
  QUENCH_TRY(const auto jinja, chat_template_source(files));
  if (jinja) keys.add_string("tokenizer.chat_template", *jinja);
  return {};
}

}  // namespace

Result<GgufKeys> make_gguf_keys(const ModelFiles& files, const GgufFamily& family,
                                const Format& main_format, std::vector<std::string>& notes) {
  QUENCH_TRY_VOID(check_config(files, family, notes));
  GgufKeys keys;
  add_general(files, family, main_format, keys);
  add_sizes(files.config, family, keys);
  QUENCH_TRY_VOID(add_tokenizer(files, keys));
  return keys;
}

}  // namespace quench
