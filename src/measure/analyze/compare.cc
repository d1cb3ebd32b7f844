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
  if (test.least_p > alpha) row.note = "too few runs to tell";
  return row;
}

// Holm's step-down correction (1979): the whole table calls a difference that is none with at most
// the wanted probability.
void judge_rows(std::vector<CompareRow>& rows, double alpha) {
  std::vector<CompareRow*> order;
  for (CompareRow& row : rows) order.push_back(&row);
  std::sort(order.begin(), order.end(),
            [](const CompareRow* x, const CompareRow* y) { return x->p < y->p; });
  bool still = true;
  for (size_t i = 0; i < order.size(); ++i) {
    still = still && order[i]->p <= alpha / static_cast<double>(order.size() - i);
    order[i]->verdict = !still ? "cannot tell" : order[i]->speedup > 1.0 ? "faster" : "slower";
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

// The factor of one cause, taken out of what is left.
void take(Breakdown& breakdown, double& left, const char* name, double factor,
          std::string because) {
  breakdown.causes.push_back({name, factor, std::move(because)});
  left /= factor;
}

// What runs beside the model's own work, `base_a_s` being the time of all of it on side a.
void take_overhead(const RecordSide& a, const RecordSide& b, double base_a_s, SideValues metric,
                   Breakdown& breakdown, double& left) {
  SideValues values = &SideTask::overhead_s;
  const char* cause = "overhead";
  const char* where = "outside the matmuls and attention";
  auto part_a = pooled(a, values, metric);
  auto part_b = pooled(b, values, metric);
  if (!part_a || !part_b) {
    values = &SideTask::host_s;
    cause = "host";
    where = "per token outside the engine";
    part_a = pooled(a, values);
    part_b = pooled(b, values);
  }
  if (!part_a || !part_b) {
    breakdown.missing += breakdown.missing.empty() ? "the engine's own token times" : "";
    return;
  }
  // What the time of a would be with this part of b.
  const double factor = base_a_s / std::max(base_a_s - *part_a + *part_b, 1e-12);
  take(breakdown, left, cause, factor,
       fmt::format("{:.3g} ms against {:.3g} ms {}", *part_a * 1e3, *part_b * 1e3, where));
}

std::string peak_origin(const RecordSide& side) {
  return side.peaks_are_measured ? "measured" : "data sheet";
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
         fmt::format("{:.3g} against {:.3g} GB read per token", *a.bytes_per_token / 1e9,
                     *b.bytes_per_token / 1e9));
  }
  if (a.read_gb_s && b.read_gb_s) {
    take(breakdown, left, "bandwidth", *b.read_gb_s / *a.read_gb_s,
         fmt::format("{:.4g} ({}) against {:.4g} GB/s ({})", *a.read_gb_s, peak_origin(a),
                     *b.read_gb_s, peak_origin(b)));
  } else {
    breakdown.missing = "measured ceilings, or the name of the hardware";
  }
  take_overhead(a, b, 1.0 / *speed_a, &SideTask::decode_tok_s, breakdown, left);
  std::string because = "what is left";
  if (a.bytes_per_token && b.bytes_per_token && a.read_gb_s && b.read_gb_s) {
    because = fmt::format("{:.0f} % against {:.0f} % of the bandwidth",
                          *speed_a * *a.bytes_per_token / *a.read_gb_s / 1e7,
                          *speed_b * *b.bytes_per_token / *b.read_gb_s / 1e7);
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
    take(breakdown, left, "work", *a.prompt_flop / *b.prompt_flop,
         fmt::format("{:.3g} and {:.3g} G operations", *a.prompt_flop / 1e9, *b.prompt_flop / 1e9));
  } else if (prompt_a && prompt_b) {
    double work = *prompt_a / *prompt_b;
    if (a.shape && b.shape) work *= a.shape->active_weights / b.shape->active_weights;
    take(breakdown, left, "work", work,
         fmt::format("prompts of {:.0f} and {:.0f} tokens", *prompt_a, *prompt_b));
  }
  if (a.peak_tflops && b.peak_tflops) {
    take(breakdown, left, "compute", *b.peak_tflops / *a.peak_tflops,
         fmt::format("{:.4g} ({}) against {:.4g} TFLOP/s ({})", *a.peak_tflops, peak_origin(a),
                     *b.peak_tflops, peak_origin(b)));
  } else {
    breakdown.missing = "measured ceilings, or the name of the hardware";
  }
  take_overhead(a, b, *ttft_a, &SideTask::ttft_s, breakdown, left);
  breakdown.causes.push_back(
      {"kernel_efficiency", left, "what is left: kernels, short prompts, memory that overflows"});
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
  cost.lines.push_back(fmt::format("{:.4g} {} buy {:.4g} hours of {}", price, cost.currency,
                                   *cost.break_even_rented_hours,
                                   rented.hardware ? rented.hardware->name : "the rented machine"));
  for (const CostRow& row : cost.rows) {
    const auto own_s = median_e2e(own, row.task);
    const auto rented_s = median_e2e(rented, row.task);
    std::optional<double> runs;
    if (own_s && rented_s) {
      const double rent = *run_cost(rented, *rented_s);
      const double power = run_cost(own, *own_s).value_or(0.0);
      if (rent > power) {
        runs = price / (rent - power);
        cost.lines.push_back(fmt::format(
            "{}: bought, a run costs {:.2g} {} of power against {:.2g} rented; paid back after "
            "{:.3g} runs, {:.0f} hours of work on the own machine",
            row.task, power, cost.currency, rent, *runs, *runs * *own_s / 3600.0));
      } else {
        cost.lines.push_back(fmt::format("{}: power alone costs more than the rent", row.task));
      }
    }
    cost.break_even_runs.push_back(runs);
  }
}

