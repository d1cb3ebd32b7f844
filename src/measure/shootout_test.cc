#include "measure/shootout.h"

#include <gtest/gtest.h>

#include "base/paths.h"
#include "measure/records.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

const Json& row_of(const Json& shootout, const std::string& profile) {
  for (const Json& row : shootout["rows"]) {
    if (row["profile"] == profile) return row;
  }
  ADD_FAILURE() << "no row " << profile;
  return shootout["rows"][0];
}

// The whole way, as short as it goes, on the model that ships.
class ShootoutTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ShootoutOptions options;
    options.length = "quick";
    options.profiles = {"int5_g128", "fast", "compact"};
    shootout_ = std::make_unique<Shootout>();
    outcome_ = run_shootout(options, *shootout_);
    json_ = shootout_json(*shootout_, "2026-01-31T12:34:56Z", "");
  }
  static void TearDownTestSuite() { shootout_.reset(); }
  void SetUp() override { ASSERT_TRUE(outcome_) << outcome_.error().message; }

  static inline std::unique_ptr<Shootout> shootout_;
  static inline Result<void> outcome_;
  static inline Json json_;
};

TEST_F(ShootoutTest, JsonHasItsFields) {
  const auto valid = validate_measurement(json_);
  ASSERT_TRUE(valid) << valid.error().message;
  EXPECT_EQ(json_["schema"], "quench.shootout/1");
  EXPECT_EQ(json_["complete"], true);
  ASSERT_EQ(json_["rows"].size(), 4u);
  EXPECT_GT(row_of(json_, "compact")["saved_fraction"], 0.8);
  for (const Json& row : json_["rows"]) {
    for (const char* field : {"profile", "format", "bytes", "saved_fraction", "compression_ratio",
                              "bits_per_weight", "decode_tok_s", "prefill_tok_s", "ttft_s", "e2e_s",
                              "kld_mean", "ppl", "top1_agreement", "planned_bytes", "make_s"}) {
      ASSERT_TRUE(row.contains(field)) << field;
      EXPECT_FALSE(row[field].is_null()) << row["profile"] << " " << field;
    }
    EXPECT_TRUE(row["accuracy"].is_null());
  }
  EXPECT_EQ(json_["records"].size(), 4u);
  EXPECT_EQ(json_["evaluations"].size(), 4u);
  EXPECT_TRUE(json_["report"].is_null());
  EXPECT_EQ(json_["reference"]["sha256"].get<std::string>().size(), 64u);
}

TEST_F(ShootoutTest, SizesAgree) {
  const auto reference_bytes = row_of(json_, "reference")["bytes"].get<double>();
  const auto least_bytes = row_of(json_, "compact")["bytes"].get<double>();
  for (const char* profile : {"int5_g128", "fast", "compact"}) {
    const Json& row = row_of(json_, profile);
    const auto bytes = row["bytes"].get<double>();
    EXPECT_LT(bytes, reference_bytes) << profile;
    EXPECT_GE(bytes, least_bytes) << profile;
    EXPECT_NEAR(row["saved_fraction"].get<double>(), 1.0 - bytes / reference_bytes, 1e-12);
    EXPECT_NEAR(row["compression_ratio"].get<double>(), reference_bytes / bytes, 1e-12);
    EXPECT_GT(row["planned_bytes"].get<double>(), bytes);
  }
  EXPECT_EQ(row_of(json_, "reference")["saved_fraction"], 0.0);
}

TEST_F(ShootoutTest, LossGrowsWithFewerBits) {
  const Json& reference = row_of(json_, "reference");
  EXPECT_EQ(reference["kld_mean"], 0.0);
  EXPECT_EQ(reference["top1_agreement"], 1.0);
  const auto loss = [&](const char* profile) {
    return row_of(json_, profile)["kld_mean"].get<double>();
  };
  EXPECT_GT(loss("int5_g128"), 0.0);
  EXPECT_LT(loss("int5_g128"), loss("compact"));
  EXPECT_GT(loss("fast"), 0.0);  // of whichever format is the quickest here
  EXPECT_LT(loss("fast"), loss("compact"));
  for (const Json& evaluation : json_["evaluations"]) {
    EXPECT_EQ(evaluation["noise_floor"]["kld_max"], 0.0);
    EXPECT_GT(evaluation["noise_floor"]["positions"], 0);
    EXPECT_EQ(evaluation["domains"].size(), 4u);
    int64_t scored = 0;
    for (const Json& domain : evaluation["domains"]) {
      scored += domain["scored"].get<int64_t>();
      EXPECT_GE(domain["kld"]["mean"], 0.0);
      EXPECT_LE(domain["kld"]["median"], domain["kld"]["p99"]);
      EXPECT_LE(domain["kld"]["p999"], domain["kld"]["max"]);
    }
    EXPECT_EQ(evaluation["scored"], scored);
  }
}

