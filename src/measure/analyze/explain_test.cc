#include "measure/analyze/explain.h"

#include <gtest/gtest.h>

#include "english_in.h"
#include "measure/analyze/deploy.h"
#include "shipped_predictor.h"

namespace quench {
namespace {

Claim claim(const std::string& model, const std::string& engine, const std::string& precision,
            const std::string& device, double tokens = 2048.0) {
  Claim made;
  made.engine_text = engine;
  made.placement =
      shipped_predictor().setup(model, engine, precision, find_hardware(device).value()).value();
  made.placement.output_tokens = tokens;
  made.has_tokens = true;
  return made;
}

Explanation explain(const Claim& one) {
  return explain_claims(shipped_predictor(), {one})->claims.front();
}

Explanation explain_speed(const std::string& model, const std::string& engine,
                          const std::string& precision, const std::string& device, double tok_s) {
  Claim made = claim(model, engine, precision, device);
  made.tok_s = tok_s;
  return explain(made);
}

TEST(Explain, FourteenTimesSlower) {
  Claim seven = claim("Qwen-7B", "transformers", "bf16", "A800", 20.0);
  Claim fourteen = claim("Qwen-14B", "transformers", "bf16", "A800", 20.0);
  seven.has_tokens = fourteen.has_tokens = false;
  seven.latency_s = 0.5;
  fourteen.latency_s = 7.0;
  const ExplainReport report = *explain_claims(shipped_predictor(), {seven, fourteen});
  ASSERT_TRUE(report.pair);
  const PairExplanation& pair = *report.pair;
  EXPECT_DOUBLE_EQ(pair.observed_ratio, 14.0);
  ASSERT_TRUE(pair.published_ratio);
  EXPECT_NEAR(*pair.published_ratio, 1.3, 0.1);
  EXPECT_NEAR(pair.predicted_ratio, 1.27, 0.08);
  EXPECT_NEAR(pair.weights_ratio, 1.9, 0.05);
  EXPECT_GT(pair.square_ratio, 3.0);
  EXPECT_NEAR(*pair.implied_tokens, 17.0, 4.0);
  EXPECT_EQ(report.claims[0].verdict, Verdict::kAsExpected);
  const Explanation& slow = report.claims[1];
  EXPECT_EQ(slow.verdict, Verdict::kSlower);
  ASSERT_GE(slow.hypotheses.size(), 6u);
  EXPECT_EQ(slow.hypotheses[0].id, "offload");
  EXPECT_NE(Strings::of("en")(slow.hypotheses[0].statement).find("GB a token fit"),
            std::string::npos);
  for (const Hypothesis& h : slow.hypotheses) {
    if (h.id == "fp32" || h.id == "bnb-int8" || h.id == "slow-host") {
      EXPECT_FALSE(h.fits) << h.id;
    }
    if (h.id == "longer-answer") {
      EXPECT_TRUE(h.fits);
    }
  }
  EXPECT_NE(explain_text(report, Strings::of("en")).find("observed ratio 14.0"), std::string::npos);
}

TEST(Explain, ClaimedPeaksAreCorrected) {
  const Hardware a800 = *find_hardware("A800");
  const PeakCheck f32 = check_peak(a800, 19.5);
  EXPECT_FALSE(f32.is_right);
  EXPECT_EQ(f32.dense_tflops, 312.0);
  EXPECT_EQ(f32.meaning.key, "explain.peak.f32");
  EXPECT_TRUE(check_peak(a800, 312.0).is_right);
  EXPECT_EQ(check_peak(a800, 624.0).meaning.key, "explain.peak.sparse");
  EXPECT_EQ(check_peak(a800, 77.0).meaning.key, "explain.peak.none");
}

TEST(Explain, PublishedRowsOfSoundProgramsAreAsExpected) {
  int rows = 0, as_expected = 0, seen = 0;
  for (const Predictor::Row& row : shipped_predictor().rows()) {
    if (!row.is_plain() || row.is_outlier || row.is_pathology || !row.published.decode_tok_s ||
        row.published.output_tokens < 2 || ++seen % 3 != 0)
      continue;
    ++rows;
    Claim made;
    made.placement = row.setup;
    made.engine_text = row.published.engine;
    made.tok_s = row.published.decode_tok_s;
    const Explanation e = explain(made);
    as_expected += e.verdict == Verdict::kAsExpected ? 1 : 0;
    EXPECT_NE(e.verdict, Verdict::kImpossible) << row.published.model;
    EXPECT_FALSE(e.is_flagged) << row.published.model << " " << row.published.engine;
  }
  EXPECT_GT(rows, 25);
  EXPECT_GT(as_expected, rows * 9 / 10);
}

TEST(Explain, ListedAnomaliesAreFlaggedWithTheirCause) {
  int flagged = 0;
  for (const Predictor::Row& row : shipped_predictor().rows()) {
    if (!(row.is_outlier || row.is_pathology) || !row.published.decode_tok_s ||
        row.published.prompt_tokens != 1 || row.published.output_tokens < 2)
      continue;
    Claim made;
    made.placement = row.setup;
    made.engine_text = row.published.engine;
    made.tok_s = row.published.decode_tok_s;
    const Explanation e = explain(made);
    EXPECT_EQ(e.verdict, Verdict::kSlower) << row.published.model << row.published.precision;
    EXPECT_TRUE(e.is_flagged) << row.published.model << row.published.precision << e.factor;
    ++flagged;
  }
  EXPECT_GE(flagged, 12);
  const Explanation card = explain_speed("Qwen2.5-72B", "vLLM 0.6.3", "gptq-int4", "A100", 16.47);
  EXPECT_EQ(card.hypotheses.front().id, "vllm-72b-int4-one-card");
  EXPECT_EQ(explain_speed("Qwen3-30B-A3B", "transformers", "bf16", "H20", 60.0).is_flagged, false);
}

TEST(Explain, MemoryOfSmallAwqModelsIsALoadPeak) {
  int flagged = 0;
  for (const Predictor::Row& row : shipped_predictor().rows()) {
    if (!row.is_memory_anomaly || !row.published.engine.starts_with("transformers 4.46")) continue;
    Claim made;
    made.placement = row.setup;
    made.engine_text = row.published.engine;
    made.memory_bytes = row.published.memory_bytes;
    const Explanation e = explain(made);
    EXPECT_EQ(e.verdict, Verdict::kMore) << row.published.model;
    EXPECT_TRUE(e.is_flagged) << row.published.model;
    EXPECT_EQ(e.hypotheses.front().id, "awq-load-peak");
    ++flagged;
  }
  EXPECT_EQ(flagged, 3);
}

TEST(Explain, TooFastIsImpossibleOrCountedDifferently) {
  const Explanation impossible = explain_speed("Qwen2.5-7B", "vllm", "bf16", "A100", 200.0);
  EXPECT_EQ(impossible.verdict, Verdict::kImpossible);
  Claim made = claim("Qwen3-8B", "transformers 4.51.3+FA2.7.4", "bf16", "H20");
  made.placement.prompt_tokens = 6144.0;
  made.tok_s = 146.12;  // prompt and answer over the time, as its table counts
  const Explanation counted = explain(made);
  EXPECT_EQ(counted.verdict, Verdict::kFaster);
  EXPECT_EQ(counted.hypotheses.front().id, "prompt-counted");
  // Published, on an engine that no fitted row is of.
  made = claim("Qwen3-0.6B", "sglang", "bf16", "H20");
  made.placement.prompt_tokens = 6144.0;
  made.tok_s = 1426.46;
  EXPECT_EQ(explain(made).hypotheses.front().id, "prompt-counted");
  // A rate is answered with rates.
  const std::string text = explain_text({{impossible}, {}, {}}, Strings::of("en"));
  EXPECT_NE(text.find("at most"), std::string::npos) << text;
  EXPECT_EQ(text.find(" s)"), std::string::npos) << text;
}

TEST(Explain, WhatDoesNotFitIsSaid) {
  Claim made = claim("Qwen2.5-7B", "transformers", "bf16", "RTX-3060", 20.0);
  made.latency_s = 5.0;
  const Explanation e = explain(made);
  EXPECT_EQ(e.hypotheses.front().id, "does-not-fit");
  EXPECT_TRUE(e.hypotheses.front().fits);
  // As fast as on a device that holds it, on one that does not.
  const Explanation fast = explain_speed("Qwen2.5-72B", "vllm", "bf16", "H100", 20.0);
  EXPECT_EQ(fast.verdict, Verdict::kDoesNotFit);
  EXPECT_EQ(fast.hypotheses.front().id, "more-devices");
  EXPECT_NE(explain_text({{fast}, {}, {}}, Strings::of("en")).find("85.1 GB can be used"),
            std::string::npos);
  // A processor has no link, and no host beside it.
  const Explanation cpu = explain_speed("Qwen2.5-7B", "llama.cpp", "q4_0", "EPYC-9654", 3.0);
  EXPECT_EQ(cpu.verdict, Verdict::kSlower);
  for (const Hypothesis& h : cpu.hypotheses) {
    EXPECT_NE(h.id, "offload");
    EXPECT_NE(h.id, "host-fallback");
  }
  Claim none = claim("Qwen2.5-7B", "transformers", "bf16", "A100");
  EXPECT_FALSE(explain_claims(shipped_predictor(), {none}));
}

TEST(Explain, EveryAnomalyAndItsNameAreSaidInEveryLanguage) {
  ASSERT_FALSE(shipped_predictor().anomalies().empty());
  for (const std::string& language : Strings::languages()) {
    const auto& texts = Strings::of(language).all();
    for (const Anomaly& anomaly : shipped_predictor().anomalies()) {
      EXPECT_TRUE(texts.contains("explain.anomaly." + anomaly.id)) << language << anomaly.id;
      EXPECT_TRUE(texts.contains("explain.anomaly." + anomaly.id + ".check")) << language;
      EXPECT_TRUE(texts.contains("explain.name." + anomaly.id)) << language << anomaly.id;
    }
  }
}

// A slow claim, a fast one, memory, and one that is as expected.
TEST(Explain, ChineseHasNoEnglishSentence) {
  std::vector<Claim> claims(4, claim("Qwen2.5-7B", "transformers", "bf16", "A100", 20.0));
  claims[0].latency_s = 30.0;
  claims[1].tok_s = 500.0;
  claims[2].memory_bytes = 70e9;
  claims[3].tok_s = 40.0;
  for (const Claim& one : claims) {
    ExplainReport report = *explain_claims(shipped_predictor(), {one});
    report.peak = check_peak(one.placement.device, 77.0);
    const std::string text = explain_text(report, Strings::of("zh"));
    EXPECT_NE(text.find("预期"), std::string::npos) << text;
    EXPECT_TRUE(english_in(text).empty()) << english_in(text) << "\n" << text;
  }
}

TEST(Explain, JsonHasItsFields) {
  Claim made = claim("Qwen-14B", "transformers", "bf16", "A800", 20.0);
  made.latency_s = 7.0;
  const Json json = explain_json(*explain_claims(shipped_predictor(), {made}));
  EXPECT_EQ(json.at("schema"), "quench.explain/1");
  const Json& one = json.at("claims").at(0);
  for (const char* key : {"model", "engine", "precision", "device", "latency_s", "verdict",
                          "factor", "flagged", "expected", "limit_s", "nearest", "hypotheses"})
    EXPECT_TRUE(one.contains(key)) << key;
  EXPECT_TRUE(json.at("pair").is_null());
  EXPECT_TRUE(one.at("hypotheses").at(0).contains("check"));
}

}  // namespace
}  // namespace quench
