#include "measure/recommend.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

Summary speed(double value, double spread) {
  std::vector<double> values;
  for (int i = -5; i <= 5; ++i) values.push_back(value + spread * i / 5.0);
  return summarize(values);
}

std::vector<CandidateFigures> example() {
  return {{"reference", 1000, speed(100, 1), 0.0, {}},
          {"int8", 500, speed(150, 1), 0.001, {}},
          {"int4", 250, speed(200, 1), 0.05, {}},
          {"int3", 200, speed(300, 1), 0.4, {}}};
}

TEST(Recommend, EachNeed) {
  const Recommendation result = recommend(example());
  EXPECT_EQ(result.storage.profile, "int4");  // int3 is smaller, but over the budget
  EXPECT_NE(result.storage.reason.find("75.0 %"), std::string::npos) << result.storage.reason;
  EXPECT_EQ(result.speed.profile, "int4");
  EXPECT_TRUE(result.speed.too_close.empty());
  EXPECT_NE(result.speed.reason.find("int3 is faster"), std::string::npos) << result.speed.reason;
  ASSERT_EQ(result.balance_scores.size(), 4u);
  EXPECT_EQ(result.balance_scores[0].score, 0.0);
  // log2(4) + log2(2) - 0.05 / 0.05.
  EXPECT_NEAR(result.balance_scores[2].score, 2.0, 1e-12);
  EXPECT_EQ(result.balance.profile, "int4");
}

TEST(Recommend, SpellsOutWhatIsGivenUp) {
  auto rows = example();
  rows[1].decode_tok_s = speed(220, 1);  // now int8 is the fastest, int4 the smallest
  rows[0].accuracy = Accuracy{48, 60};
  rows[2].accuracy = Accuracy{45, 60};
  const Recommendation result = recommend(rows);
  EXPECT_EQ(result.speed.profile, "int8");
  const std::string storage = result.storage.reason;
  EXPECT_NE(storage.find("saves 75.0 % of the bytes, writes 2.00 times as fast, loses 0.0500 nats "
                         "per token and answers 75.0 % of 60 questions right instead of 80.0 % "
                         "(standard error 5.6)"),
            std::string::npos)
      << storage;
  EXPECT_NE(storage.find("int8 instead takes 2.00 times its bytes, writes 1.10 times as fast and "
                         "loses 0.0010"),
            std::string::npos)
      << storage;
  // Without a test of its own, the loss alone.
  EXPECT_NE(result.speed.reason.find("writes 2.20 times as fast and loses 0.0010"),
            std::string::npos)
      << result.speed.reason;
  EXPECT_NE(result.speed.reason.find("int4 instead takes 0.50 times its bytes"), std::string::npos)
      << result.speed.reason;
}

TEST(Recommend, SaysWhenItCannotTell) {
  auto rows = example();
  rows[1].decode_tok_s = speed(199, 5);
  EXPECT_EQ(recommend(rows).speed.too_close, std::vector<std::string>{"int8"});
  rows = example();
  for (CandidateFigures& row : rows)  // one run each
    row.decode_tok_s = summarize(std::vector<double>{row.decode_tok_s.median});
  const Recommendation result = recommend(rows);
  EXPECT_EQ(result.speed.profile, "int4");
  EXPECT_EQ(result.speed.too_close.size(), 2u);
  EXPECT_EQ(result.balance.too_close.size(), 3u);
}

TEST(Recommend, KeepsTheReferenceWhenNothingIsGoodEnough) {
  auto rows = example();
  for (size_t i = 1; i < rows.size(); ++i) rows[i].kld_mean = 1.0;
  const Recommendation result = recommend(rows);
  EXPECT_EQ(result.storage.profile, "reference");
  EXPECT_EQ(result.speed.profile, "reference");
  EXPECT_EQ(result.balance.profile, "reference");
}

TEST(Recommend, NamesNothingWithoutFigures) {
  std::vector<CandidateFigures> rows = {{"reference", 1000, {}, 0.0, {}},
                                        {"int4", 250, {}, 0.01, {}}};
  const Recommendation without_speed = recommend(rows);
  EXPECT_EQ(without_speed.storage.profile, "int4");
  EXPECT_EQ(without_speed.speed.profile, "");
  EXPECT_EQ(without_speed.balance.profile, "");
  rows[1].kld_mean.reset();
  const Recommendation without_loss = recommend(rows);
  EXPECT_EQ(without_loss.storage.profile, "");
  EXPECT_EQ(without_loss.storage.reason, "the loss of int4 was not measured.");
}

}  // namespace
}  // namespace quench
