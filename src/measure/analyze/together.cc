#include "measure/analyze/together.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/topology.h"
#include "measure/machine.h"
#include "measure/report/table.h"
#include "measure/statistics.h"
#include "measure/telemetry.h"

namespace quench {
namespace {

// Two models of one name are told apart by their place.
std::string model_label(const TogetherReport& report, size_t model) {
  return fmt::format("{} ({})", model == 0 ? "A" : "B", report.models[model].facts.name);
}

constexpr double kLookAround_s = 0.3;
// Between the telling and the beginning of a period.
constexpr double kLead_s = 0.02;
// A loss below this is none.
constexpr double kNoLoss = 0.97;

// Who runs, and what: one measurement of both models.
struct Arrangement {
  const char* id;   // "alone", "together", "isolated"
  bool is_prefill;  // of the one that is asked about; the other one decodes
};

class TogetherRun {
 public:
  explicit TogetherRun(const TogetherOptions& options) : options_(options) {}

  Result<TogetherReport> run() {
    report_.prompt_tokens = options_.lengths.prompt_tokens;
    report_.depth = options_.lengths.depth;
    report_.cpus = std::max(this_machine().cpus, 1);
    QUENCH_TRY(half_threads_, room_for_halves());
    QUENCH_TRY_VOID(start(options_.a, 0));
    QUENCH_TRY_VOID(start(options_.b, 1));
    for (size_t i = 0; i < processes_.size(); ++i) {
      show("loading", static_cast<int64_t>(i), static_cast<int64_t>(processes_.size()));
      QUENCH_TRY(const ModelFacts facts, processes_[i].ready());
      if (i % 2 == 0) report_.models[i / 2].facts = facts;
    }
    start_s_ = options_.clock();
    look_around();
    QUENCH_TRY_VOID(profile());
    predict();
    QUENCH_TRY_VOID(measure());
    conclude_all();
    report_.measure_s = options_.clock() - start_s_;
    return std::move(report_);
  }

 private:
  struct Samples {
    std::vector<double> alone, together, isolated;  // tokens per second, by round
  };

  void show(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }
  void say(const std::string& text) const {
    if (options_.say) options_.say(text);
  }
  bool is_stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }
  bool has_halves() const { return half_threads_ > 0; }
  // Each model's process, then its half beside it.
  ModelProcess& process(size_t model, bool is_half) {
    return processes_[has_halves() ? 2 * model + (is_half ? 1 : 0) : model];
  }

  // Threads of each half; 0, with the reason in the report, where there can be none.
  Result<int> room_for_halves() {
    int64_t bytes = 0;
    for (const SessionOptions* options : {&options_.a, &options_.b}) {
      QUENCH_TRY(const auto planned, plan_model(*options, Weights::kRequired));
      bytes += planned->plan.total_bytes();
    }
    const auto available = available_memory_bytes();
    if (available && bytes > *available) {
      return fail(ErrorCode::kOutOfMemory,
                  "Both models have to be in memory at once: {:.1f} GB are planned, {:.1f} GB are "
                  "free.",
                  static_cast<double>(bytes) / 1e9, static_cast<double>(*available) / 1e9);
    }
    if (topology().core_cpus.size() < 2) {
      report_.isolation = {"explain.together.one_core"};
      return 0;
    }
    // Those that run alone stay in memory, for the turns.
    if (available && 2 * bytes > *available) {
      report_.isolation = {"explain.together.no_memory",
                           {{"gb", fixed(2.0 * static_cast<double>(bytes) / 1e9, 1)},
                            {"free", fixed(static_cast<double>(*available) / 1e9, 1)}}};
      return 0;
    }
    return static_cast<int>(topology().core_cpus.size() / 2);
  }

  Result<void> start(const SessionOptions& session, size_t model) {
    ModelProcessOptions options;
    options.session = session;
    options.lengths = options_.lengths;
    options.seed = options_.seed;
    options.run_s = options_.period_s / 10.0;
    QUENCH_TRY(ModelProcess whole, ModelProcess::start(options));
    processes_.push_back(std::move(whole));
    if (!has_halves()) return {};
    const std::vector<int>& cores = topology().core_cpus;
    const auto first = cores.begin() + (model == 0 ? 0 : half_threads_);
    options.cpus.assign(first, first + half_threads_);
    options.session.device_options.num_threads = half_threads_;
    QUENCH_TRY(ModelProcess half, ModelProcess::start(options));
    processes_.push_back(std::move(half));
    return {};
  }

