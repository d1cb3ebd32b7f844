#include "measure/bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "measure/engine_target.h"
#include "measure/machine.h"
#include "measure/run_limits.h"

namespace quench {
namespace {

constexpr int64_t kPromptTokens = 512;  // room for a prompt beside the longest answer
constexpr int64_t kRateSequences = 8;   // the engine's places when requests arrive at a rate
constexpr double kQuietS = 0.3;         // how long the machine is watched before
constexpr int64_t kFailuresInARow = 2;

int64_t tokens_of(const SamplingSettings& settings, const BenchOptions& options) {
  return options.locked_tokens.value_or(settings.max_new_tokens);
}

class BenchRunner {
 public:
  BenchRunner(const BenchOptions& options, Bench& bench) : options_(options), bench_(bench) {}

  Result<void> run() {
    QUENCH_TRY_VOID(prepare());
    QUENCH_TRY_VOID(open_target());
    report("Watching the machine", 0, 1);
    MachineReader reader;
    const MachineReading quiet = reader.read(false);
    std::this_thread::sleep_for(std::chrono::duration<double>(kQuietS));
    bench_.before = between(quiet, reader.read(false));
    const MachineReading begin = reader.read();
    Telemetry telemetry;
    const Result<void> done = measure();
    telemetry.stop();
    bench_.complete = done.has_value();
    finish(telemetry.samples(), begin, reader.read());
    return done;
  }

 private:
  void report(const std::string& stage, int64_t done, int64_t total,
              const std::string& detail = "") const {
    if (options_.progress) options_.progress(stage, done, total, detail);
  }
  bool stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }
  bool is_load() const { return !options_.concurrency.empty() || !options_.rates_s.empty(); }

  Result<void> prepare() {
    QUENCH_TRY(protocol_, load_protocol());
    QUENCH_TRY(bench_.length, protocol_.length(options_.length));
    ProtocolLength& length = bench_.length;
    length.warmups = options_.warmups.value_or(length.warmups);
    length.runs = is_load() ? 0 : options_.runs.value_or(length.runs);
    if (options_.max_new_tokens) length.max_new_tokens = options_.max_new_tokens;
    bench_.label = options_.label;
    bench_.sampling = protocol_.sampling;
    bench_.lang = options_.lang;
    bench_.first_seed = options_.first_seed;
    bench_.max_warmups = std::max(options_.max_warmups, length.warmups);
    if (length.warmups == 0) bench_.max_warmups = 0;
    bench_.locked_tokens = options_.locked_tokens;
    bench_.slo = options_.slo;
    if (!options_.prompt.empty()) {
      Task task;
      task.name = "prompt";
      task.prompts[options_.lang] = options_.prompt;
      bench_.task_list = {task};
    }
    const auto& names = options_.tasks.empty() ? protocol_.tasks : options_.tasks;
    for (const std::string& name : names) {
      if (!options_.prompt.empty()) break;
      QUENCH_TRY(Task task, load_task(name));
      bench_.task_list.push_back(std::move(task));
    }
    for (const Task& task : bench_.task_list) {
      QUENCH_TRY(const SamplingSettings settings, protocol_.settings(task, length));
      longest_ = std::max(longest_, tokens_of(settings, options_));
    }
    return {};
  }

  Result<void> open_target() {
    if (options_.http) {
      report("Connecting", 0, 1);
      QUENCH_TRY(target_, open_http_target(*options_.http));
      bench_.target = target_->describe();
      bench_.model.name = bench_.target.value("model", "");
      return {};
    }
    return open_engine();
  }

  // Peak memory: the growth of this process's anonymous memory since before the model was opened.
  Result<void> open_engine() {
    SessionOptions session = options_.session;
    PlanGoal& goal = session.goal;
    if (is_load()) {
      goal.max_batch_size = options_.rates_s.empty() ? 1 : kRateSequences;
      for (const int64_t level : options_.concurrency)
        goal.max_batch_size = std::max(goal.max_batch_size, level);
    }
    QUENCH_TRY(const auto planned, plan_model(session, Weights::kOptional));
    if (goal.max_seq_len == 0) {
      goal.max_seq_len =
          std::min(longest_ + kPromptTokens, planned->plan.config.max_position_embeddings);
    }
    report("Hashing the weights", 0, 1);
    std::string sha256;
    if (!session.random_weights) {
      QUENCH_TRY(sha256, hash_weights(planned->files, planned->device->num_workers()));
    }
    session.pack_late = true;  // as a user has it; the cold costs are those
    memory_before_ = anonymous_memory_bytes();
    auto look = [&] {
      memory_peak_ = std::max(memory_peak_, anonymous_memory_bytes().value_or(0));
    };
    QUENCH_TRY(session_, Session::open(session, [&](int64_t done, int64_t total) {
                 look();
                 report("Loading", done, total);
                 return !stopped();
               }));
    QUENCH_TRY(auto target, EngineTarget::create(*session_));
    EngineTarget& engine = *target;
    target_ = std::move(target);
    look();
    bench_.load_s = session_->load_s();
    bench_.target = target_->describe();
    bench_.model = measured_model(session_->files().name, session_->plan(), sha256);
    bench_.planned_bytes = session_->plan().total_bytes();
    report("Measuring the machine", 0, 1);
    QUENCH_TRY(bench_.ceilings, cached_ceilings(session_->device(), !options_.cached_ceilings));
    engine.set_ceiling(
        bench_.ceilings->for_working_set(bench_.model.bytes_read_per_token).read_gb_s.best);
    return {};
  }

