#include "engine/gguf_text.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/log.h"
#include "io/message.h"

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

}  // namespace

Result<Tokenizer> gguf_tokenizer(const GgufFile& file) {
  QUENCH_TRY_VOID(check_kind(file));
  QUENCH_TRY(const auto tokens, file.strings("tokenizer.ggml.tokens"));
  QUENCH_TRY(const auto merges, file.strings("tokenizer.ggml.merges"));
  QUENCH_TRY(const auto types, file.integers("tokenizer.ggml.token_type"));
  if (!tokens || !merges || (types && types->size() != tokens->size())) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the tokenizer has {} tokens, {} merges and {} token types, expected tokens, "
                "merges and as many types as tokens.",
                file.path(), tokens ? tokens->size() : 0, merges ? merges->size() : 0,
                types ? types->size() : 0);
  }
  std::vector<AddedToken> added;
  std::vector<TokenId> unused;
  for (size_t i = 0; types && i < types->size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const auto type = static_cast<GgufTokenType>((*types)[i]);
    if (type == GgufTokenType::kUnused) unused.push_back(id);
    if (type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined)
      added.push_back({id, (*tokens)[i], type == GgufTokenType::kControl});
  }
  // Qwen's code of 2023 normalizes before it looks for control tokens.
  const bool first_generation = file.value("general.architecture") == "qwen";
  return Tokenizer::from_lists(*tokens, *merges, std::move(added), unused, file.path(),
                               first_generation ? TokenizerParts::Nfc::kWholeText
                                                : TokenizerParts::Nfc::kBetweenAddedTokens);
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
