#include "measure/bench_record.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/sha256.h"
#include "base/topology.h"
#include "base/version.h"
#include "measure/machine.h"

namespace quench {
namespace {

using Value = std::optional<double>;

Json unless_zero(int64_t value) { return value == 0 ? Json() : Json(value); }

int64_t count_characters(const std::string& utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

// Microseconds are enough, and keep a record readable.
double microseconds_kept(double time_s) { return std::round(time_s * 1e6) / 1e6; }

Json times_json(const std::vector<double>& times_s) {
  Json list = Json::array();
  for (const double time_s : times_s) list.push_back(microseconds_kept(time_s));
  return list;
}

// Whether the answer has about the length that the task asks for: null where it asks for none.
// "About" is half to double.
Json fits_task(const Task* task, const BenchRun& run) {
  if (task == nullptr) return {};
  auto about = [](int64_t value, int64_t target) {
    return 2 * value >= target && value <= 2 * target;
  };
  const int64_t characters = count_characters(run.text);
  if (task->max_chars) return characters > 0 && characters <= *task->max_chars;
  if (task->target_chars) return about(characters, *task->target_chars);
  if (task->target_lines)
    return about(1 + std::count(run.text.begin(), run.text.end(), '\n'), *task->target_lines);
  return {};
}

class RecordWriter {
 public:
  explicit RecordWriter(const Bench& bench) : bench_(bench) {}

  Json write(const std::string& time) const {
    Json json = {{"schema", "quench.record/1"},
                 {"id", nullptr},
                 {"time", time},
                 {"label", or_null(bench_.label)},
                 {"complete", bench_.complete},
                 {"build", {{"commit", build_commit()}, {"isa", of_target("isa")}}},
                 {"machine", machine_json()},
                 {"state", machine_state_json()},
                 {"ceilings", bench_.ceilings ? ceilings_json(*bench_.ceilings) : Json()},
                 {"target", target_json()},
                 {"model", model_json(bench_.model)},
                 {"plan", of_target("plan")},
                 {"kernels", of_target("kernels")},
                 {"settings", settings_json()},
                 {"cold", cold_json()},
                 {"tasks", tasks_json()},
                 {"loads", loads_json()},
                 {"memory",
                  {{"planned_bytes", or_null(bench_.planned_bytes)},
                   {"peak_bytes", or_null(bench_.peak_bytes)}}},
                 {"series", series()},
                 {"energy_j", bench_.state ? or_null(bench_.state->energy_j) : Json()},
                 {"energy", energy_json()},
                 {"problems", problems_json()}};
    add_id(json);
    return json;
  }

 private:
  Json of_target(const char* key) const { return bench_.target.value(key, Json()); }

  Json target_json() const {
    return {{"kind", of_target("target")},    {"url", of_target("url")},
            {"host", of_target("host")},      {"endpoint", of_target("endpoint")},
            {"server", of_target("server")},  {"nonce", of_target("nonce")},
            {"refused", of_target("refused")}};
  }

  Json machine_state_json() const {
    if (!bench_.state) return {};
    Json json = state_json(*bench_.state);
    if (bench_.before)
      json["before"] = {{"others_share", or_null(bench_.before->busy_share)},
                        {"steal_share", or_null(bench_.before->steal_share)},
                        {"power_w", or_null(bench_.before->power_w)}};
    return json;
  }

  Json settings_json() const {
    const ProtocolLength& length = bench_.length;
    Json json = {{"length", length.name},
                 {"warmups", length.warmups},
                 {"max_warmups", unless_zero(bench_.max_warmups)},
                 {"runs", length.runs},
                 {"first_seed", bench_.first_seed},
                 {"lang", bench_.lang},
                 {"max_new_tokens", or_null(length.max_new_tokens)},
                 {"locked_tokens", or_null(bench_.locked_tokens)},
                 {"sampling", bench_.sampling},
                 {"interleaved", bench_.interleaved},
                 {"device", of_target("device")},
                 {"threads", of_target("threads")}};
    json["slo"] = bench_.slo.empty() ? Json()
                                     : Json({{"ttft_s", or_null(bench_.slo.ttft_s)},
                                             {"tpot_s", or_null(bench_.slo.tpot_s)}});
    return json;
  }

  // What is paid once: opening the model, and what the first request takes over a usual one.
  Json cold_json() const {
    if (bench_.tasks.empty() || bench_.tasks.front().runs.empty()) return {};
    const TaskRuns& task = bench_.tasks.front();
    const BenchRun& first = task.runs.front();
    const bool answered = first.error.empty() && !first.token_s.empty();
    const Summary usual = summarize_task(task).ttft_s;
    const bool known = answered && usual.count > 0 && first.warmup;
    return {{"load_s", or_null(bench_.load_s)},
            {"task", task.task},
            {"first_ttft_s", answered ? Json(first.ttft_s) : Json()},
            {"first_e2e_s", answered ? Json(first.e2e_s) : Json()},
            {"over_usual_ttft_s", known ? Json(first.ttft_s - usual.median) : Json()}};
  }

  Json run_json(const BenchRun& run, double start_s) const {
    const auto task = std::find_if(bench_.task_list.begin(), bench_.task_list.end(),
                                   [&](const Task& one) { return one.name == run.task; });
    const bool has_tokens = !run.token_s.empty();
    return {
        {"warmup", run.warmup},
        {"seed", run.seed},
        {"prompt_tokens", or_null(run.prompt_tokens)},
        {"generated_tokens", run.generated_tokens},
        {"reported_tokens", or_null(run.reported_tokens)},
        {"generated_bytes", run.text.size()},
        {"generated_chars", count_characters(run.text)},
        {"fits_task", fits_task(task == bench_.task_list.end() ? nullptr : &*task, run)},
        {"finish_reason", finish_reason_name(run.finish_reason)},
        {"error", or_null(run.error)},
        {"start_s", microseconds_kept(run.start_s - start_s)},
        {"late_s",
         run.intended_s ? Json(microseconds_kept(run.start_s - *run.intended_s)) : Json()},
        {"ttft_s", has_tokens ? Json(microseconds_kept(run.ttft_s)) : Json()},
        {"e2e_s", microseconds_kept(run.e2e_s)},
        {"decode_tok_s", or_null(run.decode_tok_s())},
        {"tpot_s", or_null(run.tpot_s())},
        {"prefill_tok_s", or_null(run.prefill_tok_s())},
        {"limit_decode_tok_s", or_null(run.limit_decode_tok_s)},
        {"limit_ttft_s", or_null(run.limit_ttft_s)},
        {"energy_j", or_null(run.energy_j)},
        {"token_s", times_json(run.token_s)},
        {"engine_token_s", run.engine_token_s.empty() ? Json() : times_json(run.engine_token_s)}};
  }

  // The zero of all "start_s" of a record, and of its series.
  double zero_s() const {
    if (!bench_.series.empty()) return bench_.series.front().reading.time_s;
    if (bench_.tasks.empty() || bench_.tasks.front().runs.empty()) return 0.0;
    return bench_.tasks.front().runs.front().start_s;
  }

  Json tasks_json() const {
    Json tasks = Json::array();
    for (const TaskRuns& task : bench_.tasks) {
      Json runs = Json::array();
      for (const BenchRun& run : task.runs) runs.push_back(run_json(run, zero_s()));
      const auto warmups = std::count_if(task.runs.begin(), task.runs.end(),
                                         [](const BenchRun& run) { return run.warmup; });
      tasks.push_back({{"task", task.task},
                       {"lang", task.lang},
                       {"warmups", warmups},
                       {"plateau", warmups < 3 ? Json() : Json(!still_climbing({task}))},
                       {"summary", task_summary_json(summarize_task(task))},
                       {"runs", runs}});
    }
    return tasks;
  }

  static Json task_summary_json(const TaskSummary& summary) {
    return {{"generated_tokens", summary_json(summary.generated_tokens)},
            {"ttft_s", summary_json(summary.ttft_s)},
            {"e2e_s", summary_json(summary.e2e_s)},
            {"e2e_at_median_length_s", summary_json(summary.e2e_at_median_length_s)},
            {"tpot_s", summary_json(summary.tpot_s)},
            {"decode_tok_s", summary_json(summary.decode_tok_s)},
            {"prefill_tok_s", summary_json(summary.prefill_tok_s)},
            {"limit_decode_tok_s", summary_json(summary.limit_decode_tok_s)},
            {"limit_ttft_s", summary_json(summary.limit_ttft_s)},
            {"decode_share", or_null(summary.decode_share)},
            {"prefill_share", or_null(summary.prefill_share)},
            {"trend", {{"tau", summary.trend.tau}, {"p_value", summary.trend.p_value}}},
            {"autocorrelation", summary.autocorrelation}};
  }

  Json loads_json() const {
    Json loads = Json::array();
    for (const LoadLevel& level : bench_.loads) {
      const LoadSummary summary = summarize_load(level, bench_.slo);
      Json runs = Json::array();
      for (const BenchRun& run : level.runs) {
        Json one = run_json(run, zero_s());
        one["task"] = run.task;
        runs.push_back(std::move(one));
      }
      auto tail = [&](auto value) {
        const TaskRuns all = {"", "", level.runs};
        const std::vector<double> values =
            counted(all, [&](const BenchRun& run) { return Value(value(run)); });
        return Json({{"p90", or_null(bounded_percentile(values, 90.0))},
                     {"p99", or_null(bounded_percentile(values, 99.0))}});
      };
      Json json = {{"concurrency", or_null(level.shape.concurrency)},
                   {"rate_s", or_null(level.shape.rate_s)},
                   {"requests", level.runs.size()},
                   {"failed", summary.failed},
                   {"duration_s", level.duration_s},
                   {"requests_s", summary.requests_s},
                   {"output_tok_s", summary.output_tok_s},
                   {"full_output_tok_s", or_null(summary.full_output_tok_s)},
                   {"mean_in_flight", summary.mean_in_flight},
                   {"good_share", or_null(summary.good_share)},
                   {"goodput_requests_s", or_null(summary.goodput_requests_s)}};
      json["summary"] = {{"ttft_s", summary_json(summary.ttft_s)},
                         {"tpot_s", summary_json(summary.tpot_s)},
                         {"e2e_s", summary_json(summary.e2e_s)},
                         {"response_ttft_s", summary_json(summary.response_ttft_s)},
                         {"response_e2e_s", summary_json(summary.response_e2e_s)}};
      json["tail"] = {{"response_ttft_s", tail(response_ttft_s)},
                      {"response_e2e_s", tail(response_e2e_s)}};
      json["runs"] = std::move(runs);
      loads.push_back(std::move(json));
    }
    return loads;
  }

  Json series() const {
    std::optional<double> ceiling_gb_s;
    if (bench_.ceilings && bench_.model.bytes_read_per_token > 0) {
      ceiling_gb_s =
          bench_.ceilings->for_working_set(bench_.model.bytes_read_per_token).read_gb_s.best;
    }
    return series_json(bench_.series, ceiling_gb_s);
  }

  Json energy_json() const {
    if (!bench_.state || !bench_.state->energy_j) return {};
    double tokens = 0.0;
    double busy_j = 0.0;
    for (const TaskRuns& task : bench_.tasks) {
      for (const BenchRun& run : task.runs) {
        if (run.warmup || !run.error.empty()) continue;
        tokens += static_cast<double>(run.generated_tokens);
        busy_j += run.energy_j.value_or(0.0);
      }
    }
    const auto idle_w = bench_.before ? bench_.before->power_w : std::nullopt;
    return {{"source", "rapl"},
            {"idle_w", or_null(idle_w)},
            {"counted_runs_j", busy_j},
            {"per_output_token_j", tokens > 0.0 ? Json(busy_j / tokens) : Json()}};
  }

  Json problems_json() const {
    Json problems = Json::array();
    for (const Problem& problem : bench_.problems) problems.push_back(problem_json(problem));
    return problems;
  }

  const Bench& bench_;
};

}  // namespace

TaskSummary summarize_task(const TaskRuns& task) {
  auto of_runs = [&](const RunValue& value) { return summarize(counted(task, value)); };
  TaskSummary summary;
  summary.generated_tokens =
      of_runs([](const BenchRun& run) { return Value(run.generated_tokens); });
  summary.ttft_s = of_runs(
      [](const BenchRun& run) { return run.token_s.empty() ? Value() : Value(run.ttft_s); });
  summary.e2e_s = of_runs([](const BenchRun& run) { return Value(run.e2e_s); });
  summary.tpot_s = of_runs([](const BenchRun& run) { return run.tpot_s(); });
  summary.prefill_tok_s = of_runs([](const BenchRun& run) { return run.prefill_tok_s(); });
  const std::vector<double> speeds =
      counted(task, [](const BenchRun& run) { return run.decode_tok_s(); });
  summary.decode_tok_s = summarize(speeds);
  summary.trend = find_trend(speeds);
  summary.autocorrelation = lag1_autocorrelation(speeds);
  const double length = summary.generated_tokens.median;
  summary.e2e_at_median_length_s =
      of_runs([&](const BenchRun& run) { return run.e2e_at_length_s(length); });
  summary.limit_decode_tok_s = of_runs([](const BenchRun& run) { return run.limit_decode_tok_s; });
  summary.limit_ttft_s = of_runs([](const BenchRun& run) { return run.limit_ttft_s; });
  const Summary decode_shares = of_runs([](const BenchRun& run) {
    const auto speed = run.decode_tok_s();
    return speed && run.limit_decode_tok_s ? Value(*speed / *run.limit_decode_tok_s) : Value();
  });
  const Summary prefill_shares = of_runs([](const BenchRun& run) {
    return run.limit_ttft_s && run.ttft_s > 0.0 ? Value(*run.limit_ttft_s / run.ttft_s) : Value();
  });
  if (decode_shares.count > 0) summary.decode_share = decode_shares.median;
  if (prefill_shares.count > 0) summary.prefill_share = prefill_shares.median;
  return summary;
}

Json record_json(const Bench& bench, const std::string& time) {
  return RecordWriter(bench).write(time);
}

Json model_json(const MeasuredModel& model) {
  return {{"name", model.name},
          {"sha256", or_null(model.sha256)},
          {"family", or_null(model.family)},
          {"format", or_null(model.format)},
          {"bytes", unless_zero(model.bytes)},
          {"bytes_read_per_token", unless_zero(model.bytes_read_per_token)},
          {"parameters", unless_zero(model.num_parameters)}};
}

Json machine_json() {
  const Machine machine = this_machine();
  return {{"cpu_model", or_null(machine.cpu_model)},
          {"cpus", machine.cpus},
          {"memory_bytes", or_null(machine.memory_bytes)},
          {"l2_bytes", unless_zero(topology().l2_bytes)},
          {"l3_bytes", unless_zero(topology().l3_bytes)},
          {"governor",
           or_null(first_line(read_proc("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")))},
          {"kernel", or_null(first_line(read_proc("/proc/sys/kernel/osrelease")))}};
}

Json summary_json(const Summary& summary) {
  if (summary.count == 0) return {};
  const double variation =
      summary.mean != 0.0 ? summary.standard_deviation / std::fabs(summary.mean) : 0.0;
  return {{"count", summary.count},
          {"median", summary.median},
          {"low", summary.interval.low},
          {"high", summary.interval.high},
          {"coverage", summary.interval.coverage},
          {"mean", summary.mean},
          {"mean_low", summary.mean_low},
          {"mean_high", summary.mean_high},
          {"standard_deviation", summary.standard_deviation},
          {"variation", variation},
          {"smallest_difference", or_null(smallest_difference(summary.count, variation))},
          {"min", summary.min},
          {"max", summary.max},
          {"outliers", summary.outliers},
          {"median_without_outliers", or_null(summary.median_without_outliers)}};
}

void add_id(Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  json["id"] = sha256_hex(std::as_bytes(std::span(text))).substr(0, 16);
}

}  // namespace quench
