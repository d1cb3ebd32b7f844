// The tokens of a vocabulary: id <-> bytes. Built once by the loader, immutable afterwards: any
// thread may call the const functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace quench {

using TokenId = int32_t;

// Ids at or above this are refused: no vocabulary is near it, and tables are indexed by id.
constexpr int64_t kMaxTokenIds = int64_t{1} << 20;
// Longer tokens are refused: Qwen's longest has 128 bytes, and work at load grows with the square.
constexpr size_t kMaxTokenBytes = 1024;

// Hash of a short byte string, for tables in memory only.
uint64_t hash_bytes(std::string_view bytes);

// The printable alphabet in which vocab.json and merges.txt write bytes (U+0120 for a space).
// Decoding gives nothing where the text holds another character.
std::string byte_level_text(std::string_view bytes);
std::optional<std::string> byte_level_bytes(std::string_view text);

class Vocabulary {
 public:
  // Errors: an id out of range or used twice; bytes that are empty, too many or there already.
  // `where` names the file.
  Result<void> add(TokenId id, std::string_view bytes, std::string_view where);

  std::optional<TokenId> find(std::string_view bytes) const;
  bool contains(TokenId id) const {
    return id >= 0 && static_cast<size_t>(id) < spans_.size() &&
           spans_[static_cast<size_t>(id)].length != 0;
  }
  // Empty for ids that are not in the vocabulary.
  std::string_view bytes(TokenId id) const {
    if (!contains(id)) return {};
    const Span span = spans_[static_cast<size_t>(id)];
    return std::string_view(blob_).substr(span.offset, span.length);
  }
  int64_t id_end() const { return static_cast<int64_t>(spans_.size()); }  // 1 + highest id
  int64_t num_tokens() const { return num_tokens_; }
  size_t max_token_bytes() const { return max_token_bytes_; }

 private:
  struct Span {
    uint32_t offset = 0;
    uint32_t length = 0;  // 0: no such token
  };
  struct Slot {
    uint32_t tag = 0;  // upper half of the hash
    TokenId id = -1;   // -1: free
  };
  void grow();
  size_t slot_of(std::string_view bytes, uint64_t hash) const;

  std::string blob_;
  std::vector<Span> spans_;  // [id_end]
  std::vector<Slot> slots_;  // open addressing, a power of two
  int64_t num_tokens_ = 0;
  size_t max_token_bytes_ = 0;
};

}  // namespace quench
