#include "text/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <algorithm>
#include <map>

#include "base/check.h"

namespace quench {
namespace {

struct TableRow {
  uint32_t first;
  uint8_t value;
};
constexpr TableRow kTable[] = {
#include "text/unicode_table.inc"
};

constexpr bool is_continuation(uint8_t byte) { return (byte & 0xc0) == 0x80; }

// Normalizes code points one stretch at a time: a stretch is a character that NFC leaves alone,
// and the characters behind it that it may change. Nothing crosses the border between two.
class NfcStretch {
 public:
  void add(uint32_t code_point) { source_.push_back(static_cast<int32_t>(code_point)); }

  void flush(std::string& out) {
    if (source_.empty()) return;
    decomposed_.clear();
    for (const int32_t c : source_) {
      int32_t parts[8];
      int boundary_class = UTF8PROC_BOUNDCLASS_START;
      const auto n = utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE, &boundary_class);
      QUENCH_CHECK(n >= 1 && n <= 8, "code point {:#x} decomposes to {} code points", c, n);
      decomposed_.insert(decomposed_.end(), parts, parts + n);
    }
    order_marks();
    const auto n = utf8proc_normalize_utf32(
        decomposed_.data(), static_cast<utf8proc_ssize_t>(decomposed_.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    QUENCH_CHECK(n >= 0, "utf8proc_normalize_utf32 returned {}", n);
    for (utf8proc_ssize_t i = 0; i < n; ++i)
      append_utf8(out, static_cast<uint32_t>(decomposed_[static_cast<size_t>(i)]));
    source_.clear();
  }

 private:
  static int combining_class(int32_t c) { return utf8proc_get_property(c)->combining_class; }

  // Canonical order: runs of marks sorted by class, stable. (utf8proc does this by insertion,
  // which takes hours on a megabyte of marks.)
  void order_marks() {
    auto begin = decomposed_.begin();
    while (begin != decomposed_.end()) {
      if (combining_class(*begin) == 0) {
        ++begin;
        continue;
      }
      auto end =
          std::find_if(begin, decomposed_.end(), [](int32_t c) { return combining_class(c) == 0; });
      // Class (8 bits), place (35 bits) and code point (21 bits) in one number: sorting is stable.
      keys_.clear();
      for (auto it = begin; it != end; ++it) {
        keys_.push_back(static_cast<uint64_t>(combining_class(*it)) << 56 |
                        static_cast<uint64_t>(it - begin) << 21 | static_cast<uint64_t>(*it));
      }
      std::sort(keys_.begin(), keys_.end());
      for (size_t i = 0; i < keys_.size(); ++i)
        begin[static_cast<std::ptrdiff_t>(i)] = static_cast<int32_t>(keys_[i] & 0x1fffff);
      begin = end;
    }
  }

  std::vector<int32_t> source_;
  std::vector<int32_t> decomposed_;
  std::vector<uint64_t> keys_;
};

}  // namespace

Utf8Step utf8_step(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {Utf8Step::kValid, 1};
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  int length = 0;
  uint8_t low = 0x80, high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return {Utf8Step::kInvalid, 1};
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) == bytes.size())
      return {Utf8Step::kIncomplete, static_cast<uint8_t>(i)};
    const uint8_t b = byte(static_cast<size_t>(i));
    const bool good = i == 1 ? b >= low && b <= high : is_continuation(b);
    if (!good) return {Utf8Step::kInvalid, static_cast<uint8_t>(i)};
  }
  return {Utf8Step::kValid, static_cast<uint8_t>(length)};
}

std::string_view replace_invalid_utf8(std::string_view bytes, std::string& storage) {
  if (simdjson::validate_utf8(bytes.data(), bytes.size())) return bytes;
  storage.clear();
  storage.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Step step = utf8_step(bytes.substr(at));
    if (step.kind == Utf8Step::kValid) {
      storage.append(bytes.substr(at, step.length));
    } else {
      storage.append("\xef\xbf\xbd");
    }
    at += step.length;
  }
  return storage;
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto put = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

UnicodeTable::UnicodeTable() {
  std::map<std::array<uint8_t, 256>, uint16_t> seen;
  size_t row = 0;
  uint8_t value = 0;
  for (uint32_t block = 0; block < block_of_.size(); ++block) {
    std::array<uint8_t, 256> entries;
    for (uint32_t i = 0; i < 256; ++i) {
      const uint32_t c = block << 8 | i;
      if (row < std::size(kTable) && kTable[row].first == c) value = kTable[row++].value;
      auto char_class = static_cast<CharClass>(value & 3);
      if (c == '\r' || c == '\n') char_class = CharClass::kNewline;
      // U+11930 is the one character younger than Unicode 9 that is no mark and yet composes.
      const bool is_new =
          utf8proc_get_property(static_cast<int32_t>(c))->combining_class != 0 || c == 0x11930;
      entries[i] = static_cast<uint8_t>(char_class) | (value & 4 ? kNfcFlag : 0) |
                   (is_new ? kNewNfcFlag : 0);
    }
    const auto [it, inserted] = seen.emplace(entries, static_cast<uint16_t>(blocks_.size()));
    if (inserted) blocks_.push_back(entries);
    block_of_[block] = it->second;
  }
}

const UnicodeTable& UnicodeTable::get() {
  static const UnicodeTable table;
  return table;
}

std::string_view normalize_nfc(std::string_view text, NfcVersion version, std::string& storage) {
  const UnicodeTable& table = UnicodeTable::get();
  // Quick check: nothing to do in front of the first character that NFC may change.
  size_t at = 0;
  size_t stretch_begin = 0;
  bool changes = false;
  while (at < text.size()) {
    if (static_cast<uint8_t>(text[at]) < 0x80) {  // ASCII never changes
      stretch_begin = at++;
      continue;
    }
    const size_t begin = at;
    if (table.may_change_under_nfc(next_code_point(text.data(), at), version)) {
      changes = true;
      break;
    }
    stretch_begin = begin;
  }
  if (!changes) return text;

  storage.assign(text.substr(0, stretch_begin));
  NfcStretch stretch;
  for (at = stretch_begin; at < text.size();) {
    const uint32_t c = next_code_point(text.data(), at);
    if (!table.may_change_under_nfc(c, version)) {
      stretch.flush(storage);
      // A mark newer than the package's Unicode: there it is an ordinary character that nothing
      // moves past, so utf8proc, which knows better, must not see it.
      if (utf8proc_get_property(static_cast<int32_t>(c))->combining_class != 0) {
        append_utf8(storage, c);
        continue;
      }
    }
    stretch.add(c);
  }
  stretch.flush(storage);
  return storage;
}

}  // namespace quench
