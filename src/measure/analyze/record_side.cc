#include "measure/analyze/record_side.h"

#include <algorithm>
#include <cmath>

#include "measure/analyze/step_model.h"

namespace quench {
namespace {

// The value at a path such as {"model", "name"}; null where anything on it is missing.
const Json& at(const Json& json, std::initializer_list<const char*> path) {
  static const Json nothing;
  const Json* here = &json;
  for (const char* key : path) {
    if (!here->is_object() || !here->contains(key)) return nothing;
    here = &(*here)[key];
  }
  return *here;
}

std::optional<double> positive(const Json& json) {
  if (!json.is_number()) return std::nullopt;
  const double value = json.get<double>();
  return std::isfinite(value) && value > 0.0 ? std::optional(value) : std::nullopt;
}

std::string text(const Json& json) {
  return json.is_string() ? json.get<std::string>() : std::string();
}

// Time per token that the caller saw after the engine had drawn it.
std::optional<double> host_per_token(const Json& run) {
  const Json& seen = at(run, {"token_s"});
  const Json& drawn = at(run, {"engine_token_s"});
  if (!seen.is_array() || !drawn.is_array() || seen.size() != drawn.size() || seen.empty())
    return std::nullopt;
  double sum = 0.0;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i].is_number() || !drawn[i].is_number()) return std::nullopt;
    sum += seen[i].get<double>() - drawn[i].get<double>();
  }
  return std::max(sum / static_cast<double>(seen.size()), 0.0);
}

SideTask read_task(const Json& json) {
  SideTask task;
  const std::string lang = text(at(json, {"lang"}));
  task.name = text(at(json, {"task"})) + (lang.empty() ? "" : "/" + lang);
  const Json& runs = at(json, {"runs"});
  if (!runs.is_array()) return task;
  auto keep = [](std::vector<double>& values, const std::optional<double>& value) {
    if (value) values.push_back(*value);
  };
  for (const Json& run : runs) {
    const Json& warmup = at(run, {"warmup"});
    if (warmup.is_boolean() && warmup.get<bool>()) continue;
    // A run that failed has a reason and no speed.
    if (text(at(run, {"finish_reason"})) == "error") continue;
    keep(task.ttft_s, positive(at(run, {"ttft_s"})));
    keep(task.e2e_s, positive(at(run, {"e2e_s"})));
    keep(task.decode_tok_s, positive(at(run, {"decode_tok_s"})));
    keep(task.tokens, positive(at(run, {"generated_tokens"})));
    keep(task.prompt_tokens, positive(at(run, {"prompt_tokens"})));
    keep(task.host_s, host_per_token(run));
  }
  return task;
}

Result<std::optional<Money>> read_money(const Json& cost, const char* key,
                                        const std::string& where) {
  const Json& value = at(cost, {key});
  if (value.is_null()) return std::optional<Money>();
  auto money = parse_money(text(value));
  if (!money)
    return fail(ErrorCode::kInvalidFile, "{}: cost.{}: {}", where, key, money.error().message);
  return std::optional(*money);
}

Result<void> read_cost(const Json& record, const std::string& where, RecordSide& side) {
  const Json& cost = at(record, {"cost"});
  if (!cost.is_object()) return {};
  QUENCH_TRY(side.purchase, read_money(cost, "purchase", where));
  QUENCH_TRY(side.rent_per_hour, read_money(cost, "rent_per_hour", where));
  QUENCH_TRY(side.electricity, read_money(cost, "electricity_per_kwh", where));
  const Json& claims = at(cost, {"claims"});
  if (!claims.is_array()) return {};
  for (const Json& json : claims) {
    const auto seconds = positive(at(json, {"seconds"}));
    QUENCH_TRY(const auto amount, read_money(json, "amount", where));
    if (!seconds || !amount)
      return fail(ErrorCode::kInvalidFile, "{}: a cost claim needs \"seconds\" and an \"amount\".",
                  where);
    side.cost_claims.push_back({text(at(json, {"kind"})), *seconds, *amount});
  }
  return {};
}

// The ceilings that were measured with the run, or the sheet of the hardware it names.
void read_peaks(const Json& record, RecordSide& side) {
  const Json& ceilings = at(record, {"ceilings"});
  const Json& levels = at(ceilings, {"read"});
  if (levels.is_array() && !levels.empty()) {
    const double wanted = side.bytes_per_token.value_or(HUGE_VAL);
    const Json* level = &levels.back();
    for (const Json& row : levels) {
      const auto up_to = positive(at(row, {"up_to_bytes"}));
      if (up_to && wanted <= *up_to) {
        level = &row;
        break;
      }
    }
    side.read_gb_s = positive(at(*level, {"read_gb_s", "best"}));
    if (const auto gflop = positive(at(ceilings, {"bf16_gflop_s", "best"})))
      side.peak_tflops = *gflop / 1e3;
    side.peaks_are_measured = side.read_gb_s.has_value();
  }
  if (!side.hardware) return;
  if (!side.read_gb_s) side.read_gb_s = side.hardware->at("memory_gb_s");
  if (!side.peak_tflops) side.peak_tflops = side.hardware->at("bf16_tflops");
}

}  // namespace

Result<RecordSide> read_side(const Json& record, const std::string& where) {
  RecordSide side;
  const std::string model = text(at(record, {"model", "name"}));
  side.format = text(at(record, {"model", "format"}));
  side.bytes_per_token = positive(at(record, {"model", "bytes_read_per_token"}));
  side.weights_bytes = positive(at(record, {"model", "bytes"}));
  const std::string device = text(at(record, {"machine", "hardware"}));
  if (!device.empty()) {
    QUENCH_TRY(side.hardware, find_hardware(device));
  }
  const std::string cpu = text(at(record, {"machine", "cpu_model"}));
  side.name = fmt::format("{} {} on {}", model, side.format,
                          side.hardware ? side.hardware->name
                          : cpu.empty() ? "?"
                                        : cpu);
  if (auto shape = find_shape(model)) side.shape = *std::move(shape);
  if (side.shape && (!side.bytes_per_token || !side.weights_bytes)) {
    QUENCH_TRY(const Engines engines, Engines::load());
    if (const auto precision = engines.precision(side.format)) {
      if (!side.weights_bytes) side.weights_bytes = stored_weights_bytes(*side.shape, *precision);
      if (!side.bytes_per_token)
        side.bytes_per_token = side.shape->active_weights * precision->weight_bits / 8.0 +
                               side.shape->head_weights * precision->head_bits / 8.0;
    }
  }
  read_peaks(record, side);
  QUENCH_TRY_VOID(read_cost(record, where, side));
  const Json& tasks = at(record, {"tasks"});
  if (!tasks.is_array())
    return fail(ErrorCode::kInvalidFile, "{}: a record needs \"tasks\", a list.", where);
  for (const Json& task : tasks) side.tasks.push_back(read_task(task));
  return side;
}

}  // namespace quench
