// Compare two quench.record/1: two machines, two precisions, two days. Speeds with "faster",
// "slower" or "cannot tell"; the ratio broken down into its causes; what either costs; and remarks
// where a record cannot be what it says. Records that somebody typed (schema quench.typed/1) are
// turned into records first; sides may also come from runs made here (live_compare.h). Pure
// functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/analyze/cost.h"
#include "measure/analyze/pairs.h"
#include "measure/analyze/record_side.h"
#include "measure/report/strings.h"
#include "measure/report/table.h"
#include "plan/ceilings.h"

namespace quench {

// quench.typed/1 -> quench.record/1; so is quench.bench/1, whose rows become tasks with one run per
// repetition. A record is handed back as it is.
Result<Json> to_record(const Json& json, const std::string& where);

struct CompareRow {
  std::string task;              // "all": the strata of all tasks together
  std::string metric;            // "ttft_s", "e2e_s", "e2e_equal_length_s", "decode_tok_s"
  std::optional<double> a, b;    // medians
  double speedup = 0.0;          // how many times faster b is
  double low = 0.0, high = 0.0;  // of the speedup, at the table's confidence
  int64_t runs_a = 0, runs_b = 0;
  double p = 1.0;
  std::string verdict;  // of b: "faster", "slower", "cannot tell"
  bool has_too_few_runs = false;
};

// A factor of the ratio: how much faster b is because of it. The last one is what is left.
struct Cause {
  std::string name;  // "weights", "bandwidth", "compute", "work", "host", "kernel_efficiency"
  double factor = 1.0;
  Clause because;
};
struct Breakdown {
  std::string metric;
  double speedup = 0.0;
  std::vector<Cause> causes;  // their product is the speedup
  std::string missing;        // what the records lack for more: "times", "ceilings"; or nothing
};

struct CostRow {
  std::string task;
  std::optional<double> a_per_run, b_per_run;
};
struct CompareCost {
  std::string currency;
  std::vector<CostRow> rows;
  std::vector<Clause> lines;  // break-even and how it was counted
  // Runs of each task (in its order) after which a bought side has paid for itself; null: never.
  std::vector<std::optional<double>> break_even_runs;
  std::optional<double> break_even_rented_hours;  // of the rented side
};

// Pairs of runs of two models here, and what they could tell.
struct LiveTest {
  std::string test;                            // "decode", "prefill"
  Pairs pairs;                                 // tokens per second
  std::optional<double> smallest_difference;   // a share; null: too few pairs for any
  std::optional<int64_t> pairs_for_5_percent;  // null: more than kMostPairs
};
struct LiveRuns {
  int64_t prompt_tokens = 0, depth = 0, batch = 1;
  std::vector<std::string> kernels_a, kernels_b;
  Ceilings ceilings_a, ceilings_b;
  std::vector<LiveTest> tests;
  double measure_s = 0.0;
};

struct Comparison {
  std::string name_a, name_b;
  double alpha = 0.01;  // of the whole table
  std::vector<CompareRow> rows;
  std::vector<Breakdown> breakdowns;
  std::optional<CompareCost> cost;
  std::vector<Clause> remarks;
  int64_t runs_needed = 0;       // on each side and task, to tell anything at all
  std::optional<LiveRuns> live;  // where it was measured here
};

Result<Comparison> compare_records(const Json& a, const Json& b, double alpha = 0.01);
// With `are_pairs` the i-th values of both sides were measured together, and are judged so.
Result<Comparison> compare_sides(const RecordSide& a, const RecordSide& b, double alpha,
                                 bool are_pairs);

// Causes, remarks and lines of cost are sentences of strings/*.json ("compare.say.KEY"). In JSON
// they stand in English, and beside that as {"key", "values"}.
std::string compare_sentence(const Strings& strings, const Clause& clause);
// The same from a file; `text` where this version does not know it.
std::string compare_sentence(const Strings& strings, const Json& clause, const std::string& text);

// What so many pairs could have shown.
std::string live_test_text(const LiveTest& test, const Strings& strings);
Json comparison_json(const Comparison& comparison);
Table comparison_table(const Comparison& comparison, const Strings& strings = Strings::of("en"));
std::string comparison_text(const Comparison& comparison,
                            const Strings& strings = Strings::of("en"));
std::string comparison_markdown(const Comparison& comparison, const Strings& strings);

}  // namespace quench