TEST_F(ShootoutTest, TellsHowAFormatWasChosen) {
  const Json& fast = row_of(json_, "fast");
  EXPECT_EQ(fast["choice"]["by"], "speed");
  EXPECT_EQ(fast["choice"]["in_budget"], true);
  EXPECT_EQ(fast["choice"]["candidates"].size(), 4u);
  EXPECT_TRUE(
      fast["format"].get<std::string>().starts_with(fast["choice"]["chosen"].get<std::string>()));
  EXPECT_TRUE(row_of(json_, "compact")["choice"].is_null());
}

TEST_F(ShootoutTest, RunsAreRecorded) {
  for (const Json& record : json_["records"]) {
    ASSERT_EQ(record["tasks"].size(), 3u);
    for (const Json& task : record["tasks"]) {
      ASSERT_EQ(task["runs"].size(), 1u);
      const Json& run = task["runs"][0];
      EXPECT_EQ(run["seed"], 1);
      EXPECT_EQ(run["warmup"], false);
      EXPECT_EQ(run["token_s"].size(), run["generated_tokens"].get<size_t>());
      EXPECT_EQ(run["engine_token_s"].size(), run["token_s"].size());
      EXPECT_EQ(run["ttft_s"], run["token_s"][0]);
      EXPECT_LE(run["token_s"].back(), run["e2e_s"]);
    }
  }
}

TEST_F(ShootoutTest, RecommendsOneOfTheRows) {
  for (const char* need : {"storage", "speed", "balance"}) {
    const Json& choice = json_["recommendation"][need];
    EXPECT_NO_THROW(row_of(json_, choice["profile"].get<std::string>()));
    EXPECT_TRUE(choice["reason"].get<std::string>().ends_with('.'));
  }
  // One run of each task tells no speeds apart.
  EXPECT_FALSE(json_["recommendation"]["speed"]["too_close"].empty());
}

TEST_F(ShootoutTest, IsPrinted) {
  const Strings& english = Strings::of("en");
  EXPECT_EQ(shootout_table(json_, english).rows.size(), 4u);
  EXPECT_EQ(domain_table(json_, english).rows.size(), 16u);
  const std::string text = shootout_text(json_, english, false);
  EXPECT_NE(text.find("Recommendation"), std::string::npos);
  EXPECT_NE(shootout_markdown(json_, english).find("| profile |"), std::string::npos);
}

TEST_F(ShootoutTest, MeasuresOneByOneWhereMemoryIsShort) {
  ShootoutOptions options;
  options.length = "quick";
  options.profiles = {"int5_g128", "int4_g128"};  // the first as in the suite
  options.text_path = *data_path("texts/eval/python.txt");
  const int64_t reference_bytes = shootout_->rows[0].planned_bytes;
  const int64_t profile_bytes = shootout_->rows[1].planned_bytes;
  // 80 % of it holds the reference and the larger profile, but not all three.
  options.memory_bytes = (reference_bytes + profile_bytes) * 10 / 8 + 1000;
  Shootout shootout;
  const auto done = run_shootout(options, shootout);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_FALSE(shootout.interleaved);
  for (const ShootoutRow& row : shootout.rows) {
    EXPECT_EQ(row.runs.size(), 3u) << row.profile;
    ASSERT_TRUE(row.scores) << row.profile;
    EXPECT_EQ(row.scores->domains.size(), 1u);
  }
  EXPECT_LT(shootout.rows[1].scores->overall.kld.mean, shootout.rows[2].scores->overall.kld.mean);

  options.memory_bytes = reference_bytes;
  const auto refused = run_shootout(options, shootout);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
}

TEST_F(ShootoutTest, StopsWithWhatIsDone) {
  ShootoutOptions options;
  options.length = "quick";
  options.profiles = {"int8"};
  std::atomic<bool> stop{false};
  options.stop = &stop;
  options.progress = [&](const std::string& stage, int64_t, int64_t) {
    if (stage == "Measuring loss") stop.store(true);
  };
  Shootout shootout;
  const auto done = run_shootout(options, shootout);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(shootout.complete);
  EXPECT_EQ(shootout.rows[1].runs.size(), 3u);
  EXPECT_EQ(shootout.recommendation.storage.profile, "");
  const Json json = shootout_json(shootout, "now", "");
  EXPECT_TRUE(validate_measurement(json));
  EXPECT_TRUE(json["rows"][1]["kld_mean"].is_null());
  EXPECT_TRUE(shootout_text(json, Strings::of("en"), false).starts_with("Stopped before the end"));
}

TEST(ShootoutProfiles, AreRecipesFilesOrFormats) {
  const SessionOptions reference;
  EXPECT_TRUE(session_for_profile(reference, "int8")->recipe_path.ends_with("recipes/int8.json"));
  EXPECT_EQ(session_for_profile(reference, "a/b.json")->recipe_path, "a/b.json");
  EXPECT_EQ(session_for_profile(reference, "int4_g64")->format, "int4_g64");
  const auto unknown = session_for_profile(reference, "int9");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
}

TEST(Records, RefusesWhatIsNoMeasurement) {
  EXPECT_FALSE(validate_measurement(Json::array()));
  EXPECT_FALSE(validate_measurement({{"schema", "other/1"}}));
  EXPECT_FALSE(validate_measurement({{"schema", "quench.shootout/1"}, {"rows", Json::array()}}));
}

}  // namespace
}  // namespace quench
