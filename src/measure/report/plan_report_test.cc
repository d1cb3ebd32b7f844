#include "measure/report/plan_report.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>

#include "english_in.h"
#include "shipped_predictor.h"

namespace quench {
namespace {

const Strings& english_strings() { return Strings::of("en"); }
const Strings& chinese_strings() { return Strings::of("zh"); }

struct Question {
  std::string model = "Qwen2.5-7B", device = "A100", engine = "vllm", precision = "bf16";
  int64_t devices = 1;
  double prompt_tokens = 512.0;
  CostWishes cost = {};
  Demand demand = {};
};

struct Answer {
  Deployment deployment;
  CostPlan cost;

  std::string text(const Strings& strings) const { return plan_text(deployment, cost, strings); }
};

Answer answer(const Question& question) {
  Placement setup = shipped_predictor()
                        .setup(question.model, question.engine, question.precision,
                               find_hardware(question.device).value())
                        .value();
  setup.devices = question.devices;
  setup.prompt_tokens = question.prompt_tokens;
  setup.output_tokens = 256.0;
  setup.batch = 1.0;
  const PredictFn predict = predict_elsewhere(shipped_predictor(), setup, question.engine);
  Answer result;
  result.deployment = deploy(setup, question.engine, predict).value();
  const auto rows = against_concurrency(result.deployment, predict).value();
  result.cost =
      plan_cost(question.cost, question.demand, result.deployment, result.deployment, rows, rows)
          .value();
  return result;
}

CostWishes all_prices() {
  CostWishes wishes;
  wishes.buy = "1600USD";
  wishes.electricity = "0.2USD";
  wishes.rent = "0.5-0.9USD";
  return wishes;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void expect_no_english(const std::string& text) {
  EXPECT_TRUE(english_in(text).empty()) << english_in(text) << " in\n" << text;
}

void expect_says(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
}

// Every number of one text is in the other, as often.
std::multiset<std::string> numbers_in(const std::string& text) {
  static const std::regex number("[0-9]+(\\.[0-9]+)?");
  return {std::sregex_token_iterator(text.begin(), text.end(), number),
          std::sregex_token_iterator()};
}

TEST(PlanReport, SpeaksChinese) {
  const Answer plan = answer({.model = "Qwen2.5-72B", .cost = all_prices(), .demand = {5e7, 8.0}});
  const std::string text = plan.text(chinese_strings());
  expect_says(text,
              {"Qwen2.5-72B，bf16，vllm，A100-SXM4-80GB\n", "\n显存\n  权重",
               "键值缓存，1 x 768 个词元", "放不下；分到 2 个设备上放得下（张量并行",
               "\n速度（使用 2 个设备）\n  首字延迟", "依据：vllm bf16，8 个模型的 42 行实测数据",
               "\n成本，以 USD 计\n", "购置：每台 1600 USD（用户给定）",
               "租用：每台每小时 0.5 至 0.9 USD（用户给定）", "额定功率，建议实测", "回本",
               "每天的成本：按峰值购置 ", "说明：一个 A100-SXM4-80GB 放不下模型", "并发请求"});
  expect_no_english(text);
  EXPECT_EQ(numbers_in(text), numbers_in(plan.text(english_strings())));
}

TEST(PlanReport, RemarksAreInTheLanguageOfTheText) {
  const Answer plan = answer({.precision = "fp8", .devices = 3, .prompt_tokens = 200000.0});
  ASSERT_EQ(plan.deployment.remarks.size(), 3u);
  const std::string text = plan.text(chinese_strings());
  expect_says(text, {"3 x A100", "说明：200256 个词元超出模型支持的 131072 个",
                     "说明：28 个注意力头不能平分到 3 个设备上", "没有 fp8 算力",
                     "fp8 的效率取同类引擎的值"});
  EXPECT_EQ(numbers_in(text), numbers_in(plan.text(english_strings())));
  // What programs read does not depend on who reads the text.
  EXPECT_EQ(plan_json(plan.deployment, plan.cost).at("remarks").at(1),
            "28 heads do not divide over 3 devices, and vllm splits by heads");
}

TEST(PlanReport, ColumnsLineUpInEveryLanguage) {
  const Answer plan = answer({.cost = all_prices()});
  for (const Strings* strings : {&english_strings(), &chinese_strings()}) {
    std::set<int> memory, table;
    for (const std::string& line : lines_of(plan.text(*strings))) {
      if (line.ends_with(" GB")) memory.insert(display_width(line));
      if (line.starts_with("      ")) table.insert(display_width(line));
    }
    EXPECT_EQ(memory, std::set<int>{57});
    EXPECT_EQ(table.size(), 1u);
  }
}

TEST(PlanReport, WithoutAPriceItSaysWhichOnesToGive) {
  CostWishes wishes;
  wishes.electricity = "0.2USD";
  const std::string text = answer({.device = "T4", .cost = wishes}).text(chinese_strings());
  expect_says(text, {"成本：没有这个设备的价格", "不知道购置价（T4）"});
  expect_no_english(text);
  EXPECT_EQ(chinese_strings()(device_sentence(kThisMachine)), "这台机器");
}

Candidate candidate(const std::string& device, int64_t devices, double tpot_s) {
  Candidate c;
  c.device = device;
  c.devices = devices;
  c.precision = "awq";
  c.ttft_s = {0.1, 0.05, 0.2};
  c.tpot_s = {tpot_s, 0.8 * tpot_s, 1.2 * tpot_s};
  c.tok_s = {1.0 / tpot_s, 0.8 / tpot_s, 1.2 / tpot_s};
  return c;
}

TEST(PlanReport, AdviceSpeaksChinese) {
  Limits limits;
  limits.tpot_s = 0.02;
  const Advice advice =
      advise({candidate(kThisMachine, 1, 0.01), candidate("T4", 2, 0.012), candidate("L4", 1, 0.1)},
             limits);
  const std::string text = advice_text(advice, chinese_strings());
  expect_says(text, {"awq（这台机器，批量 1）：每词元 10.0 ms（90 %：8.0 至 12.0）",
                     "满足所有限制；其次是 awq（2 个 T4", "`quench shootout` 实测",
                     "每词元可达 120.0 ms，上限 20.0 ms"});
  expect_no_english(text);
  EXPECT_EQ(numbers_in(text), numbers_in(advice_text(advice, english_strings())));
  limits.memory_bytes = 1.0;
  limits.per_million = Money{{2.0, 2.0}, "CNY"};
  const std::string nothing =
      advice_text(advise({candidate("L4", 1, 0.1)}, limits), chinese_strings());
  expect_says(nothing,
              {"没有方案满足所有限制。最接近的是 awq（L4，批量 1）：", "没有以 CNY 计的价格"});
  expect_says(advice_text(advise({}, limits), chinese_strings()), {"都放不下"});
}

TEST(PlanReport, AccuracyIsTheSameInEveryLanguage) {
  AccuracyGroup speed = {"a", "vLLM 0.6.3", "bf16", "A100", "plain"};
  speed.mean_error = 0.03;
  AccuracyGroup memory = speed;
  memory.is_memory = true;
  AccuracyGroup few = speed;
  few.kind = "few models";
  const std::vector<AccuracyGroup> groups = {speed, memory, few};
  const std::string text = accuracy_table(groups, chinese_strings()).text() +
                           accuracy_summary(groups, chinese_strings());
  expect_says(text, {"平均误差 %", "模型太少", "vLLM 内存", "1 组的平均误差 3.0 %"});
  expect_no_english(text);
  EXPECT_EQ(accuracy_table(groups, chinese_strings()).json(),
            accuracy_table(groups, english_strings()).json());
}

}  // namespace
}  // namespace quench