  // Nothing of ours is busy yet, so what is busy belongs to others.
  void look_around() {
    MachineReader reader;
    const MachineReading before = reader.read(false);
    std::this_thread::sleep_for(std::chrono::duration<double>(kLookAround_s));
    const MachineInterval during = between(before, reader.read(false));
    report_.others_cpus =
        report_.cpus * (during.others_share.value_or(0.0) + during.steal_share.value_or(0.0));
  }

  Result<void> profile() {
    for (size_t i = 0; i < processes_.size(); ++i) {
      show("measuring the machine", static_cast<int64_t>(i),
           static_cast<int64_t>(processes_.size()));
      QUENCH_TRY(ModelProfile profile, processes_[i].profile());
      profiles_.push_back(std::move(profile));
    }
    return {};
  }

  const ModelProfile& profile_of(size_t model, bool is_half) const {
    return profiles_[has_halves() ? 2 * model + (is_half ? 1 : 0) : model];
  }
  Tenant tenant(size_t model, bool is_prefill) const {
    const ModelProfile& profile = profile_of(model, false);
    return {report_.models[model].facts.threads,
            is_prefill ? profile.prefill_time : profile.decode_time,
            is_prefill ? profile.prefill_limit : profile.decode_limit};
  }

  void predict() {
    for (const bool is_isolated : {false, true}) {
      if (is_isolated && !has_halves()) return;
      for (const size_t model : {0, 1}) {
        for (const bool is_prefill : {false, true}) {
          const Tenant mine = tenant(model, is_prefill);
          const Tenant other = tenant(1 - model, false);
          const Ceilings& ceilings = profile_of(model, false).ceilings;
          Experiment experiment;
          experiment.id = is_isolated ? "isolated" : "together";
          experiment.test = is_prefill ? "prefill" : "decode";
          experiment.subject = label(model);
          experiment.change = {
              is_isolated ? "explain.change.beside_apart" : "explain.change.beside",
              {{"other", label(1 - model)}}};
          if (is_isolated) experiment.change.values["threads"] = std::to_string(half_threads_);
          const ModelProfile& half = profile_of(model, true);
          experiment.predicted =
              is_isolated
                  ? forecast_isolated(mine, is_prefill ? half.prefill_limit : half.decode_limit,
                                      other, half_threads_, ceilings)
                  : forecast_together(mine, other, report_.cpus, report_.others_cpus, ceilings);
          say(prediction_text(experiment, strings_));
          report_.experiments.push_back(std::move(experiment));
        }
      }
    }
  }

  std::string label(size_t model) const { return model_label(report_, model); }

  Result<void> measure() {
    std::vector<Arrangement> steps = {
        {"alone", false}, {"alone", true}, {"together", false}, {"together", true}};
    if (has_halves()) steps.insert(steps.end(), {{"isolated", false}, {"isolated", true}});
    for (int64_t round = 0; round < options_.rounds; ++round) {
      if (round > 0 && options_.clock() >= start_s_ + options_.budget_s) break;
      for (const Arrangement& step : steps) {
        if (is_stopped()) return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
        show("alone and together, in turns", round, options_.rounds);
        QUENCH_TRY_VOID(measure_step(step));
      }
      // Backwards, so that a drift of the machine falls on all alike.
      std::reverse(steps.begin(), steps.end());
    }
    return {};
  }

