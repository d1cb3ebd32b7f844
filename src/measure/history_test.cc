#include "measure/history.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

#include "base/file.h"
#include "measure/bench_record.h"
#include "own_cache.h"

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
  run.generated_tokens = 2;
  bench.tasks = {{"chat", "en", {run}}};
  bench.complete = true;
  return record_json(bench, time);
}

class HistoryTest : public testing::Test {
 protected:
  std::string path() const { return data_.scratch().file("quench/history.db"); }
  std::unique_ptr<History> open() const {
    auto history = History::open(path());
    EXPECT_TRUE(history) << history.error().message;
    return std::move(*history);
  }
  const OwnData data_;
};

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
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({}), (Names{"Qwen3-8B", "demo"}));
  HistoryFilter filter;
  filter.model = "qwen3";
  EXPECT_EQ(names(filter), Names{"Qwen3-8B"});
  filter.model = "%";  // no pattern
  EXPECT_EQ(names(filter), Names{});
  filter = {};
  filter.since = "2026-02";
  EXPECT_EQ(names(filter), Names{"demo"});
  filter = {};
  filter.until = "2026-01-31";
  EXPECT_EQ(names(filter), Names{"Qwen3-8B"});
  filter = {};
  filter.limit = 1;
  EXPECT_EQ(names(filter), Names{"demo"});
  const auto entries = history->list({});
  EXPECT_NEAR(*(*entries)[1].decode_tok_s, 40.0, 1e-6);
  EXPECT_EQ((*entries)[1].ttft_s, 0.5);
  EXPECT_EQ((*entries)[1].target, "engine");
  const std::string id = one["id"];
  EXPECT_EQ(*history->get(id.substr(0, 5)), one);
  EXPECT_EQ(history->get("none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(history->get("").error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(history->remove(id));
  EXPECT_EQ(names({}), Names{"demo"});
  EXPECT_TRUE(history->check());
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
