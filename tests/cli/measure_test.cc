// quench bench by its protocol, history and monitor as a stranger uses them.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"
#include "http/scripted_server.h"
#include "own_cache.h"

namespace quench {
namespace {

class CliMeasure : public testing::Test {
 protected:
  void SetUp() override { ::unsetenv("OPENAI_API_KEY"); }
  // A server that answers by this script, and the arguments to measure it.
  static std::vector<std::string> against(const ScriptedServer& server,
                                          const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        "bench",     "--url", server.url(), "--task", "chat",          "--runs", "2",
        "--warmups", "1",     "--timeout",  "1",      "--max-warmups", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static ScriptedServer::Script streaming(const StreamScript& script) {
    return [script](const ScriptedRequest& request) {
      return request.method == "GET" ? models_reply() : stream_reply(script);
    };
  }
  std::string history_file() const { return data_.scratch().file("quench/history.db"); }

  const OwnCache cache_;
  const OwnData data_;
};

TEST_F(CliMeasure, BenchOfTheDemoIsKept) {
  const Output text = quench({"bench", "--length", "quick", "--max_new_tokens", "6", "--threads",
                              "1", "--label", "mine", "--lang", "zh"});
  ASSERT_EQ(text.status, 0) << text.err;
  for (const char* word : {"首字延迟 ms", "完整回答 s", "占极限 %", "预填 tok/s", "聊天", "文章",
                           "代码", "中文提示", "冷启动：载入", "内存：", "机器：", "已保存为 "})
    EXPECT_NE(text.out.find(word), std::string::npos) << word << "\n" << text.out;
  const Output list = quench({"history", "--label", "mine", "--json"});
  ASSERT_EQ(list.status, 0) << list.err;
  const Json entries = *parse_json(list.out, "stdout");
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0]["model"], "demo");
  const std::string id = entries[0]["id"];
  const Output shown = quench({"history", "show", id.substr(0, 6)});
  EXPECT_NE(shown.out.find("decode tok/s"), std::string::npos) << shown.out << shown.err;
  const Output full = quench({"history", "show", id, "--json"});
  const Json record = *parse_json(full.out, "stdout");
  EXPECT_EQ(record["schema"], "quench.record/1");
  EXPECT_EQ(record["settings"]["lang"], "zh");
  const std::string file = data_.scratch().file("all.jsonl");
  ASSERT_EQ(quench({"history", "export", "--out", file}).status, 0);
  ASSERT_EQ(quench({"history", "remove", id}).status, 0);
  EXPECT_NE(quench({"history"}).out.find("No measurement"), std::string::npos);
  const Output imported = quench({"history", "import", file});
  EXPECT_NE(imported.out.find("1 added"), std::string::npos) << imported.out << imported.err;
  EXPECT_EQ(quench({"history", "list", "--csv"}).out.find("id,time,"), 0u);
}

TEST_F(CliMeasure, GridsAreKeptShownAndCompared) {
  const std::vector<std::string> grid = {"bench",
                                         source_path("tests/tiny_model/qwen2"),
                                         "--random-weights",
                                         "--threads",
                                         "1",
                                         "--isa",
                                         "ref",
                                         "--pp",
                                         "8",
                                         "--tg",
                                         "2",
                                         "--repetitions",
                                         "2"};
  auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = grid;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quench(arguments);
  };
  const std::string page = data_.scratch().file("grid.html");
  const Output first = with({"--label", "one", "--html", page});
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_NE(first.out.find("Kept as "), std::string::npos) << first.out;
  EXPECT_TRUE(first.out.ends_with("Report: " + page + "\n")) << first.out;
  EXPECT_NE(read_file(page)->find("<canvas"), std::string::npos);
  ASSERT_EQ(with({"--label", "two", "--lang", "zh"}).status, 0);
  ASSERT_EQ(with({"--no-history"}).status, 0);
  const Output list = quench({"history", "--kind", "grid", "--json"});
  Json entries = *parse_json(list.out, "stdout");
  ASSERT_EQ(entries.size(), 2u) << list.out << list.err;
  // Within one second they have no order.
  if (entries[0]["label"] == "two") std::swap(entries[0], entries[1]);
  EXPECT_EQ(entries[0]["label"], "one");
  EXPECT_EQ(entries[1]["label"], "two");
  EXPECT_EQ(entries[0]["schema"], "quench.bench/1");
  const std::string a = entries[0]["id"], b = entries[1]["id"];
  const Output shown = quench({"history", "show", a});
  EXPECT_NE(shown.out.find("prefill 8"), std::string::npos) << shown.out << shown.err;
  const std::string compared = data_.scratch().file("compared.html");
  const Output output = quench({"compare", a, b, "--html", compared, "--lang", "zh"});
  ASSERT_EQ(output.status, 0) << output.err;
  EXPECT_NE(output.out.find("decode 2 @0 x1"), std::string::npos) << output.out;
  EXPECT_NE(read_file(compared)->find("无法分辨"), std::string::npos);
  expect_error(quench({"compare", a, "nothing"}), {"nothing", "quench history"});
}

