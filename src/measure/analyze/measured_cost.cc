#include "measure/analyze/measured_cost.h"

#include <algorithm>

#include "measure/bench_record.h"
#include "measure/report/lookup.h"
#include "plan/hardware.h"

namespace quench {
namespace {

// Joules of the counted runs over their seconds, where the processors count them.
std::optional<double> measured_watt(const Json& record) {
  const auto joules = number(record, "/energy/counted_runs_j");
  if (!joules || !(*joules > 0.0)) return std::nullopt;
  double seconds = 0.0;
  for (const Json& task : list(record, "/tasks")) {
    for (const Json& run : list(task, "/runs")) {
      if (part(run, "/warmup") == Json(false)) seconds += number(run, "/e2e_s").value_or(0.0);
    }
  }
  return seconds > 0.0 ? std::optional(*joules / seconds) : std::nullopt;
}

std::optional<Between> answer_tok_s(const Json& record) {
  double tokens = 0.0, low_s = 0.0, high_s = 0.0;
  for (const Json& task : list(record, "/tasks")) {
    const Json& summary = part(task, "/summary");
    const auto median_s = number(summary, "/e2e_s/median");
    const auto length = number(summary, "/generated_tokens/median");
    if (!median_s || !length || !(*median_s > 0.0)) continue;
    tokens += *length;
    low_s += number(summary, "/e2e_s/low").value_or(*median_s);
    high_s += number(summary, "/e2e_s/high").value_or(*median_s);
  }
  if (!(tokens > 0.0) || !(low_s > 0.0)) return std::nullopt;
  return Between{tokens / high_s, tokens / low_s};
}

void add_row(MeasuredCost& cost, MeasuredCostRow row) {
  const CostInputs& prices = cost.prices;
  row.own = prices.own_per_million(row.tok_s);
  row.rent = prices.rent_per_million(row.tok_s);
  if (prices.own) {
    const Owning& own = *prices.own;
    if (own.busy_w > 0.0)
      row.kwh = kwh_per_million(own.busy_w, own.overhead_factor, row.tok_s.middle());
  }
  cost.rows.push_back(std::move(row));
}

void add_record(MeasuredCost& cost, const Json& record, const std::string& profile) {
  if (const auto tok_s = answer_tok_s(record)) {
    MeasuredCostRow row;
    row.profile = profile;
    row.tok_s = *tok_s;
    add_row(cost, std::move(row));
  }
  for (const Json& level : list(record, "/loads")) {
    const auto tok_s = number(level, "/output_tok_s");
    if (!tok_s || !(*tok_s > 0.0)) continue;
    MeasuredCostRow row;
    row.profile = profile;
    row.concurrency = number(level, "/concurrency");
    row.rate_s = number(level, "/rate_s");
    row.tok_s = {*tok_s, *tok_s};
    add_row(cost, std::move(row));
  }
}

Result<CostInputs> inputs_of(const CostWishes& wishes, const std::optional<double>& watt) {
  if (!wishes.names_a_price()) return CostInputs{};
  // Its prices and power have no entry in hardware/.
  const PricedDevices machine = {
      kThisMachine, 1, watt, {watt ? "plan.power.measured" : "plan.power.unknown"}};
  return read_cost_inputs(wishes, machine, machine);
}

Json rows_json(const MeasuredCost& cost) {
  Json rows = Json::array();
  for (const MeasuredCostRow& row : cost.rows) {
    rows.push_back({{"profile", or_null(row.profile)},
                    {"concurrency", or_null(row.concurrency)},
                    {"rate_s", or_null(row.rate_s)},
                    {"tok_s", range_json(row.tok_s)},
                    {"machine_hours_per_million_tokens", row.hours_per_million()},
                    {"kwh_per_million_tokens", or_null(row.kwh)},
                    {"own_per_million_tokens", range_json(row.own)},
                    {"rent_per_million_tokens", range_json(row.rent)}});
  }
  return rows;
}

}  // namespace

Result<MeasuredCost> measured_cost(const Json& measurement) {
  MeasuredCost cost;
  QUENCH_TRY(cost.wishes, cost_wishes_of(part(measurement, "/cost"), text(measurement, "/id")));
  const auto watt = measured_watt(measurement);
  cost.watt_is_measured = watt && !cost.wishes.busy_w;
  QUENCH_TRY(cost.prices, inputs_of(cost.wishes, watt));
  const CostInputs& prices = cost.prices;
  if (prices.own && prices.rent && !prices.rent->per_month) {
    const Between any_speed = {1.0, 1.0};
    cost.break_even = break_even(*prices.own, any_speed, *prices.rent, any_speed, prices.busy);
  }
  const Json& rows = list(measurement, "/rows");
  const Json& records = list(measurement, "/records");
  if (text(measurement, "/schema") != "quench.shootout/1") {
    add_record(cost, measurement, "");
  } else {
    for (size_t i = 0; i < std::min(rows.size(), records.size()); ++i)
      add_record(cost, records[i], text(rows[i], "/profile"));
  }
  return cost;
}

Result<void> add_cost(const CostWishes& wishes, Json& measurement) {
  if (!wishes.names_a_price()) return {};
  measurement["cost"] = cost_wishes_json(wishes);
  QUENCH_TRY(const MeasuredCost cost, measured_cost(measurement));
  measurement["cost"]["currency"] = cost.prices.currency;
  measurement["cost"]["inputs"] = english(cost.prices.lines);
  const bool pays_off = cost.break_even && cost.break_even->exists;
  measurement["cost"]["break_even_hours"] =
      pays_off ? range_json(cost.break_even->own_hours) : Json();
  measurement["cost"]["rows"] = rows_json(cost);
  if (measurement.contains("records")) {
    for (Json& record : measurement["records"]) QUENCH_TRY_VOID(add_cost(wishes, record));
  }
  measurement["id"] = nullptr;
  add_id(measurement);
  return {};
}

Result<void> check_cost_wishes(const CostWishes& wishes) {
  QUENCH_TRY([[maybe_unused]] const CostInputs inputs, inputs_of(wishes, std::nullopt));
  return {};
}

}  // namespace quench
