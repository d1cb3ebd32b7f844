#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/unicode.h"

namespace quench {
namespace {

TEST(Utf8Stream, NeverHalfACodePoint) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xe4"), "a");
  EXPECT_EQ(stream.push("\xbd"), "");
  EXPECT_EQ(stream.push("\xa0z"), "\xe4\xbd\xa0z");
  EXPECT_EQ(stream.push("\xf0\x9f"), "");
  EXPECT_EQ(stream.push("x"), "\xef\xbf\xbdx");
  EXPECT_EQ(stream.push("\xf0\x9f\x98"), "");
  EXPECT_EQ(stream.flush(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.flush(), "");
}

TEST(Utf8Stream, AnyCutGivesTheTextOfTheWhole) {
  std::mt19937 random(3);
  const std::string_view bytes =
      "\x80\xbf\xc3\xa9\xe0\xe4\xbd\xa0\xed\xf0\x9f\x98\x80\xf4"
      "az\xff";
  for (int round = 0; round < 5000; ++round) {
    std::string all, streamed, storage;
    Utf8Stream stream;
    for (uint32_t part = random() % 12; part > 0; --part) {
      std::string more;
      for (uint32_t n = random() % 4; n > 0; --n) more.push_back(bytes[random() % bytes.size()]);
      all += more;
      const std::string text = stream.push(more);
      ASSERT_EQ(replace_invalid_utf8(text, storage), text);
      streamed += text;
    }
    streamed += stream.flush();
    ASSERT_EQ(streamed, replace_invalid_utf8(all, storage));
  }
}

}  // namespace
}  // namespace quench
