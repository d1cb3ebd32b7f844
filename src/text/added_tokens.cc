#include "text/added_tokens.h"

#include <cstring>

#include "text/unicode.h"

namespace quench {

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized,
                                     bool nfc)
    : tokens_(tokens.data()) {
  by_first_.fill(-1);
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t].normalized != normalized || tokens[t].content.empty()) continue;
    if (nodes_.empty()) nodes_.emplace_back();
    std::string storage;
    const std::string_view content =
        normalized && nfc ? normalize_nfc(tokens[t].content, NfcVersion::kTokenizers, storage)
                          : std::string_view(tokens[t].content);
    int32_t node = 0;
    for (const char byte : content) {
      int32_t next = child(node, byte);
      if (next < 0) {
        next = static_cast<int32_t>(nodes_.size());
        Node added;
        added.byte = byte;
        added.next_sibling = nodes_[static_cast<size_t>(node)].first_child;
        nodes_.push_back(added);
        nodes_[static_cast<size_t>(node)].first_child = next;
        if (node == 0) by_first_[static_cast<uint8_t>(byte)] = next;
      }
      node = next;
    }
    nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(t);
  }
  int num_first = 0;
  for (int b = 0; b < 256; ++b) {
    if (by_first_[static_cast<size_t>(b)] < 0) continue;
    num_first += 1;
    only_first_ = b;
  }
  if (num_first != 1) only_first_ = -1;
}

int32_t AddedTokenMatcher::child(int32_t node, char byte) const {
  int32_t i = nodes_[static_cast<size_t>(node)].first_child;
  while (i >= 0 && nodes_[static_cast<size_t>(i)].byte != byte)
    i = nodes_[static_cast<size_t>(i)].next_sibling;
  return i;
}

AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, size_t position) const {
  const Match none{text.size(), text.size(), nullptr};
  if (nodes_.empty()) return none;
  for (size_t begin = position; begin < text.size(); ++begin) {
    if (only_first_ >= 0) {
      const void* p = std::memchr(text.data() + begin, only_first_, text.size() - begin);
      if (p == nullptr) return none;
      begin = static_cast<size_t>(static_cast<const char*>(p) - text.data());
    }
    Match longest = none;
    int32_t node = by_first_[static_cast<uint8_t>(text[begin])];
    for (size_t end = begin + 1; node >= 0; ++end) {
      const int32_t token = nodes_[static_cast<size_t>(node)].token;
      if (token >= 0) longest = {begin, end, tokens_ + token};
      if (end == text.size()) break;
      node = child(node, text[end]);
    }
    if (longest.token != nullptr) return longest;
  }
  return none;
}

}  // namespace quench