  Result<void> measure_step(const Arrangement& step) {
    const std::string id = step.id;
    auto kept = [&](size_t model) -> std::vector<double>& {
      Samples& samples = samples_[model][step.is_prefill ? 1 : 0];
      return id == "alone" ? samples.alone : id == "together" ? samples.together : samples.isolated;
    };
    // Two decodes are one measurement of both.
    if (id != "alone" && !step.is_prefill) {
      QUENCH_TRY(const auto speeds, side_by_side(0, false, id == "isolated"));
      kept(0).push_back(speeds.first);
      kept(1).push_back(speeds.second);
      return {};
    }
    for (const size_t model : {0, 1}) {
      if (id == "alone") {
        ModelProcess& only = process(model, false);
        const double begin_s = now_s() + kLead_s;
        QUENCH_TRY_VOID(only.begin(step.is_prefill, begin_s, begin_s + options_.period_s));
        QUENCH_TRY(const double speed, only.finish());
        kept(model).push_back(speed);
      } else {
        QUENCH_TRY(const auto speeds, side_by_side(model, true, id == "isolated"));
        kept(model).push_back(speeds.first);
      }
    }
    return {};
  }

  // This model and the other one, which decodes.
  Result<std::pair<double, double>> side_by_side(size_t model, bool is_prefill, bool is_half) {
    ModelProcess& mine = process(model, is_half);
    ModelProcess& other = process(1 - model, is_half);
    const double begin_s = now_s() + kLead_s;
    QUENCH_TRY_VOID(mine.begin(is_prefill, begin_s, begin_s + options_.period_s));
    QUENCH_TRY_VOID(other.begin(false, begin_s, begin_s + options_.period_s));
    QUENCH_TRY(const double speed, mine.finish());
    QUENCH_TRY(const double other_speed, other.finish());
    return std::pair(speed, other_speed);
  }

  TogetherSpeeds speeds_of(size_t model, std::vector<double> Samples::*values) const {
    const auto tokens =
        static_cast<double>(options_.lengths.prompt_tokens * options_.lengths.batch);
    return {median(samples_[model][0].*values), tokens / median(samples_[model][1].*values)};
  }

  void conclude_all() {
    for (Experiment& one : report_.experiments) {
      const bool is_isolated = one.id == "isolated";
      const size_t model = one.subject == label(0) ? 0 : 1;
      const Samples& samples = samples_[model][one.test == "prefill" ? 1 : 0];
      one.unchanged_tok_s = samples.alone;
      one.changed_tok_s = is_isolated ? samples.isolated : samples.together;
      judge(one);
      say(prediction_text(one, strings_) + "\n  " + outcome_text(one, strings_));
    }
    for (const size_t model : {0, 1}) {
      TogetherModel& result = report_.models[model];
      result.alone = speeds_of(model, &Samples::alone);
      result.together = speeds_of(model, &Samples::together);
      if (has_halves()) result.isolated = speeds_of(model, &Samples::isolated);
      result.why = why(model);
    }
    if (has_halves()) report_.isolation = isolation();
  }

  Sentence why(size_t model) const {
    const TogetherModel& result = report_.models[model];
    const double kept = result.together.decode_tok_s / result.alone.decode_tok_s;
    return {"explain.together.why",
            {{"percent", fixed(100.0 * kept, 0)},
             {"factor", fixed(result.together.ttft_s / result.alone.ttft_s, 2)}},
            {{"why", report_.experiments[2 * model].predicted.because}}};
  }

  Sentence isolation() const {
    auto gain = [](const Samples& samples) {
      std::vector<double> ratios;
      for (size_t i = 0; i < samples.together.size(); ++i)
        ratios.push_back(samples.isolated[i] / samples.together[i]);
      const MedianInterval interval = median_interval(ratios);
      return Sentence{"explain.together.interval",
                      {{"ratio", fixed(median(ratios), 2)},
                       {"low", fixed(interval.low, 2)},
                       {"high", fixed(interval.high, 2)}}};
    };
    auto gains = [&](size_t model) {
      return Sentence{
          "explain.together.gain",
          {{"model", label(model)}},
          {{"decode", gain(samples_[model][0])}, {"prefill", gain(samples_[model][1])}}};
    };
    return {"explain.together.apart",
            {{"threads", std::to_string(half_threads_)}},
            {{"first", gains(0)}, {"second", gains(1)}}};
  }

  const TogetherOptions& options_;
  const Strings& strings_ = Strings::of(options_.lang);
  std::vector<ModelProcess> processes_;
  std::vector<ModelProfile> profiles_;
  int half_threads_ = 0;
  Samples samples_[2][2];  // [model][is_prefill]
  double start_s_ = 0.0;
  TogetherReport report_;
};

}  // namespace

