#include "measure/analyze/live.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "engine/sampler.h"
#include "measure/analyze/neighbour.h"
#include "measure/machine.h"
#include "measure/statistics.h"
#include "measure/telemetry.h"

namespace quench {
namespace {

constexpr int64_t kRepetitions = 5;
// Nearest to half the bytes is taken.
constexpr const char* kFewerBits[] = {"bf16", "int8", "int4", "int2_g64"};
constexpr double kMostBytesShare = 0.75;
// Measuring the machine's ceilings once more takes so long.
constexpr double kCeilings_s = 5.0;

Sentence instead(const std::string& changed, const std::string& unchanged) {
  return {"explain.change.instead", {{"new", changed}, {"old", unchanged}}};
}
// Errors are said as they are.
Sentence error_sentence(const Error& error) { return {"explain.error", {{"text", error.message}}}; }

class LiveRun {
 public:
  explicit LiveRun(LiveOptions options) : options_(std::move(options)) {}

  Result<LiveReport> run() {
    limits_ = options_.lengths;
    limits_.batch = 2 * options_.lengths.batch;  // one experiment doubles it
    available_bytes_ = available_memory_bytes();
    show("loading", 0, 1);
    QUENCH_TRY(subject_, LiveModel::open(options_.session, limits_, options_.seed,
                                         [&](int64_t done, int64_t total) {
                                           show("loading", done, total);
                                           return !is_stopped();
                                         }));
    start_s_ = options_.clock();
    describe();
    show("measuring the machine", 0, 1);
    QUENCH_TRY(report_.ceilings, cached_ceilings(subject_->session().device(), true));
    QUENCH_TRY_VOID(measure_cases());
    if (options_.say) {
      for (const LiveCase& one : report_.cases) options_.say(strings_(one.limiter.sentence));
    }
    QUENCH_TRY_VOID(fewer_bits());
    QUENCH_TRY_VOID(fewer_threads());
    QUENCH_TRY_VOID(double_batch());
    QUENCH_TRY_VOID(neighbour());
    judge_together(report_.experiments);
    for (LiveCase& one : report_.cases) {
      one.conclusion =
          conclude(one.pass.is_prefill ? "prefill" : "decode", one.limiter.id, report_.experiments);
    }
    report_.measure_s = options_.clock() - start_s_;
    return std::move(report_);
  }

 private:
  bool is_stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }
  void show(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }
  double left_s() const { return start_s_ + options_.budget_s - options_.clock(); }

  void describe() {
    const Session& session = subject_->session();
    report_.model = session.files().name;
    report_.measured = measured_model(report_.model, session.plan(), "");
    report_.layers = session.plan().config.num_hidden_layers;
    report_.device = session.device().name();
    report_.isa = session.device().isa();
    report_.threads = session.device().num_workers();
    report_.kernels = subject_->kernels();
    const SessionOptions& given = options_.session;
    report_.format = !given.recipe_path.empty() ? given.recipe_path
                     : given.format.empty()     ? kAsStored
                                                : given.format;
  }

  Result<void> measure_cases() {
    show("measuring the model", 0, kRepetitions);
    rows_ = warm_up(*subject_, limits_, options_.lengths.batch, options_.run_s);
    MachineReader reader;
    const MachineReading before = reader.read();
    std::vector<double> speeds[2];
    for (int64_t i = 0; i < kRepetitions; ++i) {
      if (is_stopped()) return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
      show("measuring the model", i, kRepetitions);
      for (const bool is_prefill : {true, false})
        speeds[is_prefill ? 0 : 1].push_back(subject_->tok_s(row(is_prefill)));
    }
    const MachineReading after = reader.read();
    for (const bool is_prefill : {true, false}) {
      LiveCase& one = report_.cases.emplace_back();
      one.tok_s = speeds[is_prefill ? 0 : 1];
      one.pass = measured_pass(row(is_prefill), median(one.tok_s));
      set_machine(before, after, one.pass);
      one.limiter = find_limiter(one.pass);
    }
    return {};
  }

  const GridRow& row(bool is_prefill) const { return is_prefill ? rows_.prefill : rows_.decode; }
  const MeasuredPass& pass(bool is_prefill) const { return report_.cases[is_prefill ? 0 : 1].pass; }

