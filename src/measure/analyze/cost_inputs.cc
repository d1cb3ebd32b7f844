#include "measure/analyze/cost_inputs.h"

#include <algorithm>
#include <charconv>

#include "plan/hardware.h"

namespace quench {
namespace {

constexpr double kHoursPerMonth = 730.0;
// Of the rated power while nothing runs, where nobody has measured it.
constexpr double kIdleShare = 0.1;

// "rent: 15 CNY per hour and device (given)".
Sentence price_line(const std::string& kind, const Money& money, Sentence origin) {
  auto digits = [](double value) { return fmt::format("{:.4g}", value); };
  Sentence line = {"plan.price." + kind, {}, {{"origin", std::move(origin)}}};
  const auto& [low, high] = money.amount;
  if (low == high) {
    line.values["amount"] = digits(low) + " " + money.currency;
  } else {
    line.parts.emplace_back(
        "amount",
        Sentence{"plan.price.amounts",
                 {{"low", digits(low)}, {"high", digits(high)}, {"currency", money.currency}}});
  }
  return line;
}

// Collects amounts in one currency and writes down where they are from.
class PriceReader {
 public:
  PriceReader(const CostWishes& wishes, const std::vector<Price>& prices, CostInputs& inputs)
      : wishes_(wishes), prices_(prices), inputs_(inputs) {}

  Result<void> rates() {
    for (const std::string& text : wishes_.rates) {
      QUENCH_TRY_VOID(rates_.add(text));
      inputs_.lines.push_back({"plan.price.rate", {{"rate", text}}});
    }
    return {};
  }

  // What was said, else the shipped price; empty when there is neither.
  Result<std::optional<Between>> amount(const std::string& said, const std::string& kind,
                                        const std::string& device, int64_t devices) {
    Money money;
    Sentence origin = {"plan.price.given"};
    if (!said.empty()) {
      QUENCH_TRY(money, parse_money(said));
    } else {
      const Price* price = find_price(prices_, kind, device, inputs_.currency, devices);
      if (price == nullptr) return std::optional<Between>();
      money = {price->amount, price->currency};
      origin = {"plan.price.from", {{"source", price->source}, {"date", price->date}}};
      found_ = price;
    }
    if (inputs_.currency.empty()) inputs_.currency = money.currency;
    Sentence line = price_line(kind, money, std::move(origin));
    if (said.empty() && money.currency != inputs_.currency && wishes_.rates.empty()) {
      inputs_.lines.push_back({"plan.price.no_rate",
                               {{"from", money.currency}, {"to", inputs_.currency}},
                               {{"price", std::move(line)}}});
      return std::optional<Between>();
    }
    inputs_.lines.push_back(std::move(line));
    QUENCH_TRY(const Money converted, rates_.convert(money, inputs_.currency));
    return std::optional(converted.amount);
  }

  const Price* found() const { return found_; }

