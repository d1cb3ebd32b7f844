// Random strings for comparing tokenizers, the same here and in tools/check_tokenizer.py: mixed
// scripts, emoji, combining marks, white space, control tokens, ill-formed UTF-8. The material is
// in random_text.json; a string is a function of (seed, index) alone.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "test_paths.h"
#include "text/unicode.h"

namespace quench {

class RandomText {
 public:
  explicit RandomText(uint64_t seed)
      : seed_(seed), material_(read_json_file(source_path("tests/text/random_text.json")).value()) {
    for (const Json& fragment : material_["fragments"]) fragments_.push_back(fragment);
    for (const Json& range : material_["ranges"]) ranges_.emplace_back(range[0], range[1]);
    for (const Json& hex : material_["ill_formed_hex"]) {
      std::string bytes;
      const std::string digits = hex;
      for (size_t i = 0; i < digits.size(); i += 2)
        bytes.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
      ill_formed_.push_back(bytes);
    }
  }

  std::string make(uint64_t index) {
    state_ = (seed_ << 32) + index;
    std::string text;
    const uint64_t num_parts = below(16);
    for (uint64_t part = 0; part < num_parts; ++part) {
      const uint64_t kind = below(12);
      if (kind < 5) {
        text += fragments_[below(fragments_.size())];
      } else if (kind == 5) {  // printable ASCII
        for (uint64_t n = 1 + below(6); n > 0; --n)
          text.push_back(static_cast<char>(32 + below(95)));
      } else if (kind < 9) {  // code points of one block
        const auto [first, last] = ranges_[below(ranges_.size())];
        for (uint64_t n = 1 + below(4); n > 0; --n)
          append_utf8(text, code_point(first + below(last - first + 1)));
      } else if (kind == 9) {  // any code point
        append_utf8(text, code_point(below(0x110000)));
      } else if (kind == 10) {  // a run
        const std::string& fragment = fragments_[below(fragments_.size())];
        for (uint64_t n = 1 + below(20); n > 0; --n) text += fragment;
      } else {
        text += ill_formed_[below(ill_formed_.size())];
      }
    }
    return text;
  }

 private:
  uint64_t next() {  // splitmix64
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return next() % n; }
  // Surrogates are not characters: U+FFFD instead.
  static uint32_t code_point(uint64_t c) {
    return c >= 0xd800 && c < 0xe000 ? 0xfffd : static_cast<uint32_t>(c);
  }

  uint64_t seed_;
  uint64_t state_ = 0;
  Json material_;
  std::vector<std::string> fragments_;
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
  std::vector<std::string> ill_formed_;
};

}  // namespace quench
