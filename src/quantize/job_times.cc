#include "quantize/job_times.h"

#include <fmt/format.h>

namespace quench {
namespace {

struct PartName {
  const char* text;
  const char* key;
};
constexpr std::array<PartName, kNumJobParts> kPartNames = {{{"reading layers", "read_s"},
                                                            {"forward", "forward_s"},
                                                            {"second moments", "second_moments_s"},
                                                            {"factorization", "factorization_s"},
                                                            {"feedback", "feedback_s"},
                                                            {"rounding", "rounding_s"},
                                                            {"writing", "write_s"}}};

}  // namespace

std::string JobTimes::text() const {
  std::string result;
  for (size_t i = 0; i < kPartNames.size(); ++i) {
    if (part_s_[i] < 0.05) continue;
    result +=
        fmt::format("{}{} {:.1f} s", result.empty() ? "" : ", ", kPartNames[i].text, part_s_[i]);
  }
  return result;
}

Json JobTimes::json() const {
  Json result = Json::object();
  for (size_t i = 0; i < kPartNames.size(); ++i) result[kPartNames[i].key] = part_s_[i];
  return result;
}

}  // namespace quench
