#include "io/gguf_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "io/gguf_names.h"
#include "io/message.h"

namespace quench {
namespace {

// Keys below "<family>." and the config.json field that says the same.
struct KeyRow {
  const char* gguf;
  const char* hf;
  const char* first_generation;  // the field of Qwen1's config; null: the same
};
constexpr KeyRow kKeys[] = {
    {"context_length", "max_position_embeddings", nullptr},
    {"embedding_length", "hidden_size", nullptr},
    {"block_count", "num_hidden_layers", nullptr},
    {"feed_forward_length", "intermediate_size", nullptr},
    {"attention.head_count", "num_attention_heads", nullptr},
    {"attention.head_count_kv", "num_key_value_heads", nullptr},
    {"attention.key_length", "head_dim", "kv_channels"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", "layer_norm_epsilon"},
    {"rope.freq_base", "rope_theta", "rotary_emb_base"},
    {"expert_count", "num_experts", nullptr},
    {"expert_used_count", "num_experts_per_tok", nullptr},
    {"expert_feed_forward_length", "moe_intermediate_size", nullptr},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", nullptr},
    {"expert_weights_norm", "norm_topk_prob", nullptr},
    // Not llama.cpp's: what quench writes beside, for itself.
    {"seq_length", "seq_length", nullptr},
    {"use_dynamic_ntk", "use_dynamic_ntk", nullptr},
    {"use_logn_attn", "use_logn_attn", nullptr},
};

constexpr std::pair<const char*, const char*> kSampling[] = {
    {"general.sampling.temp", "temperature"},
    {"general.sampling.top_k", "top_k"},
    {"general.sampling.top_p", "top_p"},
    {"general.sampling.min_p", "min_p"},
    {"general.sampling.penalty_repeat", "repetition_penalty"},
};

// Tensors by the file's names, of all parts.
using TensorMap = std::map<std::string_view, std::pair<const GgufTensor*, int>>;

const GgufTensor* find_tensor(const TensorMap& tensors, std::string_view name) {
  const auto it = tensors.find(name);
  return it == tensors.end() ? nullptr : it->second.first;
}

// The rows of a matrix, or of each of a stack; nothing when it is not there.
std::optional<int64_t> rows_of(const TensorMap& tensors, std::string_view name) {
  const GgufTensor* tensor = find_tensor(tensors, name);
  if (tensor == nullptr || tensor->shape.size() < 2) return std::nullopt;
  return tensor->shape[tensor->shape.size() - 2];
}

void add_rope_scaling(const GgufFile& file, const std::string& prefix, Json& config) {
  const auto value = [&](const char* key) { return file.value(prefix + "rope.scaling." + key); };
  const Json type = value("type");
  if (!type.is_string() || type == "none") return;
  Json scaling = {{"type", type}, {"factor", value("factor")}};
  constexpr std::pair<const char*, const char*> kFields[] = {
      {"original_context_length", "original_max_position_embeddings"},
      {"yarn_beta_fast", "beta_fast"},
      {"yarn_beta_slow", "beta_slow"},
      {"attention_factor", "attention_factor"},
  };
  for (const auto& [gguf, hf] : kFields) {
    if (const Json field = value(gguf); !field.is_null()) scaling[hf] = field;
  }
  config["rope_scaling"] = scaling;
}

// Layers without a router have a dense FFN.
void add_dense_layers(const TensorMap& tensors, Json& config) {
  const Json layers = config.value("num_hidden_layers", Json());
  constexpr int64_t kMost = 4096;
  if (!layers.is_number_integer() || layers > kMost) return;  // which the family's parse() refuses
  Json dense = Json::array();
  for (int64_t layer = 0; layer < layers.get<int64_t>(); ++layer) {
    if (find_tensor(tensors, fmt::format("blk.{}.ffn_gate_inp.weight", layer)) == nullptr)
      dense.push_back(layer);
  }
  config["mlp_only_layers"] = dense;
}

Json make_config(const GgufFile& file, const GgufFamily& family, const TensorMap& tensors) {
  const std::string prefix = std::string(family.name) + ".";
  Json config = {{"architectures", {family.architecture}}, {"model_type", family.model_type}};
  for (const KeyRow& row : kKeys) {
    const Json value = file.value(prefix + row.gguf);
    if (value.is_null()) continue;
    const bool renamed = family.first_generation && row.first_generation != nullptr;
    config[renamed ? row.first_generation : row.hf] = value;
  }
  if (const auto rows = rows_of(tensors, "token_embd.weight")) {
    config["vocab_size"] = *rows;
  } else if (const GgufField* tokens = file.find("tokenizer.ggml.tokens")) {
    config["vocab_size"] = tokens->count;  // a file of the vocabulary alone
  }
  config["tie_word_embeddings"] = find_tensor(tensors, "output.weight") == nullptr;
  add_rope_scaling(file, prefix, config);
  if (family.first_generation && !config.contains("seq_length"))
    config["seq_length"] = file.value(prefix + "context_length");
  if (family.has_experts) {
    if (!config.contains("norm_topk_prob")) config["norm_topk_prob"] = family.norm_topk_prob;
    // Files made before these keys existed: the tensors know.
    if (const auto rows = rows_of(tensors, "blk.0.ffn_gate_exps.weight"))
      config.emplace("moe_intermediate_size", *rows);
    if (const auto rows = rows_of(tensors, "blk.0.ffn_gate_shexp.weight"))
      config.emplace("shared_expert_intermediate_size", *rows);
    if (!config.contains("intermediate_size"))
      config["intermediate_size"] = config.value("moe_intermediate_size", Json());
    add_dense_layers(tensors, config);
  }
  return config;
}

Json make_generation_config(const GgufFile& file) {
  Json config = Json::object();
  for (const auto& [gguf, hf] : kSampling) {
    if (const Json value = file.value(gguf); !value.is_null()) config[hf] = value;
  }
  if (!config.empty()) config["do_sample"] = true;
  Json stops = Json::array();
  for (const char* key : {"eos_token_id", "eot_token_id"}) {
    const Json id = file.value(std::string("tokenizer.ggml.") + key);
    if (id.is_number_integer() && std::find(stops.begin(), stops.end(), id) == stops.end())
      stops.push_back(id);
  }
  if (!stops.empty()) config["eos_token_id"] = stops;
  return config;
}

// One matrix or vector of the model: all of a tensor, or an expert's part of a stack.
Result<TensorEntry> make_entry(const GgufFile& file, const GgufTensor& tensor, std::string name,
                               std::vector<int64_t> shape, int64_t part, int64_t num_parts) {
  TensorEntry entry;
  const auto part_bytes = static_cast<int64_t>(tensor.data.size()) / num_parts;
  entry.data =
      tensor.data.subspan(static_cast<size_t>(part * part_bytes), static_cast<size_t>(part_bytes));
  entry.offset_bytes = tensor.offset_bytes + part * part_bytes;
  if (tensor.type->dtype) {
    entry.dtype = *tensor.type->dtype;
  } else if (tensor.type->format != nullptr) {
    entry.dtype = Dtype::kU8;
    name += fmt::format(".{}.blocks", tensor.type->format);
    if (!shape.empty())
      shape.back() = shape.back() / tensor.type->block_weights * tensor.type->block_bytes;
  } else {
    return fail(ErrorCode::kUnsupported,
                "{}: tensor {} is of type {}, which quench cannot read; take a file of another "
                "type, Q4_K for example.",
                file.path(), in_quotes(tensor.name), tensor.type->name);
  }
  entry.name = std::move(name);
  entry.shape = std::move(shape);
  return entry;
}

Result<void> add_entries(const GgufFile& file, const GgufTensor& tensor, const GgufFamily& family,
                         int file_index, std::vector<TensorEntry>& entries) {
  const bool stack = is_expert_stack(tensor.name) && tensor.shape.size() == 3;
  const int64_t num_parts = stack ? tensor.shape[0] : 1;
  constexpr int64_t kMostExperts = 1 << 16;
  if (num_parts > kMostExperts) {
    return fail(ErrorCode::kInvalidFile, "{}: tensor {} has {} experts, expected at most {}.",
                file.path(), in_quotes(tensor.name), num_parts, kMostExperts);
  }
  for (int64_t part = 0; part < num_parts; ++part) {
    const auto name = hf_name_of(family, tensor.name, part);
    std::vector<int64_t> shape(tensor.shape.begin() + (stack ? 1 : 0), tensor.shape.end());
    // llama.cpp keeps this matrix of one row as a vector.
    if (tensor.name.ends_with("ffn_gate_inp_shexp.weight") && shape.size() == 1)
      shape.insert(shape.begin(), 1);
    QUENCH_TRY(TensorEntry entry, make_entry(file, tensor, name.value_or(std::string(tensor.name)),
                                             std::move(shape), part, num_parts));
    entry.file_index = file_index;
    entries.push_back(std::move(entry));
  }
  return {};
}

}  // namespace

Result<GgufModel> describe_gguf(std::span<const GgufFile> files) {
  const GgufFile& first = files.front();
  const Json name = first.value("general.architecture");
  const GgufFamily* family =
      name.is_string() ? find_gguf_family(name.get_ref<const std::string&>()) : nullptr;
  if (family == nullptr) {
    std::vector<std::string_view> known;
    for (const GgufFamily& row : gguf_families()) known.emplace_back(row.name);
    return fail(ErrorCode::kUnsupported, "{}: general.architecture is {}, expected one of {}.",
                first.path(),
                name.is_string() ? in_quotes(name.get_ref<const std::string&>()) : "missing",
                fmt::join(known, ", "));
  }
  GgufModel model;
  TensorMap tensors;
  for (size_t i = 0; i < files.size(); ++i) {
    const auto index = static_cast<int>(i);
    for (const GgufTensor& tensor : files[i].tensors()) {
      if (!tensors.emplace(tensor.name, std::pair(&tensor, index)).second) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: tensor {} is in another part of the model too; the files do not belong "
                    "together.",
                    files[i].path(), in_quotes(tensor.name));
      }
      QUENCH_TRY_VOID(add_entries(files[i], tensor, *family, index, model.tensors));
    }
  }
  const Json expected = first.value("split.tensors.count");
  if (expected.is_number_integer() && expected != tensors.size()) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the model has {} tensors in {} files, expected {}; download all parts.",
                first.path(), tensors.size(), files.size(), expected.dump());
  }
  model.config = make_config(first, *family, tensors);
  const bool quantized = std::any_of(tensors.begin(), tensors.end(), [](const auto& row) {
    return !row.second.first->type->dtype;
  });
  if (quantized) model.config["quantization_config"] = {{"quant_method", "quench"}, {"version", 1}};
  model.generation_config = make_generation_config(first);
  return model;
}

std::vector<std::string> gguf_part_paths(const std::string& path) {
  constexpr std::string_view kPattern = "-00001-of-00000.gguf";
  if (path.size() < kPattern.size()) return {path};
  const std::string base = path.substr(0, path.size() - kPattern.size());
  const std::string_view tail = std::string_view(path).substr(base.size());
  const auto number = [&](size_t at) {
    int value = 0;
    const auto [end, error] = std::from_chars(tail.data() + at, tail.data() + at + 5, value);
    return error == std::errc() && end == tail.data() + at + 5 ? value : 0;
  };
  const int part = number(1);
  const int count = number(10);
  if (part < 1 || count < part || tail != fmt::format("-{:05}-of-{:05}.gguf", part, count))
    return {path};
  std::vector<std::string> paths;
  for (int i = 1; i <= count; ++i)
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", base, i, count));
  return paths;
}

}  // namespace quench
