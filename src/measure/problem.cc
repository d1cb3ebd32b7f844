#include "measure/problem.h"

#include "measure/report/strings.h"

namespace quench {

Problem make_problem(const std::string& kind, std::map<std::string, std::string> values,
                     const std::string& key) {
  Problem problem = {kind, key.empty() ? kind : key, std::move(values), ""};
  problem.message = Strings::of("en")("problem." + problem.key, problem.values);
  return problem;
}

Json problem_json(const Problem& problem) {
  return {{"kind", problem.kind},
          {"key", problem.key},
          {"values", problem.values},
          {"message", problem.message}};
}

}  // namespace quench