 private:
  const CostWishes& wishes_;
  const std::vector<Price>& prices_;
  CostInputs& inputs_;
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

Result<void> read_own(const CostWishes& wishes, const PricedDevices& owned, PriceReader& prices,
                      CostInputs& inputs) {
  const auto devices = static_cast<double>(owned.count);
  QUENCH_TRY(const auto purchase, prices.amount(wishes.buy, "purchase", owned.name, owned.count));
  if (!purchase) {
    if (!wishes.electricity.empty()) {
      inputs.lines.push_back(
          {"plan.price.no_purchase", {}, {{"device", device_sentence(owned.name)}}});
    }
    return {};
  }
  QUENCH_TRY(const auto electricity,
             prices.amount(wishes.electricity, "electricity", owned.name, 1));
  if (!electricity) {
    inputs.lines.push_back({"plan.price.no_electricity", {{"currency", inputs.currency}}});
    return {};
  }
  Owning own;
  own.purchase = {purchase->low * devices, purchase->high * devices};
  own.resale_share = wishes.resale_share;
  own.life_h = wishes.life_years * 365.0 * 24.0;
  const double known_w = owned.busy_w.value_or(0.0);
  own.busy_w = wishes.busy_w.value_or(known_w) * devices;
  own.idle_w = wishes.idle_w.value_or(kIdleShare * wishes.busy_w.value_or(known_w)) * devices;
  own.electricity_per_kwh = *electricity;
  own.overhead_factor = wishes.overhead_factor;
  const Sentence given = {"plan.price.given"};
  inputs.lines.push_back({"plan.price.use",
                          {{"years", fmt::format("{:.3g}", wishes.life_years)},
                           {"percent", fmt::format("{:.0f}", 100.0 * wishes.busy)},
                           {"busy_w", fmt::format("{:.0f}", own.busy_w)},
                           {"idle_w", fmt::format("{:.0f}", own.idle_w)}},
                          {{"busy_origin", wishes.busy_w ? given : owned.busy_w_origin},
                           {"idle_origin", wishes.idle_w ? given : Sentence{"plan.power.tenth"}}}});
  inputs.own = own;
  return {};
}

Result<void> read_rent(const CostWishes& wishes, const PricedDevices& rented, PriceReader& prices,
                       CostInputs& inputs) {
  Renting rent;
  if (!wishes.month.empty()) {
    QUENCH_TRY(const auto month, prices.amount(wishes.month, "plan", "", 1));
    if (month) rent.per_month = month->middle();
  }
  QUENCH_TRY(const auto per_hour, prices.amount(wishes.rent, "rent", rented.name, rented.count));
  if (!per_hour && !rent.per_month) return {};
  const auto devices = static_cast<double>(rented.count);
  if (per_hour) rent.per_hour = {per_hour->low * devices, per_hour->high * devices};
  if (wishes.rent.empty() && prices.found() != nullptr)
    rent.billing_step_s = prices.found()->billing_step_s;
  rent.billing_step_s = wishes.billing_step_s.value_or(rent.billing_step_s);
  for (const std::string& text : wishes.discounts) {
    QUENCH_TRY(const auto discount, parse_discount(text));
    rent.discounts.push_back(discount);
  }
  std::sort(rent.discounts.begin(), rent.discounts.end());
  inputs.rent = rent;
  return {};
}

// A field of "cost" where a user or an older version wrote it; what is missing keeps its default.
template <class T>
Result<void> read_field(const Json& cost, const char* key, const std::string& where, T& value) {
  const auto found = cost.find(key);
  if (found == cost.end() || found->is_null()) return {};
  try {
    value = found->get<T>();
  } catch (const Json::exception&) {
    return fail(ErrorCode::kInvalidFile, "{}: cost.{} is not of its type: {:.60}.", where, key,
                found->dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return {};
}

Result<void> read_field(const Json& cost, const char* key, const std::string& where,
                        std::optional<double>& value) {
  double number = 0.0;
  const bool is_there = cost.contains(key) && !cost[key].is_null();
  QUENCH_TRY_VOID(read_field(cost, key, where, number));
  if (is_there) value = number;
  return {};
}

}  // namespace

Sentence device_sentence(const std::string& name) {
  return name == kThisMachine ? Sentence{"plan.this_machine"}
                              : Sentence{"plan.device", {{"name", name}}};
}

std::optional<Between> CostInputs::own_per_million(const Between& tok_s) const {
  if (!own) return std::nullopt;
  return own_cost_per_million(*own, tok_s, busy);
}

std::optional<Between> CostInputs::rent_per_million(const Between& tok_s) const {
  if (!rent) return std::nullopt;
  return rent->per_month ? rent_cost_per_million(*rent, tok_s, busy, hours_per_month)
                         : rent_cost_per_million(*rent, tok_s, 1.0, hours_per_month * busy);
}

Result<CostInputs> read_cost_inputs(const CostWishes& wishes, const PricedDevices& owned,
                                    const PricedDevices& rented) {
  QUENCH_TRY(const std::vector<Price> prices, load_prices());
  CostInputs inputs;
  inputs.currency = wishes.currency;
  inputs.busy = wishes.busy;
  inputs.hours_per_month = kHoursPerMonth;
  PriceReader reader(wishes, prices, inputs);
  QUENCH_TRY_VOID(reader.rates());
  QUENCH_TRY_VOID(read_own(wishes, owned, reader, inputs));
  QUENCH_TRY_VOID(read_rent(wishes, rented, reader, inputs));
  return inputs;
}

Json cost_wishes_json(const CostWishes& wishes) {
  if (!wishes.names_a_price()) return {};
  auto said = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  auto known = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  return {{"purchase", said(wishes.buy)},
          {"rent_per_hour", said(wishes.rent)},
          {"electricity_per_kwh", said(wishes.electricity)},
          {"rent_per_month", said(wishes.month)},
          {"currency", said(wishes.currency)},
          {"rates", wishes.rates},
          {"discounts", wishes.discounts},
          {"billing_step_s", known(wishes.billing_step_s)},
          {"busy_w", known(wishes.busy_w)},
          {"idle_w", known(wishes.idle_w)},
          {"resale_share", wishes.resale_share},
          {"life_years", wishes.life_years},
          {"busy_share", wishes.busy},
          {"power_overhead", wishes.overhead_factor}};
}

Result<CostWishes> cost_wishes_of(const Json& cost, const std::string& where) {
  CostWishes wishes;
  if (!cost.is_object()) return wishes;
  auto text = [&](const char* key, std::string& value) {
    return read_field(cost, key, where, value);
  };
  QUENCH_TRY_VOID(text("purchase", wishes.buy));
  QUENCH_TRY_VOID(text("rent_per_hour", wishes.rent));
  QUENCH_TRY_VOID(text("electricity_per_kwh", wishes.electricity));
  QUENCH_TRY_VOID(text("rent_per_month", wishes.month));
  QUENCH_TRY_VOID(text("currency", wishes.currency));
  QUENCH_TRY_VOID(read_field(cost, "rates", where, wishes.rates));
  QUENCH_TRY_VOID(read_field(cost, "discounts", where, wishes.discounts));
  QUENCH_TRY_VOID(read_field(cost, "billing_step_s", where, wishes.billing_step_s));
  QUENCH_TRY_VOID(read_field(cost, "busy_w", where, wishes.busy_w));
  QUENCH_TRY_VOID(read_field(cost, "idle_w", where, wishes.idle_w));
  QUENCH_TRY_VOID(read_field(cost, "resale_share", where, wishes.resale_share));
  QUENCH_TRY_VOID(read_field(cost, "life_years", where, wishes.life_years));
  QUENCH_TRY_VOID(read_field(cost, "busy_share", where, wishes.busy));
  QUENCH_TRY_VOID(read_field(cost, "power_overhead", where, wishes.overhead_factor));
  return wishes;
}

}  // namespace quench