std::optional<CompareCost> compare_cost(const RecordSide& a, const RecordSide& b,
                                        std::vector<std::string>& remarks) {
  const std::string currency = currency_of(a).empty() ? currency_of(b) : currency_of(a);
  if (currency.empty()) return std::nullopt;
  if (!currency_of(a).empty() && !currency_of(b).empty() && currency_of(a) != currency_of(b)) {
    remarks.push_back(
        fmt::format("costs are in {} and {} and are not compared: no exchange rate is stated",
                    currency_of(a), currency_of(b)));
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
void add_remarks(const RecordSide& side, std::vector<std::string>& remarks) {
  if (side.hardware && side.weights_bytes) {
    const double memory = side.hardware->memory_bytes();
    if (*side.weights_bytes > memory) {
      remarks.push_back(fmt::format(
          "{}: {:.1f} GB of {} weights do not fit the {:.0f} GB of the {}: the figures include "
          "weights "
          "that cross the link to host memory, or the weights were stored in fewer bits",
          side.name, *side.weights_bytes / 1e9, side.format, side.hardware->at("memory_gb"),
          side.hardware->name));
    }
  }
  if (side.bytes_per_token && side.read_gb_s) {
    const auto speed = pooled(side, &SideTask::decode_tok_s);
    if (speed && *speed * *side.bytes_per_token > 1.02 * *side.read_gb_s * 1e9) {
      remarks.push_back(fmt::format(
          "{}: impossible: {:.4g} tok/s read {:.4g} GB/s, the {} limit is {:.4g}", side.name,
          *speed, *speed * *side.bytes_per_token / 1e9, peak_origin(side), *side.read_gb_s));
    }
  }
  for (const CostClaim& claim : side.cost_claims) {
    const double said = claim.amount.amount.middle();
    double real = 0.0;
    std::string how;
    if (claim.kind == "rent" && side.rent_per_hour) {
      real = side.rent_per_hour->amount.middle() * claim.seconds / 3600.0;
      how = fmt::format("{:.4g} minutes at {:.4g} {} an hour", claim.seconds / 60.0,
                        side.rent_per_hour->amount.middle(), claim.amount.currency);
    } else if (claim.kind == "power" && side.electricity && side.hardware) {
      real = side.electricity->amount.middle() * busy_kwh(side, claim.seconds);
      how = fmt::format("{:.3g} s at {:.0f} W and {:.2g} {} per kWh", claim.seconds,
                        side.hardware->at("tdp_w"), side.electricity->amount.middle(),
                        claim.amount.currency);
    }
    if (real <= 0.0 || std::fabs(std::log(said / real)) < std::log(1.2)) continue;
    remarks.push_back(fmt::format(
        "{}: {} are {:.2g} {}, not {:.4g}: {}", side.name, how, real, claim.amount.currency, said,
        said > real ? fmt::format("{:.0f} times too much", said / real)
                    : fmt::format("{:.0f} times too little", real / said)));
  }
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
  for (const auto& breakdown : {decode_breakdown(a, b), first_token_breakdown(a, b)}) {
    if (breakdown) result.breakdowns.push_back(*breakdown);
  }
  add_remarks(a, result.remarks);
  add_remarks(b, result.remarks);
  result.cost = compare_cost(a, b, result.remarks);
  return result;
}

}  // namespace quench
