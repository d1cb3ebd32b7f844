// tokenizer.json, the format of the tokenizers package. Everything in it that would change an id is
// either understood or refused.
#include <simdjson.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace quench {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;

constexpr char kSupported[] =
    "quench reads the byte-level BPE tokenizers of Qwen1, Qwen1.5, Qwen2, Qwen2.5 and Qwen3";

// A value as it stands in the file, cut to what fits an error message.
std::string shown(element value) {
  std::string text = simdjson::minify(value);
  if (text.size() > 300) text = text.substr(0, 300) + "...";
  return text;
}

bool is_null(object parent, const char* key) {
  element value;
  return parent[key].get(value) != simdjson::SUCCESS || value.is_null();
}

std::string_view string_or(object parent, const char* key, std::string_view otherwise) {
  std::string_view text;
  return parent[key].get(text) == simdjson::SUCCESS ? text : otherwise;
}

bool bool_or(object parent, const char* key, bool otherwise) {
  bool value = otherwise;
  return parent[key].get(value) == simdjson::SUCCESS ? value : otherwise;
}

Result<void> append_vocabulary(object vocab, std::string_view where, TokenizerParts& parts) {
  for (const auto field : vocab) {
    int64_t id = 0;
    if (field.value.get(id) != simdjson::SUCCESS) {
      return fail(ErrorCode::kInvalidFile, "{}: vocab: expected an id for \"{}\", found {}.", where,
                  field.key, shown(field.value));
    }
    QUENCH_TRY_VOID(append_vocabulary_entry(field.key, id, where, parts));
  }
  return {};
}

Result<object> parse_object(std::string_view json, std::string_view where,
                            simdjson::dom::parser& parser) {
  element document;
  const auto error =
      parser.parse(json.data(), json.size(), /*realloc_if_needed=*/true).get(document);
  if (error != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile, "{}: not valid JSON: {}.", where,
                simdjson::error_message(error));
  }
  object root;
  if (document.get(root) != simdjson::SUCCESS)
    return fail(ErrorCode::kInvalidFile, "{}: expected a JSON object, found another value.", where);
  return root;
}

class TokenizerJson {
 public:
  TokenizerJson(object root, std::string_view where) : root_(root), where_(where) {}

  Result<TokenizerParts> read() {
    QUENCH_TRY_VOID(check_keys(root_, "the top level"));
    QUENCH_TRY_VOID(read_normalizer());
    QUENCH_TRY_VOID(check_pre_tokenizer());
    QUENCH_TRY_VOID(check_type("post_processor", {"ByteLevel"}, true));
    QUENCH_TRY_VOID(check_type("decoder", {"ByteLevel"}, true));
    QUENCH_TRY_VOID(read_added_tokens());
    object model;
    if (root_["model"].get(model) != simdjson::SUCCESS)
      return fail(ErrorCode::kInvalidFile, "{}: expected an object \"model\", found none.", where_);
    QUENCH_TRY_VOID(check_keys(model, "\"model\""));
    QUENCH_TRY_VOID(check_model(model));
    QUENCH_TRY_VOID(read_vocabulary(model));
    QUENCH_TRY_VOID(read_merges(model));
    return std::move(parts_);
  }

 private:
  Result<void> check_keys(object parent, std::string_view what) {
    std::vector<std::string_view> keys;
    for (const auto field : parent) keys.push_back(field.key);
    std::sort(keys.begin(), keys.end());
    if (const auto it = std::adjacent_find(keys.begin(), keys.end()); it != keys.end()) {
      return fail(ErrorCode::kInvalidFile, "{}: {} has the key \"{}\" twice.", where_, what, *it);
    }
    return {};
  }

  tl::unexpected<Error> unsupported(std::string_view what, std::string_view expected,
                                    std::string_view found) {
    return fail(ErrorCode::kUnsupported, "{}: {}: expected {}, found {}; {}.", where_, what,
                expected, found, kSupported);
  }

  Result<void> check_type(const char* key, std::initializer_list<std::string_view> types,
                          bool may_be_null) {
    if (may_be_null && is_null(root_, key)) return {};
    object value;
    if (root_[key].get(value) == simdjson::SUCCESS) {
      const std::string_view found = string_or(value, "type", "");
      if (std::find(types.begin(), types.end(), found) != types.end()) return {};
    }
    element found;
    const bool there = root_[key].get(found) == simdjson::SUCCESS;
    return unsupported(key, fmt::format("type {}", fmt::join(types, " or ")),
                       there ? shown(found) : "nothing");
  }

  Result<void> read_normalizer() {
    if (is_null(root_, "normalizer")) parts_.nfc = TokenizerParts::Nfc::kNone;
    return check_type("normalizer", {"NFC"}, true);
  }

