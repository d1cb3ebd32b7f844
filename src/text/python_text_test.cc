#include "text/python_text.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

// Expectations are what Python 3.11 prints.
TEST(PythonText, Json) {
  EXPECT_EQ(python_json(Json::parse(R"({"b": [1, 2.0, null, true], "a": {}})")),
            R"({"b": [1, 2.0, null, true], "a": {}})");
  EXPECT_EQ(python_json("a\"\\\n\t\r\f\b\x01/\x7f\u00e9\u4f60"),
            "\"a\\\"\\\\\\n\\t\\r\\f\\b\\u0001/\x7f\u00e9\u4f60\"");
  EXPECT_EQ(python_json(Json::parse("[18446744073709551615, -9223372036854775808]")),
            "[18446744073709551615, -9223372036854775808]");
}

TEST(PythonText, Floats) {
  const std::pair<double, const char*> cases[] = {
      {0.0, "0.0"},       {-0.5, "-0.5"},      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},    {1.5e16, "1.5e+16"}, {123456789.125, "123456789.125"},
      {0.0001, "0.0001"}, {0.00001, "1e-05"},  {1.25e-7, "1.25e-07"},
      {1e100, "1e+100"},  {0.1, "0.1"},        {9007199254740993.0, "9007199254740992.0"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(python_json(value), text);
}

TEST(PythonText, Str) {
  EXPECT_EQ(python_str("a'b"), "a'b");
  EXPECT_EQ(python_str(nullptr), "None");
  EXPECT_EQ(python_str(true), "True");
  EXPECT_EQ(python_str(Json::parse(R"(["a", "it's", "\"'", "\n\u0001\u200b\u00e9\u4f60", 1.0])")),
            "['a', \"it's\", '\"\\'', '\\n\\x01\\u200b\u00e9\u4f60', 1.0]");
  EXPECT_EQ(python_str(Json::parse(R"({"k": [false, {}]})")), "{'k': [False, {}]}");
}

TEST(PythonText, Strip) {
  EXPECT_EQ(python_strip(" \t\n\u3000\u00a0\x1f x y \u2028"), "x y");
  EXPECT_EQ(python_strip(" \n"), "");
  EXPECT_EQ(python_strip(""), "");
  EXPECT_EQ(python_strip("\u200bx"), "\u200bx");
  EXPECT_EQ(strip_left("\n\na\n", '\n'), "a\n");
  EXPECT_EQ(strip_left("\n", '\n'), "");
  EXPECT_EQ(strip_right("\na\n\n", '\n'), "\na");
  EXPECT_EQ(strip_right("\n", '\n'), "");
}

}  // namespace
}  // namespace quench
