#include "measure/analyze/live_model.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "devices/trace.h"

namespace quench {
namespace {

constexpr int64_t kTracedRuns = 5;

}  // namespace

Result<std::unique_ptr<LiveModel>> LiveModel::open(SessionOptions options, const LiveLimits& limits,
                                                   uint64_t seed, const LoadProgress& progress) {
  options.needs_tokenizer = false;
  options.goal.max_seq_len = std::max(limits.prompt_tokens, limits.depth + kMostTokens);
  options.goal.max_batch_size = limits.batch;
  std::unique_ptr<LiveModel> subject(new LiveModel);
  QUENCH_TRY(subject->session_, Session::open(options, progress));
  QUENCH_TRY(auto runner, subject->session_->make_runner());
  subject->runner_ = std::make_unique<GridRunner>(*subject->session_, std::move(runner), seed);
  return subject;
}

double LiveModel::tok_s(const GridRow& row) {
  return static_cast<double>(row.tokens * row.batch) / std::max(runner_->run(row), 1e-9);
}

Arm LiveModel::arm(const GridRow& row) {
  return [this, row]() -> Result<double> { return tok_s(row); };
}

PassLimit LiveModel::pass_limit(const GridRow& row, const Ceilings& ceilings) const {
  PassLimit limit = runner_->limit(row, ceilings);
  const double passes = row.is_prefill ? 1.0 : static_cast<double>(row.tokens);
  for (double* part :
       {&limit.f32_flop, &limit.bf16_flop, &limit.int8_op, &limit.memory_s, &limit.compute_s})
    *part /= passes;
  limit.read_bytes = std::llround(static_cast<double>(limit.read_bytes) / passes);
  return limit;
}

PassTime LiveModel::traced(const GridRow& row) {
  PassTime best;
  double best_s = INFINITY;
  Device& device = session_->device();
  for (int64_t i = 0; i < kTracedRuns; ++i) {
    Trace trace(device.num_workers());
    device.set_trace(&trace);
    const double traced_s = runner_->run(row);
    device.set_trace(nullptr);
    if (traced_s >= best_s) continue;
    best_s = traced_s;
    best = pass_time(trace);
    best.host_s = std::max(0.0, traced_s - best.total_s());
  }
  return best;
}

std::vector<std::string> LiveModel::kernels() const {
  std::set<std::string> kernels;
  for (const PlannedMatrix& matrix : session_->plan().matrices)
    kernels.insert(fmt::format("{}: {}", matrix.format->name, matrix.kernel->name));
  return {kernels.begin(), kernels.end()};
}

double LiveModel::generic_share(std::string* kernel) const {
  double generic = 0.0;
  double all = 0.0;
  for (const PlannedMatrix& matrix : session_->plan().matrices) {
    const std::string_view name = matrix.kernel->name;
    const auto bytes = static_cast<double>(matrix.read_bytes);
    all += bytes;
    if (name.find("generic") == std::string_view::npos) continue;
    generic += bytes;
    *kernel = name;
  }
  return all > 0.0 ? generic / all : 0.0;
}

LiveRows warm_up(LiveModel& subject, const LiveLimits& limits, int64_t batch, double run_s) {
  LiveRows rows;
  rows.prefill.is_prefill = true;
  rows.prefill.tokens = limits.prompt_tokens;
  rows.prefill.batch = batch;
  rows.decode.tokens = 2;
  rows.decode.depth = limits.depth;
  rows.decode.batch = batch;
  subject.runner().run(rows.prefill);
  subject.runner().run(rows.decode);  // touches memory
  const double step_s = std::max(subject.runner().run(rows.decode) / 2.0, 1e-9);
  rows.decode.tokens =
      std::clamp<int64_t>(static_cast<int64_t>(run_s / step_s), 2, LiveModel::kMostTokens);
  return rows;
}

}  // namespace quench
