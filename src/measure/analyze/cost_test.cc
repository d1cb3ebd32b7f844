#include "measure/analyze/cost.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

TEST(Cost, MoneyIsReadWithItsCurrency) {
  EXPECT_EQ(parse_money("2500CNY")->amount.low, 2500.0);
  const Money range = *parse_money("1.10-2.50USD");
  EXPECT_EQ(range.amount.low, 1.1);
  EXPECT_EQ(range.amount.high, 2.5);
  EXPECT_EQ(range.currency, "USD");
  for (const char* wrong : {"2500", "CNY", "2500yuan", "3-1USD", "-1USD", "1e999USD", "nanUSD"})
    EXPECT_FALSE(parse_money(wrong)) << wrong;
}

TEST(Cost, CurrenciesAreNotMixedWithoutARate) {
  Rates rates;
  const Money yuan = {{71.0, 142.0}, "CNY"};
  EXPECT_NE(rates.convert(yuan, "USD").error().message.find("--exchange-rate"), std::string::npos);
  ASSERT_TRUE(rates.add("USD=7.1CNY"));
  EXPECT_NEAR(rates.convert(yuan, "USD")->amount.high, 20.0, 1e-9);
  EXPECT_NEAR(rates.convert({{1.0, 1.0}, "USD"}, "CNY")->amount.low, 7.1, 1e-9);
  for (const char* wrong : {"USD", "USD=7.1", "USD=0CNY", "USD7.1CNY", "usd=1CNY"})
    EXPECT_FALSE(rates.add(wrong)) << wrong;
}

TEST(Cost, RentIsBilledInSteps) {
  Renting rent;
  rent.per_hour = {15.0, 15.0};
  EXPECT_NEAR(rent_cost(rent, 20.0 * 60.0).low, 5.0, 1e-9);
  rent.billing_step_s = 3600.0;
  EXPECT_NEAR(rent_cost(rent, 20.0 * 60.0).low, 15.0, 1e-9);
  EXPECT_NEAR(rent_cost(rent, 3600.0).low, 15.0, 1e-9);
  rent.discounts = {{200.0, 0.8}, {500.0, 0.5}};
  EXPECT_NEAR(rent_cost(rent, 3600.0, 250.0).low, 12.0, 1e-9);
  EXPECT_NEAR(rent_cost(rent, 3600.0, 700.0).low, 7.5, 1e-9);
}

TEST(Cost, AMillionTokens) {
  Renting rent;
  rent.per_hour = {1.8, 1.8};
  // The rule of the field: $/h / (tok/s x 3600) x 1e6.
  EXPECT_NEAR(rent_cost_per_million(rent, {154.0, 154.0}, 1.0, 0.0).low, 3.25, 0.01);
  EXPECT_NEAR(kwh_per_million(170.0, 1.0, 58.0), 0.814, 0.001);
  Owning own;
  own.purchase = {876.0, 876.0};
  own.life_h = 8760.0;
  own.busy_w = 100.0;
  own.idle_w = 10.0;
  own.electricity_per_kwh = {0.2, 0.2};
  // An hour: 0.1 of the price, half an hour at 100 W and half at 10 W; 36,000 tokens in it.
  EXPECT_NEAR(own_cost_per_million(own, {20.0, 20.0}, 0.5).low, (0.1 + 0.055 * 0.2) / 0.036, 1e-6);
  rent.per_month = 300.0;
  EXPECT_NEAR(rent_cost_per_million(rent, {10.0, 10.0}, 0.5, 730.0).low,
              300.0 / (10.0 * 3600.0 * 365.0) * 1e6, 1e-6);
}

TEST(Cost, BreakEvenOfTheWorkedExample) {
  // An RTX 3060 for 335 at 58 tok/s and 170 W against an A100 at 1.80 an hour and 154 tok/s: the
  // card pays off after about 107 million tokens.
  Owning own;
  own.purchase = {335.0, 335.0};
  own.busy_w = 170.0;
  own.electricity_per_kwh = {0.15, 0.15};
  Renting rent;
  rent.per_hour = {1.8, 1.8};
  const BreakEven sharp = break_even(own, {58.0, 58.0}, rent, {154.0, 154.0}, 1.0);
  ASSERT_TRUE(sharp.exists);
  EXPECT_NEAR(sharp.tokens_middle / 1e6, 335.0 / (3.2468 - 0.1221), 0.1);
  EXPECT_NEAR(sharp.own_hours_middle, sharp.tokens_middle / 58.0 / 3600.0, 1e-6);
  EXPECT_NEAR(sharp.tokens.low, sharp.tokens.high, 1.0);
  rent.per_hour = {1.1, 2.5};
  const BreakEven wide = break_even(own, {50.0, 66.0}, rent, {154.0, 154.0}, 1.0);
  EXPECT_LT(wide.tokens.low, wide.tokens_middle);
  EXPECT_GT(wide.tokens.high, wide.tokens_middle);
  EXPECT_EQ(wide.dominated_by.key, "plan.input.rent");
  own.electricity_per_kwh = {9.0, 9.0};
  EXPECT_FALSE(break_even(own, {58.0, 58.0}, rent, {154.0, 154.0}, 1.0).exists);
}

TEST(Cost, HybridRentsTheOverflowOnly) {
  Owning own;
  own.purchase = {1000.0, 1000.0};
  own.life_h = 10000.0;
  own.electricity_per_kwh = {0.1, 0.1};
  Renting rent;
  rent.per_hour = {2.0, 2.0};
  // 10 tok/s over 10 hours are 360,000 a day.
  const Hybrid hybrid = hybrid_cost(own, 10.0, rent, 100.0, 500000.0, 10.0);
  EXPECT_NEAR(hybrid.own_tokens_per_day, 360000.0, 1e-6);
  EXPECT_NEAR(hybrid.rented_tokens_per_day, 140000.0, 1e-6);
  EXPECT_NEAR(hybrid.rented_hours_per_day, 140000.0 / 360000.0, 1e-9);
  EXPECT_EQ(hybrid.machines_for_peak, 2.0);
  EXPECT_NEAR(hybrid.own_only_per_day, 4.8, 1e-9);
  EXPECT_NEAR(hybrid.hybrid_per_day, 2.4 + hybrid.rented_hours_per_day * 2.0, 1e-3);
}

TEST(Cost, ShippedPricesHaveASourceAndADate) {
  const auto prices = load_prices();
  ASSERT_TRUE(prices) << prices.error().message;
  for (const Price& price : *prices) {
    EXPECT_FALSE(price.source.empty() || price.date.empty()) << price.id;
    EXPECT_LE(price.amount.low, price.amount.high) << price.id;
  }
  EXPECT_EQ(find_price(*prices, "rent", "A100-SXM4-80GB", "CNY")->amount.low, 15.0);
  EXPECT_EQ(find_price(*prices, "rent", "T4", "USD"), nullptr);
}

}  // namespace
}  // namespace quench
