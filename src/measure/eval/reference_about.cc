#include "measure/eval/reference_about.h"

#include "base/sha256.h"

namespace quench {
namespace {

Json accuracy_pair(const std::optional<Accuracy>& accuracy) {
  return accuracy ? Json{accuracy->correct, accuracy->n} : Json();
}
std::optional<Accuracy> pair_accuracy(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return Accuracy{json.at(0).get<int64_t>(), json.at(1).get<int64_t>()};
}

}  // namespace

Json reference_key(const Json& model, const EvalTexts& texts, const EvalOptions& options,
                   int64_t context) {
  Sha256 ids;
  for (const EvalDomain& domain : texts.domains) {
    ids.update(std::as_bytes(std::span(domain.name)));
    for (const auto& document : domain.documents) {
      const size_t length = document.size();
      ids.update(std::as_bytes(std::span(&length, 1)));
      ids.update(std::as_bytes(std::span(document)));
    }
  }
  Json tasks = Json::array();
  for (const EvalTask& task : options.tasks) tasks.push_back({task.name, task.sha256});
  return {{"model", model},
          {"token_ids", ids.hex_digest()},
          {"context", context},
          {"stride", options.stride},
          {"convention", options.convention == EvalConvention::kHalves ? "halves" : "sliding"},
          {"items", options.continuation_items},
          {"tasks", tasks}};
}

Json reference_about(const Evaluation& result) {
  Json domains = Json::array();
  for (const EvalScores& domain : result.reference.domains)
    domains.push_back(accuracy_pair(domain.accuracy));
  Json tasks = Json::array();
  for (const TaskScores& task : result.reference.tasks) {
    Json parts = Json::array();
    for (const TaskScore& part : task.parts)
      parts.push_back({part.domain, accuracy_pair(part.accuracy), accuracy_pair(part.per_byte)});
    tasks.push_back({{"task", task.task}, {"sha256", task.sha256}, {"parts", parts}});
  }
  return {{"reference_s", result.reference_s},
          {"accuracy", accuracy_pair(result.reference.overall.accuracy)},
          {"domains", domains},
          {"tasks", tasks},
          {"noise_floor",
           {result.noise_floor_mean, result.noise_floor_max, result.noise_floor_positions,
            result.noise_floor_kernel}}};
}

Result<void> read_about_reference(const Json& about, Evaluation& result) {
  try {
    result.reference_s = about.at("reference_s");
    result.reference.overall.accuracy = pair_accuracy(about.at("accuracy"));
    for (size_t d = 0; d < result.reference.domains.size(); ++d)
      result.reference.domains[d].accuracy = pair_accuracy(about.at("domains").at(d));
    for (const Json& task : about.at("tasks")) {
      TaskScores& scores = result.reference.tasks.emplace_back();
      scores.task = task.at("task").get<std::string>();
      scores.sha256 = task.at("sha256").get<std::string>();
      for (const Json& part : task.at("parts")) {
        scores.parts.push_back({part.at(0).get<std::string>(),
                                pair_accuracy(part.at(1)).value_or(Accuracy()),
                                pair_accuracy(part.at(2))});
      }
    }
    const Json& noise = about.at("noise_floor");
    result.noise_floor_mean = noise.at(0);
    result.noise_floor_max = noise.at(1);
    result.noise_floor_positions = noise.at(2);
    result.noise_floor_kernel = noise.at(3).get<std::string>();
  } catch (const Json::exception&) {
    return unfit_reference();
  }
  return {};
}

Result<void> unfit_reference() {
  return fail(ErrorCode::kInvalidFile,
              "The stored predictions of the reference do not fit these texts or this vocabulary; "
              "evaluate again with --no-reference-cache.");
}

}  // namespace quench
