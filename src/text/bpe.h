// Byte pair encoding of one piece of text: from single bytes, always the pair of lowest rank is
// merged first, the leftmost among equals, until no pair has a rank.
//
// Built once by the loader, immutable afterwards: any thread may call the const functions. Time is
// O(n log n) in the bytes of a piece.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/vocabulary.h"

namespace quench {

class BytePairEncoder {
 public:
  // One merge: `left` and `right`, side by side, become `merged`.
  struct Merge {
    TokenId left;
    TokenId right;
    TokenId merged;
    uint32_t rank;
  };

  // `vocabulary` must hold all 256 single bytes. Merges of one pair twice are an error.
  static Result<BytePairEncoder> make(const Vocabulary& vocabulary,
                                      const std::vector<Merge>& merges, std::string_view where);

  // Every pair of tokens whose bytes together are a token, ranked by that token's id: the rule of
  // tiktoken files, which list no merges.
  static std::vector<Merge> merges_by_rank(const Vocabulary& vocabulary);

  // All of them, in order of rank.
  std::vector<Merge> merges() const;

  // Appends the ids of a piece.
  void encode(std::string_view piece, std::vector<TokenId>& ids) const;

 private:
  static constexpr uint32_t kNoRank = 0xffffff;  // ranks have 24 bits
  static constexpr uint64_t kFree = ~uint64_t{0};

  uint32_t rank(TokenId left, TokenId right) const;
  void encode_short(std::string_view piece, std::vector<TokenId>& ids) const;
  void encode_long(std::string_view piece, std::vector<TokenId>& ids) const;

  TokenId byte_ids_[256];
  std::vector<uint32_t> byte_ranks_;  // [256 * 256], indexed by two bytes
  std::vector<TokenId> merged_;       // [highest rank + 1]
  // Open addressing, a power of two: left (20 bits), right (20 bits), rank (24 bits). In front of
  // it a bit per hash: most pairs have no rank, and this array stays in the second-level cache.
  std::vector<uint64_t> slots_;
  std::vector<uint64_t> filter_;
};

}  // namespace quench
