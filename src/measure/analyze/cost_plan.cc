#include "measure/analyze/cost_plan.h"

#include <algorithm>
#include <charconv>

namespace quench {
namespace {

constexpr double kHoursPerMonth = 730.0;
// Of the rated power while nothing runs, where nobody has measured it.
constexpr double kIdleShare = 0.1;

std::string amount_text(const Between& range, const std::string& currency) {
  return range.low == range.high
             ? fmt::format("{:.4g} {}", range.low, currency)
             : fmt::format("{:.4g} to {:.4g} {}", range.low, range.high, currency);
}

// Collects amounts in one currency and writes down where they are from.
class Inputs {
 public:
  Inputs(const CostWishes& wishes, const std::vector<Price>& prices, CostPlan& plan)
      : wishes_(wishes), prices_(prices), plan_(plan) {}

  Result<void> rates() {
    for (const std::string& text : wishes_.rates) {
      QUENCH_TRY_VOID(rates_.add(text));
      plan_.inputs.push_back(fmt::format("exchange rate {} (given)", text));
    }
    return {};
  }

  // What was said, else the shipped price; empty when there is neither.
  Result<std::optional<Between>> amount(const std::string& said, const std::string& kind,
                                        const std::string& device, int64_t devices,
                                        const char* unit) {
    Money money;
    std::string origin = "given";
    if (!said.empty()) {
      QUENCH_TRY(money, parse_money(said));
    } else {
      const Price* price = find_price(prices_, kind, device, plan_.currency, devices);
      if (price == nullptr) return std::optional<Between>();
      money = {price->amount, price->currency};
      origin = fmt::format("{}, {}", price->source, price->date);
      found_ = price;
    }
    if (plan_.currency.empty()) plan_.currency = money.currency;
    plan_.inputs.push_back(fmt::format("{}: {}{} ({})", kind,
                                       amount_text(money.amount, money.currency), unit, origin));
    if (said.empty() && money.currency != plan_.currency && wishes_.rates.empty()) {
      plan_.inputs.back() += fmt::format("; left out: no rate from {} to {} was stated",
                                         money.currency, plan_.currency);
      return std::optional<Between>();
    }
    QUENCH_TRY(const Money converted, rates_.convert(money, plan_.currency));
    return std::optional(converted.amount);
  }

  const Price* found() const { return found_; }

 private:
  const CostWishes& wishes_;
  const std::vector<Price>& prices_;
  CostPlan& plan_;
  Rates rates_;
  const Price* found_ = nullptr;
};

Result<std::pair<double, double>> parse_discount(const std::string& text) {
  double hours = 0.0, factor = 0.0;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, hours);
  const bool has_colon = first.ec == std::errc() && first.ptr != end && *first.ptr == ':';
  const auto second =
      has_colon ? std::from_chars(first.ptr + 1, end, factor) : std::from_chars_result{end, {}};
  if (!has_colon || second.ec != std::errc() || second.ptr != end || factor <= 0.0 ||
      factor > 1.0 || hours < 0.0) {
    return fail(ErrorCode::kInvalidArgument,
                "Expected a discount such as 200:0.8 (from 200 hours a month, times 0.8), found "
                "\"{}\".",
                text);
  }
  return std::pair(hours, factor);
}

Between speed(const Deployment& deployment) {
  const Interval& tok_s = deployment.used().decode_tok_s;
  return {tok_s.low, tok_s.high};
}

Result<void> read_own(const CostWishes& wishes, const Deployment& owned, Inputs& inputs,
                      CostPlan& plan) {
  const Hardware& device = owned.setup.device;
  const auto devices = static_cast<double>(owned.devices());
  QUENCH_TRY(const auto purchase,
             inputs.amount(wishes.buy, "purchase", device.name, owned.devices(), " each"));
  if (!purchase) return {};
  QUENCH_TRY(const auto electricity,
             inputs.amount(wishes.electricity, "electricity", device.name, 1, " per kWh"));
  if (!electricity) return {};
  Owning own;
  own.purchase = {purchase->low * devices, purchase->high * devices};
  own.resale_share = wishes.resale_share;
  own.life_h = wishes.life_years * 365.0 * 24.0;
  own.busy_w = wishes.busy_w.value_or(device.at("tdp_w")) * devices;
  own.idle_w = wishes.idle_w.value_or(kIdleShare * device.at("tdp_w")) * devices;
  own.electricity_per_kwh = *electricity;
  own.overhead_factor = wishes.overhead_factor;
  plan.inputs.push_back(fmt::format(
      "{:.3g} years of life, {:.0f} % of the time busy, {:.0f} W busy ({}), {:.0f} W idle ({})",
      wishes.life_years, 100.0 * wishes.busy, own.busy_w,
      wishes.busy_w ? "given" : "rated power, measure it", own.idle_w,
      wishes.idle_w ? "given" : "a tenth of it, assumed"));
  plan.own = own;
  return {};
}

Result<void> read_rent(const CostWishes& wishes, const Deployment& rented, Inputs& inputs,
                       CostPlan& plan) {
  Renting rent;
  if (!wishes.month.empty()) {
    QUENCH_TRY(const auto month, inputs.amount(wishes.month, "plan", "", 1, " a month"));
    if (month) rent.per_month = month->middle();
  }
  QUENCH_TRY(const auto per_hour, inputs.amount(wishes.rent, "rent", rented.setup.device.name,
                                                rented.devices(), " per hour and device"));
  if (!per_hour && !rent.per_month) return {};
  const auto devices = static_cast<double>(rented.devices());
  if (per_hour) rent.per_hour = {per_hour->low * devices, per_hour->high * devices};
  if (wishes.rent.empty() && inputs.found() != nullptr)
    rent.billing_step_s = inputs.found()->billing_step_s;
  rent.billing_step_s = wishes.billing_step_s.value_or(rent.billing_step_s);
  for (const std::string& text : wishes.discounts) {
    QUENCH_TRY(const auto discount, parse_discount(text));
    rent.discounts.push_back(discount);
  }
  std::sort(rent.discounts.begin(), rent.discounts.end());
  plan.rent = rent;
  return {};
}

Json range_json(const std::optional<Between>& range) {
  return range ? Json{{"low", range->low}, {"high", range->high}} : Json();
}

}  // namespace