double Tenant::read_gb_s() const {
  return static_cast<double>(limit.read_bytes) / std::max(time.total_s(), 1e-12) / 1e9;
}

Forecast forecast_together(const Tenant& tenant, const Tenant& other, int cpus, double others_cpus,
                           const Ceilings& ceilings) {
  // Processors are shared evenly by those who want them.
  const double before = std::max(tenant.threads + others_cpus, static_cast<double>(cpus));
  const double after = std::max(tenant.threads + other.threads + others_cpus, before);
  const double cpu_share = before / after;
  // What both read while they have their processors, against what memory gives for both sets.
  const int64_t both_bytes = tenant.limit.read_bytes + other.limit.read_bytes;
  const double wanted_gb_s = cpu_share * (tenant.read_gb_s() + other.read_gb_s());
  const double supply_gb_s = ceilings.for_working_set(both_bytes).read_gb_s.best;
  const double memory_share = std::min(1.0, supply_gb_s / std::max(wanted_gb_s, 1e-9));
  const ReadCeiling& alone = ceilings.for_working_set(tenant.limit.read_bytes);
  const double cache = std::max(1.0, alone.read_gb_s.best / supply_gb_s);
  const PassTime& time = tenant.time;
  const double slowed =
      time.total_s() > 0.0
          ? (time.weights_s * cache + time.total_s() - time.weights_s) / time.total_s()
          : 1.0;
  const double share = cpu_share * memory_share;
  Forecast prediction;
  prediction.otherwise = share < kNoLoss ? 1.0 : 0.5;
  prediction.high = std::min(1.15 * share, share < kNoLoss ? kNoLoss : 1.05);
  // A team waits for whichever member is off its processor, at worst until all are on by chance.
  prediction.low = 0.8 * std::pow(cpu_share, std::min(tenant.threads, 8)) * memory_share / slowed;
  const bool has_others = others_cpus > 0.05;
  prediction.because = {has_others ? "explain.together.because_others" : "explain.together.because",
                        {{"threads", std::to_string(tenant.threads)},
                         {"other_threads", std::to_string(other.threads)},
                         {"cpus", std::to_string(cpus)},
                         {"share", fixed(cpu_share, 2)},
                         {"wanted", fixed(wanted_gb_s, 1)},
                         {"supply", fixed(supply_gb_s, 1)},
                         {"level", ceilings.for_working_set(both_bytes).level},
                         {"mb", fixed(static_cast<double>(both_bytes) / 1e6, 1)}}};
  if (has_others) prediction.because.values["others"] = fixed(others_cpus, 1);
  if (cache > 1.05) {
    prediction.because = {"explain.together.because_cache",
                          {{"mb", fixed(static_cast<double>(tenant.limit.read_bytes) / 1e6, 1)},
                           {"level", alone.level},
                           {"gb_s", fixed(alone.read_gb_s.best, 1)}},
                          {{"rest", prediction.because}}};
  }
  return prediction;
}

Forecast forecast_isolated(const Tenant& tenant, const PassLimit& half_limit, const Tenant& other,
                           int half_threads, const Ceilings& ceilings) {
  const double share = std::min(1.0, static_cast<double>(half_threads) / tenant.threads);
  Change change;
  change.model_factor = half_limit.limit_s() / std::max(tenant.limit.limit_s(), 1e-12);
  change.rest_high = 1.0 / share;
  change.full = share;
  Forecast prediction = forecast_change(tenant.time, change);
  const int64_t both_bytes = tenant.limit.read_bytes + other.limit.read_bytes;
  const double supply_gb_s = ceilings.for_working_set(both_bytes).read_gb_s.best;
  // Half the processors ask for no more than all of them.
  const double wanted_gb_s = std::max(share, 0.5) * (tenant.read_gb_s() + other.read_gb_s());
  const double memory_share = std::min(1.0, supply_gb_s / std::max(wanted_gb_s, 1e-9));
  prediction.low *= memory_share;
  prediction.because = {"explain.together.because_apart",
                        {{"threads", std::to_string(half_threads)},
                         {"all", std::to_string(tenant.threads)},
                         {"factor", fixed(change.model_factor, 2)},
                         {"wanted", fixed(wanted_gb_s, 1)},
                         {"supply", fixed(supply_gb_s, 1)}}};
  return prediction;
}

