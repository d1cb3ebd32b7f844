#include "measure/predictions.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

#include "history_fixture.h"

namespace quench {
namespace {

PredictionKey key_of_demo() {
  return {"Qwen2ForCausalLM", "int8", 5903616, 11796480, "a CPU", "avx512", 2, 1};
}

Score score_of(const std::string& measurement, const std::string& metric, double measured) {
  return {"p1",
          measurement,
          "chat",
          metric,
          "2026-02-01T00:00:00Z",
          "2026-01-01T00:00:00Z",
          "demo",
          "int8",
          "a CPU",
          64.0,
          0.010,
          0.009,
          0.012,
          measured,
          0.011,
          0.25};
}

class PredictionsTest : public HistoryFixture {
 protected:
  // As SQLite says it, past the class that is tested.
  void exec(const char* sql) const {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
};

TEST_F(PredictionsTest, AreFoundByWhatSpeedFollowsFrom) {
  const auto history = open();
  const PredictionKey key = key_of_demo();
  EXPECT_TRUE(history->find_prediction(key)->is_null());
  ASSERT_TRUE(history->keep_prediction(
      key, {{"id", "p1"}, {"time", "2026-01-01T00:00:00Z"}, {"model", "demo"}, {"n", 1}}));
  ASSERT_TRUE(history->keep_prediction(
      key, {{"id", "p2"}, {"time", "2026-01-02T00:00:00Z"}, {"model", "demo"}, {"n", 2}}));
  EXPECT_EQ(history->find_prediction(key)->at("n"), 2);  // the newest
  for (int part = 0; part < 8; ++part) {
    PredictionKey other = key;
    if (part == 0) other.family = "Qwen3ForCausalLM";
    if (part == 1) other.format = "bf16";
    if (part == 2) ++other.parameters;
    if (part == 3) ++other.bytes_read_per_token;
    if (part == 4) other.machine = "another CPU";
    if (part == 5) other.isa = "avx2";
    if (part == 6) other.threads = 1;
    if (part == 7) other.batch = 4;
    EXPECT_TRUE(history->find_prediction(other)->is_null()) << part;
  }
  EXPECT_EQ(*history->count_unscored(), 2);
}

TEST_F(PredictionsTest, ScoresAreKeptOnceListedAndSummedUp) {
  const auto history = open();
  ASSERT_TRUE(history->keep_prediction(
      key_of_demo(), {{"id", "p1"}, {"time", "2026-01-01T00:00:00Z"}, {"model", "demo"}}));
  const std::vector<Score> scores = {score_of("m1", "tpot_s", 0.010),
                                     score_of("m2", "tpot_s", 0.020),
                                     score_of("m1", "ttft_s", 0.008)};
  ASSERT_TRUE(history->keep_scores(scores));
  ASSERT_TRUE(history->keep_scores(scores));  // measured once
  HistoryFilter filter;
  filter.schema = "record";  // says nothing about scores
  const auto kept = history->scores(filter);
  ASSERT_TRUE(kept) << kept.error().message;
  ASSERT_EQ(kept->size(), 3u);
  EXPECT_EQ(*history->count_unscored(), 0);
  filter.model = "no such";
  EXPECT_TRUE(history->scores(filter)->empty());
  filter = {};
  filter.limit = 2;
  EXPECT_EQ(history->scores(filter)->size(), 2u);
  const auto summaries = summarize_scores(*kept);
  ASSERT_EQ(summaries.size(), 2u);
  EXPECT_EQ(summaries[0].metric, "ttft_s");
  EXPECT_NEAR(summaries[0].bias, 0.25, 1e-12);  // 10 ms said, 8 measured
  EXPECT_EQ(summaries[0].inside_share, 0.0);
  EXPECT_EQ(summaries[0].model_count, 1);
  EXPECT_NEAR(summaries[0].model_bias, 0.375, 1e-12);  // 11 ms by the machine of that minute
  EXPECT_EQ(summaries[1].count, 2);
  EXPECT_NEAR(summaries[1].mean_error, 0.25, 1e-12);  // 0 and -0.5
  EXPECT_NEAR(summaries[1].bias, -0.25, 1e-12);
  EXPECT_EQ(summaries[1].inside_share, 0.5);
  EXPECT_NEAR(summaries[1].mean_model_error, (0.1 + 0.45) / 2.0, 1e-12);
  const Score& slow = kept->at(0).measured > 0.015 ? kept->at(0) : kept->at(1);
  EXPECT_EQ(slow.others_share, 0.25);
  EXPECT_NEAR((1.0 + *slow.model_error()) * (1.0 + *slow.machine_error()), 1.0 + slow.error(),
              1e-12);
}

// A history as it was written before there were predictions.
constexpr const char* kVersion0 = R"(
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1903059816;
CREATE TABLE measurement (
  id TEXT PRIMARY KEY, time TEXT NOT NULL, schema TEXT NOT NULL, model TEXT NOT NULL, format TEXT NOT NULL,
  machine TEXT NOT NULL, target TEXT NOT NULL, label TEXT NOT NULL, ttft_s REAL, decode_tok_s REAL,
  json TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX measurement_time ON measurement (time);
INSERT INTO measurement VALUES ('m1', '2026-01-01T00:00:00Z', 'quench.record/1', 'demo', 'int8', 'a CPU',
  'engine', '', 0.5, 10.0, '{"id": "m1"}');
)";

TEST_F(PredictionsTest, AnOldHistoryIsUpgradedWithWhatIsInIt) {
  std::filesystem::create_directories(std::filesystem::path(path()).parent_path());
  exec(kVersion0);
  for (const bool again : {false, true}) {
    const auto history = open();
    ASSERT_EQ(history->list({})->size(), 1u) << again;
    EXPECT_EQ(history->list({})->front().model, "demo");
    EXPECT_EQ(history->get("m1")->at("id"), "m1");
    EXPECT_EQ(history->scores({})->size(), again ? 1u : 0u);
    ASSERT_TRUE(history->keep_scores({score_of("m1", "tpot_s", 0.01)}));
    EXPECT_EQ(history->scores({})->size(), 1u);
    EXPECT_TRUE(history->check());
  }
}

// Version 1 had scores without their parts.
TEST_F(PredictionsTest, ScoresOfVersion1StayWithoutTheirParts) {
  ASSERT_TRUE(open()->keep_scores({score_of("m1", "tpot_s", 0.01)}));
  exec("ALTER TABLE score DROP COLUMN expected");
  exec("ALTER TABLE score DROP COLUMN others_share");
  exec("PRAGMA user_version = 1");
  const auto history = open();
  const auto kept = history->scores({});
  ASSERT_TRUE(kept) << kept.error().message;
  ASSERT_EQ(kept->size(), 1u);
  EXPECT_FALSE(kept->front().expected);
  EXPECT_FALSE(kept->front().model_error());
  EXPECT_EQ(summarize_scores(*kept).front().model_count, 0);
  ASSERT_TRUE(history->keep_scores({score_of("m2", "tpot_s", 0.01)}));
  EXPECT_EQ(history->scores({})->size(), 2u);
}

TEST_F(PredictionsTest, ANewerHistoryIsLeftAsItIs) {
  open();
  exec("PRAGMA user_version = 99");
  const auto history = History::open(path());
  ASSERT_FALSE(history);
  EXPECT_NE(history.error().message.find("version 99"), std::string::npos);
}

}  // namespace
}  // namespace quench
