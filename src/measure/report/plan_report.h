// What quench plan prints: text for people in one language, quench.plan/1 for programs. Pure
// functions; any thread.
#pragma once

#include <string>

#include "measure/analyze/accuracy.h"
#include "measure/analyze/advise.h"

namespace quench {

Json plan_json(const Deployment& deployment, const CostPlan& cost);
std::string plan_text(const Deployment& deployment, const CostPlan& cost, const Strings& strings);
std::string advice_text(const Advice& advice, const Strings& strings);
// Two lines per engine: the means over groups of five models and more.
std::string accuracy_summary(const std::vector<AccuracyGroup>& groups, const Strings& strings);

}  // namespace quench
