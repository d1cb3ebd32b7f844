#include "text/unicode.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace quench {
namespace {

std::string replaced(std::string_view bytes) {
  std::string storage;
  return std::string(replace_invalid_utf8(bytes, storage));
}

std::string nfc(std::string_view text, NfcVersion version = NfcVersion::kTokenizers) {
  std::string storage;
  return std::string(normalize_nfc(text, version, storage));
}

#define FFFD "\xef\xbf\xbd"

TEST(Utf8, IllFormedBytesBecomeReplacementsAsInPython) {
  // Each expectation is what bytes.decode("utf-8", errors="replace") returns.
  EXPECT_EQ(replaced("plain"), "plain");
  EXPECT_EQ(replaced("\x80"), FFFD);
  EXPECT_EQ(replaced("\xc0\xaf"), FFFD FFFD);
  EXPECT_EQ(replaced("\xe0\x80\xaf"), FFFD FFFD FFFD);
  EXPECT_EQ(replaced("\xed\xa0\x80"), FFFD FFFD FFFD);
  EXPECT_EQ(replaced("\xe4\xbd"), FFFD);
  EXPECT_EQ(replaced("\xe4\xbd"
                     "A"),
            FFFD "A");
  EXPECT_EQ(replaced("\xe4\xbd\xe4\xbd\xa0"), FFFD "\xe4\xbd\xa0");
  EXPECT_EQ(replaced("\xf0\x9f\x98"), FFFD);
  EXPECT_EQ(replaced("\xf0\x80\x80\x80"), FFFD FFFD FFFD FFFD);
  EXPECT_EQ(replaced("\xf4\x90\x80\x80"), FFFD FFFD FFFD FFFD);
  EXPECT_EQ(replaced("a\xffz"), "a" FFFD "z");
}

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(text, c);
    ASSERT_EQ(utf8_step(text).kind, Utf8Step::kValid);
    ASSERT_EQ(utf8_step(text).length, text.size());
    size_t position = 0;
    ASSERT_EQ(next_code_point(text.data(), position), c);
    ASSERT_EQ(position, text.size());
  }
}

TEST(Utf8, EveryProperPrefixIsIncomplete) {
  for (const std::string_view text : {"\xc3\xa9", "\xe4\xbd\xa0", "\xf0\x9f\x98\x80"}) {
    for (size_t n = 1; n < text.size(); ++n) {
      EXPECT_EQ(utf8_step(text.substr(0, n)).kind, Utf8Step::kIncomplete);
      EXPECT_EQ(utf8_step(text.substr(0, n)).length, n);
    }
  }
}

TEST(UnicodeTable, Classes) {
  const UnicodeTable& table = UnicodeTable::get();
  EXPECT_EQ(table.char_class('a'), CharClass::kLetter);
  EXPECT_EQ(table.char_class(0x4f60), CharClass::kLetter);
  EXPECT_EQ(table.char_class(0x17f), CharClass::kLetter);
  EXPECT_EQ(table.char_class(0x301), CharClass::kOther);  // a mark is no letter
  EXPECT_EQ(table.char_class(0x663), CharClass::kNumber);
  EXPECT_EQ(table.char_class(0xb2), CharClass::kNumber);
  EXPECT_EQ(table.char_class(0x2167), CharClass::kNumber);
  EXPECT_EQ(table.char_class('\n'), CharClass::kNewline);
  EXPECT_EQ(table.char_class('\r'), CharClass::kNewline);
  for (const uint32_t c : {0x9, 0xb, 0xc, 0x20, 0x85, 0xa0, 0x1680, 0x2028, 0x3000})
    EXPECT_EQ(table.char_class(c), CharClass::kSpace) << c;
  for (const uint32_t c : {0x1c, 0x1f, 0x180e, 0x200b, 0xfeff})
    EXPECT_EQ(table.char_class(c), CharClass::kOther) << c;
  EXPECT_EQ(table.char_class(0x10ffff), CharClass::kOther);
}

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(nfc("plain text"), "plain text");
  EXPECT_EQ(nfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(nfc("x\u0301"), "x\u0301");
  EXPECT_EQ(nfc("\u212b\u2126"), "\u00c5\u03a9");
  EXPECT_EQ(nfc("s\u0307\u0323"), "\u1e69");
  EXPECT_EQ(nfc("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(nfc("\uac00\u11a8"), "\uac01");
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(nfc("\u0301e\u0301"), "\u0301\u00e9");
  EXPECT_EQ(nfc(""), "");
}

TEST(Nfc, MarksYoungerThanThePackageStayWhereTheyAre) {
  // U+0899 (Unicode 14) has class 220; U+0301 has 230.
  EXPECT_EQ(nfc("\u0301\u0899"), "\u0301\u0899");
  EXPECT_EQ(nfc("\u0301\u0899", NfcVersion::kUnicode15), "\u0899\u0301");
  EXPECT_EQ(nfc("\u0899\u0301\u0316"), "\u0899\u0316\u0301");
  EXPECT_EQ(nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  EXPECT_EQ(nfc("\U00011935\U00011930", NfcVersion::kUnicode15), "\U00011938");
}

TEST(Nfc, AMegabyteOfMarksIsNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 250000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0316";
  const std::string normal = nfc(text);
  EXPECT_EQ(normal.size(), text.size() - 1);  // "a" and one U+0301 become U+00E1
  EXPECT_EQ(nfc(normal), normal);
}

}  // namespace
}  // namespace quench
