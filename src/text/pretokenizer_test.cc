#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace quench {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(std::string_view text) {
  const Pretokenizer pretokenizer;
  Pieces result;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = pretokenizer.piece_end(text, begin);
    EXPECT_GT(end, begin);
    result.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return result;
}

TEST(Pretokenizer, WordsTakeOneCharacterInFront) {
  EXPECT_EQ(pieces("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(pieces("(a \tb"), (Pieces{"(a", " ", "\tb"}));
  EXPECT_EQ(pieces("_x"), (Pieces{"_x"}));
  EXPECT_EQ(pieces("__x"), (Pieces{"__", "x"}));
  EXPECT_EQ(pieces("\u3000你好。再见"), (Pieces{"\u3000你好", "。再见"}));
  EXPECT_EQ(pieces("\u0301e"), (Pieces{"\u0301e"}));
  EXPECT_EQ(pieces("\nabc"), (Pieces{"\n", "abc"}));
}

TEST(Pretokenizer, Contractions) {
  EXPECT_EQ(pieces("it's"), (Pieces{"it", "'s"}));
  EXPECT_EQ(pieces("WE'LL'Ve"), (Pieces{"WE", "'LL", "'Ve"}));
  EXPECT_EQ(pieces("'sa"), (Pieces{"'s", "a"}));
  EXPECT_EQ(pieces("'\u017fa"), (Pieces{"'\u017f", "a"}));
  EXPECT_EQ(pieces("'xa"), (Pieces{"'xa"}));
  EXPECT_EQ(pieces("'r"), (Pieces{"'r"}));
  EXPECT_EQ(pieces("'"), (Pieces{"'"}));
  EXPECT_EQ(pieces(" 's"), (Pieces{" '", "s"}));
  EXPECT_EQ(pieces("''s"), (Pieces{"''", "s"}));
}

TEST(Pretokenizer, DigitsStandAlone) {
  EXPECT_EQ(pieces("a12"), (Pieces{"a", "1", "2"}));
  EXPECT_EQ(pieces(" 1"), (Pieces{" ", "1"}));
  EXPECT_EQ(pieces("\u0663\u00b2"), (Pieces{"\u0663", "\u00b2"}));
}

TEST(Pretokenizer, PunctuationTakesOneSpaceAndTheNewlinesBehind) {
  EXPECT_EQ(pieces(" ...\r\n\nx"), (Pieces{" ...\r\n\n", "x"}));
  EXPECT_EQ(pieces("  !"), (Pieces{" ", " !"}));
  EXPECT_EQ(pieces("\t!"), (Pieces{"\t", "!"}));
  EXPECT_EQ(pieces("a=b"), (Pieces{"a", "=b"}));
  EXPECT_EQ(pieces("a==b"), (Pieces{"a", "==", "b"}));
}

TEST(Pretokenizer, WhiteSpace) {
  EXPECT_EQ(pieces("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(pieces("a   1"), (Pieces{"a", "  ", " ", "1"}));
  EXPECT_EQ(pieces("a   "), (Pieces{"a", "   "}));
  EXPECT_EQ(pieces("a \n \n  b"), (Pieces{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(pieces("\r\n\t\n  "), (Pieces{"\r\n\t\n", "  "}));
  EXPECT_EQ(pieces("\u00a0\u00a0a"), (Pieces{"\u00a0", "\u00a0a"}));
  EXPECT_EQ(pieces("\u0085\u2028x"), (Pieces{"\u0085", "\u2028x"}));
}

}  // namespace
}  // namespace quench
