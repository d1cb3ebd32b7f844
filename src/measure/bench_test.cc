#include "measure/bench.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "http/scripted_server.h"
#include "measure/bench_record.h"
#include "measure/records.h"
#include "measure/report/bench_report.h"
#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

bool has_problem(const Bench& bench, const std::string& kind) {
  return std::any_of(bench.problems.begin(), bench.problems.end(),
                     [&](const Problem& problem) { return problem.kind == kind; });
}

// What must hold for every record.
void expect_sound(const Bench& bench, const Json& json) {
  const auto valid = validate_measurement(json);
  ASSERT_TRUE(valid) << valid.error().message;
  EXPECT_EQ(json["id"].get<std::string>().size(), 16u);
  size_t runs = 0;
  for (const TaskRuns& task : bench.tasks) runs += task.runs.size();
  for (const LoadLevel& level : bench.loads) runs += level.runs.size();
  EXPECT_EQ(run_table(json).rows.size(), runs);
  for (const std::string& language : Strings::languages()) {
    const Strings& strings = Strings::of(language);
    EXPECT_FALSE(bench_text(json, strings, false).empty());
    EXPECT_TRUE(bench_markdown(json, strings).starts_with("# "));
    EXPECT_NE(bench_html(json, strings).find("</html>"), std::string::npos);
    if (language != "en") continue;  // problems are told in English
    for (const Problem& problem : bench.problems)
      EXPECT_NE(bench_text(json, strings, false).find(problem.message), std::string::npos);
  }
}

// The model that ships, by the protocol as short as it goes, once for all tests here.
class EngineBench : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const OwnCache cache;
    BenchOptions options;
    options.length = "quick";
    options.warmups = 1;
    options.runs = 2;
    options.max_new_tokens = 12;
    options.label = "a test";
    outcome_ = run_bench(options, bench_);
    json_ = record_json(bench_, "2026-01-31T12:34:56Z");
  }
  void SetUp() override { ASSERT_TRUE(outcome_) << outcome_.error().message; }

  static inline Bench bench_;
  static inline Result<void> outcome_;
  static inline Json json_;
};

TEST_F(EngineBench, RecordsEverything) {
  expect_sound(bench_, json_);
  EXPECT_EQ(json_["label"], "a test");
  EXPECT_EQ(json_["complete"], true);
  EXPECT_EQ(json_["target"]["kind"], "engine");
  EXPECT_EQ(json_["model"]["sha256"].get<std::string>().size(), 64u);
  EXPECT_GT(json_["ceilings"]["read"].size(), 0u);
  EXPECT_GT(json_["cold"]["load_s"], 0.0);
#if !defined(__SANITIZE_ADDRESS__)  // which keeps the memory of the tests before for this one
  EXPECT_GT(json_["memory"]["peak_bytes"], json_["model"]["bytes"]);
#endif
  ASSERT_EQ(json_["tasks"].size(), 3u);
  for (const Json& task : json_["tasks"]) {
    EXPECT_GE(task["warmups"], 1);
    EXPECT_EQ(task["summary"]["e2e_s"]["count"], 2);
    for (const Json& run : task["runs"]) {
      EXPECT_EQ(run["token_s"].size(), run["generated_tokens"]);
      EXPECT_EQ(run["engine_token_s"].size(), run["generated_tokens"]);
      EXPECT_GT(run["limit_ttft_s"], 0.0);
      EXPECT_TRUE(run["error"].is_null());
      EXPECT_GE(run["start_s"], 0.0);
      // The engine draws before the caller sees, by less than a step.
      EXPECT_LE(run["engine_token_s"][0], run["token_s"][0]);
    }
  }
}

TEST_F(EngineBench, ThePageSaysWhatLimitsIt) {
  const std::string page = bench_html(json_, Strings::of("en"));
  const std::string read_mb = fmt::format(
      "{:.1f} MB of weights", json_["model"]["bytes_read_per_token"].get<double>() / 1e6);
  EXPECT_NE(page.find("To write one token the model reads " + read_mb), std::string::npos);
  EXPECT_NE(page.find("\"limit\":"), std::string::npos);  // of a strip
  // A server's limits are unknown, and that is said.
  Json unknown = json_;
  unknown["ceilings"] = nullptr;
  EXPECT_NE(bench_html(unknown, Strings::of("en")).find("The limits are unknown"),
            std::string::npos);
}

