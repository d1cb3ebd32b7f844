// Text to token ids and back, for the vocabularies of Qwen1 to Qwen3: byte-level BPE over NFC text,
// cut by one regular expression. Gives the ids of the Python packages tokenizers and transformers
// (and, for qwen.tiktoken, of tiktoken as Qwen1's code calls it).
//
// Owns its tables; immutable after loading: any thread may call the const functions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/vocabulary.h"

namespace quench {

// What the loaders of the file forms produce, and all that a tokenizer is.
struct TokenizerParts {
  Vocabulary vocabulary;  // base tokens only
  std::vector<BytePairEncoder::Merge> merges;
  std::vector<AddedToken> added_tokens;
  // kBetweenAddedTokens: the tokenizers package. kWholeText: Qwen1's code, which normalizes with
  // Python's own tables before it looks for control tokens.
  enum class Nfc { kNone, kBetweenAddedTokens, kWholeText };
  Nfc nfc = Nfc::kBetweenAddedTokens;
  bool whole_pieces_first = false;  // a piece that is a token is that token, without merging
};

class Tokenizer {
 public:
  // The directory holds tokenizer.json, or vocab.json and merges.txt (added tokens from
  // tokenizer_config.json or added_tokens.json), or a *.tiktoken file; looked for in this order.
  static Result<Tokenizer> load(const std::string& model_dir);

  // The contents of the files. `where` names them in errors.
  static Result<Tokenizer> from_tokenizer_json(std::string_view json, std::string_view where);
  // tokenizer_config, added_tokens and special_tokens_map may be empty.
  struct VocabAndMerges {
    std::string_view vocab;               // vocab.json
    std::string_view merges;              // merges.txt
    std::string_view tokenizer_config;    // tokenizer_config.json: "added_tokens_decoder"
    std::string_view added_tokens;        // added_tokens.json: only where the decoder is missing
    std::string_view special_tokens_map;  // special_tokens_map.json: which of those are special
  };
  static Result<Tokenizer> from_vocab_and_merges(const VocabAndMerges& files,
                                                 std::string_view where);
  // Qwen1: the control tokens are not in the file, they follow the last rank.
  static Result<Tokenizer> from_tiktoken(std::string_view text, std::string_view where);
  // Lists as they stand in a GGUF file: tokens[id] and "left right" merges in the byte-level
  // alphabet. Ids of added tokens are skipped in `tokens`, and so are the ids in `unused`.
  static Result<Tokenizer> from_lists(
      std::span<const std::string> tokens, std::span<const std::string> merges,
      std::vector<AddedToken> added_tokens, std::span<const TokenId> unused, std::string_view where,
      TokenizerParts::Nfc nfc = TokenizerParts::Nfc::kBetweenAddedTokens);
  static Result<Tokenizer> from_parts(TokenizerParts parts, std::string_view where);

  // kAsText: the surface text of a special token in `text` is ordinary text, as with
  // split_special_tokens=True in transformers: nobody who writes into a prompt can forge a control
  // token. Added tokens that are not special ("<think>", "<tool_call>") are recognised always: they
  // are text that the models write and read.
  // kParse: special tokens are recognised too, as in transformers by default.
  enum class Special { kAsText, kParse };

  // Never fails: bytes that are not UTF-8 become U+FFFD first, by the rule of Python's
  // bytes.decode("utf-8", errors="replace").
  std::vector<TokenId> encode(std::string_view text, Special special = Special::kAsText) const;

  // The bytes of the tokens, joined: not always UTF-8 (a token may end inside a character; see
  // Detokenizer). Ids without a token add nothing.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  // The bytes that one token stands for; empty for ids without a token. Valid as long as the
  // tokenizer.
  std::string_view token_bytes(TokenId id) const;
  // The token as it is written in vocab.json ("\u0120hello"), or an added token's content.
  std::string token_text(TokenId id) const;
  // The id of an added token by its content.
  std::optional<TokenId> find(std::string_view content) const;
  // 1 + the highest id. Ids from here on are padding rows of the embedding. Below it ids may be
  // without a token: see is_known.
  int64_t vocab_size() const { return vocab_size_; }
  const std::vector<AddedToken>& added_tokens() const { return parts_->added_tokens; }
  bool is_special(TokenId id) const;
  bool is_known(TokenId id) const;
  // The tables, for writing them to another kind of file. The parts are without merges.
  const TokenizerParts& parts() const { return *parts_; }
  std::vector<BytePairEncoder::Merge> merges() const { return encoder_.merges(); }

 private:
  Tokenizer() = default;
  const AddedToken* added_token(TokenId id) const;
  void encode_normalized(std::string_view text, std::vector<TokenId>& ids) const;
  template <class OnText>
  void split(const AddedTokenMatcher& matcher, std::string_view text, Special special,
             std::vector<TokenId>& ids, OnText on_text) const;

  std::unique_ptr<const TokenizerParts> parts_;  // on the heap: the matchers point into it
  BytePairEncoder encoder_;
  AddedTokenMatcher raw_matcher_;
  AddedTokenMatcher normalized_matcher_;
  std::vector<int32_t> added_index_;  // [vocab_size]: index into added_tokens, -1 for base tokens
  std::vector<bool> encodes_itself_;  // [vocabulary.id_end]: as a piece it is this one token
  int64_t vocab_size_ = 0;
};

}  // namespace quench