TEST_F(CliMeasure, ServersAreMeasuredAndNamed) {
  StreamScript script;
  script.reported = 8;
  const ScriptedServer server(streaming(script));
  const Output text = quench(against(server));
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_NE(text.err.find("Requests go to 127.0.0.1:"), std::string::npos);
  EXPECT_NE(text.out.find("scripted-7B at http://127.0.0.1:"), std::string::npos);
  const Output csv = quench(against(server, {"--csv", "--no-history"}));
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 4);
  const Output json = quench(against(server, {"--json", "--concurrency", "2", "--requests", "5"}));
  ASSERT_EQ(json.status, 0) << json.err;
  const Json record = *parse_json(json.out, "stdout");
  EXPECT_EQ(record["loads"][0]["runs"].size(), 5u);
  EXPECT_TRUE(record["ceilings"].is_null());
  const Output markdown = quench(against(server, {"--md", "--rate", "500", "--requests", "3"}));
  EXPECT_NE(markdown.out.find("| 500 per second |"), std::string::npos) << markdown.out;
}

TEST_F(CliMeasure, ABenchHasAPageInEitherLanguage) {
  const ScriptedServer server(streaming({}));
  const std::string json = data_.scratch().file("record.json");
  const std::string page = data_.scratch().file("page.html");
  const Output made = quench(against(server, {"--json", "--html", page}));
  ASSERT_EQ(made.status, 0) << made.err;
  ASSERT_TRUE(write_file_atomic(json, made.out));
  EXPECT_NE(read_file(page)->find("Time to the first token"), std::string::npos);
  const std::string again = data_.scratch().file("again.html");
  ASSERT_EQ(quench({"report", json, "-o", again}).status, 0);
  EXPECT_EQ(*read_file(again), *read_file(page));
  const Output chinese = quench({"report", json, "--lang", "zh"});
  EXPECT_NE(chinese.out.find("首字延迟 ms"), std::string::npos) << chinese.out << chinese.err;
  expect_error(quench({"report", json, "-o", data_.scratch().file("no/such/dir.html")}),
               {"dir.html"});
}

TEST_F(CliMeasure, TroubleIsSaidAndKept) {
  StreamScript script;
  script.break_after = 2;
  script.end = ScriptedReply::End::kStall;
  const ScriptedServer server(streaming(script));
  const Output stalled = quench(against(server));
  EXPECT_EQ(stalled.status, 1);
  EXPECT_NE(stalled.err.find("nothing came in time after 2 pieces"), std::string::npos)
      << stalled.err;
  EXPECT_NE(stalled.out.find("Kept as "), std::string::npos);
  EXPECT_NE(stalled.out.find("! 3 of 3 requests failed"), std::string::npos) << stalled.out;
  const Output nobody = quench({"bench", "--url", "http://127.0.0.1:1/v1"});
  EXPECT_EQ(nobody.status, 1);
  EXPECT_NE(nobody.err.find("127.0.0.1:1: cannot connect"), std::string::npos) << nobody.err;
}

TEST_F(CliMeasure, ADamagedHistoryDoesNotStopAMeasurement) {
  std::filesystem::create_directories(data_.scratch().file("quench"));
  ASSERT_TRUE(write_file_atomic(history_file(), std::string(5000, '?')));
  const ScriptedServer server(streaming({}));
  const Output output = quench(against(server));
  EXPECT_EQ(output.status, 0);
  EXPECT_NE(output.out.find("decode tok/s"), std::string::npos);
  EXPECT_NE(output.err.find("left as it is"), std::string::npos) << output.err;
  EXPECT_NE(output.err.find("unsaved/"), std::string::npos) << output.err;
  EXPECT_EQ(*read_file(history_file()), std::string(5000, '?'));
  expect_error(quench({"history"}), {"history.db", "damaged"});
}

TEST_F(CliMeasure, MistakesAreSaidBeforeTheWork) {
  expect_error(quench({"bench", "--pp", "8", "--task", "chat"}), {"--pp", "--task"});
  expect_error(quench({"bench", "--json", "--csv"}), {"--json", "--csv"});
  expect_error(quench({"bench", "--lang", "fr"}), {"--lang", "fr"});
  expect_error(quench({"bench", "--concurrency", "0"}), {"--concurrency", "0"});
  expect_error(quench({"bench", "--rate", "-1"}), {"--rate", "-1"});
  expect_error(quench({"bench", "--model-name", "x"}), {"--model-name", "--url"});
  expect_error(quench({"bench", "--task", "poem"}), {"poem", "article, chat, code"});
  expect_error(quench({"bench", "--url", "localhost:80"}), {"localhost:80", "http://"});
  expect_error(quench({"history", "show", "zz"}), {"\"zz\"", "quench history"});
  expect_error(quench({"history", "--file", "/no/such"}), {"/no/such"});
  expect_error(quench({"monitor", "--pid", "999999999"}), {"999999999"});
}

TEST_F(CliMeasure, MonitorWritesLines) {
  const Output output = quench({"monitor", "--interval", "0.02", "--count", "3", "--csv"});
  ASSERT_EQ(output.status, 0) << output.err;
  EXPECT_EQ(output.out.find("time_s,busy_share,"), 0u);
  EXPECT_EQ(std::count(output.out.begin(), output.out.end(), '\n'), 4);
}

}  // namespace
}  // namespace quench
