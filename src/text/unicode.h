// What the tokenizer knows of Unicode: decoding UTF-8 by the rule of Python's errors='replace',
// classes of code points (\p{L}, \p{N}, \s), and normalization form C.
//
// Three versions of Unicode meet here. The tables in unicode_table.inc were measured from the
// Python tokenizers package 0.23: its regular expression engine follows Unicode 16, its normalizer
// Unicode 9. utf8proc 2.8 (Unicode 15) supplies decompositions and compositions; to agree with the
// package it is only asked about code points that the package's normalizer knows.
//
// Free functions over immutable tables: any thread may call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quench {

// kNewline is \r and \n, which are \s too.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace, kNewline };

// What stands at the front of some bytes.
struct Utf8Step {
  enum Kind : uint8_t {
    kValid,      // a code point of `length` bytes
    kInvalid,    // `length` bytes that decode to one U+FFFD (the longest broken prefix)
    kIncomplete  // all `length` bytes there are begin a code point whose rest is missing
  };
  Kind kind;
  uint8_t length;
};
// `bytes` must not be empty.
Utf8Step utf8_step(std::string_view bytes);

// Ill-formed parts become U+FFFD exactly as bytes.decode("utf-8", errors="replace") makes them.
// Returns `bytes` itself where it is well-formed; otherwise fills `storage` and returns a view of
// it.
std::string_view replace_invalid_utf8(std::string_view bytes, std::string& storage);

void append_utf8(std::string& text, uint32_t code_point);

// Decodes one code point of well-formed UTF-8 and moves `position` behind it.
inline uint32_t next_code_point(const char* text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[position + i]); };
  const uint32_t first = byte(0);
  if (first < 0x80) {
    position += 1;
    return first;
  }
  if (first < 0xe0) {
    const uint32_t c = (first & 0x1f) << 6 | (byte(1) & 0x3f);
    position += 2;
    return c;
  }
  if (first < 0xf0) {
    const uint32_t c = (first & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
    position += 3;
    return c;
  }
  const uint32_t c =
      (first & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f);
  position += 4;
  return c;
}

// Whose normalization: that of the tokenizers package (Unicode 9: younger combining marks are
// ordinary characters), or utf8proc's own (Unicode 15, as Python 3.12's unicodedata has it).
enum class NfcVersion : uint8_t { kTokenizers, kUnicode15 };

// Class and normalization flag of every code point, in blocks of 256.
class UnicodeTable {
 public:
  static const UnicodeTable& get();  // built on the first call

  CharClass char_class(uint32_t code_point) const {
    return static_cast<CharClass>(entry(code_point) & 0x0f);
  }
  // False: neither this code point nor any before it changes under NFC because of it.
  bool may_change_under_nfc(uint32_t code_point, NfcVersion version) const {
    const uint8_t flags = version == NfcVersion::kTokenizers ? kNfcFlag : kNfcFlag | kNewNfcFlag;
    return (entry(code_point) & flags) != 0;
  }

 private:
  static constexpr uint8_t kNfcFlag = 0x10;
  static constexpr uint8_t kNewNfcFlag = 0x20;  // for utf8proc's newer Unicode only
  UnicodeTable();
  uint8_t entry(uint32_t code_point) const {
    return blocks_[block_of_[code_point >> 8]][code_point & 0xff];
  }

  std::array<uint16_t, 0x1100> block_of_{};
  std::vector<std::array<uint8_t, 256>> blocks_;
};

// Normalization form C of well-formed UTF-8. Time is O(n log n) for any input. Returns `text`
// itself where nothing changes; otherwise fills `storage` and returns a view of it.
std::string_view normalize_nfc(std::string_view text, NfcVersion version, std::string& storage);

}  // namespace quench
