#include "text/tokenizer_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace quench {
namespace {

// No tokenizer file is near this; a wrong path must not fill the memory.
constexpr uintmax_t kMaxFileBytes = uintmax_t{256} << 20;

Result<std::string> read_text_file(const std::string& path) {
  std::error_code error;
  const uintmax_t size_bytes = std::filesystem::file_size(path, error);
  if (!error && size_bytes > kMaxFileBytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: expected a tokenizer file of at most {} bytes, found {}.", path, kMaxFileBytes,
                size_bytes);
  }
  return read_file(path);
}

// An optional companion file: empty where it does not exist.
Result<std::string> read_optional_file(const std::string& path) {
  if (!file_exists(path)) return std::string();
  return read_text_file(path);
}

// The lines of a text without their ends (\n or \r\n); empty lines are left out.
template <class OnLine>
Result<void> for_each_nonempty_line(std::string_view text, OnLine on_line) {
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    number += 1;
    if (line.empty()) continue;
    QUENCH_TRY_VOID(on_line(number, line));
  }
  return {};
}

std::optional<int64_t> parse_int(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Standard base64 with padding, as the Python module base64 writes it.
std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  const auto digit = [](char c) -> uint32_t {
    if (c >= 'A' && c <= 'Z') return static_cast<uint32_t>(c - 'A');
    if (c >= 'a' && c <= 'z') return static_cast<uint32_t>(c - 'a' + 26);
    if (c >= '0' && c <= '9') return static_cast<uint32_t>(c - '0' + 52);
    return c == '+' ? 62u : c == '/' ? 63u : 64u;
  };
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 4) {
    uint32_t word = 0;
    for (size_t j = 0; j < 4; ++j) {
      const bool is_padding = i + j >= text.size() - padding;
      const uint32_t value = is_padding ? 0 : digit(text[i + j]);
      if (value > 63) return std::nullopt;
      word = word << 6 | value;
    }
    for (const int shift : {16, 8, 0}) bytes.push_back(static_cast<char>(word >> shift & 0xff));
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

bool flag(const Json& object, const char* key, bool otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

// "added_tokens_decoder" of tokenizer_config.json: {"151643": {"content": ..., "special": ...}}.
Result<void> read_added_tokens_decoder(const Json& decoder, std::string_view where,
                                       std::vector<AddedToken>& added_tokens) {
  for (const auto& [key, token] : decoder.items()) {
    const auto id = parse_int(key);
    const auto content = token.is_object() ? token.find("content") : token.end();
    if (!id || content == token.end() || !content->is_string()) {
      return fail(
          ErrorCode::kInvalidFile,
          "{}: tokenizer_config.json: added_tokens_decoder: expected an id and an object with "
          "\"content\", found \"{}\".",
          where, key);
    }
    AddedTokenFlags flags;
    flags.special = flag(token, "special", false);
    flags.normalized = flag(token, "normalized", !flags.special);
    flags.single_word = flag(token, "single_word", false);
    flags.lstrip = flag(token, "lstrip", false);
    flags.rstrip = flag(token, "rstrip", false);
    QUENCH_TRY_VOID(append_added_token(*id, content->get_ref<const std::string&>(), flags, where,
                                       added_tokens));
  }
  return {};
}

// Contents that a config names as special: "eos_token": "..." or {"content": "..."}, and the list
// "additional_special_tokens".
void collect_special(const Json& config, std::set<std::string>& special) {
  const auto add = [&](const Json& value) {
    if (value.is_string()) special.insert(value.get<std::string>());
    if (!value.is_object()) return;
    const auto content = value.find("content");
    if (content != value.end() && content->is_string()) special.insert(content->get<std::string>());
  };
  for (const auto& [key, value] : config.items()) {
    if (key.ends_with("_token")) add(value);
    if (key != "additional_special_tokens" || !value.is_array()) continue;
    for (const Json& item : value) add(item);
  }
}

Result<Json> parse_companion(std::string_view text, std::string_view where, const char* name) {
  if (text.empty()) return Json(Json::value_t::object);
  const std::string path = fmt::format("{}: {}", where, name);
  QUENCH_TRY(Json json, parse_json(text, path));
  if (!json.is_object())
    return fail(ErrorCode::kInvalidFile, "{}: expected a JSON object, found {}.", path,
                json.type_name());
  return json;
}

Result<std::vector<AddedToken>> read_companions(const Tokenizer::VocabAndMerges& files,
                                                std::string_view where) {
  QUENCH_TRY(const Json config,
             parse_companion(files.tokenizer_config, where, "tokenizer_config.json"));
  QUENCH_TRY(const Json added, parse_companion(files.added_tokens, where, "added_tokens.json"));
  QUENCH_TRY(const Json map,
             parse_companion(files.special_tokens_map, where, "special_tokens_map.json"));
  std::vector<AddedToken> added_tokens;
  const auto decoder = config.find("added_tokens_decoder");
  if (decoder != config.end() && decoder->is_object()) {
    QUENCH_TRY_VOID(read_added_tokens_decoder(*decoder, where, added_tokens));
    return added_tokens;
  }
  std::set<std::string> special;
  collect_special(config, special);
  collect_special(map, special);
  for (const auto& [content, id] : added.items()) {
    if (!id.is_number_integer()) {
      return fail(ErrorCode::kInvalidFile, "{}: added_tokens.json: expected an id for \"{}\".",
                  where, content);
    }
    AddedTokenFlags flags;
    flags.special = special.contains(content);
    flags.normalized = !flags.special;
    QUENCH_TRY_VOID(append_added_token(id.get<int64_t>(), content, flags, where, added_tokens));
  }
  return added_tokens;
}

}  // namespace

Result<void> append_added_token(int64_t id, std::string_view content, const AddedTokenFlags& flags,
                                std::string_view where, std::vector<AddedToken>& added_tokens) {
  if (id < 0 || id >= kMaxTokenIds) {
    return fail(ErrorCode::kInvalidFile, "{}: the added token \"{}\" has the id {}, outside 0..{}.",
                where, content, id, kMaxTokenIds - 1);
  }
  if (content.size() > kMaxTokenBytes) {
    return fail(ErrorCode::kInvalidFile, "{}: the added token {} has {} bytes, more than {}.",
                where, id, content.size(), kMaxTokenBytes);
  }
  if (flags.single_word || flags.lstrip || flags.rstrip) {
    return fail(ErrorCode::kUnsupported,
                "{}: the added token \"{}\" asks for single_word, lstrip or rstrip, which no Qwen "
                "tokenizer uses and quench does not do.",
                where, content);
  }
  added_tokens.push_back(
      {static_cast<TokenId>(id), std::string(content), flags.special, flags.normalized});
  return {};
}

Result<void> append_vocabulary_entry(std::string_view surface, int64_t id, std::string_view where,
                                     TokenizerParts& parts) {
  if (id < 0 || id >= kMaxTokenIds) {
    return fail(ErrorCode::kInvalidFile, "{}: the token \"{}\" has the id {}, outside 0..{}.",
                where, surface, id, kMaxTokenIds - 1);
  }
  const auto bytes = byte_level_bytes(surface);
  if (bytes) return parts.vocabulary.add(static_cast<TokenId>(id), *bytes, where);
  const bool is_added = std::any_of(
      parts.added_tokens.begin(), parts.added_tokens.end(),
      [&](const AddedToken& token) { return token.id == id && token.content == surface; });
  if (is_added) return {};
  return fail(
      ErrorCode::kUnsupported,
      "{}: the token \"{}\" (id {}) is not written in the byte-level alphabet; quench reads "
      "byte-level BPE vocabularies only.",
      where, surface, id);
}

Result<void> append_merge(std::string_view left, std::string_view right, std::string_view where,
                          TokenizerParts& parts) {
  const auto left_bytes = byte_level_bytes(left);
  const auto right_bytes = byte_level_bytes(right);
  if (left_bytes && right_bytes) {
    const auto left_id = parts.vocabulary.find(*left_bytes);
    const auto right_id = parts.vocabulary.find(*right_bytes);
    const auto merged_id = parts.vocabulary.find(*left_bytes + *right_bytes);
    if (left_id && right_id && merged_id) {
      const auto rank = static_cast<uint32_t>(parts.merges.size());
      parts.merges.push_back({*left_id, *right_id, *merged_id, rank});
      return {};
    }
  }
  return fail(ErrorCode::kInvalidFile,
              "{}: merge {}: expected tokens of the vocabulary that together are a token, found "
              "\"{}\" and \"{}\".",
              where, parts.merges.size() + 1, left, right);
}

Result<void> append_merge_line(std::string_view line, std::string_view where,
                               TokenizerParts& parts) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    return fail(ErrorCode::kInvalidFile,
                "{}: merge {}: expected two tokens with a space between them, found \"{}\".", where,
                parts.merges.size() + 1, line.substr(0, 100));
  }
  return append_merge(line.substr(0, space), line.substr(space + 1), where, parts);
}