  MeasuredPass measured_pass(const GridRow& row, double tok_s) {
    const Session& session = subject_->session();
    MeasuredPass pass;
    pass.is_prefill = row.is_prefill;
    pass.batch = row.batch;
    pass.context = row.is_prefill ? row.tokens : row.depth;
    pass.layers = report_.layers;
    pass.threads = report_.threads;
    pass.tokens = row.is_prefill ? row.tokens * row.batch : row.batch;
    pass.limit = subject_->pass_limit(row, report_.ceilings);
    const ReadCeiling& read = report_.ceilings.for_working_set(pass.limit.read_bytes);
    pass.read_gb_s = read.read_gb_s.best;
    pass.read_level = read.level;
    const PassTime time = subject_->traced(row);
    pass.time = scaled_to(time, static_cast<double>(pass.tokens) / tok_s);
    if (!row.is_prefill) pass.time.sampler_s = sampler_s();
    pass.generic_share = subject_->generic_share(&pass.generic_kernel);
    pass.planned_bytes = session.plan().total_bytes();
    pass.available_bytes = available_bytes_;
    return pass;
  }

  // Of one token with the bench protocol's settings, from the logits of the last run.
  double sampler_s() const {
    SamplingSettings settings;
    settings.temperature = 0.7;
    settings.top_p = 0.9;
    settings.repetition_penalty = 1.1;
    const int64_t vocab_size = subject_->session().plan().config.vocab_size;
    const std::span<const float> logits =
        subject_->runner().logits().first(static_cast<size_t>(vocab_size));
    const std::vector<int32_t> prompt(static_cast<size_t>(limits_.prompt_tokens), 1);
    SamplerScratch scratch;
    std::vector<double> times_s;
    for (int64_t i = 0; i < 2 * kRepetitions; ++i) {
      std::vector<float> copy(logits.begin(), logits.end());
      const double start_s = now_s();
      const auto token = sample(settings, {copy, vocab_size, prompt, {}, i}, scratch);
      if (token) times_s.push_back(now_s() - start_s);
    }
    return times_s.empty() ? 0.0 : median(times_s);
  }

  static void set_machine(const MachineReading& before, const MachineReading& after,
                          MeasuredPass& pass) {
    pass.cpus = std::max(this_machine().cpus, 1);
    const MachineInterval during = between(before, after);
    if (during.others_share) {
      pass.others_cpus = pass.cpus * (*during.others_share + during.steal_share.value_or(0.0));
    }
    if (before.major_faults && after.major_faults)
      pass.major_faults = *after.major_faults - *before.major_faults;
  }

  Result<void> measure(Experiment experiment, const Arm& unchanged, const Arm& changed) {
    if (is_stopped()) return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
    const std::string prediction = prediction_text(experiment, strings_);
    if (options_.say) options_.say(prediction);
    // What is left is shared by the experiments to come.
    const double share_s = left_s() / static_cast<double>(std::max<int64_t>(to_come_--, 1));
    Turns turns;
    turns.pairs = options_.pairs;
    turns.deadline_s = options_.clock() + share_s;
    turns.clock = [&] {
      show(prediction, 1, 2);
      return options_.clock();
    };
    QUENCH_TRY_VOID(measure_in_turns(turns, unchanged, changed, experiment));
    finish(std::move(experiment));
    return {};
  }

  void finish(Experiment experiment) {
    if (options_.say) options_.say("  " + outcome_text(experiment, strings_));
    report_.experiments.push_back(std::move(experiment));
  }
  void skip(const char* id, const Sentence& change, const Sentence& why, int64_t count) {
    for (const char* test : {"decode", "prefill"}) {
      if (count-- <= 0) return;
      --to_come_;
      Experiment experiment;
      experiment.id = id;
      experiment.test = test;
      experiment.change = change;
      experiment.note = why;
      if (options_.say) options_.say(not_tried_text(experiment, strings_));
      report_.experiments.push_back(std::move(experiment));
    }
  }

  // Another subject beside the first; null with `why` where that is impossible here.
  std::unique_ptr<LiveModel> open_beside(const SessionOptions& options, Sentence& why) {
    auto planned = plan_model(options, Weights::kRequired);
    if (!planned) {
      why = error_sentence(planned.error());
      return nullptr;
    }
    const int64_t bytes = (*planned)->plan.total_bytes();
    if (const auto free_bytes = available_memory_bytes(); free_bytes && bytes > *free_bytes / 2) {
      why = {"explain.why.no_memory", {{"gb", fixed(static_cast<double>(bytes) / 1e9, 1)}}};
      return nullptr;
    }
    // Loading the first took that long.
    if (subject_->session().load_s() > left_s() / 2.0) {
      why = {"explain.why.no_time"};
      return nullptr;
    }
    show("loading a second model", 0, 1);
    auto subject = LiveModel::open(options, limits_, options_.seed,
                                   [&](int64_t, int64_t) { return !is_stopped(); });
    if (!subject) {
      why = error_sentence(subject.error());
      return nullptr;
    }
    return std::move(*subject);
  }

