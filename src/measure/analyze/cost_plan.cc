#include "measure/analyze/cost_plan.h"

#include <algorithm>

namespace quench {
namespace {

Between speed(const Deployment& deployment) {
  const Interval& tok_s = deployment.used().decode_tok_s;
  return {tok_s.low, tok_s.high};
}

PricedDevices priced(const Deployment& deployment) {
  const Hardware& device = deployment.setup.device;
  return {device.name, deployment.devices(), device.at("tdp_w"), {"plan.power.rated"}};
}

}  // namespace

Result<CostPlan> plan_cost(const CostWishes& wishes, const Demand& demand, const Deployment& owned,
                           const Deployment& rented, const std::vector<ConcurrencyRow>& owned_rows,
                           const std::vector<ConcurrencyRow>& rented_rows) {
  CostPlan plan;
  plan.rent_device = rented.setup.device.name;
  plan.own_tok_s = speed(owned);
  plan.rent_tok_s = speed(rented);
  QUENCH_TRY(plan.prices, read_cost_inputs(wishes, priced(owned), priced(rented)));
  const CostInputs& prices = plan.prices;
  plan.own_per_million = prices.own_per_million(plan.own_tok_s);
  plan.rent_per_million = prices.rent_per_million(plan.rent_tok_s);
  if (prices.own) {
    plan.energy_kwh_per_million =
        kwh_per_million(prices.own->busy_w, prices.own->overhead_factor, plan.own_tok_s.middle());
  }
  if (prices.own && prices.rent && !prices.rent->per_month) {
    plan.break_even =
        break_even(*prices.own, plan.own_tok_s, *prices.rent, plan.rent_tok_s, prices.busy);
    if (demand.tokens_per_day > 0.0) {
      plan.hybrid = hybrid_cost(*prices.own, plan.own_tok_s.middle(), *prices.rent,
                                plan.rent_tok_s.middle(), demand.tokens_per_day, demand.busy_hours);
    }
  }
  for (size_t i = 0; i < std::max(owned_rows.size(), rented_rows.size()); ++i) {
    CostConcurrencyRow row;
    const bool has_own = i < owned_rows.size() && owned_rows[i].fits;
    const bool has_rent = i < rented_rows.size() && rented_rows[i].fits;
    if (prices.own ? !has_own : !has_rent) break;
    const ConcurrencyRow& shown = has_own ? owned_rows[i] : rented_rows[i];
    row.batch = shown.batch;
    row.tok_s = {shown.tok_s.low, shown.tok_s.high};
    auto range = [](const ConcurrencyRow& of) { return Between{of.tok_s.low, of.tok_s.high}; };
    if (has_own) row.own_per_million = prices.own_per_million(range(owned_rows[i]));
    if (has_rent) row.rent_per_million = prices.rent_per_million(range(rented_rows[i]));
    plan.concurrency.push_back(row);
  }
  const double slower = rented.used().decode_tok_s.value / owned.used().decode_tok_s.value;
  if (prices.own && prices.rent && slower > 1.5) {
    plan.warnings.push_back({"plan.cost.slower", {{"times", fmt::format("{:.1f}", slower)}}});
  }
  if (!owned.fit.fits && prices.own) {
    Sentence warning = {
        "plan.cost.no_fit", {}, {{"device", device_sentence(owned.setup.device.name)}}};
    if (owned.split_devices) {
      warning.key = "plan.cost.split";
      warning.values["devices"] = std::to_string(*owned.split_devices);
    }
    plan.warnings.push_back(std::move(warning));
  }
  return plan;
}

Json cost_json(const CostPlan& cost) {
  Json json = {{"currency", cost.prices.currency},
               {"inputs", english(cost.prices.lines)},
               {"busy_share", cost.prices.busy},
               {"rent_device", cost.rent_device},
               {"own_per_million_tokens", range_json(cost.own_per_million)},
               {"rent_per_million_tokens", range_json(cost.rent_per_million)},
               {"energy_kwh_per_million_tokens",
                cost.prices.own ? Json(cost.energy_kwh_per_million) : Json()},
               {"break_even", nullptr},
               {"hybrid", nullptr},
               {"concurrency", Json::array()},
               {"warnings", english(cost.warnings)}};
  if (cost.break_even) {
    const BreakEven& even = *cost.break_even;
    json["break_even"] = {
        {"exists", even.exists},
        {"tokens", even.exists ? Json(even.tokens_middle) : Json()},
        {"tokens_range", even.exists ? range_json(even.tokens) : Json()},
        {"busy_hours", even.exists ? Json(even.own_hours_middle) : Json()},
        {"busy_hours_range", even.exists ? range_json(even.own_hours) : Json()},
        {"within_life", even.within_life},
        {"dominated_by", even.exists ? Json(Strings::of("en")(even.dominated_by)) : Json()}};
  }
  if (cost.hybrid) {
    const Hybrid& hybrid = *cost.hybrid;
    json["hybrid"] = {{"own_tokens_per_day", hybrid.own_tokens_per_day},
                      {"rented_tokens_per_day", hybrid.rented_tokens_per_day},
                      {"rented_hours_per_day", hybrid.rented_hours_per_day},
                      {"machines_for_peak", hybrid.machines_for_peak},
                      {"own_only_per_day", hybrid.own_only_per_day},
                      {"rent_only_per_day", hybrid.rent_only_per_day},
                      {"hybrid_per_day", hybrid.hybrid_per_day}};
  }
  for (const CostConcurrencyRow& row : cost.concurrency) {
    json["concurrency"].push_back({{"batch", row.batch},
                                   {"tok_s", range_json(row.tok_s)},
                                   {"own_per_million_tokens", range_json(row.own_per_million)},
                                   {"rent_per_million_tokens", range_json(row.rent_per_million)}});
  }
  return json;
}

}  // namespace quench
