// quench check: the table, the JSON, levels that do not exist.
#include "cli/cli.h"

namespace quench {
namespace {

TEST(CliCheck, TheReferencePassesAndTheTableSaysSo) {
  const Output table = quench({"check", "--quick", "--isa", "ref"});
  EXPECT_EQ(table.status, 0) << table.err << table.out;
  EXPECT_TRUE(table.out.starts_with("level ref\n")) << table.out;
  for (const char* name : {"rms_norm", "attention", "moe_route", "ref_generic"}) {
    EXPECT_NE(table.out.find(std::string("\n  ") + name), std::string::npos) << name << table.out;
  }
  EXPECT_EQ(table.out.find("NO"), std::string::npos) << table.out;
}

TEST(CliCheck, JsonHasTheSameRows) {
  const Output output = quench({"check", "--quick", "--isa", "ref", "--json"});
  ASSERT_EQ(output.status, 0) << output.err;
  const Json json = Json::parse(output.out);
  EXPECT_EQ(json.at("schema"), "quench.check/1");
  EXPECT_TRUE(json.at("passed").get<bool>());
  ASSERT_EQ(json.at("levels").size(), 1u);
  int64_t cases = 0;
  for (const Json& row : json.at("levels").at(0).at("kernels")) {
    EXPECT_EQ(row.at("failed"), 0) << row;
    cases += row.at("cases").get<int64_t>();
  }
  EXPECT_GT(cases, 100);
}

TEST(CliCheck, TimesSayWhichShareOfTheLimitAKernelReaches) {
  const Output output =
      quench({"check", "--time", "--format", "int4", "--format", "q4_k", "--json"});
  ASSERT_EQ(output.status, 0) << output.err;
  const Json json = Json::parse(output.out);
  EXPECT_EQ(json.at("schema"), "quench.kernel_times/1");
  ASSERT_EQ(json.at("kernels").size(), 2u);
  for (const Json& row : json.at("kernels")) {
    EXPECT_GT(row.at("decode_gb_s"), 0.0) << row;
    EXPECT_GT(row.at("decode_share"), 0.0) << row;
    // 4.1 to 4.5 bits for each of the 4096 columns of whole rows.
    EXPECT_EQ(row.at("packed_bytes").get<int64_t>() % 1024, 0) << row;
  }
}

TEST(CliCheck, AFormatIsForTimesOnly) {
  expect_error(quench({"check", "--format", "int4"}), {"--time"});
  expect_error(quench({"check", "--time", "--format", "int99"}), {"int99"});
}

TEST(CliCheck, AnUnknownLevelListsTheKnownOnes) {
  expect_error(quench({"check", "--isa", "sse9"}), {"\"sse9\"", "ref"});
}

}  // namespace
}  // namespace quench
