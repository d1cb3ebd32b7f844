#include "engine/gguf_text.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/log.h"
#include "io/message.h"
#include "text/unicode.h"

namespace quench {
namespace {

// The pre-tokenizers that cut text as Qwen's does.
constexpr std::string_view kPreTokenizers[] = {"qwen2", "deepseek-r1-qwen"};

Result<void> check_kind(const GgufFile& file) {
  const Json model = file.value("tokenizer.ggml.model");
  const Json pre = file.value("tokenizer.ggml.pre");
  const auto text = [](const Json& value) {
    return value.is_string() ? in_quotes(value.get_ref<const std::string&>()) : "missing";
  };
  if (model != "gpt2") {
    return fail(ErrorCode::kUnsupported,
                "{}: tokenizer.ggml.model is {}, expected \"gpt2\", byte-level BPE.", file.path(),
                text(model));
  }
  if (pre.is_null()) {
    spdlog::warn("{}: there is no tokenizer.ggml.pre; taken for \"qwen2\"", file.path());
    return {};
  }
  const auto is_pre = [&](std::string_view known) { return pre == known; };
  if (std::any_of(std::begin(kPreTokenizers), std::end(kPreTokenizers), is_pre)) return {};
  return fail(ErrorCode::kUnsupported, "{}: tokenizer.ggml.pre is {}, expected one of {}.",
              file.path(), text(pre), fmt::join(kPreTokenizers, ", "));
}

// The lists that a byte-level BPE is made of.
struct BpeLists {
  std::vector<std::string> tokens, merges;
  std::vector<GgufTokenType> types;  // as many as tokens; or none
};

Result<BpeLists> read_lists(const GgufFile& file) {
  QUENCH_TRY_VOID(check_kind(file));
  QUENCH_TRY(auto tokens, file.strings("tokenizer.ggml.tokens"));
  QUENCH_TRY(auto merges, file.strings("tokenizer.ggml.merges"));
  QUENCH_TRY(const auto types, file.integers("tokenizer.ggml.token_type"));
  if (!tokens || !merges || (types && types->size() != tokens->size())) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the tokenizer has {} tokens, {} merges and {} token types, expected tokens, "
                "merges and as many types as tokens.",
                file.path(), tokens ? tokens->size() : 0, merges ? merges->size() : 0,
                types ? types->size() : 0);
  }
  BpeLists lists = {*std::move(tokens), *std::move(merges), {}};
  for (size_t i = 0; types && i < types->size(); ++i)
    lists.types.push_back(static_cast<GgufTokenType>((*types)[i]));
  return lists;
}

bool is_added(GgufTokenType type) {
  return type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined;
}

// JSON holds nothing else.
Result<void> require_utf8(const GgufFile& file, const std::string& text, const std::string& what) {
  std::string storage;
  if (replace_invalid_utf8(text, storage) == text) return {};
  return fail(ErrorCode::kInvalidFile,
              "{}: {} is not UTF-8, so no tokenizer files can be made of it; the file may be "
              "damaged: check it against its published hash.",
              file.path(), what);
}

// The content of the token that a key names by id; null where there is none.
Json named_token(const GgufFile& file, const char* key, const BpeLists& lists) {
  const Json id = file.value(key);
  if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<uint64_t>() >= lists.tokens.size())
    return {};
  return lists.tokens[id.get<size_t>()];
}

}  // namespace

Result<Tokenizer> gguf_tokenizer(const GgufFile& file) {
  QUENCH_TRY(const BpeLists lists, read_lists(file));
  std::vector<AddedToken> added;
  std::vector<TokenId> unused;
  for (size_t i = 0; i < lists.types.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (lists.types[i] == GgufTokenType::kUnused) unused.push_back(id);
    if (is_added(lists.types[i]))
      added.push_back({id, lists.tokens[i], lists.types[i] == GgufTokenType::kControl});
  }
  // Qwen's code of 2023 normalizes before it looks for control tokens.
  const bool first_generation = file.value("general.architecture") == "qwen";
  return Tokenizer::from_lists(lists.tokens, lists.merges, std::move(added), unused, file.path(),
                               first_generation ? TokenizerParts::Nfc::kWholeText
                                                : TokenizerParts::Nfc::kBetweenAddedTokens);
}

Result<std::vector<std::pair<std::string, std::string>>> gguf_text_files(const GgufFile& file) {
  if (file.value("general.architecture") == "qwen") {
    return fail(
        ErrorCode::kUnsupported,
        "{}: Qwen of 2023 has its tokenizer in a file qwen.tiktoken, which is not made from "
        "a GGUF file; take the one that was published with the model.",
        file.path());
  }
  QUENCH_TRY(const BpeLists lists, read_lists(file));
  for (size_t i = 0; i < lists.tokens.size(); ++i)
    QUENCH_TRY_VOID(require_utf8(file, lists.tokens[i], fmt::format("token {}", i)));
  const Json jinja = file.value("tokenizer.chat_template");
  if (jinja.is_string()) {
    QUENCH_TRY_VOID(
        require_utf8(file, jinja.get_ref<const std::string&>(), "tokenizer.chat_template"));
  }
  std::string vocabulary;  // written as it goes: a Json object looks every key up
  Json added = Json::object();
  for (size_t i = 0; i < lists.tokens.size(); ++i) {
    const GgufTokenType type = lists.types.empty() ? GgufTokenType::kNormal : lists.types[i];
    if (is_added(type)) {
      added[std::to_string(i)] = {
          {"content", lists.tokens[i]}, {"lstrip", false},
          {"normalized", false},        {"rstrip", false},
          {"single_word", false},       {"special", type == GgufTokenType::kControl}};
    } else if (type != GgufTokenType::kUnused) {
      vocabulary +=
          fmt::format("{}{}: {}", vocabulary.empty() ? "{" : ", ", Json(lists.tokens[i]).dump(), i);
    }
  }
  std::string merges = "#version: 0.2\n";
  for (const std::string& merge : lists.merges) merges += merge + "\n";
  const Json config = {{"added_tokens_decoder", added},
                       {"bos_token", nullptr},
                       {"chat_template", jinja},
                       {"eos_token", named_token(file, "tokenizer.ggml.eos_token_id", lists)},
                       {"pad_token", named_token(file, "tokenizer.ggml.padding_token_id", lists)},
                       {"tokenizer_class", "Qwen2Tokenizer"},
                       {"unk_token", nullptr}};
  return std::vector<std::pair<std::string, std::string>>{
      {"vocab.json", vocabulary + "}\n"},
      {"merges.txt", merges},
      {"tokenizer_config.json", config.dump(2) + "\n"}};
}

Result<ChatTemplate> gguf_chat_template(const GgufFile& file) {
  const Json jinja = file.value("tokenizer.chat_template");
  if (jinja.is_string())
    return ChatTemplate::recognise(jinja.get_ref<const std::string&>(),
                                   file.path() + ": tokenizer.chat_template");
  // Qwen of 2023 has its template in code; the chat models are those whose answers end by it.
  if (file.value("general.architecture") == "qwen") return ChatTemplate::by_name("qwen1");
  return fail(ErrorCode::kNotFound,
              "{}: there is no tokenizer.chat_template, as with base models; to chat with it all "
              "the same, choose one with --chat-template NAME, one of {}.",
              file.path(), fmt::join(ChatTemplate::names(), ", "));
}

}  // namespace quench