TEST_F(EngineBench, OutliersAreNamedAndStay) {
  Json record = json_;
  Json& task = record["tasks"][0];
  Json runs = Json::array();
  for (const double speed : {50.0, 51.0, 52.0, 50.5, 51.5, 9.0}) {
    Json run = task["runs"].back();
    run["warmup"] = false;
    run["decode_tok_s"] = speed;
    runs.push_back(run);
  }
  task["runs"] = runs;
  task["summary"]["decode_tok_s"] =
      summary_json(summarize(std::vector<double>{50.0, 51.0, 52.0, 50.5, 51.5, 9.0}));
  const std::string shown = bench_text(record, Strings::of("en"), false);
  EXPECT_NE(shown.find("chat has 1 of 6 decode speeds far from the others (9.0 tok/s)"),
            std::string::npos)
      << shown;
  EXPECT_NE(shown.find("without them the median is 51.0"), std::string::npos) << shown;
}

TEST_F(EngineBench, OwnRecordsAreWithinTheirLimits) {
  EXPECT_FALSE(has_problem(bench_, "impossible"));
  for (const Json& task : json_["tasks"]) {
    if (!task["summary"]["decode_share"].is_null()) {
      EXPECT_GT(task["summary"]["decode_share"], 0.0);
      EXPECT_LT(task["summary"]["decode_share"], 1.05);
    }
    EXPECT_LT(task["summary"]["prefill_share"], 1.05);
  }
}

TEST_F(EngineBench, ClosedLoopOnTheEngine) {
  const OwnCache cache;
  BenchOptions options;
  options.session.device_options.num_threads = 1;
  options.length = "quick";
  options.tasks = {"chat"};
  options.concurrency = {1, 3};
  options.requests = 4;
  options.locked_tokens = 5;
  options.slo = {1000.0, 1000.0};
  Bench bench;
  const auto done = run_bench(options, bench);
  ASSERT_TRUE(done) << done.error().message;
  const Json json = record_json(bench, "now");
  expect_sound(bench, json);
  ASSERT_EQ(json["loads"].size(), 2u);
  EXPECT_EQ(json["loads"][1]["concurrency"], 3);
  EXPECT_EQ(json["loads"][1]["good_share"], 1.0);
  for (const Json& level : json["loads"]) {
    for (const Json& run : level["runs"]) {
      EXPECT_EQ(run["generated_tokens"], 5);
      EXPECT_EQ(run["finish_reason"], "length");
    }
  }
}

BenchOptions server_options(const ScriptedServer& server) {
  BenchOptions options;
  options.http.emplace();
  options.http->url = server.url();
  options.length = "full";
  options.tasks = {"chat"};
  options.warmups = 1;
  options.runs = 3;
  return options;
}

TEST(ServerBench, NoServersTroubleIsLost) {
  std::atomic<int> answers{0};
  const ScriptedServer server([&](const ScriptedRequest& request) {
    if (request.method == "GET") return models_reply();
    StreamScript script;
    switch (++answers) {
      case 2:
        script.break_after = 4;
        script.end = ScriptedReply::End::kClose;
        break;
      case 4:
        script.reported = 40;
        break;
      default:
        script.reported = 9;
    }
    return stream_reply(script);
  });
  Bench bench;
  const auto done = run_bench(server_options(server), bench);
  ASSERT_TRUE(done) << done.error().message;
  const Json json = record_json(bench, "now");
  expect_sound(bench, json);
  EXPECT_TRUE(has_problem(bench, "failed"));
  EXPECT_TRUE(has_problem(bench, "counts"));
  EXPECT_EQ(json["target"]["server"], "scripted");
  EXPECT_EQ(json["model"]["name"], "scripted-7B");
  EXPECT_TRUE(json["model"]["bytes"].is_null());
  const Json& runs = json["tasks"][0]["runs"];
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_FALSE(runs[1]["error"].is_null());
  EXPECT_EQ(runs[1]["token_s"].size(), 4u);
  EXPECT_TRUE(runs[1]["engine_token_s"].is_null());
  EXPECT_EQ(json["tasks"][0]["summary"]["e2e_s"]["count"], 2);
  // What no clock can have measured is not taken from a file.
  for (const auto& [key, value] : {std::pair{"e2e_s", -1.0}, std::pair{"ttft_s", 1e6}}) {
    Json impossible = json;
    impossible["tasks"][0]["runs"][0][key] = value;
    EXPECT_FALSE(validate_measurement(impossible)) << key;
  }
}

