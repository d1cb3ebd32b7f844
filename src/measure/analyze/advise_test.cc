#include "measure/analyze/advise.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

Candidate candidate(const std::string& device, int64_t batch, double ttft_s, double tok_s) {
  Candidate c;
  c.device = device;
  c.precision = "bf16";
  c.batch = batch;
  c.ttft_s = {ttft_s, 0.5 * ttft_s, 2.0 * ttft_s};
  c.tpot_s = {0.01, 0.008, 0.012};
  c.tok_s = {tok_s, 0.8 * tok_s, 1.2 * tok_s};
  return c;
}

TEST(Advise, WhereNothingHoldsTheNearestIsNamed) {
  Limits limits;
  limits.ttft_s = 0.2;
  const Advice advice =
      advise({candidate("slow", 64, 20.0, 2000.0), candidate("near", 1, 0.3, 50.0)}, limits);
  EXPECT_FALSE(advice.best);
  EXPECT_EQ(advice.rejected.front().device, "near");
  const std::string reason = advice_reason(advice, Strings::of("en"));
  EXPECT_NE(reason.find("up to 0.60 s, 0.20 s allowed"), std::string::npos) << reason;
  const std::string chinese = advice_reason(advice, Strings::of("zh"));
  EXPECT_NE(chinese.find("首字延迟可达 0.60 s，上限 0.20 s"), std::string::npos) << chinese;
}

TEST(Advise, CostsAreJudgedByTheirUpperEnd) {
  Candidate wide = candidate("wide", 8, 0.1, 500.0);
  wide.currency = "CNY";
  wide.rent_per_million = {0.9, 2.4};
  Candidate dear = wide;
  dear.device = "dear";
  dear.rent_per_million = {1.9, 1.95};
  Limits limits;
  limits.per_million = Money{{2.0, 2.0}, "CNY"};
  const Advice advice = advise({wide, dear}, limits);
  ASSERT_TRUE(advice.best);
  EXPECT_EQ(advice.best->device, "dear");
  const std::string reason = advice_reason(advice, Strings::of("en"));
  EXPECT_NE(reason.find("1.9 to 1.95 CNY per million"), std::string::npos) << reason;
  const std::string chinese = advice_reason(advice, Strings::of("zh"));
  EXPECT_NE(chinese.find("每百万词元 1.9 至 1.95 CNY；满足所有限制。位数减少"), std::string::npos)
      << chinese;
  EXPECT_EQ(advice.rejected.front().device, "wide");
  // What has no price misses a limit of costs by more than what is dear.
  EXPECT_EQ(advise({candidate("none", 1, 0.1, 50.0), wide}, limits).rejected.front().device,
            "wide");
}

}  // namespace
}  // namespace quench
