#include "text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>
#include <utility>

namespace quench {
namespace {

// Up to this many bytes the search for the lowest rank is a plain scan; beyond it a heap, so that
// a megabyte of one letter stays cheap. A position shares 32 bits with a rank.
constexpr int kPositionBits = 7;
constexpr size_t kShortBytes = size_t{1} << kPositionBits;

static_assert(kMaxTokenIds <= int64_t{1} << 20, "two ids and a rank share 64 bits");
constexpr int kRankBits = 24;
constexpr uint32_t kRankMask = (1u << kRankBits) - 1;

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(left) << 20 | static_cast<uint64_t>(right);
}

uint64_t pair_hash(uint64_t key) {
  key *= 0x9e3779b97f4a7c15;
  return key ^ key >> 32;
}

}  // namespace

Result<BytePairEncoder> BytePairEncoder::make(const Vocabulary& vocabulary,
                                              const std::vector<Merge>& merges,
                                              std::string_view where) {
  BytePairEncoder encoder;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto id = vocabulary.find({&byte, 1});
    if (!id) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: expected a byte-level vocabulary with a token for each of the 256 bytes, "
                  "found none for byte {:#04x}.",
                  where, b);
    }
    encoder.byte_ids_[b] = *id;
  }
  size_t num_slots = 1024;
  while (num_slots * 3 < merges.size() * 4) num_slots *= 2;
  encoder.slots_.resize(num_slots, kFree);
  encoder.filter_.resize(num_slots / 8);  // 8 bits a slot
  for (const Merge& merge : merges) {
    if (merge.rank >= kNoRank) {
      return fail(ErrorCode::kInvalidFile, "{}: expected fewer than {} merges, found more.", where,
                  kNoRank);
    }
    if (encoder.rank(merge.left, merge.right) != kNoRank) {
      return fail(ErrorCode::kInvalidFile, "{}: the merge of \"{}\" and \"{}\" is there twice.",
                  where, byte_level_text(vocabulary.bytes(merge.left)),
                  byte_level_text(vocabulary.bytes(merge.right)));
    }
    const uint64_t key = pair_key(merge.left, merge.right);
    const uint64_t hash = pair_hash(key);
    size_t i = hash & (num_slots - 1);
    while (encoder.slots_[i] != kFree) i = (i + 1) & (num_slots - 1);
    encoder.slots_[i] = key << kRankBits | merge.rank;
    encoder.filter_[hash >> 6 & (encoder.filter_.size() - 1)] |= uint64_t{1} << (hash & 63);
    if (merge.rank >= encoder.merged_.size()) encoder.merged_.resize(merge.rank + 1, -1);
    encoder.merged_[merge.rank] = merge.merged;
  }
  encoder.byte_ranks_.resize(256 * 256);
  for (size_t i = 0; i < encoder.byte_ranks_.size(); ++i)
    encoder.byte_ranks_[i] = encoder.rank(encoder.byte_ids_[i >> 8], encoder.byte_ids_[i & 255]);
  return encoder;
}

std::vector<BytePairEncoder::Merge> BytePairEncoder::merges_by_rank(const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  for (int64_t i = 0; i < vocabulary.id_end(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view bytes = vocabulary.bytes(id);
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = vocabulary.find(bytes.substr(0, cut));
      if (!left) continue;
      const auto right = vocabulary.find(bytes.substr(cut));
      if (right) merges.push_back({*left, *right, id, static_cast<uint32_t>(id)});
    }
  }
  return merges;
}

std::vector<BytePairEncoder::Merge> BytePairEncoder::merges() const {
  constexpr uint64_t kIdMask = (1u << 20) - 1;
  std::vector<Merge> merges;
  for (const uint64_t slot : slots_) {
    if (slot == kFree) continue;
    const auto rank = static_cast<uint32_t>(slot & kRankMask);
    merges.push_back({static_cast<TokenId>(slot >> kRankBits >> 20),
                      static_cast<TokenId>(slot >> kRankBits & kIdMask), merged_[rank], rank});
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(a.rank, a.left) < std::tuple(b.rank, b.left);
  });
  return merges;
}

inline uint32_t BytePairEncoder::rank(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  const uint64_t hash = pair_hash(key);
  if ((filter_[hash >> 6 & (filter_.size() - 1)] >> (hash & 63) & 1) == 0) return kNoRank;
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    const uint64_t slot = slots_[i];
    if (slot >> kRankBits == key) return static_cast<uint32_t>(slot & kRankMask);
    if (slot == kFree) return kNoRank;
  }
}

