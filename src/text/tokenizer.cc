#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/pretokenizer.h"
#include "text/unicode.h"

namespace quench {
namespace {

// Remembers where in this text a piece was encoded before, so that words that repeat are copied.
// Direct-mapped, made for one call, sized to the text.
class PieceCache {
 public:
  struct Entry {
    size_t piece_begin = 0;
    size_t ids_begin = 0;
    uint32_t piece_bytes = 0;  // 0: free
    uint32_t num_ids = 0;
  };

  explicit PieceCache(size_t text_bytes) {
    if (text_bytes < kMinTextBytes) return;
    size_t num_entries = 256;
    while (num_entries < kMaxEntries && num_entries * 32 < text_bytes) num_entries *= 2;
    entries_.resize(num_entries);
  }
  bool enabled() const { return !entries_.empty(); }
  Entry& entry(std::string_view piece) {
    return entries_[hash_bytes(piece) >> 20 & (entries_.size() - 1)];
  }

 private:
  static constexpr size_t kMinTextBytes = 2048;
  static constexpr size_t kMaxEntries = 1 << 15;
  std::vector<Entry> entries_;
};

constexpr size_t kMaxCachedPieceBytes = 256;

}  // namespace

Result<Tokenizer> Tokenizer::from_parts(TokenizerParts parts, std::string_view where) {
  Tokenizer tokenizer;
  QUENCH_TRY(tokenizer.encoder_, BytePairEncoder::make(parts.vocabulary, parts.merges, where));
  parts.merges = {};  // now in the encoder
  tokenizer.vocab_size_ = parts.vocabulary.id_end();
  for (const AddedToken& token : parts.added_tokens) {
    if (token.id < 0 || token.id >= kMaxTokenIds) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: the added token \"{}\" has the id {}, outside 0..{}.", where, token.content,
                  token.id, kMaxTokenIds - 1);
    }
    if (token.content.empty())
      return fail(ErrorCode::kInvalidFile, "{}: the added token {} is empty.", where, token.id);
    tokenizer.vocab_size_ = std::max<int64_t>(tokenizer.vocab_size_, int64_t{token.id} + 1);
  }
  std::sort(parts.added_tokens.begin(), parts.added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  tokenizer.added_index_.assign(static_cast<size_t>(tokenizer.vocab_size_), -1);
  std::vector<std::string_view> contents;
  for (size_t i = 0; i < parts.added_tokens.size(); ++i) {
    const AddedToken& token = parts.added_tokens[i];
    int32_t& index = tokenizer.added_index_[static_cast<size_t>(token.id)];
    const std::string_view base = parts.vocabulary.bytes(token.id);
    if (index >= 0 || (!base.empty() && byte_level_text(base) != token.content)) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: two tokens have the id {}: the added token \"{}\" and \"{}\".", where,
                  token.id, token.content,
                  index >= 0 ? parts.added_tokens[static_cast<size_t>(index)].content
                             : byte_level_text(base));
    }
    index = static_cast<int32_t>(i);
    contents.push_back(token.content);
  }
  std::sort(contents.begin(), contents.end());
  if (const auto it = std::adjacent_find(contents.begin(), contents.end()); it != contents.end())
    return fail(ErrorCode::kInvalidFile, "{}: the added token \"{}\" has two ids.", where, *it);

  // Most words are one token. Which tokens come out of their own merges is found once, here.
  const Vocabulary& vocabulary = parts.vocabulary;
  tokenizer.encodes_itself_.assign(static_cast<size_t>(vocabulary.id_end()), false);
  std::vector<TokenId> ids;
  for (size_t i = 0; i < tokenizer.encodes_itself_.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!vocabulary.contains(id)) continue;
    if (!parts.whole_pieces_first) {
      ids.clear();
      tokenizer.encoder_.encode(vocabulary.bytes(id), ids);
      if (ids.size() != 1) continue;
    }
    tokenizer.encodes_itself_[i] = true;
  }

  tokenizer.parts_ = std::make_unique<const TokenizerParts>(std::move(parts));
  const std::vector<AddedToken>& added = tokenizer.parts_->added_tokens;
  tokenizer.raw_matcher_ = AddedTokenMatcher(added, false);
  tokenizer.normalized_matcher_ =
      AddedTokenMatcher(added, true, tokenizer.parts_->nfc != TokenizerParts::Nfc::kNone);
  return tokenizer;
}