Result<Tokenizer> Tokenizer::from_vocab_and_merges(const VocabAndMerges& files,
                                                   std::string_view where) {
  TokenizerParts parts;
  QUENCH_TRY(parts.added_tokens, read_companions(files, where));
  const std::string vocab_path = fmt::format("{}: vocab.json", where);
  QUENCH_TRY_VOID(read_vocab_json(files.vocab, vocab_path, parts));
  const std::string merges_path = fmt::format("{}: merges.txt", where);
  QUENCH_TRY_VOID(for_each_nonempty_line(files.merges, [&](int64_t number, std::string_view line) {
    if (number == 1 && line.starts_with("#version")) return Result<void>();
    return append_merge_line(line, merges_path, parts);
  }));
  return from_parts(std::move(parts), where);
}

Result<Tokenizer> Tokenizer::from_tiktoken(std::string_view text, std::string_view where) {
  TokenizerParts parts;
  parts.whole_pieces_first = true;
  parts.nfc = TokenizerParts::Nfc::kWholeText;
  QUENCH_TRY_VOID(
      for_each_nonempty_line(text, [&](int64_t number, std::string_view line) -> Result<void> {
        const size_t space = std::min(line.find(' '), line.size());
        const auto bytes = decode_base64(line.substr(0, space));
        const auto rank = parse_int(line.substr(std::min(space + 1, line.size())));
        if (!bytes || !rank || *rank < 0 || *rank >= kMaxTokenIds) {
          return fail(
              ErrorCode::kInvalidFile,
              "{}: line {}: expected a token in base64, a space and its rank, found \"{}\".", where,
              number, line.substr(0, 100));
        }
        return parts.vocabulary.add(static_cast<TokenId>(*rank), *bytes, where);
      }));
  // The list of control tokens is code in Qwen1's repository: three names, then <|extra_0|> to
  // <|extra_204|>, numbered from the last rank on.
  std::vector<std::string> control = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int i = 0; i < 205; ++i) control.push_back(fmt::format("<|extra_{}|>", i));
  int64_t id = parts.vocabulary.id_end();
  for (const std::string& content : control) {
    AddedTokenFlags flags;
    flags.special = true;
    QUENCH_TRY_VOID(append_added_token(id++, content, flags, where, parts.added_tokens));
  }
  parts.merges = BytePairEncoder::merges_by_rank(parts.vocabulary);
  return from_parts(std::move(parts), where);
}