TEST(ServerBench, WhatAServerHoldsBackIsSeen) {
  const ScriptedServer server([&](const ScriptedRequest& request) {
    if (request.method == "GET") return models_reply();
    ScriptedReply reply = stream_reply({});
    std::string all;
    for (ScriptedReply::Step& step : reply.steps) all += step.bytes;
    reply.steps = {{all, 5}};
    return reply;
  });
  Bench bench;
  ASSERT_TRUE(run_bench(server_options(server), bench));
  EXPECT_TRUE(has_problem(bench, "bursts"));
  EXPECT_FALSE(has_problem(bench, "counts"));
}

TEST(ServerBench, ADeadServerEndsItWithWhatThereIs) {
  std::atomic<int> answers{0};
  const ScriptedServer server([&](const ScriptedRequest& request) {
    if (request.method == "GET") return models_reply();
    ScriptedReply dead;
    dead.end = ScriptedReply::End::kClose;
    return ++answers <= 2 ? stream_reply({}) : dead;
  });
  BenchOptions options = server_options(server);
  options.runs = 9;
  Bench bench;
  const auto done = run_bench(options, bench);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("3 failures in a row"), std::string::npos);
  const Json json = record_json(bench, "now");
  expect_sound(bench, json);
  EXPECT_EQ(json["complete"], false);
  EXPECT_EQ(json["tasks"][0]["runs"].size(), 5u);
}

// Every key of `example`, and every object in it, is in `real`, and the other way round; lists are
// compared by their first element where both have one. null stands for anything.
void expect_same_keys(const Json& example, const Json& real, const std::string& where) {
  if (example.is_object() && real.is_object()) {
    for (const auto& [key, value] : example.items()) {
      ASSERT_TRUE(real.contains(key)) << where << "." << key << " is in the example only";
      expect_same_keys(value, real[key], where + "." + key);
    }
    for (const auto& [key, value] : real.items())
      EXPECT_TRUE(example.contains(key)) << where << "." << key << " is not in the example";
  } else if (example.is_array() && real.is_array()) {
    if (!example.empty() && !real.empty())
      expect_same_keys(example.front(), real.front(), where + "[]");
  } else if (!example.is_null() && !real.is_null()) {
    EXPECT_EQ(example.is_number(), real.is_number()) << where;
    EXPECT_EQ(example.is_string(), real.is_string()) << where;
  }
}

TEST_F(EngineBench, TheDocumentedExampleIsARecord) {
  std::ifstream file(source_path("docs/measuring.md"));
  std::stringstream text;
  text << file.rdbuf();
  const std::string docs = text.str();
  int checked = 0;
  for (size_t at = docs.find("```json\n"); at != std::string::npos;
       at = docs.find("```json\n", at + 1)) {
    const size_t begin = at + 8;
    const auto json =
        parse_json(docs.substr(begin, docs.find("```", begin) - begin), "measuring.md");
    ASSERT_TRUE(json) << json.error().message;
    if (json->value("schema", "") != "quench.record/1") continue;
    ++checked;
    const auto valid = validate_measurement(*json);
    ASSERT_TRUE(valid) << valid.error().message;
    Json example = *json;
    for (const char* list : {"tasks", "loads"}) {
      ASSERT_FALSE(example[list].empty()) << list;
      EXPECT_EQ(example[list][0]["summary"]["ttft_s"].size(),
                summary_json(summarize(std::vector<double>{1.0, 2.0})).size());
      // Its fields stand for those of the others, which are cut short.
      for (auto& [key, value] : example[list][0]["summary"].items()) {
        if (value.is_object() && key != "ttft_s" && key != "trend") value = nullptr;
      }
    }
    // Every kind of problem has values of its own.
    for (Json& problem : example["problems"]) problem["values"] = nullptr;
    Json real = json_;
    real.erase("loads");
    example.erase("loads");
    for (Json* record : {&real, &example}) (*record)["plan"].erase("fallbacks");
    expect_same_keys(example, real, "record");
  }
  EXPECT_EQ(checked, 1);
}

}  // namespace
}  // namespace quench
