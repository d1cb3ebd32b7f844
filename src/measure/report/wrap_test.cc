#include "measure/report/wrap.h"

#include <gtest/gtest.h>

#include "measure/report/table.h"

namespace quench {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  return lines;
}

TEST(Wrap, BreaksAtSpaces) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += (i > 0 ? " word" : "word") + std::to_string(i);
  std::string joined;
  for (const std::string& line : lines_of(wrap(text))) {
    EXPECT_LE(line.size(), 100u);
    EXPECT_GT(line.size() + 7, text.size() < 100 ? 0u : 20u);
    joined += (joined.empty() ? "" : " ") + line;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(wrap("a b"), "a b\n");
  EXPECT_EQ(wrap(""), "\n");
}

TEST(Wrap, KeepsWhatHasNoPlaceToBreak) {
  const std::string word(150, 'x');
  EXPECT_EQ(wrap("a " + word + " b"), "a\n" + word + "\nb\n");
}

TEST(Wrap, BreaksChineseBetweenCharactersButNotBeforePunctuation) {
  std::string text = "我们";
  for (int i = 0; i < 40; ++i) text += "压缩语言模型，";
  std::string joined;
  const auto lines = lines_of(wrap(text));
  EXPECT_EQ(lines.size(), 6u);
  // The fiftieth character would be the last of the line, with a comma behind it.
  EXPECT_EQ(display_width(lines.front()), 98);
  EXPECT_TRUE(lines[1].starts_with("型，"));
  for (const std::string& line : lines) {
    EXPECT_LE(display_width(line), 100);
    EXPECT_FALSE(line.starts_with("，")) << line;
    joined += line;
  }
  EXPECT_EQ(joined, text);
}

TEST(Wrap, TakesAnyBytes) { EXPECT_EQ(wrap("\xff\xfe x"), "\xff\xfe x\n"); }

}  // namespace
}  // namespace quench