Result<Tokenizer> Tokenizer::from_lists(std::span<const std::string> tokens,
                                        std::span<const std::string> merges,
                                        std::vector<AddedToken> added_tokens,
                                        std::span<const TokenId> unused, std::string_view where,
                                        TokenizerParts::Nfc nfc) {
  std::set<TokenId> left_out(unused.begin(), unused.end());
  for (const AddedToken& token : added_tokens) left_out.insert(token.id);
  TokenizerParts parts;
  parts.nfc = nfc;
  parts.added_tokens = std::move(added_tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    if (id < kMaxTokenIds && left_out.contains(static_cast<TokenId>(id))) continue;
    QUENCH_TRY_VOID(append_vocabulary_entry(tokens[i], id, where, parts));
  }
  for (const std::string& merge : merges) QUENCH_TRY_VOID(append_merge_line(merge, where, parts));
  return from_parts(std::move(parts), where);
}

Result<Tokenizer> Tokenizer::load(const std::string& model_dir) {
  const std::string base = model_dir + "/";
  if (file_exists(base + "tokenizer.json")) {
    QUENCH_TRY(const std::string json, read_text_file(base + "tokenizer.json"));
    return from_tokenizer_json(json, base + "tokenizer.json");
  }
  if (file_exists(base + "vocab.json") || file_exists(base + "merges.txt")) {
    QUENCH_TRY(const std::string vocab, read_text_file(base + "vocab.json"));
    QUENCH_TRY(const std::string merges, read_text_file(base + "merges.txt"));
    QUENCH_TRY(const std::string config, read_optional_file(base + "tokenizer_config.json"));
    QUENCH_TRY(const std::string added, read_optional_file(base + "added_tokens.json"));
    QUENCH_TRY(const std::string map, read_optional_file(base + "special_tokens_map.json"));
    return from_vocab_and_merges({vocab, merges, config, added, map}, model_dir);
  }
  std::vector<std::string> tiktoken_files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(model_dir, error)) {
    if (entry.path().extension() == ".tiktoken") tiktoken_files.push_back(entry.path().string());
  }
  std::sort(tiktoken_files.begin(), tiktoken_files.end());
  if (tiktoken_files.size() > 1) {
    return fail(ErrorCode::kInvalidFile, "{}: expected one .tiktoken file, found {}.", model_dir,
                fmt::join(tiktoken_files, ", "));
  }
  if (tiktoken_files.empty()) {
    return fail(ErrorCode::kNotFound,
                "{}: no tokenizer: expected tokenizer.json, or vocab.json and merges.txt, or "
                "qwen.tiktoken; copy them from the model's repository.",
                model_dir);
  }
  QUENCH_TRY(const std::string text, read_text_file(tiktoken_files.front()));
  return from_tiktoken(text, tiktoken_files.front());
}

}  // namespace quench
