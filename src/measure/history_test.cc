#include "measure/history.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

#include "base/file.h"
#include "history_fixture.h"
#include "measure/bench_record.h"
#include "measure/grid.h"

namespace quench {
namespace {

Json record(const std::string& model, const std::string& time, double speed = 10.0) {
  Bench bench;
  bench.target = {{"target", "engine"}};
  bench.model.name = model;
  bench.model.format = "int8";
  bench.length.name = "full";
  BenchRun run;
  run.token_s = {0.5, 0.5 + 1.0 / speed};
  run.ttft_s = 0.5;
  run.e2e_s = 2.0;
  run.generated_tokens = 2;
  bench.tasks = {{"chat", "en", {run}}};
  bench.complete = true;
  return record_json(bench, time);
}

// As above, but under load: two levels, and a warm-up whose speed must not count.
Json load_record() {
  Bench bench;
  bench.target = {{"target", "engine"}};
  bench.model.name = "loaded";
  BenchRun run;
  run.token_s = {0.25, 0.5};
  run.ttft_s = 0.25;
  run.e2e_s = 2.0;
  run.generated_tokens = 2;
  BenchRun warmup = run;
  warmup.warmup = true;
  bench.tasks = {{"chat", "en", {warmup}}};
  BenchRun slower = run;
  slower.token_s = {1.0, 3.0};
  slower.ttft_s = 1.0;
  bench.loads = {{{1, std::nullopt, 1}, {run}, 0.0, 1.0},
                 {{4, std::nullopt, 1}, {slower}, 0.0, 1.0}};
  return record_json(bench, "2026-03-01T12:00:00Z");
}

Json grid(const std::string& time) {
  SpeedGrid grid;
  grid.model = "Qwen2.5-0.5B";
  grid.format = "int4";
  grid.isa = "ref";
  grid.label = "a grid";
  GridRow prefill;
  prefill.is_prefill = true;
  prefill.tokens = 64;
  prefill.tok_s = {1000.0, 1100.0};
  prefill.limit_tok_s = 5000.0;
  GridRow decode = prefill;
  decode.is_prefill = false;
  decode.tok_s = {30.0, 32.0, 40.0};
  grid.rows = {prefill, decode};
  return grid_json(grid, time);
}

using HistoryTest = HistoryFixture;

TEST_F(HistoryTest, KeepsListsFiltersAndForgets) {
  const auto history = open();
  const Json one = record("Qwen3-8B", "2026-01-31T12:00:00Z");
  EXPECT_TRUE(*history->add(one));
  EXPECT_FALSE(*history->add(one));  // known
  ASSERT_TRUE(history->add(record("demo", "2026-02-01T12:00:00Z", 40.0)));
  auto names = [&](const HistoryFilter& filter) {
    std::vector<std::string> result;
    const auto entries = history->list(filter);
    EXPECT_TRUE(entries);
    for (const HistoryEntry& entry : *entries) result.push_back(entry.model);
    return result;
  };
  using Strings = std::vector<std::string>;
  EXPECT_EQ(names({}), (Strings{"Qwen3-8B", "demo"}));
  HistoryFilter filter;
  filter.model = "qwen3";
  EXPECT_EQ(names(filter), Strings{"Qwen3-8B"});
  filter.model = "%";  // no pattern
  EXPECT_EQ(names(filter), Strings{});
  filter = {};
  filter.since = "2026-02";
  EXPECT_EQ(names(filter), Strings{"demo"});
  filter = {};
  filter.until = "2026-01-31";
  EXPECT_EQ(names(filter), Strings{"Qwen3-8B"});
  filter = {};
  filter.limit = 1;
  EXPECT_EQ(names(filter), Strings{"demo"});
  const auto entries = history->list({});
  EXPECT_NEAR(*(*entries)[1].decode_tok_s, 40.0, 1e-6);
  EXPECT_EQ((*entries)[1].ttft_s, 0.5);
  EXPECT_EQ((*entries)[1].target, "engine");
  const std::string id = one["id"];
  EXPECT_EQ(*history->get(id.substr(0, 5)), one);
  EXPECT_EQ(history->get("none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(history->get("").error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(history->remove(id));
  EXPECT_EQ(names({}), Strings{"demo"});
  EXPECT_TRUE(history->check());
}

TEST_F(HistoryTest, LoadsAndGridsAreKeptLikeTheProtocolsRuns) {
  const auto history = open();
  ASSERT_TRUE(history->add(record("demo", "2026-02-01T12:00:00Z")));
  const auto load = history->add(load_record());
  ASSERT_TRUE(load) << load.error().message;
  const Json kept = grid("2026-03-02T12:00:00Z");
  const auto added = history->add(kept);
  ASSERT_TRUE(added) << added.error().message;
  EXPECT_EQ(*history->get(kept["id"]), kept);
  const auto entries = history->list({});
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].kind, "protocol");
  EXPECT_EQ((*entries)[1].kind, "load");
  EXPECT_EQ((*entries)[1].ttft_s, 0.25);
  EXPECT_NEAR(*(*entries)[1].decode_tok_s, 4.0, 1e-9);
  const HistoryEntry& last = (*entries)[2];
  EXPECT_EQ(last.kind, "grid");
  EXPECT_EQ(last.schema, "quench.bench/1");
  EXPECT_EQ(last.model, "Qwen2.5-0.5B");
  EXPECT_EQ(last.format, "int4");
  EXPECT_EQ(last.label, "a grid");
  EXPECT_EQ(last.decode_tok_s, 32.0);
  EXPECT_FALSE(last.ttft_s);
  HistoryFilter filter;
  filter.kind = "load";
  ASSERT_EQ(history->list(filter)->size(), 1u);
  EXPECT_EQ(history->list(filter)->front().model, "loaded");
  // Another machine's grid comes in as a file, too; one that cannot be is refused by its row.
  const ScratchDir other("_grids");
  Json bad = grid("2026-03-03T12:00:00Z");
  bad["rows"][1]["tok_s"][2] = -1.0;
  ASSERT_TRUE(write_file_atomic(other.file("grids.jsonl"),
                                grid("2026-03-04T12:00:00Z").dump() + "\n" + bad.dump() + "\n"));
  const auto counts = history->import_file(other.file("grids.jsonl"));
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->added, 1);
  EXPECT_EQ(counts->refused, 1);
  EXPECT_NE(counts->first_problem.find("row 2"), std::string::npos) << counts->first_problem;
}

TEST_F(HistoryTest, TakesOtherMachinesFiles) {
  const ScratchDir other("_other");
  const Json one = record("a", "2026-01-01T00:00:00Z");
  const Json two = record("b", "2026-01-02T00:00:00Z");
  const auto history = open();
  ASSERT_TRUE(write_file_atomic(other.file("lines.jsonl"), one.dump() + "\n\n" + two.dump() +
                                                               "\n{\"schema\": \"x\"}\nnonsense"));
  const auto lines = history->import_file(other.file("lines.jsonl"));
  ASSERT_TRUE(lines) << lines.error().message;
  EXPECT_EQ(lines->added, 2);
  EXPECT_EQ(lines->refused, 2);
  EXPECT_NE(lines->first_problem.find("\"x\""), std::string::npos);
  {
    const auto database = *History::open(other.file("history.db"));
    ASSERT_TRUE(database->add(two));
    ASSERT_TRUE(database->add(record("c", "2026-01-03T00:00:00Z")));
  }
  const auto merged = history->import_file(other.file("history.db"));
  ASSERT_TRUE(merged) << merged.error().message;
  EXPECT_EQ(merged->added, 1);
  EXPECT_EQ(merged->known, 1);
  EXPECT_EQ(history->list({})->size(), 3u);
  EXPECT_EQ(other.num_files(), 2);  // nothing was written beside it
  EXPECT_FALSE(history->import_file(other.file("missing")));
}

TEST_F(HistoryTest, DamageIsSaidAndNothingLost) {
  std::filesystem::create_directories(data_.scratch().file("quench"));
  ASSERT_TRUE(write_file_atomic(path(), std::string(8192, 'x')));
  const auto opened = check_history();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kInvalidFile);
  EXPECT_NE(opened.error().message.find("left as it is"), std::string::npos);
  const Json one = record("a", "2026-01-01T00:00:00Z");
  const auto kept = keep_in_history(one);
  ASSERT_FALSE(kept);
  const std::string file =
      data_.scratch().file("quench/unsaved/" + one["id"].get<std::string>() + ".json");
  EXPECT_NE(kept.error().message.find(file), std::string::npos) << kept.error().message;
  EXPECT_EQ(*read_file(path()), std::string(8192, 'x'));
  // The file is a measurement like any other.
  const auto fresh = *History::open(data_.scratch().file("new.db"));
  EXPECT_EQ(fresh->import_file(file)->added, 1);
}