  // Sequence of Split by the regular expression and ByteLevel.
  Result<void> check_pre_tokenizer() {
    QUENCH_TRY_VOID(check_type("pre_tokenizer", {"Sequence"}, false));
    element value = root_["pre_tokenizer"].value_unsafe();
    object sequence = value.get_object().value_unsafe();
    simdjson::dom::array steps;
    object split, byte_level, pattern;
    const bool shape =
        sequence["pretokenizers"].get(steps) == simdjson::SUCCESS && steps.size() == 2 &&
        steps.at(0).get(split) == simdjson::SUCCESS &&
        steps.at(1).get(byte_level) == simdjson::SUCCESS &&
        string_or(split, "type", "") == "Split" &&
        split["pattern"].get(pattern) == simdjson::SUCCESS &&
        string_or(split, "behavior", "") == "Isolated" && !bool_or(split, "invert", false) &&
        string_or(byte_level, "type", "") == "ByteLevel" &&
        !bool_or(byte_level, "add_prefix_space", true) && !bool_or(byte_level, "use_regex", true);
    if (!shape) {
      return unsupported(
          "pre_tokenizer",
          "Split by a regular expression (Isolated, not inverted) and then ByteLevel "
          "(no prefix space, no regular expression of its own)",
          shown(value));
    }
    if (string_or(pattern, "Regex", "") != kQwen2Regex) {
      return unsupported("pre_tokenizer", fmt::format("the regular expression {}", kQwen2Regex),
                         shown(element(split["pattern"].value_unsafe())));
    }
    return {};
  }

  Result<void> read_added_tokens() {
    if (is_null(root_, "added_tokens")) return {};
    simdjson::dom::array tokens;
    if (root_["added_tokens"].get(tokens) != simdjson::SUCCESS)
      return fail(ErrorCode::kInvalidFile, "{}: expected a list \"added_tokens\".", where_);
    for (const element value : tokens) {
      object token;
      int64_t id = 0;
      std::string_view content;
      if (value.get(token) != simdjson::SUCCESS || token["id"].get(id) != simdjson::SUCCESS ||
          token["content"].get(content) != simdjson::SUCCESS) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: added_tokens: expected objects with \"id\" and \"content\", found {}.",
                    where_, shown(value));
      }
      AddedTokenFlags flags;
      flags.single_word = bool_or(token, "single_word", false);
      flags.lstrip = bool_or(token, "lstrip", false);
      flags.rstrip = bool_or(token, "rstrip", false);
      flags.special = bool_or(token, "special", false);
      flags.normalized = bool_or(token, "normalized", !flags.special);
      QUENCH_TRY_VOID(append_added_token(id, content, flags, where_, parts_.added_tokens));
    }
    return {};
  }

  Result<void> check_model(object model) {
    const std::string_view type = string_or(model, "type", "BPE");  // old files leave it out
    if (type != "BPE") return unsupported("model", "type BPE", type);
    double dropout = 0;
    if (!is_null(model, "dropout") &&
        (model["dropout"].get(dropout) != simdjson::SUCCESS || dropout != 0)) {
      return unsupported("model", "no dropout", "\"dropout\"");
    }
    if (!is_null(model, "unk_token")) return unsupported("model", "no unk_token", "one");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!is_null(model, key) && string_or(model, key, "?") != "")
        return unsupported("model", fmt::format("no {}", key), "one");
    }
    if (bool_or(model, "byte_fallback", false))
      return unsupported("model", "no byte_fallback", "byte_fallback");
    parts_.whole_pieces_first = bool_or(model, "ignore_merges", false);
    return {};
  }

  Result<void> read_vocabulary(object model) {
    object vocab;
    if (model["vocab"].get(vocab) != simdjson::SUCCESS) {
      return fail(ErrorCode::kInvalidFile, "{}: expected an object \"vocab\" in \"model\".",
                  where_);
    }
    return append_vocabulary(vocab, where_, parts_);
  }

  Result<void> read_merges(object model) {
    simdjson::dom::array merges;
    if (model["merges"].get(merges) != simdjson::SUCCESS)
      return fail(ErrorCode::kInvalidFile, "{}: expected a list \"merges\" in \"model\".", where_);
    for (const element merge : merges) {
      std::string_view line, left, right;
      simdjson::dom::array pair;
      if (merge.get(line) == simdjson::SUCCESS) {
        QUENCH_TRY_VOID(append_merge_line(line, where_, parts_));
      } else if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
                 pair.at(0).get(left) == simdjson::SUCCESS &&
                 pair.at(1).get(right) == simdjson::SUCCESS) {
        QUENCH_TRY_VOID(append_merge(left, right, where_, parts_));
      } else {
        return fail(ErrorCode::kInvalidFile,
                    "{}: merges: expected \"left right\" or [\"left\", \"right\"], found {}.",
                    where_, shown(merge));
      }
    }
    return {};
  }

  object root_;
  std::string_view where_;
  TokenizerParts parts_;
};

}  // namespace

Result<void> read_vocab_json(std::string_view json, std::string_view where, TokenizerParts& parts) {
  simdjson::dom::parser parser;
  QUENCH_TRY(const object vocab, parse_object(json, where, parser));
  return append_vocabulary(vocab, where, parts);
}

Result<Tokenizer> Tokenizer::from_tokenizer_json(std::string_view json, std::string_view where) {
  simdjson::dom::parser parser;
  QUENCH_TRY(const object root, parse_object(json, where, parser));
  QUENCH_TRY(TokenizerParts parts, TokenizerJson(root, where).read());
  return from_parts(std::move(parts), where);
}

}  // namespace quench