  ProtocolOptions protocol_options() const {
    ProtocolOptions protocol;
    protocol.tasks = bench_.task_list;
    protocol.lang = options_.lang;
    protocol.length = bench_.length;
    protocol.first_seed = options_.first_seed;
    protocol.max_warmups = bench_.max_warmups;
    protocol.locked_tokens = options_.locked_tokens;
    protocol.max_failures = kFailuresInARow;
    protocol.stop = options_.stop;
    return protocol;
  }

  Result<void> measure() {
    std::vector<std::vector<TaskRuns>> runs;
    const auto done = run_protocol(
        {target_.get()}, protocol_, protocol_options(), runs, [&](const RunProgress& progress) {
          std::string detail;
          if (progress.last != nullptr && progress.last->decode_tok_s())
            detail = fmt::format("first token {:.0f} ms, {:.1f} tok/s", 1e3 * progress.last->ttft_s,
                                 *progress.last->decode_tok_s());
          report(fmt::format("{}{}", progress.task->name, progress.warmup ? ", warming up" : ""),
                 progress.run, progress.runs, detail);
        });
    if (!runs.empty()) bench_.tasks = std::move(runs.front());
    if (!done) return done;
    for (const int64_t concurrency : options_.concurrency)
      QUENCH_TRY_VOID(measure_load({concurrency, std::nullopt, requests_for(concurrency)}));
    for (const double rate : options_.rates_s)
      QUENCH_TRY_VOID(measure_load({std::nullopt, rate, requests_for(1)}));
    return {};
  }

  int64_t requests_for(int64_t concurrency) const {
    return options_.requests.value_or(std::max<int64_t>(20, 4 * concurrency));
  }

  Result<void> measure_load(const LoadShape& shape) {
    const std::string stage = shape.concurrency
                                  ? fmt::format("{} at once", *shape.concurrency)
                                  : fmt::format("{} requests per second", *shape.rate_s);
    LoadLevel& level = bench_.loads.emplace_back();
    return run_load(*target_, protocol_, protocol_options(), shape, level,
                    [&](int64_t ended, int64_t in_flight) {
                      report(stage, ended, shape.requests, fmt::format("{} under way", in_flight));
                    });
  }

  void set_limits() {
    if (session_ == nullptr || !bench_.ceilings) return;
    set_run_limits(session_->plan(), *bench_.ceilings, bench_.tasks);
    if (impossible_runs(bench_.tasks).empty()) return;
    // A second chance, for a neighbour may have pressed the ceilings.
    if (const auto again = cached_ceilings(session_->device(), true)) {
      bench_.ceilings = combined(std::array{*bench_.ceilings, *again});
      set_run_limits(session_->plan(), *bench_.ceilings, bench_.tasks);
    }
  }

  void finish(std::vector<TelemetrySample> samples, const MachineReading& begin,
              const MachineReading& end) {
    bench_.state = machine_state(samples, begin, end);
    set_limits();
    std::vector<BenchRun*> runs;
    for (TaskRuns& task : bench_.tasks) {
      for (BenchRun& run : task.runs) runs.push_back(&run);
    }
    for (LoadLevel& level : bench_.loads) {
      for (BenchRun& run : level.runs) runs.push_back(&run);
    }
    for (BenchRun* run : runs)
      run->energy_j = energy_between(samples, run->start_s, run->start_s + run->e2e_s);
    if (session_ != nullptr && bench_.ceilings)
      add_reads(session_->plan(), *bench_.ceilings, {runs.begin(), runs.end()}, samples);
    bench_.series = std::move(samples);
    if (memory_before_ && session_ != nullptr) {
      const int64_t peak =
          std::max(memory_peak_, bench_.state->memory_peak_bytes.value_or(memory_peak_));
      bench_.peak_bytes = peak - *memory_before_;
    }
    if (options_.http) bench_.target = target_->describe();  // what it has learned of the server
    bench_.problems = find_problems(bench_);
  }

  const BenchOptions& options_;
  Bench& bench_;
  Protocol protocol_;
  int64_t longest_ = 0;
  std::unique_ptr<Session> session_;
  std::unique_ptr<BenchTarget> target_;  // after the session, which it uses
  std::optional<int64_t> memory_before_;
  int64_t memory_peak_ = 0;
};

}  // namespace

Result<void> run_bench(const BenchOptions& options, Bench& bench) {
  bench = {};
  return BenchRunner(options, bench).run();
}

}  // namespace quench
