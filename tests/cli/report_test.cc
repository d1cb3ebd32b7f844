// quench shootout's reports and quench report as a stranger uses them.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"
#include "own_cache.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> files_in(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(CliReport, ShootoutKeepsItsPageAndReportMakesItAgain) {
  const OwnData data;
  const ScratchDir scratch;
  const Output made = quench({"shootout", "--quick", "--profiles", "int8", "--lang", "zh"});
  ASSERT_EQ(made.status, 0) << made.err;
  const auto kept = files_in(data.scratch().file("quench/reports"));
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_TRUE(kept[0].ends_with(".html"));
  ASSERT_TRUE(kept[1].ends_with(".json"));
  // The last line is where the page is.
  EXPECT_TRUE(made.out.ends_with(kept[0] + "\n")) << made.out;
  EXPECT_NE(made.out.find("\n推荐\n"), std::string::npos) << made.out;

  const std::string again = scratch.path() + "/again.html";
  ASSERT_EQ(quench({"report", kept[1], "-o", again}).status, 0);
  EXPECT_EQ(*read_file(again), *read_file(kept[0]));

  const Output text = quench({"report", kept[1], "--lang", "en"});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_TRUE(text.out.starts_with("profile ")) << text.out;
  EXPECT_NE(text.out.find("in Chinese: 0 warm-up and 1"), std::string::npos) << text.out;

  const std::string markdown = scratch.path() + "/report.md";
  ASSERT_EQ(quench({"report", kept[1], "-o", markdown, "--lang", "en"}).status, 0);
  EXPECT_TRUE(read_file(markdown)->starts_with("# quench shootout: demo\n"));

  expect_error(quench({"report", kept[1], "-o", scratch.path() + "/report.pdf"}),
               {"report.pdf", ".html", ".md"});
}

TEST(CliReport, WhereNothingCanBeKeptTheTableIsStillShown) {
  const OwnData data;
  ASSERT_TRUE(write_file_atomic(data.scratch().file("quench"), "a file, not a directory"));
  const Output output = quench({"shootout", "--quick", "--profiles", "int8"});
  EXPECT_EQ(output.status, 0);
  EXPECT_NE(output.out.find("Recommendation"), std::string::npos);
  EXPECT_NE(output.err.find("No report: "), std::string::npos) << output.err;
}

TEST(CliReport, SaysWhatIsWrongWithAFile) {
  const ScratchDir scratch;
  const std::string path = scratch.path() + "/x.json";
  expect_error(quench({"report", path}), {"x.json"});
  for (const char* content :
       {"{", "[]", "{\"schema\": \"quench.shootout/1\"}",
        "{\"schema\": \"quench.record/1\", \"rows\": [1]}",
        "{\"schema\": \"quench.shootout/1\", \"rows\": [{\"profile\": \"a\"}]}"}) {
    ASSERT_TRUE(write_file_atomic(path, content));
    expect_error(quench({"report", path}), {"x.json"});
  }
  expect_error(quench({"report"}), {"FILE", "quench report --help"});
  expect_error(quench({"report", path, "--lang", "fr"}), {"fr"});
}

}  // namespace
}  // namespace quench
