// quench tokenize: text to ids and back, byte for byte.
#include <cstdio>
#include <iostream>
#include <optional>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/log.h"
#include "text/unicode.h"

namespace quench {
namespace {

constexpr const char* kTokenizeExamples = R"~(Examples:
  quench tokenize demo "Hello, world"
  cat book.txt | quench tokenize ~/models/Qwen3-8B --json
  quench tokenize demo "72 301 9" --decode)~";

struct TokenizeFlags {
  std::string model = "demo";
  std::optional<std::string> text;
  bool json = false;
  bool decode = false;
  bool special = false;
};

Result<std::vector<TokenId>> parse_ids(const std::string& text) {
  std::vector<TokenId> ids;
  std::string cleaned = text;
  for (char& c : cleaned) {
    if (c == ',' || c == '[' || c == ']') c = ' ';
  }
  std::istringstream in(cleaned);
  for (std::string word; in >> word;) {
    size_t used = 0;
    int id = -1;
    try {
      id = std::stoi(word, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != word.size() || id < 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "--decode expects token ids such as \"1 2 3\", found \"{}\".", word);
    }
    ids.push_back(id);
  }
  return ids;
}

Result<void> tokenize(TokenizeFlags flags) {
  QUENCH_TRY(const ModelFiles files, ModelFiles::find(flags.model, Weights::kIgnored, false));
  QUENCH_TRY(const Tokenizer tokenizer, load_tokenizer(files));
  if (!flags.text)
    flags.text.emplace(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  if (flags.decode) {
    QUENCH_TRY(const std::vector<TokenId> ids, parse_ids(*flags.text));
    for (const TokenId id : ids) {
      if (id < tokenizer.vocab_size()) continue;
      return fail(ErrorCode::kInvalidArgument,
                  "Token id {} does not exist; the tokenizer of {} has ids 0 to {}.", id,
                  files.name, tokenizer.vocab_size() - 1);
    }
    const std::string text = tokenizer.decode(ids);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  if (std::string storage; replace_invalid_utf8(*flags.text, storage) != *flags.text) {
    spdlog::warn("The text is not UTF-8; each broken sequence is read as U+FFFD");
  }
  const auto special = flags.special ? Tokenizer::Special::kParse : Tokenizer::Special::kAsText;
  const std::vector<TokenId> ids = tokenizer.encode(*flags.text, special);
  if (flags.json) {
    Json tokens = Json::array();
    for (const TokenId id : ids) tokens.push_back(tokenizer.token_text(id));
    std::puts(Json({{"ids", ids}, {"tokens", tokens}}).dump().c_str());
    return {};
  }
  for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%d", i == 0 ? "" : " ", ids[i]);
  std::puts("");
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb = app.add_subcommand("tokenize", "Text to token ids, and back with --decode");
  verb->footer(kTokenizeExamples);
  verb->add_option("MODEL", flags->model, "Model directory; \"demo\" is the model that ships")
      ->capture_default_str();
  verb->add_option("TEXT", flags->text,
                   "The text, or the ids with --decode; without it stdin is read");
  verb->add_flag("--json", flags->json, "Print {\"ids\": [...], \"tokens\": [...]}");
  verb->add_flag("--decode", flags->decode, "Ids to text");
  verb->add_flag("--special", flags->special, "Recognise special tokens in the text");
  verb->callback([flags, &chosen] { chosen = [flags] { return tokenize(*flags); }; });
}

}  // namespace quench