TEST_F(HistoryTest, ADamagedRowDoesNotHideTheOthers) {
  {
    const auto history = open();
    ASSERT_TRUE(history->add(record("a", "2026-01-01T00:00:00Z")));
    ASSERT_TRUE(history->add(record("b", "2026-01-02T00:00:00Z")));
  }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "UPDATE measurement SET json = '{' WHERE model = 'a'", nullptr,
                         nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  const auto history = open();
  int64_t seen = 0;
  EXPECT_EQ(*history->for_each({},
                               [&](const std::string&, const Json& json) {
                                 ++seen;
                                 EXPECT_EQ(json["model"]["name"], "b");
                               }),
            1);
  EXPECT_EQ(seen, 1);
}

TEST_F(HistoryTest, AnotherProgramsDatabaseIsNotTouched) {
  const std::string file = data_.scratch().file("other.db");
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE t (x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  const auto history = History::open(file);
  ASSERT_FALSE(history);
  EXPECT_NE(history.error().message.find("another program"), std::string::npos);
}

TEST_F(HistoryTest, KeepsWhatBenchMakes) {
  ASSERT_TRUE(keep_in_history(record("a", "2026-01-01T00:00:00Z")));
  EXPECT_EQ(open()->list({})->size(), 1u);
  EXPECT_FALSE(keep_in_history(Json::object()));
}

}  // namespace
}  // namespace quench