  Sentence describe_change(bool is_prefill, const PassLimit& before, const PassLimit& after) {
    const PassTime& time = pass(is_prefill).time;
    auto mb = [](int64_t bytes) { return fixed(static_cast<double>(bytes) / 1e6, 1); };
    return {"explain.because.limits",
            {{"mb", mb(before.read_bytes)},
             {"ms", fixed(1e3 * before.compute_s, 3)},
             {"new_mb", mb(after.read_bytes)},
             {"new_ms", fixed(1e3 * after.compute_s, 3)},
             {"factor", fixed(after.limit_s() / before.limit_s(), 2)},
             {"percent", fixed(100.0 * time.model_s() / time.total_s(), 0)}}};
  }

  Sentence instead_of_stored(const std::string& format) const {
    Sentence change = instead(format, report_.format);
    if (report_.format == kAsStored) change.parts = {{"old", {"explain.live.as_stored"}}};
    return change;
  }

  Result<void> fewer_bits() {
    const auto before = static_cast<double>(subject_->session().plan().read_bytes_per_token);
    std::string best;
    double best_distance = INFINITY;
    SessionOptions options = options_.session;
    options.recipe_path.clear();
    for (const char* format : kFewerBits) {
      options.format = format;
      const auto planned = plan_model(options, Weights::kRequired);
      if (!planned) continue;
      const double share = static_cast<double>((*planned)->plan.read_bytes_per_token) / before;
      const double distance = std::fabs(std::log(share / 0.5));
      if (share > kMostBytesShare || distance >= best_distance) continue;
      best = format;
      best_distance = distance;
    }
    Sentence why = {"explain.why.no_format"};
    std::unique_ptr<LiveModel> other;
    if (!best.empty()) {
      options.format = best;
      other = open_beside(options, why);
    }
    if (other == nullptr) {
      skip("half_bits", best.empty() ? Sentence() : instead_of_stored(best), why, 2);
      return {};
    }
    warm_up(*other, limits_, options_.lengths.batch, options_.run_s);
    for (const bool is_prefill : {false, true}) {
      const PassLimit old_limit = subject_->pass_limit(row(is_prefill), report_.ceilings);
      const PassLimit limit = other->pass_limit(row(is_prefill), report_.ceilings);
      Change change;
      change.model_factor = limit.limit_s() / old_limit.limit_s();
      change.full = static_cast<double>(old_limit.read_bytes) /
                    static_cast<double>(std::max<int64_t>(limit.read_bytes, 1));
      keep_if_generic(1.0, is_prefill, change);
      Experiment experiment;
      experiment.id = "half_bits";
      experiment.test = is_prefill ? "prefill" : "decode";
      experiment.change = instead_of_stored(best);
      experiment.predicted = forecast_change(pass(is_prefill).time, change);
      experiment.predicted.because = describe_change(is_prefill, old_limit, limit);
      QUENCH_TRY_VOID(
          measure(experiment, subject_->arm(row(is_prefill)), other->arm(row(is_prefill))));
    }
    return {};
  }

  // A generic kernel is bound by its own instructions, whatever the machine's limits are.
  void keep_if_generic(double factor, bool is_prefill, Change& change) const {
    if (pass(is_prefill).generic_share < 0.5) return;
    change.model_factor = factor;
    change.uncertainty = 1.4;
  }

