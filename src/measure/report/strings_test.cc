#include "measure/report/strings.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace quench {
namespace {

std::set<std::string> names_in(const std::string& text) {
  static const std::regex pattern(R"(\{(\w*)\})");
  std::set<std::string> names;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it)
    names.insert((*it)[1]);
  return names;
}

// A text that one language has and another has not, or with another value in it, would only be
// seen by somebody who reads that report.
TEST(Strings, EveryLanguageHasTheSameTextsWithTheSameNames) {
  const auto& english = Strings::of("en").all();
  ASSERT_GT(english.size(), 50u);
  for (const std::string& language : Strings::languages()) {
    const auto& texts = Strings::of(language).all();
    EXPECT_EQ(texts.size(), english.size()) << language;
    for (const auto& [key, text] : english) {
      const auto found = texts.find(key);
      ASSERT_NE(found, texts.end()) << language << " " << key;
      EXPECT_EQ(names_in(found->second), names_in(text)) << language << " " << key;
      std::map<std::string, std::string> values;
      for (const std::string& name : names_in(text)) values[name] = "<" + name + ">";
      const auto filled = Strings::of(language).fill(key, values);
      ASSERT_TRUE(filled) << language << " " << key;
      for (const auto& [name, value] : values)
        EXPECT_NE(filled->find(value), std::string::npos) << language << " " << key;
    }
  }
}

TEST(Strings, ChineseIsChinese) {
  const auto& english = Strings::of("en").all();
  for (const auto& [key, text] : Strings::of("zh").all()) {
    // Digits and units are the same; a longer text would be one that nobody translated.
    if (text.size() > 8) {
      EXPECT_NE(text, english.find(key)->second) << key;
    }
  }
}

TEST(Strings, ASentenceMayHaveSentencesInIt) {
  const Sentence inner = {"why.no_loss", {{"profiles", "fast"}}};
  const Sentence outer = {"why.no_loss", {}, {{"profiles", inner}}};
  EXPECT_EQ(Strings::of("en")(outer),
            "the loss of the loss of fast was not measured was not measured");
  EXPECT_NE(Strings::of("zh")(outer).find("fast"), std::string::npos);
}

TEST(Strings, FillsAreRefusedWhereTheyDoNotFit) {
  const Strings& strings = Strings::of("en");
  EXPECT_FALSE(strings.fill("why.smallest", {{"kld", "1"}}));
  EXPECT_FALSE(strings.fill("no such text", {}));
  EXPECT_EQ(*strings.fill("why.no_loss", {{"profiles", "{x}"}}),
            "the loss of {x} was not measured");
}

TEST(Clauses, AreSentencesInEachLanguage) {
  const Json scores =
      Json::array({Json::array({"reference", "+0.00"}), Json::array({"a", "+1.25"})});
  const Json clauses = clauses_json(
      {{"balance", {{"scores", scores}}}, {"balance_too_close", {{"profiles", {"b", "c"}}}}});
  EXPECT_EQ(*clauses_text(Strings::of("en"), clauses),
            "best sum of halvings of bytes and time less loss: reference +0.00, a +1.25; the runs "
            "cannot tell it from b, c.");
  const std::string chinese = *clauses_text(Strings::of("zh"), clauses);
  EXPECT_NE(chinese.find("原模型 +0.00、a +1.25；"), std::string::npos) << chinese;
}

TEST(Clauses, OfAnotherVersionAreNone) {
  const Strings& strings = Strings::of("zh");
  for (const Json& clauses :
       {Json(), Json::array(), Json::array({1}), Json::array({{{"key", "x"}}}),
        Json::array({{{"key", "not yet known"}, {"values", Json::object()}}}),
        Json::array({{{"key", "smallest"}, {"values", {{"kld", 1}}}}}),
        Json::array({{{"key", 3}, {"values", Json::object()}}})})
    EXPECT_FALSE(clauses_text(strings, clauses)) << clauses.dump();
}

}  // namespace
}  // namespace quench
