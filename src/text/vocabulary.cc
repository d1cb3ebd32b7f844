#include "text/vocabulary.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "text/unicode.h"

namespace quench {
namespace {

// GPT-2's alphabet: the printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and
// up.
constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}
constexpr uint32_t kAlphabetEnd = 0x144;
constexpr std::array<uint16_t, 256> kByteToChar = [] {
  std::array<uint16_t, 256> table{};
  uint16_t next = 0x100;
  for (uint32_t b = 0; b < 256; ++b)
    table[b] = stands_for_itself(b) ? static_cast<uint16_t>(b) : next++;
  return table;
}();
constexpr std::array<int16_t, kAlphabetEnd> kCharToByte = [] {
  std::array<int16_t, kAlphabetEnd> table{};
  table.fill(-1);
  for (uint32_t b = 0; b < 256; ++b) table[kByteToChar[b]] = static_cast<int16_t>(b);
  return table;
}();

template <class T>
uint64_t load_as(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;
  const auto mix = [](uint64_t h, uint64_t word) {
    const auto product = static_cast<unsigned __int128>(h ^ word) * kMultiplier;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  const char* p = bytes.data();
  size_t n = bytes.size();
  uint64_t h = kMultiplier + n;
  for (; n > 8; p += 8, n -= 8) h = mix(h, load_as<uint64_t>(p));
  // The last 1 to 8 bytes; the length is in the seed, so overlapping loads are unambiguous.
  uint64_t tail = 0;
  if (n >= 4) {
    tail = load_as<uint32_t>(p) | load_as<uint32_t>(p + n - 4) << 32;
  } else if (n > 0) {
    tail =
        load_as<uint8_t>(p) | load_as<uint8_t>(p + n / 2) << 8 | load_as<uint8_t>(p + n - 1) << 16;
  }
  return mix(h, tail);
}

std::string byte_level_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(text, kByteToChar[static_cast<uint8_t>(c)]);
  return text;
}

std::optional<std::string> byte_level_bytes(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    if (utf8_step(text.substr(at)).kind != Utf8Step::kValid) return std::nullopt;
    const uint32_t c = next_code_point(text.data(), at);
    if (c >= kAlphabetEnd || kCharToByte[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kCharToByte[c]));
  }
  return bytes;
}

size_t Vocabulary::slot_of(std::string_view wanted, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.id < 0 || (slot.tag == tag && bytes(slot.id) == wanted)) return i;
  }
}

void Vocabulary::grow() {
  std::vector<Slot> old(std::max<size_t>(1024, slots_.size() * 2));
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    const std::string_view token = bytes(slot.id);
    slots_[slot_of(token, hash_bytes(token))] = slot;
  }
}

Result<void> Vocabulary::add(TokenId id, std::string_view token, std::string_view where) {
  if (id < 0 || id >= kMaxTokenIds) {
    return fail(ErrorCode::kInvalidFile, "{}: token id {} is outside 0..{}.", where, id,
                kMaxTokenIds - 1);
  }
  if (token.empty())
    return fail(ErrorCode::kInvalidFile, "{}: the token with id {} is empty.", where, id);
  if (token.size() > kMaxTokenBytes) {
    return fail(ErrorCode::kInvalidFile, "{}: the token with id {} has {} bytes, more than {}.",
                where, id, token.size(), kMaxTokenBytes);
  }
  if (contains(id)) {
    return fail(ErrorCode::kInvalidFile, "{}: two tokens have the id {}: \"{}\" and \"{}\".", where,
                id, byte_level_text(bytes(id)), byte_level_text(token));
  }
  if (blob_.size() + token.size() > std::numeric_limits<uint32_t>::max())
    return fail(ErrorCode::kInvalidFile, "{}: the tokens take more than 4 GiB.", where);
  if (static_cast<size_t>(num_tokens_) * 4 >= slots_.size() * 3) grow();
  const uint64_t hash = hash_bytes(token);
  Slot& slot = slots_[slot_of(token, hash)];
  if (slot.id >= 0) {
    return fail(ErrorCode::kInvalidFile, "{}: the token \"{}\" has two ids, {} and {}.", where,
                byte_level_text(token), slot.id, id);
  }
  slot = {static_cast<uint32_t>(hash >> 32), id};
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {static_cast<uint32_t>(blob_.size()),
                                     static_cast<uint32_t>(token.size())};
  blob_.append(token);
  num_tokens_ += 1;
  max_token_bytes_ = std::max(max_token_bytes_, token.size());
  return {};
}

std::optional<TokenId> Vocabulary::find(std::string_view wanted) const {
  if (slots_.empty() || wanted.empty() || wanted.size() > max_token_bytes_) return std::nullopt;
  const TokenId id = slots_[slot_of(wanted, hash_bytes(wanted))].id;
  if (id < 0) return std::nullopt;
  return id;
}

}  // namespace quench