  Result<void> fewer_threads() {
    SessionOptions options = options_.session;
    const int fewer = report_.threads / 2;
    options.device_options.num_threads = fewer;
    const Sentence what = instead(std::to_string(fewer), std::to_string(report_.threads));
    Sentence why = {"explain.why.one_thread"};
    std::unique_ptr<LiveModel> other;
    if (fewer > 0 && left_s() < kCeilings_s) {
      why = {"explain.why.no_time_threads"};
    } else if (fewer > 0) {
      other = open_beside(options, why);
    }
    if (other == nullptr) {
      skip("fewer_threads", what, why, 2);
      return {};
    }
    show("measuring the machine with fewer threads", 0, 1);
    QUENCH_TRY(const Ceilings ceilings, measure_ceilings(other->session().device()));
    warm_up(*other, limits_, options_.lengths.batch, options_.run_s);
    const double share = static_cast<double>(fewer) / report_.threads;
    for (const bool is_prefill : {false, true}) {
      const PassLimit old_limit = subject_->pass_limit(row(is_prefill), report_.ceilings);
      const PassLimit limit = other->pass_limit(row(is_prefill), ceilings);
      Change change;
      change.model_factor = limit.limit_s() / old_limit.limit_s();
      change.full = share;
      change.rest_high = 1.0 / share;
      keep_if_generic(1.0 / share, is_prefill, change);
      Experiment experiment;
      experiment.id = "fewer_threads";
      experiment.test = is_prefill ? "prefill" : "decode";
      experiment.change = what;
      experiment.predicted = forecast_change(pass(is_prefill).time, change);
      auto gb_s = [&](const Ceilings& machine) {
        return fixed(machine.for_working_set(limit.read_bytes).read_gb_s.best, 1);
      };
      experiment.predicted.because = {"explain.because.threads",
                                      {{"gb_s", gb_s(ceilings)},
                                       {"old_gb_s", gb_s(report_.ceilings)},
                                       {"factor", fixed(change.model_factor, 2)}}};
      experiment.predicted = forecast_fewer_threads(experiment.predicted, report_.threads, fewer,
                                                    pass(is_prefill).others_cpus.value_or(0.0),
                                                    std::max(pass(is_prefill).cpus, 1));
      QUENCH_TRY_VOID(
          measure(experiment, subject_->arm(row(is_prefill)), other->arm(row(is_prefill))));
    }
    return {};
  }

  Result<void> double_batch() {
    GridRow doubled = rows_.decode;
    doubled.batch *= 2;
    subject_->runner().run(doubled);
    const PassLimit old_limit = subject_->pass_limit(rows_.decode, report_.ceilings);
    const PassLimit limit = subject_->pass_limit(doubled, report_.ceilings);
    Change change;
    change.model_factor = limit.limit_s() / old_limit.limit_s();
    change.tokens_factor = 2.0;
    change.rest_high = 2.0;
    change.full = 2.0;
    keep_if_generic(2.0, false, change);
    Experiment experiment;
    experiment.id = "double_batch";
    experiment.test = "decode";
    experiment.change = instead(std::to_string(doubled.batch), std::to_string(rows_.decode.batch));
    experiment.predicted = forecast_change(pass(false).time, change);
    experiment.predicted.because = describe_change(false, old_limit, limit);
    return measure(experiment, subject_->arm(rows_.decode), subject_->arm(doubled));
  }

  Result<void> neighbour() {
    const MeasuredPass& decode = pass(false);
    const Device& device = subject_->session().device();
    auto reading = Neighbour::create(report_.threads, device.probes());
    if (!reading) {
      skip("neighbour", {}, error_sentence(reading.error()), 1);
      return {};
    }
    Experiment experiment;
    experiment.id = "neighbour";
    experiment.test = "decode";
    experiment.change = {"explain.change.readers",
                         {{"readers", std::to_string(reading->readers())}}};
    experiment.predicted = forecast_neighbour(report_.threads, reading->readers(),
                                              decode.others_cpus.value_or(0.0), decode.cpus);
    MachineReader reader;
    std::vector<double> others;
    const Arm disturbed = [&]() -> Result<double> {
      QUENCH_TRY_VOID(reading->start());
      const MachineReading before = reader.read(false);
      const double speed = subject_->tok_s(rows_.decode);
      const MachineInterval during = between(before, reader.read(false));
      reading->stop();
      if (during.others_share) others.push_back(decode.cpus * *during.others_share);
      return speed;
    };
    QUENCH_TRY_VOID(measure(experiment, subject_->arm(rows_.decode), disturbed));
    if (!others.empty()) report_.experiments.back().observed_others_cpus = median(others);
    return {};
  }

  LiveOptions options_;
  const Strings& strings_ = Strings::of(options_.lang);
  LiveLimits limits_;
  std::unique_ptr<LiveModel> subject_;
  LiveRows rows_;
  std::optional<int64_t> available_bytes_;
  double start_s_ = 0.0;
  int64_t to_come_ = 6;
  LiveReport report_;
};

}  // namespace

Result<LiveReport> explain_here(LiveOptions options) { return LiveRun(std::move(options)).run(); }

}  // namespace quench