Result<TogetherReport> explain_together(const TogetherOptions& options) {
  return TogetherRun(options).run();
}

Json together_json(const TogetherReport& report) {
  auto speeds = [](const TogetherSpeeds& one) {
    return Json{{"decode_tok_s", one.decode_tok_s}, {"ttft_s", one.ttft_s}};
  };
  Json models = Json::array();
  for (const TogetherModel& model : report.models) {
    models.push_back({{"name", model.facts.name},
                      {"format", model.facts.format},
                      {"isa", model.facts.isa},
                      {"threads", model.facts.threads},
                      {"planned_bytes", model.facts.planned_bytes},
                      {"alone", speeds(model.alone)},
                      {"together", speeds(model.together)},
                      {"isolated", model.isolated ? speeds(*model.isolated) : Json()},
                      {"decode_kept", model.together.decode_tok_s / model.alone.decode_tok_s},
                      {"ttft_factor", model.together.ttft_s / model.alone.ttft_s},
                      {"why", Strings::of("en")(model.why)}});
  }
  Json experiments = Json::array();
  for (const Experiment& one : report.experiments) experiments.push_back(experiment_json(one));
  return {{"schema", "quench.explain/1"},
          {"claims", Json::array()},
          {"together",
           {{"models", std::move(models)},
            {"cpus", report.cpus},
            {"others_cpus", report.others_cpus},
            {"prompt_tokens", report.prompt_tokens},
            {"depth", report.depth},
            {"isolation", Strings::of("en")(report.isolation)},
            {"measure_s", report.measure_s}}},
          {"experiments", std::move(experiments)}};
}

std::string together_text(const TogetherReport& report, const Strings& strings) {
  Table table;
  table.columns = {{"model", strings("explain.together.model"), Align::kLeft},
                   {"run", "", Align::kLeft},
                   {"decode_tok_s", strings("explain.together.decode")},
                   {"decode_kept", strings("explain.together.of_alone")},
                   {"ttft_s", strings("explain.together.ttft")},
                   {"ttft_factor", strings("explain.together.late")}};
  for (size_t i = 0; i < std::size(report.models); ++i) {
    const TogetherModel& model = report.models[i];
    auto add = [&](const char* run, const TogetherSpeeds& speeds) {
      table.rows.push_back({text_cell(model_label(report, i) + " " + model.facts.format),
                            text_cell(strings(std::string("explain.together.run.") + run)),
                            number_cell(speeds.decode_tok_s, 1),
                            number_cell(speeds.decode_tok_s / model.alone.decode_tok_s, 0, 100.0),
                            number_cell(speeds.ttft_s, 1, 1e3),
                            number_cell(speeds.ttft_s / model.alone.ttft_s, 2)});
    };
    add("alone", model.alone);
    add("together", model.together);
    if (model.isolated) add("isolated", *model.isolated);
  }
  std::string text =
      strings("explain.together.title", {{"cpus", std::to_string(report.cpus)}}) + "\n" +
      strings("explain.together.setting", {{"prompt", std::to_string(report.prompt_tokens)},
                                           {"depth", std::to_string(report.depth)},
                                           {"others", fixed(report.others_cpus, 1)}}) +
      "\n\n" + table.text() + "\n";
  for (size_t i = 0; i < std::size(report.models); ++i)
    text += fmt::format("{} {}\n", model_label(report, i), strings(report.models[i].why));
  text += strings("explain.together.isolation", {{"what", strings(report.isolation)}}) + "\n\n" +
          strings("explain.together.predicted") + "\n";
  int64_t number = 0;
  for (const Experiment& one : report.experiments) {
    text += fmt::format("{}. {}\n   {}\n", ++number, prediction_text(one, strings),
                        outcome_text(one, strings));
  }
  return text + "\n" + strings("explain.live.seconds", {{"s", fixed(report.measure_s, 0)}}) + "\n";
}

}  // namespace quench
