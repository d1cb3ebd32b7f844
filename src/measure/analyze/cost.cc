#include "measure/analyze/cost.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/paths.h"
#include "base/random.h"
#include "measure/statistics.h"

namespace quench {
namespace {

constexpr double kDaysPerYear = 365.0;
constexpr int kDraws = 2000;

// A number at the front of the text, which is moved behind it.
std::optional<double> take_number(std::string_view& text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0.0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool is_currency(std::string_view text) {
  return text.size() == 3 && std::all_of(text.begin(), text.end(),
                                         [](unsigned char c) { return std::isupper(c) != 0; });
}

double discount(const Renting& rent, double hours_per_month) {
  double factor = 1.0;
  for (const auto& [from_hours, value] : rent.discounts) {
    if (hours_per_month >= from_hours) factor = value;
  }
  return factor;
}

double own_fixed_per_hour(const Owning& own, double purchase) {
  return purchase * (1.0 - own.resale_share) / own.life_h;
}

double own_per_million(const Owning& own, double purchase, double electricity, double tok_s,
                       double busy) {
  const double idle_kwh = own.idle_w * own.overhead_factor / 1e3 * (1.0 - busy);
  const double busy_kwh = own.busy_w * own.overhead_factor / 1e3 * busy;
  const double per_hour = own_fixed_per_hour(own, purchase) + (idle_kwh + busy_kwh) * electricity;
  return per_hour / (tok_s * 3600.0 * busy) * 1e6;
}

double drawn(const Between& range, double uniform) {
  if (range.low <= 0.0) return range.low + (range.high - range.low) * uniform;
  return range.low * std::pow(range.high / range.low, uniform);
}

}  // namespace

Json range_json(const std::optional<Between>& range) {
  return range ? Json{{"low", range->low}, {"high", range->high}} : Json();
}

double Between::middle() const { return low > 0.0 ? std::sqrt(low * high) : (low + high) / 2.0; }

Result<std::vector<Price>> load_prices() {
  QUENCH_TRY(const std::string path, data_path("hardware/prices.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  std::vector<Price> prices;
  try {
    for (const Json& row : json.at("prices")) {
      Price price;
      price.id = row.at("id");
      price.kind = row.at("kind");
      price.device = row.value("device", "");
      price.amount = {row.at("low"), row.at("high")};
      price.currency = row.at("currency");
      price.billing_step_s = row.value("billing_step_s", 1.0);
      price.devices_at_least = row.value("devices_at_least", int64_t{1});
      price.date = row.at("date");
      price.source = row.at("source");
      prices.push_back(std::move(price));
    }
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", path, e.what());
  }
  return prices;
}

const Price* find_price(const std::vector<Price>& prices, const std::string& kind,
                        const std::string& device, const std::string& currency, int64_t devices) {
  const Price* other = nullptr;
  for (const Price& price : prices) {
    if (price.kind != kind || (!price.device.empty() && price.device != device) ||
        price.devices_at_least > devices)
      continue;
    if (currency.empty() || price.currency == currency) return &price;
    if (other == nullptr) other = &price;
  }
  return other;
}

Result<Money> parse_money(const std::string& text) {
  std::string_view rest = text;
  auto refuse = [&] {
    return fail(ErrorCode::kInvalidArgument,
                "Expected an amount with its currency, such as 2500CNY or 1.10-2.50USD, found "
                "\"{}\".",
                text);
  };
  const auto low = take_number(rest);
  if (!low) return refuse();
  std::optional<double> high = low;
  if (rest.starts_with('-')) {
    rest.remove_prefix(1);
    high = take_number(rest);
  }
  if (!high || *high < *low || !is_currency(rest)) return refuse();
  return Money{{*low, *high}, std::string(rest)};
}

Result<void> Rates::add(const std::string& text) {
  std::string_view rest = text;
  auto refuse = [&] {
    return fail(ErrorCode::kInvalidArgument,
                "Expected an exchange rate such as USD=7.1CNY, found \"{}\".", text);
  };
  if (rest.size() < 4 || rest[3] != '=') return refuse();
  const std::string from(rest.substr(0, 3));
  rest.remove_prefix(4);
  const auto factor = take_number(rest);
  if (!factor || *factor <= 0.0 || !is_currency(from) || !is_currency(rest)) return refuse();
  rates_.push_back({from, std::string(rest), *factor});
  return {};
}

Result<Money> Rates::convert(const Money& money, const std::string& currency) const {
  if (money.currency == currency) return money;
  for (const Rate& rate : rates_) {
    const bool forward = rate.from == money.currency && rate.to == currency;
    const bool backward = rate.to == money.currency && rate.from == currency;
    if (!forward && !backward) continue;
    const double factor = forward ? rate.factor : 1.0 / rate.factor;
    return Money{{money.amount.low * factor, money.amount.high * factor}, currency};
  }
  return fail(
      ErrorCode::kInvalidArgument,
      "An amount in {} cannot be compared with one in {}: state the rate, such as --exchange-rate "
      "{}=...{}.",
      money.currency, currency, money.currency, currency);
}

double kwh_per_million(double busy_w, double overhead_factor, double tok_s) {
  return busy_w * overhead_factor / 1e3 / (tok_s * 3600.0) * 1e6;
}

Between own_cost_per_million(const Owning& own, const Between& tok_s, double busy) {
  return {own_per_million(own, own.purchase.low, own.electricity_per_kwh.low, tok_s.high, busy),
          own_per_million(own, own.purchase.high, own.electricity_per_kwh.high, tok_s.low, busy)};
}

Between rent_cost_per_million(const Renting& rent, const Between& tok_s, double busy,
                              double hours_per_month) {
  if (rent.per_month) {
    auto cost = [&](double speed) {
      return *rent.per_month / (speed * 3600.0 * hours_per_month * busy) * 1e6;
    };
    return {cost(tok_s.high), cost(tok_s.low)};
  }
  const double factor = discount(rent, hours_per_month);
  return {rent.per_hour.low * factor / (tok_s.high * 3600.0 * busy) * 1e6,
          rent.per_hour.high * factor / (tok_s.low * 3600.0 * busy) * 1e6};
}

Between rent_cost(const Renting& rent, double seconds, double hours_per_month) {
  const double billed_h =
      std::ceil(seconds / rent.billing_step_s - 1e-9) * rent.billing_step_s / 3600.0;
  const double factor = discount(rent, hours_per_month) * billed_h;
  return {rent.per_hour.low * factor, rent.per_hour.high * factor};
}

BreakEven break_even(const Owning& own, const Between& own_tok_s, const Renting& rent,
                     const Between& rent_tok_s, double busy) {
  enum Input { kPurchase, kElectricity, kOwnSpeed, kRent, kRentSpeed, kNumInputs };
  constexpr std::array<const char*, kNumInputs> kNames = {
      "plan.input.purchase", "plan.input.electricity", "plan.input.own_speed", "plan.input.rent",
      "plan.input.rent_speed"};
  using Inputs = std::array<double, kNumInputs>;
  // Tokens; infinite where a token on the own machine costs more than a rented one.
  auto tokens = [&](const Inputs& u) {
    const double speed = drawn(own_tok_s, u[kOwnSpeed]);
    const double idle_w = own.idle_w * (1.0 - busy) / busy;
    const double own_token = (own.busy_w + idle_w) * own.overhead_factor / 1e3 *
                             drawn(own.electricity_per_kwh, u[kElectricity]) / (speed * 3600.0);
    const double rented_token =
        drawn(rent.per_hour, u[kRent]) / (drawn(rent_tok_s, u[kRentSpeed]) * 3600.0);
    const double gain = rented_token - own_token;
    const double price = drawn(own.purchase, u[kPurchase]) * (1.0 - own.resale_share);
    return gain > 0.0 ? price / gain : HUGE_VAL;
  };
  BreakEven result;
  result.years_at_most = own.life_h / (24.0 * kDaysPerYear);
  Inputs middle;
  middle.fill(0.5);
  result.tokens_middle = tokens(middle);
  result.exists = std::isfinite(result.tokens_middle);
  if (!result.exists) return result;
  std::vector<double> draws;
  std::vector<double> hours;
  for (int i = 0; i < kDraws; ++i) {
    Inputs u;
    for (size_t k = 0; k < kNumInputs; ++k)
      u[k] = random_uniform(0, static_cast<uint64_t>(i) * kNumInputs + k);
    draws.push_back(tokens(u));
    hours.push_back(draws.back() / (drawn(own_tok_s, u[kOwnSpeed]) * 3600.0));
  }
  result.tokens = {percentile(draws, 5.0), percentile(draws, 95.0)};
  result.own_hours = {percentile(hours, 5.0), percentile(hours, 95.0)};
  result.own_hours_middle = result.tokens_middle / (own_tok_s.middle() * 3600.0);
  result.within_life = result.own_hours_middle <= own.life_h * busy;
  double largest = -1.0;
  for (size_t k = 0; k < kNumInputs; ++k) {
    Inputs low = middle, high = middle;
    low[k] = 0.0;
    high[k] = 1.0;
    const double a = tokens(low), b = tokens(high);
    const double spread = std::isfinite(a) && std::isfinite(b) ? std::fabs(std::log(a / b)) : 1e9;
    if (spread > largest) {
      largest = spread;
      result.dominated_by = {kNames[k]};
    }
  }
  return result;
}

Hybrid hybrid_cost(const Owning& own, double own_tok_s, const Renting& rent, double rent_tok_s,
                   double tokens_per_day, double busy_hours) {
  Hybrid result;
  const double capacity = own_tok_s * 3600.0 * busy_hours;
  const double electricity = own.electricity_per_kwh.middle();
  const double fixed_per_day = own_fixed_per_hour(own, own.purchase.middle()) * 24.0;
  auto power_per_day = [&](double busy_h) {
    return (own.busy_w * busy_h + own.idle_w * (24.0 - busy_h)) * own.overhead_factor / 1e3 *
           electricity;
  };
  auto rented = [&](double tokens) { return tokens / (rent_tok_s * 3600.0); };
  result.own_tokens_per_day = std::min(tokens_per_day, capacity);
  result.rented_tokens_per_day = tokens_per_day - result.own_tokens_per_day;
  result.rented_hours_per_day = rented(result.rented_tokens_per_day);
  result.machines_for_peak = std::ceil(tokens_per_day / capacity - 1e-9);
  const double busy_each =
      tokens_per_day / (own_tok_s * 3600.0) / std::max(result.machines_for_peak, 1.0);
  result.own_only_per_day = result.machines_for_peak * (fixed_per_day + power_per_day(busy_each));
  result.rent_only_per_day = rent_cost(rent, rented(tokens_per_day) * 3600.0).middle();
  result.hybrid_per_day = fixed_per_day +
                          power_per_day(result.own_tokens_per_day / (own_tok_s * 3600.0)) +
                          rent_cost(rent, result.rented_hours_per_day * 3600.0).middle();
  return result;
}

}  // namespace quench
