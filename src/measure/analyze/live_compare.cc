#include "measure/analyze/live_compare.h"

#include <algorithm>

#include "measure/machine.h"
#include "measure/measured_model.h"
#include "measure/statistics.h"
#include "measure/telemetry.h"

namespace quench {
namespace {

constexpr double kDifferenceOfInterest = 0.05;
constexpr double kOthersWorthSaying = 0.1;
constexpr double kTests = 2.0;  // decode and prefill

class LiveCompare {
 public:
  explicit LiveCompare(const LiveCompareOptions& options) : options_(options) {}

  Result<Comparison> run() {
    QUENCH_TRY_VOID(check_memory());
    QUENCH_TRY(sides_[0].model, open(options_.a, "loading A"));
    QUENCH_TRY(sides_[1].model, open(options_.b, "loading B"));
    start_s_ = options_.clock();
    QUENCH_TRY_VOID(measure_machine());
    for (Side& side : sides_)
      side.rows = warm_up(*side.model, options_.lengths, options_.lengths.batch, options_.run_s);
    LiveRuns live;
    live.prompt_tokens = options_.lengths.prompt_tokens;
    live.depth = options_.lengths.depth;
    live.batch = options_.lengths.batch;
    MachineReader reader;
    const MachineReading before = reader.read(false);
    // What the first leaves of its half the second has too.
    for (const bool is_prefill : {false, true}) {
      const double end_s = start_s_ + options_.budget_s * (is_prefill ? 1.0 : 0.5);
      QUENCH_TRY(LiveTest test, measure(is_prefill, end_s));
      live.tests.push_back(std::move(test));
    }
    const MachineReading after = reader.read(false);
    describe(live.tests);
    QUENCH_TRY(Comparison comparison,
               compare_sides(sides_[0].record, sides_[1].record, options_.alpha, true));
    const double row_alpha = options_.alpha / static_cast<double>(comparison.rows.size());
    for (LiveTest& test : live.tests) {
      const PairSpread spread = pair_spread(test.pairs);
      test.smallest_difference =
          smallest_paired_difference(spread, static_cast<int64_t>(test.pairs.count()), row_alpha);
      if (test.pairs.count() > 1)
        test.pairs_for_5_percent = pairs_needed(spread, kDifferenceOfInterest, row_alpha);
    }
    remark_on_others(between(before, after), comparison);
    live.kernels_a = sides_[0].model->kernels();
    live.kernels_b = sides_[1].model->kernels();
    live.ceilings_a = sides_[0].ceilings;
    live.ceilings_b = sides_[1].ceilings;
    live.measure_s = options_.clock() - start_s_;
    comparison.live = std::move(live);
    return comparison;
  }

 private:
  struct Side {
    std::unique_ptr<LiveModel> model;
    Ceilings ceilings;
    LiveRows rows;
    RecordSide record;

    const GridRow& row(bool is_prefill) const { return is_prefill ? rows.prefill : rows.decode; }
  };

  void show(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }
  bool is_stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }

  // Pairs need both models at once.
  Result<void> check_memory() const {
    int64_t bytes = 0;
    for (const SessionOptions* options : {&options_.a, &options_.b}) {
      QUENCH_TRY(const auto planned, plan_model(*options, Weights::kRequired));
      bytes += planned->plan.total_bytes();
    }
    const auto available = available_memory_bytes();
    if (!available || bytes <= *available) return {};
    return fail(ErrorCode::kOutOfMemory,
                "Both models have to be in memory at once: {:.1f} GB are planned, {:.1f} GB are "
                "free; measure one after the other with quench bench and compare the records.",
                static_cast<double>(bytes) / 1e9, static_cast<double>(*available) / 1e9);
  }

  static void remark_on_others(const MachineInterval& during, Comparison& comparison) {
    const double others = during.others_share.value_or(0.0) + during.steal_share.value_or(0.0);
    if (others < kOthersWorthSaying) return;
    comparison.remarks.push_back({"others", {{"percent", fmt::format("{:.0f}", 100.0 * others)}}});
  }

  Result<std::unique_ptr<LiveModel>> open(const SessionOptions& options, const char* stage) const {
    return LiveModel::open(options, options_.lengths, options_.seed,
                           [&, stage](int64_t done, int64_t total) {
                             show(stage, done, total);
                             return !is_stopped();
                           });
  }