// Calls on_text for the stretches between added tokens, and appends the tokens' ids in between.
template <class OnText>
void Tokenizer::split(const AddedTokenMatcher& matcher, std::string_view text, Special special,
                      std::vector<TokenId>& ids, OnText on_text) const {
  size_t done = 0;
  size_t position = 0;
  while (!matcher.empty()) {
    const AddedTokenMatcher::Match match = matcher.find(text, position);
    if (match.token == nullptr) break;
    position = match.end;
    if (match.token->special && special == Special::kAsText) continue;
    if (match.begin > done) on_text(text.substr(done, match.begin - done));
    ids.push_back(match.token->id);
    done = match.end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, Special special) const {
  std::string valid_storage, normalized_storage;
  text = replace_invalid_utf8(text, valid_storage);
  if (parts_->nfc == TokenizerParts::Nfc::kWholeText)
    text = normalize_nfc(text, NfcVersion::kUnicode15, normalized_storage);
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 4);
  std::string segment_storage;
  split(raw_matcher_, text, special, ids, [&](std::string_view segment) {
    if (parts_->nfc == TokenizerParts::Nfc::kBetweenAddedTokens)
      segment = normalize_nfc(segment, NfcVersion::kTokenizers, segment_storage);
    split(normalized_matcher_, segment, special, ids,
          [&](std::string_view part) { encode_normalized(part, ids); });
  });
  return ids;
}

void Tokenizer::encode_normalized(std::string_view text, std::vector<TokenId>& ids) const {
  const Pretokenizer pretokenizer;
  const Vocabulary& vocabulary = parts_->vocabulary;
  PieceCache cache(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = pretokenizer.piece_end(text, begin);
    const std::string_view piece = text.substr(begin, end - begin);
    const size_t piece_begin = begin;
    begin = end;
    if (const auto id = vocabulary.find(piece); id && encodes_itself_[static_cast<size_t>(*id)]) {
      ids.push_back(*id);
      continue;
    }
    if (!cache.enabled() || piece.size() > kMaxCachedPieceBytes) {
      encoder_.encode(piece, ids);
      continue;
    }
    PieceCache::Entry& entry = cache.entry(piece);
    if (text.substr(entry.piece_begin, entry.piece_bytes) == piece) {
      // Copied by index: the vector may move while it grows.
      for (size_t i = 0; i < entry.num_ids; ++i) ids.push_back(ids[entry.ids_begin + i]);
      continue;
    }
    const size_t ids_begin = ids.size();
    encoder_.encode(piece, ids);
    entry = {piece_begin, ids_begin, static_cast<uint32_t>(piece.size()),
             static_cast<uint32_t>(ids.size() - ids_begin)};
  }
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (skip_special && is_special(id)) continue;
    bytes.append(token_bytes(id));
  }
  return bytes;
}

const AddedToken* Tokenizer::added_token(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= added_index_.size()) return nullptr;
  const int32_t index = added_index_[static_cast<size_t>(id)];
  return index < 0 ? nullptr : &parts_->added_tokens[static_cast<size_t>(index)];
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  if (const AddedToken* token = added_token(id)) return token->content;
  return parts_->vocabulary.bytes(id);
}

std::string Tokenizer::token_text(TokenId id) const {
  if (const AddedToken* token = added_token(id)) return token->content;
  return byte_level_text(parts_->vocabulary.bytes(id));
}

std::optional<TokenId> Tokenizer::find(std::string_view content) const {
  for (const AddedToken& token : parts_->added_tokens) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

bool Tokenizer::is_special(TokenId id) const {
  const AddedToken* token = added_token(id);
  return token != nullptr && token->special;
}

bool Tokenizer::is_known(TokenId id) const {
  return added_token(id) != nullptr || parts_->vocabulary.contains(id);
}

}  // namespace quench
