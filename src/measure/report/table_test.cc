#include "measure/report/table.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

Table example_table() {
  Table table;
  table.columns = {{"profile", "profile", Align::kLeft},
                   {"speed_tok_s", "speed tok/s", Align::kRight}};
  table.rows = {{text_cell("参考"), number_cell(12.345, 1)},
                {text_cell("a|b, \"c\""), number_cell(std::nullopt, 1)}};
  return table;
}

TEST(Table, TextCountsTerminalColumns) {
  EXPECT_EQ(example_table().text(),
            "profile   speed tok/s\n"
            "参考             12.3\n"
            "a|b, \"c\"            -\n");
  EXPECT_TRUE(example_table().text(true).starts_with("\x1b[1mprofile   speed tok/s\x1b[0m\n"));
}

TEST(Table, Markdown) {
  EXPECT_EQ(example_table().markdown(),
            "| profile | speed tok/s |\n"
            "| --- | ---: |\n"
            "| 参考 | 12.3 |\n"
            "| a\\|b, \"c\" | - |\n");
}

TEST(Table, Csv) {
  EXPECT_EQ(example_table().csv(),
            "profile,speed_tok_s\r\n"
            "参考,12.345\r\n"
            "\"a|b, \"\"c\"\"\",\r\n");
}

TEST(Table, JsonKeepsUnknownAsNull) {
  const Json json = example_table().json();
  EXPECT_EQ(json[0]["speed_tok_s"], 12.345);
  EXPECT_TRUE(json[1]["speed_tok_s"].is_null());
}

TEST(Table, Widths) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("压缩"), 4);
  EXPECT_EQ(display_width("e\xcc\x81"), 1);  // a combining accent
  EXPECT_EQ(display_width("\xff"), 1);
  EXPECT_EQ(text_cell("a\x1b[1mb").text, "a [1mb");
  EXPECT_EQ(number_cell(0.9312, 1, 100.0).text, "93.1");
}

}  // namespace
}  // namespace quench