  Result<void> measure_machine() {
    show("measuring the machine", 0, 1);
    QUENCH_TRY(sides_[0].ceilings, cached_ceilings(sides_[0].model->session().device(), true));
    const Device& a = sides_[0].model->session().device();
    Device& b = sides_[1].model->session().device();
    sides_[1].ceilings = sides_[0].ceilings;
    if (a.num_workers() != b.num_workers() || std::string(a.isa()) != b.isa()) {
      QUENCH_TRY(sides_[1].ceilings, measure_ceilings(b));
    }
    return {};
  }

  Result<LiveTest> measure(bool is_prefill, double end_s) {
    LiveTest test;
    test.test = is_prefill ? "prefill" : "decode";
    int64_t runs = 0;
    auto arm_of = [&](Side& side) {
      return Arm([&, row = side.row(is_prefill)]() -> Result<double> {
        if (is_stopped()) return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
        show(test.test + " of both in turns", runs, std::max(runs + 1, 2 * options_.pairs));
        ++runs;
        return side.model->tok_s(row);
      });
    };
    Turns turns;
    turns.pairs = options_.pairs;
    turns.deadline_s = end_s;
    turns.clock = options_.clock;
    const Arm a = arm_of(sides_[0]), b = arm_of(sides_[1]);
    QUENCH_TRY(test.pairs,
               options_.find > 0.0
                   ? measure_pairs_to_find(turns, options_.find, options_.alpha / kTests, a, b)
                   : measure_pairs(turns, a, b));
    if (test.pairs.count() > 0) return test;
    return fail(ErrorCode::kInvalidArgument,
                "The budget of {:.0f} s ended before the first pair of {}; --budget gives more.",
                options_.budget_s, test.test);
  }

  // What compare needs to know of each side, as from a record.
  void describe(const std::vector<LiveTest>& tests) {
    for (Side& side : sides_) {
      const Session& session = side.model->session();
      const MeasuredModel model = measured_model(session.files().name, session.plan(), "");
      RecordSide& record = side.record;
      record.format = model.format;
      record.name =
          fmt::format("{} {}, {} {}, {} threads", model.name, model.format, session.device().name(),
                      session.device().isa(), session.device().num_workers());
      record.weights_bytes = static_cast<double>(model.bytes);
      record.peaks_are_measured = true;
      for (const LiveTest& test : tests)
        add_task(test, &side == &sides_[0] ? test.pairs.a : test.pairs.b, side);
    }
  }

  static void add_task(const LiveTest& test, const std::vector<double>& tok_s, Side& side) {
    const bool is_prefill = test.test == "prefill";
    const GridRow& row = side.row(is_prefill);
    const PassLimit limit = side.model->pass_limit(row, side.ceilings);
    const double operations = limit.f32_flop + limit.bf16_flop + limit.int8_op;
    SideTask task;
    task.name = test.test;
    // Tracing takes time itself; of a decode pass each sequence has one token.
    const double pass_s =
        static_cast<double>(row.batch * (is_prefill ? row.tokens : 1)) / median(tok_s);
    const double rest_s = scaled_to(side.model->traced(row), pass_s).rest_s();
    task.overhead_s = {is_prefill ? rest_s : rest_s / static_cast<double>(row.batch)};
    if (is_prefill) {
      const auto tokens = static_cast<double>(row.tokens * row.batch);
      task.prompt_tokens = {tokens};
      for (const double speed : tok_s) task.ttft_s.push_back(tokens / speed);
      side.record.prompt_flop = operations;
      side.record.peak_tflops = operations / limit.compute_s / 1e12;
    } else {
      task.decode_tok_s = tok_s;
      side.record.bytes_per_token =
          static_cast<double>(limit.read_bytes) / static_cast<double>(row.batch);
      side.record.read_gb_s = side.ceilings.for_working_set(limit.read_bytes).read_gb_s.best;
    }
    side.record.tasks.push_back(std::move(task));
  }

  const LiveCompareOptions& options_;
  Side sides_[2];
  double start_s_ = 0.0;
};

}  // namespace

Result<Comparison> compare_live(const LiveCompareOptions& options) {
  return LiveCompare(options).run();
}

}  // namespace quench
