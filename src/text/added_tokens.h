// Added tokens: pieces of text that become one id as a whole, before normalization and byte pair
// encoding ("<|im_start|>", "<think>"). The matcher finds them leftmost first, the longest at a
// place.
//
// Built once by the loader, immutable afterwards: any thread may call.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace quench {

struct AddedToken {
  TokenId id;
  std::string content;
  bool special;             // a control token, as opposed to text such as "<think>"
  bool normalized = false;  // its NFC is matched in the text after NFC, instead of before
};

class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin;
    size_t end;
    const AddedToken* token;  // null: no match
  };

  // `tokens` must outlive the matcher and stay where it is. Only those whose `normalized` equals
  // `normalized` are matched, normalized ones by the NFC of their content if `nfc`.
  AddedTokenMatcher() = default;
  AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized, bool nfc = true);

  // The first match at or behind `position`.
  Match find(std::string_view text, size_t position) const;
  bool empty() const { return nodes_.empty(); }

 private:
  struct Node {
    int32_t first_child = -1;
    int32_t next_sibling = -1;
    int32_t token = -1;  // index into tokens_
    char byte = 0;
  };
  int32_t child(int32_t node, char byte) const;

  const AddedToken* tokens_ = nullptr;
  std::vector<Node> nodes_;              // a trie over bytes; node 0 is the root
  std::array<int32_t, 256> by_first_{};  // children of the root, -1 for none
  int only_first_ = -1;                  // the first byte that all tokens share, -1 if they differ
};

}  // namespace quench