Result<CostPlan> plan_cost(const CostWishes& wishes, const Deployment& owned,
                           const Deployment& rented, const std::vector<ConcurrencyRow>& owned_rows,
                           const std::vector<ConcurrencyRow>& rented_rows) {
  QUENCH_TRY(const std::vector<Price> prices, load_prices());
  CostPlan plan;
  plan.currency = wishes.currency;
  plan.busy = wishes.busy;
  plan.hours_per_month = kHoursPerMonth;
  plan.rent_device = rented.setup.device.name;
  plan.own_tok_s = speed(owned);
  plan.rent_tok_s = speed(rented);
  Inputs inputs(wishes, prices, plan);
  QUENCH_TRY_VOID(inputs.rates());
  QUENCH_TRY_VOID(read_own(wishes, owned, inputs, plan));
  QUENCH_TRY_VOID(read_rent(wishes, rented, inputs, plan));
  const double busy_hours = plan.hours_per_month * plan.busy;
  // A rented machine is given back when nothing is to do: its hours are all busy.
  auto rented_million = [&](const Between& tok_s) {
    return rent_cost_per_million(*plan.rent, tok_s, plan.rent->per_month ? plan.busy : 1.0,
                                 plan.rent->per_month ? plan.hours_per_month : busy_hours);
  };
  if (plan.own) {
    plan.own_per_million = own_cost_per_million(*plan.own, plan.own_tok_s, plan.busy);
    plan.energy_kwh_per_million =
        kwh_per_million(plan.own->busy_w, plan.own->overhead_factor, plan.own_tok_s.middle());
  }
  if (plan.rent) plan.rent_per_million = rented_million(plan.rent_tok_s);
  if (plan.own && plan.rent && !plan.rent->per_month) {
    plan.break_even = break_even(*plan.own, plan.own_tok_s, *plan.rent, plan.rent_tok_s, plan.busy);
    if (wishes.tokens_per_day > 0.0) {
      plan.hybrid = hybrid_cost(*plan.own, plan.own_tok_s.middle(), *plan.rent,
                                plan.rent_tok_s.middle(), wishes.tokens_per_day, wishes.busy_hours);
    }
  }
  for (size_t i = 0; i < std::max(owned_rows.size(), rented_rows.size()); ++i) {
    CostConcurrencyRow row;
    const bool has_own = i < owned_rows.size() && owned_rows[i].fits;
    const bool has_rent = i < rented_rows.size() && rented_rows[i].fits;
    if (plan.own ? !has_own : !has_rent) break;
    const ConcurrencyRow& shown = has_own ? owned_rows[i] : rented_rows[i];
    row.batch = shown.batch;
    row.tok_s = {shown.tok_s.low, shown.tok_s.high};
    if (has_own && plan.own) {
      row.own_per_million = own_cost_per_million(
          *plan.own, {owned_rows[i].tok_s.low, owned_rows[i].tok_s.high}, plan.busy);
    }
    if (has_rent && plan.rent)
      row.rent_per_million = rented_million({rented_rows[i].tok_s.low, rented_rows[i].tok_s.high});
    plan.concurrency.push_back(row);
  }
  const double slower = rented.used().decode_tok_s.value / owned.used().decode_tok_s.value;
  if (plan.own && plan.rent && slower > 1.5) {
    plan.warnings.push_back(
        fmt::format("the own machine answers {:.1f} times slower than the rented one; the costs "
                    "compare tokens, "
                    "not the same service",
                    slower));
  }
  if (!owned.fit.fits && plan.own) {
    plan.warnings.push_back(
        owned.split_devices
            ? fmt::format("the model does not fit one {}: the costs are those of {}",
                          owned.setup.device.name, *owned.split_devices)
            : fmt::format("the model does not fit {}", owned.setup.device.name));
  }
  return plan;
}

Json cost_json(const CostPlan& cost) {
  Json json = {
      {"currency", cost.currency},
      {"inputs", cost.inputs},
      {"busy_share", cost.busy},
      {"rent_device", cost.rent_device},
      {"own_per_million_tokens", range_json(cost.own_per_million)},
      {"rent_per_million_tokens", range_json(cost.rent_per_million)},
      {"energy_kwh_per_million_tokens", cost.own ? Json(cost.energy_kwh_per_million) : Json()},
      {"break_even", nullptr},
      {"hybrid", nullptr},
      {"concurrency", Json::array()},
      {"warnings", cost.warnings}};
  if (cost.break_even) {
    const BreakEven& even = *cost.break_even;
    json["break_even"] = {{"exists", even.exists},
                          {"tokens", even.exists ? Json(even.tokens_middle) : Json()},
                          {"tokens_range", even.exists ? range_json(even.tokens) : Json()},
                          {"busy_hours", even.exists ? Json(even.own_hours_middle) : Json()},
                          {"busy_hours_range", even.exists ? range_json(even.own_hours) : Json()},
                          {"within_life", even.within_life},
                          {"dominated_by", even.exists ? Json(even.dominated_by) : Json()}};
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