void BytePairEncoder::encode(std::string_view piece, std::vector<TokenId>& ids) const {
  if (piece.size() <= kShortBytes) {
    encode_short(piece, ids);
  } else {
    encode_long(piece, ids);
  }
}

void BytePairEncoder::encode_short(std::string_view piece, std::vector<TokenId>& ids) const {
  // Symbols stay where their first byte is, linked by distance. order[i] is the rank of symbol i
  // with the next one, above i itself: the least is the leftmost pair of lowest rank.
  TokenId symbols[kShortBytes];
  int32_t order[kShortBytes];
  uint8_t next[kShortBytes], previous[kShortBytes];
  const auto n = static_cast<int32_t>(piece.size());
  const auto ordered = [](uint32_t rank, int32_t position) {
    return static_cast<int32_t>(rank << kPositionBits) | position;
  };
  constexpr int32_t kNone = kNoRank << kPositionBits;
  for (int32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
    symbols[i] = byte_ids_[byte];
    next[i] = static_cast<uint8_t>(i + 1);
    previous[i] = static_cast<uint8_t>(i - 1);
    if (i + 1 == n) break;
    const auto after = static_cast<uint8_t>(piece[static_cast<size_t>(i) + 1]);
    order[i] = ordered(byte_ranks_[static_cast<size_t>(byte) << 8 | after], i);
  }
  for (;;) {
    int32_t least = kNone;
    for (int32_t i = 0; i + 1 < n; ++i) least = order[i] < least ? order[i] : least;
    if (least == kNone) break;
    const int32_t at = least & (kShortBytes - 1);
    const int32_t gone = next[at];
    const int32_t after = next[gone];
    symbols[at] = merged_[static_cast<size_t>(least >> kPositionBits)];
    next[at] = static_cast<uint8_t>(after);
    order[gone] = kNone;
    order[at] = kNone;
    if (after < n) {
      previous[after] = static_cast<uint8_t>(at);
      order[at] = ordered(rank(symbols[at], symbols[after]), at);
    }
    if (at > 0) {
      const int32_t before = previous[at];
      order[before] = ordered(rank(symbols[before], symbols[at]), before);
    }
  }
  for (int32_t i = 0; i < n; i = next[i]) ids.push_back(symbols[i]);
}

void BytePairEncoder::encode_long(std::string_view piece, std::vector<TokenId>& ids) const {
  // Symbols in a doubly linked list over their first byte; candidate merges in a heap ordered by
  // (rank, position). A candidate is stale when its symbols have changed since.
  struct Symbol {
    TokenId id;
    int64_t previous;
    int64_t next;
  };
  struct Candidate {
    uint32_t rank;
    TokenId left_id;
    TokenId right_id;
    int64_t left;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  const auto n = static_cast<int64_t>(piece.size());
  std::vector<Symbol> symbols(piece.size());
  std::vector<Candidate> initial;
  for (int64_t i = 0; i < n; ++i) {
    const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
    symbols[static_cast<size_t>(i)] = {byte_ids_[byte], i - 1, i + 1 < n ? i + 1 : -1};
  }
  const auto candidate = [&](int64_t left, int64_t right) {
    const TokenId left_id = symbols[static_cast<size_t>(left)].id;
    const TokenId right_id = symbols[static_cast<size_t>(right)].id;
    return Candidate{rank(left_id, right_id), left_id, right_id, left};
  };
  for (int64_t i = 0; i + 1 < n; ++i) {
    const Candidate c = candidate(i, i + 1);
    if (c.rank != kNoRank) initial.push_back(c);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(std::greater<>{},
                                                                              std::move(initial));
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    Symbol& left = symbols[static_cast<size_t>(c.left)];
    if (left.id != c.left_id || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != c.right_id) continue;
    left.id = merged_[c.rank];
    right.id = -1;  // gone: no candidate names it
    left.next = right.next;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = c.left;
      const Candidate after = candidate(c.left, left.next);
      if (after.rank != kNoRank) heap.push(after);
    }
    if (left.previous >= 0) {
      const Candidate before = candidate(left.previous, c.left);
      if (before.rank != kNoRank) heap.push(before);
    }
  }
  for (int64_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    ids.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace quench
