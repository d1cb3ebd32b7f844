#include "measure/analyze/compare.h"

#include <algorithm>
#include <cmath>

#include "measure/analyze/rank_sum.h"
#include "measure/analyze/record_side.h"
#include "measure/statistics.h"

namespace quench {
namespace {

struct Metric {
  const char* name;
  bool is_speed;  // larger is better
};
constexpr Metric kMetrics[] = {
    {"ttft_s", false}, {"e2e_s", false}, {"e2e_equal_length_s", false}, {"decode_tok_s", true}};

// The whole answer at one length for both sides: the first token, then so many at the run's speed.
std::vector<double> at_length(const SideTask& task, double tokens) {
  std::vector<double> values;
  const size_t n = std::min(task.ttft_s.size(), task.decode_tok_s.size());
  if (n != task.ttft_s.size() || n != task.decode_tok_s.size()) return values;
  for (size_t i = 0; i < n; ++i)
    values.push_back(task.ttft_s[i] + (tokens - 1.0) / task.decode_tok_s[i]);
  return values;
}

std::vector<double> values_of(const SideTask& task, const std::string& metric, double tokens) {
  if (metric == "ttft_s") return task.ttft_s;
  if (metric == "e2e_s") return task.e2e_s;
  if (metric == "decode_tok_s") return task.decode_tok_s;
  return tokens > 1.0 ? at_length(task, tokens) : std::vector<double>();
}

double common_length(const SideTask& a, const SideTask& b) {
  std::vector<double> all = a.tokens;
  all.insert(all.end(), b.tokens.begin(), b.tokens.end());
  return all.empty() ? 0.0 : median(all);
}

const SideTask* find_task(const RecordSide& side, const std::string& name) {
  for (const SideTask& task : side.tasks) {
    if (task.name == name) return &task;
  }
  return nullptr;
}

// Each pair a stratum of its own: what the machine did meanwhile falls on both, and the rank test
// becomes the sign test.
std::vector<Stratum> in_pairs(const Stratum& values) {
  std::vector<Stratum> pairs;
  for (size_t i = 0; i < std::min(values.a.size(), values.b.size()); ++i)
    pairs.push_back({{values.a[i]}, {values.b[i]}});
  return pairs;
}

// One row over the strata; `a` is the base, so the shift of a time is how much faster b is.
CompareRow make_row(const std::string& task, const Metric& metric,
                    const std::vector<Stratum>& strata, double alpha) {
  CompareRow row;
  row.task = task;
  row.metric = metric.name;
  std::vector<double> a, b;
  for (const Stratum& stratum : strata) {
    a.insert(a.end(), stratum.a.begin(), stratum.a.end());
    b.insert(b.end(), stratum.b.begin(), stratum.b.end());
  }
  row.runs_a = static_cast<int64_t>(a.size());
  row.runs_b = static_cast<int64_t>(b.size());
  row.a = median(a);
  row.b = median(b);
  const RankTest test = rank_test(strata, alpha);
  const double sign = metric.is_speed ? -1.0 : 1.0;
  row.speedup = std::exp(sign * test.shift);
  row.low = std::exp(metric.is_speed ? -test.high : test.low);
  row.high = std::exp(metric.is_speed ? -test.low : test.high);
  row.p = test.p;
  row.has_too_few_runs = test.least_p > alpha;
  return row;
}

// The whole table calls a difference that is none with at most the wanted probability.
void judge_rows(std::vector<CompareRow>& rows, double alpha) {
  std::vector<double> p;
  for (const CompareRow& row : rows) p.push_back(row.p);
  const std::vector<double> adjusted = holm_adjusted(p);
  for (size_t i = 0; i < rows.size(); ++i) {
    CompareRow& row = rows[i];
    row.verdict = adjusted[i] > alpha ? "cannot tell" : row.speedup > 1.0 ? "faster" : "slower";
  }
}

using SideValues = std::vector<double> SideTask::*;

// Over the tasks that have `having` too.
std::optional<double> pooled(const RecordSide& side, SideValues values, SideValues having) {
  std::vector<double> all;
  for (const SideTask& task : side.tasks) {
    if (!(task.*having).empty())
      all.insert(all.end(), (task.*values).begin(), (task.*values).end());
  }
  return all.empty() ? std::nullopt : std::optional(median(all));
}
std::optional<double> pooled(const RecordSide& side, SideValues values) {
  return pooled(side, values, values);
}

std::string three(double value) { return fmt::format("{:.3g}", value); }

// The factor of one cause, taken out of what is left.
void take(Breakdown& breakdown, double& left, const char* name, double factor, Clause because) {
  breakdown.causes.push_back({name, factor, std::move(because)});
  left /= factor;
}

// What runs beside the model's own work, `base_a_s` being the time of all of it on side a.
void take_overhead(const RecordSide& a, const RecordSide& b, double base_a_s, SideValues metric,
                   Breakdown& breakdown, double& left) {
  SideValues values = &SideTask::overhead_s;
  const char* cause = "overhead";
  auto part_a = pooled(a, values, metric);
  auto part_b = pooled(b, values, metric);
  if (!part_a || !part_b) {
    values = &SideTask::host_s;
    cause = "host";
    part_a = pooled(a, values);
    part_b = pooled(b, values);
  }
  if (!part_a || !part_b) {
    if (breakdown.missing.empty()) breakdown.missing = "times";
    return;
  }
  // What the time of a would be with this part of b.
  const double factor = base_a_s / std::max(base_a_s - *part_a + *part_b, 1e-12);
  take(breakdown, left, cause, factor,
       {cause, {{"a_ms", three(*part_a * 1e3)}, {"b_ms", three(*part_b * 1e3)}}});
}

// A name of strings/*.json.
std::string peak_origin(const RecordSide& side) {
  return side.peaks_are_measured ? "measured" : "data_sheet";
}

Clause peaks_clause(const char* key, double peak_a, const RecordSide& a, double peak_b,
                    const RecordSide& b) {
  return {key,
          {{"a", fmt::format("{:.4g}", peak_a)},
           {"a_origin", peak_origin(a)},
           {"b", fmt::format("{:.4g}", peak_b)},
           {"b_origin", peak_origin(b)}}};
}

std::optional<Breakdown> decode_breakdown(const RecordSide& a, const RecordSide& b) {
  const auto speed_a = pooled(a, &SideTask::decode_tok_s);
  const auto speed_b = pooled(b, &SideTask::decode_tok_s);
  if (!speed_a || !speed_b) return std::nullopt;
  Breakdown breakdown;
  breakdown.metric = "decode_tok_s";
  breakdown.speedup = *speed_b / *speed_a;
  double left = breakdown.speedup;
  if (a.bytes_per_token && b.bytes_per_token) {
    take(breakdown, left, "weights", *a.bytes_per_token / *b.bytes_per_token,
         {"weights",
          {{"a_gb", three(*a.bytes_per_token / 1e9)}, {"b_gb", three(*b.bytes_per_token / 1e9)}}});
  }
  if (a.read_gb_s && b.read_gb_s) {
    take(breakdown, left, "bandwidth", *b.read_gb_s / *a.read_gb_s,
         peaks_clause("bandwidth", *a.read_gb_s, a, *b.read_gb_s, b));
  } else {
    breakdown.missing = "ceilings";
  }
  take_overhead(a, b, 1.0 / *speed_a, &SideTask::decode_tok_s, breakdown, left);
  Clause because = {"left", Json::object()};
  if (a.bytes_per_token && b.bytes_per_token && a.read_gb_s && b.read_gb_s) {
    auto percent = [](double speed, const RecordSide& side) {
      return fmt::format("{:.0f}", speed * *side.bytes_per_token / *side.read_gb_s / 1e7);
    };
    because = {"bandwidth_share", {{"a", percent(*speed_a, a)}, {"b", percent(*speed_b, b)}}};
  }
  breakdown.causes.push_back({"kernel_efficiency", left, because});
  return breakdown;
}

std::optional<Breakdown> first_token_breakdown(const RecordSide& a, const RecordSide& b) {
  const auto ttft_a = pooled(a, &SideTask::ttft_s);
  const auto ttft_b = pooled(b, &SideTask::ttft_s);
  if (!ttft_a || !ttft_b) return std::nullopt;
  Breakdown breakdown;
  breakdown.metric = "ttft_s";
  breakdown.speedup = *ttft_a / *ttft_b;
  double left = breakdown.speedup;
  const auto prompt_a = pooled(a, &SideTask::prompt_tokens);
  const auto prompt_b = pooled(b, &SideTask::prompt_tokens);
  if (a.prompt_flop && b.prompt_flop) {
    take(
        breakdown, left, "work", *a.prompt_flop / *b.prompt_flop,
        {"work", {{"a_gop", three(*a.prompt_flop / 1e9)}, {"b_gop", three(*b.prompt_flop / 1e9)}}});
  } else if (prompt_a && prompt_b) {
    double work = *prompt_a / *prompt_b;
    if (a.shape && b.shape) work *= a.shape->active_weights / b.shape->active_weights;
    take(breakdown, left, "work", work,
         {"prompts",
          {{"a", fmt::format("{:.0f}", *prompt_a)}, {"b", fmt::format("{:.0f}", *prompt_b)}}});
  }
  if (a.peak_tflops && b.peak_tflops) {
    take(breakdown, left, "compute", *b.peak_tflops / *a.peak_tflops,
         peaks_clause("compute", *a.peak_tflops, a, *b.peak_tflops, b));
  } else {
    breakdown.missing = "ceilings";
  }
  take_overhead(a, b, *ttft_a, &SideTask::ttft_s, breakdown, left);
  breakdown.causes.push_back({"kernel_efficiency", left, {"left_of_prefill", Json::object()}});
  return breakdown;
}

double busy_kwh(const RecordSide& side, double seconds) {
  return side.hardware ? side.hardware->at("tdp_w") * seconds / 3.6e6 : 0.0;
}

// Of one run: rent, or electricity at the rated power.
std::optional<double> run_cost(const RecordSide& side, double seconds) {
  if (side.rent_per_hour) return side.rent_per_hour->amount.middle() * seconds / 3600.0;
  if (side.electricity && side.hardware)
    return side.electricity->amount.middle() * busy_kwh(side, seconds);
  return std::nullopt;
}

std::optional<double> median_e2e(const RecordSide& side, const std::string& task) {
  const SideTask* found = find_task(side, task);
  return found != nullptr && !found->e2e_s.empty() ? std::optional(median(found->e2e_s))
                                                   : std::nullopt;
}

std::string currency_of(const RecordSide& side) {
  for (const auto* money : {&side.rent_per_hour, &side.electricity, &side.purchase}) {
    if (*money) return (*money)->currency;
  }
  return "";
}

void add_break_even(const RecordSide& own, const RecordSide& rented, CompareCost& cost) {
  const double price = own.purchase->amount.middle();
  cost.break_even_rented_hours = price / rented.rent_per_hour->amount.middle();
  cost.lines.push_back({"hours_bought",
                        {{"price", fmt::format("{:.4g}", price)},
                         {"currency", cost.currency},
                         {"hours", fmt::format("{:.4g}", *cost.break_even_rented_hours)},
                         {"device", rented.hardware ? rented.hardware->name : "rented_machine"}}});
  for (const CostRow& row : cost.rows) {
    const auto own_s = median_e2e(own, row.task);
    const auto rented_s = median_e2e(rented, row.task);
    std::optional<double> runs;
    if (own_s && rented_s) {
      const double rent = *run_cost(rented, *rented_s);
      const double power = run_cost(own, *own_s).value_or(0.0);
      if (rent > power) {
        runs = price / (rent - power);
        cost.lines.push_back({"paid_back",
                              {{"task", row.task},
                               {"power", fmt::format("{:.2g}", power)},
                               {"currency", cost.currency},
                               {"rent", fmt::format("{:.2g}", rent)},
                               {"runs", three(*runs)},
                               {"hours", fmt::format("{:.0f}", *runs * *own_s / 3600.0)}}});
      } else {
        cost.lines.push_back({"never_paid_back", {{"task", row.task}}});
      }
    }
    cost.break_even_runs.push_back(runs);
  }
}

std::optional<CompareCost> compare_cost(const RecordSide& a, const RecordSide& b,
                                        std::vector<Clause>& remarks) {
  const std::string currency = currency_of(a).empty() ? currency_of(b) : currency_of(a);
  if (currency.empty()) return std::nullopt;
  if (!currency_of(a).empty() && !currency_of(b).empty() && currency_of(a) != currency_of(b)) {
    remarks.push_back({"currencies", {{"a", currency_of(a)}, {"b", currency_of(b)}}});
    return std::nullopt;
  }
  CompareCost cost;
  cost.currency = currency;
  for (const SideTask& task : a.tasks) {
    const auto a_s = median_e2e(a, task.name), b_s = median_e2e(b, task.name);
    if (!a_s || !b_s) continue;
    cost.rows.push_back({task.name, run_cost(a, *a_s), run_cost(b, *b_s)});
  }
  if (a.purchase && b.rent_per_hour) add_break_even(a, b, cost);
  if (b.purchase && a.rent_per_hour) add_break_even(b, a, cost);
  return cost;
}

// What cannot be as it was written down.
void add_remarks(const RecordSide& side, std::vector<Clause>& remarks) {
  if (side.hardware && side.weights_bytes) {
    const double memory = side.hardware->memory_bytes();
    if (*side.weights_bytes > memory) {
      remarks.push_back({"no_fit",
                         {{"record", side.name},
                          {"weights_gb", fmt::format("{:.1f}", *side.weights_bytes / 1e9)},
                          {"format", side.format},
                          {"memory_gb", fmt::format("{:.0f}", side.hardware->at("memory_gb"))},
                          {"device", side.hardware->name}}});
    }
  }
  if (side.bytes_per_token && side.read_gb_s) {
    const auto speed = pooled(side, &SideTask::decode_tok_s);
    if (speed && *speed * *side.bytes_per_token > 1.02 * *side.read_gb_s * 1e9) {
      remarks.push_back({"impossible",
                         {{"record", side.name},
                          {"speed", fmt::format("{:.4g}", *speed)},
                          {"read", fmt::format("{:.4g}", *speed * *side.bytes_per_token / 1e9)},
                          {"origin", peak_origin(side)},
                          {"limit", fmt::format("{:.4g}", *side.read_gb_s)}}});
    }
  }
  for (const CostClaim& claim : side.cost_claims) {
    const double said = claim.amount.amount.middle();
    double real = 0.0;
    Json values = {{"record", side.name}, {"currency", claim.amount.currency}};
    if (claim.kind == "rent" && side.rent_per_hour) {
      real = side.rent_per_hour->amount.middle() * claim.seconds / 3600.0;
      values["minutes"] = fmt::format("{:.4g}", claim.seconds / 60.0);
      values["per_hour"] = fmt::format("{:.4g}", side.rent_per_hour->amount.middle());
    } else if (claim.kind == "power" && side.electricity && side.hardware) {
      real = side.electricity->amount.middle() * busy_kwh(side, claim.seconds);
      values["seconds"] = three(claim.seconds);
      values["watt"] = fmt::format("{:.0f}", side.hardware->at("tdp_w"));
      values["per_kwh"] = fmt::format("{:.2g}", side.electricity->amount.middle());
    }
    if (real <= 0.0 || std::fabs(std::log(said / real)) < std::log(1.2)) continue;
    values["real"] = fmt::format("{:.2g}", real);
    values["said"] = fmt::format("{:.4g}", said);
    values["times"] = fmt::format("{:.0f}", std::max(said / real, real / said));
    remarks.push_back(
        {"claim_" + claim.kind + (said > real ? "_much" : "_little"), std::move(values)});
  }
}

// The side with only the tasks that the other has as well: what is pooled must be of the same work.
RecordSide shared_with(const RecordSide& other, RecordSide side) {
  std::erase_if(side.tasks,
                [&](const SideTask& task) { return find_task(other, task.name) == nullptr; });
  return side;
}

}  // namespace

Result<Comparison> compare_records(const Json& record_a, const Json& record_b, double alpha) {
  QUENCH_TRY(const RecordSide a, read_side(record_a, "the first record"));
  QUENCH_TRY(const RecordSide b, read_side(record_b, "the second record"));
  return compare_sides(a, b, alpha, false);
}

Result<Comparison> compare_sides(const RecordSide& a, const RecordSide& b, double alpha,
                                 bool are_pairs) {
  Comparison result;
  result.name_a = a.name;
  result.name_b = b.name;
  result.alpha = alpha;
  for (const Metric& metric : kMetrics) {
    std::vector<Stratum> all;
    for (const SideTask& task : a.tasks) {
      const SideTask* other = find_task(b, task.name);
      if (other == nullptr) continue;
      const double tokens = common_length(task, *other);
      Stratum stratum = {values_of(task, metric.name, tokens),
                         values_of(*other, metric.name, tokens)};
      if (stratum.a.empty() || stratum.b.empty()) continue;
      result.rows.push_back(
          make_row(task.name, metric, are_pairs ? in_pairs(stratum) : std::vector{stratum}, alpha));
      all.push_back(std::move(stratum));
    }
    if (all.size() > 1) result.rows.push_back(make_row("all", metric, all, alpha));
  }
  if (result.rows.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "The records have no task in common that both have figures of.");
  }
  judge_rows(result.rows, alpha);
  int64_t strata = 1;
  for (const Metric& metric : kMetrics) {
    strata = std::max<int64_t>(
        strata, std::count_if(result.rows.begin(), result.rows.end(), [&](const CompareRow& row) {
          return row.metric == metric.name && row.task != "all";
        }));
  }
  const double row_alpha = alpha / static_cast<double>(result.rows.size());
  // Pairs can be won in two ways each.
  result.runs_needed = are_pairs ? static_cast<int64_t>(std::ceil(1.0 - std::log2(row_alpha)))
                                 : runs_needed(row_alpha, strata);
  const RecordSide shared_a = shared_with(b, a);
  const RecordSide shared_b = shared_with(a, b);
  for (const auto& breakdown :
       {decode_breakdown(shared_a, shared_b), first_token_breakdown(shared_a, shared_b)}) {
    if (breakdown) result.breakdowns.push_back(*breakdown);
  }
  add_remarks(a, result.remarks);
  add_remarks(b, result.remarks);
  result.cost = compare_cost(a, b, result.remarks);
  return result;
}

}  // namespace quench
