#include "measure/slice.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/clock.h"
#include "base/memory.h"
#include "base/topology.h"
#include "devices/trace.h"
#include "measure/machine.h"
#include "measure/statistics.h"

namespace quench {
namespace {

// One layer in eight, two at least: their mean is a layer's time, and reading them evicts what a
// cache holds of them as the other layers would.
constexpr int64_t kLayersPerSliced = 8;
constexpr int64_t kFewestLayers = 2;
// Where the machine does not say.
constexpr int64_t kAssumedL3Bytes = int64_t{32} << 20;
// Of the free memory.
constexpr double kSliceMemoryShare = 0.25;
// Rounds of all rows: so many, but of a large model, whose rows take long enough to say something
// at once, only those that begin within the time.
constexpr int64_t kSliceRounds = 5;
constexpr double kSliceS = 2.0;
constexpr int64_t kDecodeSteps = 8;
constexpr int64_t kSliceBatches[] = {1, 16};
constexpr int64_t kSlicePrompts[] = {16, 64, 256, 1024};

// Each role in the format that the plan has for it; where layers differ, in the first one's.
Recipe recipe_of(const Plan& plan) {
  Recipe recipe;
  recipe.name = "slice";
  for (const PlannedMatrix& matrix : plan.matrices)
    recipe.role_formats.try_emplace(role_row(matrix.role).name, matrix.format->name);
  recipe.rotate = !plan.transforms.empty();
  return recipe;
}

struct SpanSums {
  double layers_s = 0.0, attention_s = 0.0, head_s = 0.0;
};
SpanSums sum_spans(const Trace& trace) {
  SpanSums sums;
  for (const TraceSpan& span : trace.spans(0)) {
    const double span_s = 1e-9 * static_cast<double>(span.end_ns - span.begin_ns);
    const std::string_view name = span.name;
    if (name == "layer") sums.layers_s += span_s;
    if (name == "attention") sums.attention_s += span_s;
    if (name == "head") sums.head_s += span_s;
  }
  return sums;
}

Pass pass_of(const GridRow& row) {
  if (row.is_prefill) return {row.tokens, row.depth, row.batch, row.batch};
  return {1, row.depth + row.tokens / 2, row.batch, row.batch};
}

// The smallest of the values that is not smaller than what is wanted, and all before it.
template <size_t n>
std::vector<int64_t> values_up_to(const int64_t (&values)[n], int64_t wanted) {
  std::vector<int64_t> result;
  for (const int64_t value : values) {
    result.push_back(value);
    if (value >= wanted) break;
  }
  return result;
}

}  // namespace

int64_t slice_layers(const Plan& plan, int64_t cache_bytes) {
  const int64_t all = plan.config.num_hidden_layers;
  int64_t layer_bytes = 0;
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (matrix.layer >= 0) layer_bytes += matrix.bytes;
  }
  layer_bytes = std::max<int64_t>(layer_bytes / std::max<int64_t>(all, 1), 1);
  const int64_t beyond_cache = 2 * cache_bytes / layer_bytes + 1;
  const int64_t share = (all + kLayersPerSliced - 1) / kLayersPerSliced;
  return std::min(all, std::max({share, beyond_cache, kFewestLayers}));
}

Result<std::unique_ptr<ModelSlice>> ModelSlice::open(const SessionOptions& whole, const Plan& plan,
                                                     int64_t max_seq_len, int64_t max_batch,
                                                     int64_t kv_tokens) {
  const int64_t l3 = topology().l3_bytes;
  SessionOptions options = whole;
  options.random_weights = true;
  options.num_layers = slice_layers(plan, l3 > 0 ? l3 : kAssumedL3Bytes);
  options.recipe = recipe_of(plan);
  options.needs_tokenizer = false;
  options.goal.max_seq_len = max_seq_len;
  options.goal.max_batch_size = max_batch;
  options.goal.kv_tokens = kv_tokens;
  QUENCH_TRY(const auto planned, plan_model(options, Weights::kOptional));
  const auto bytes = static_cast<double>(planned->plan.total_bytes());
  const auto free_bytes =
      static_cast<double>(available_memory_bytes().value_or(physical_memory_bytes()));
  if (bytes > kSliceMemoryShare * free_bytes) {
    return fail(ErrorCode::kOutOfMemory,
                "{} of the model's {} layers take {:.1f} GB, more than a quarter of the {:.1f} GB "
                "that are free.",
                options.num_layers, plan.config.num_hidden_layers, bytes / 1e9, free_bytes / 1e9);
  }
  std::unique_ptr<ModelSlice> slice(new ModelSlice);
  QUENCH_TRY(slice->session_, Session::open(options));
  QUENCH_TRY(auto runner, slice->session_->make_runner());
  slice->runner_ = std::make_unique<GridRunner>(*slice->session_, std::move(runner), 0);
  return slice;
}

PassParts ModelSlice::run(const GridRow& row) {
  Device& device = session_->device();
  Trace trace(device.num_workers());
  device.set_trace(&trace);
  const double elapsed_s = runner_->run(row);
  device.set_trace(nullptr);
  const SpanSums sums = sum_spans(trace);
  const auto passes = static_cast<double>(row.is_prefill ? 1 : row.tokens);
  const double layers = passes * static_cast<double>(num_layers());
  return {std::max(sums.layers_s - sums.attention_s, 0.0) / layers, sums.attention_s / layers,
          sums.head_s / passes, std::max(elapsed_s - sums.layers_s - sums.head_s, 0.0) / passes};
}

void SliceTimes::Curve::add(double x, double y) {
  const auto at = std::lower_bound(
      points.begin(), points.end(), x,
      [](const std::pair<double, double>& point, double value) { return point.first < value; });
  if (at == points.end() || at->first > x) points.insert(at, {x, y});
}

double SliceTimes::Curve::at(double x) const {
  if (points.empty()) return 0.0;
  if (x <= points.front().first) return points.front().second;
  for (size_t i = 1; i < points.size(); ++i) {
    const auto& [low, low_y] = points[i - 1];
    const auto& [high, high_y] = points[i];
    if (x <= high) return low_y + (high_y - low_y) * (x - low) / (high - low);
  }
  return points.back().second * x / points.back().first;
}

SliceTimes::SliceTimes(int64_t num_layers, const std::vector<Row>& rows) : num_layers_(num_layers) {
  prompt_attention_s_.add(0.0, 0.0);
  for (const Row& row : rows) {
    const Pass& pass = row.pass;
    const auto tokens = static_cast<double>(pass.new_tokens * pass.batch);
    layer_s_.add(tokens, row.parts.layer_s);
    rest_s_.add(tokens, row.parts.rest_s);
    head_s_.add(static_cast<double>(pass.logit_rows), row.parts.head_s);
    if (pass.new_tokens > 1) {
      prompt_attention_s_.add(tokens, row.parts.attention_s / tokens);
      // The longest prompt says it best; half of its pairs lie before the diagonal.
      attention_s_per_product_ = row.parts.attention_s / (0.5 * tokens * tokens);
    } else if (pass.batch == 1) {
      decode_attention_s_.add(static_cast<double>(pass.context), row.parts.attention_s);
    }
  }
}

double SliceTimes::pass_s(const Pass& pass) const {
  const auto tokens = static_cast<double>(pass.new_tokens * pass.batch);
  const auto batch = static_cast<double>(pass.batch);
  const auto context = static_cast<double>(pass.context);
  const auto length = static_cast<double>(pass.new_tokens);
  PassParts parts;
  parts.layer_s = layer_s_.at(tokens);
  parts.rest_s = rest_s_.at(tokens);
  if (pass.logit_rows > 0) parts.head_s = head_s_.at(static_cast<double>(pass.logit_rows));
  parts.attention_s = batch * (pass.new_tokens > 1 ? prompt_attention_s_.at(length) * length +
                                                         attention_s_per_product_ * length * context
                                                   : decode_attention_s_.at(context));
  return parts.total_s(num_layers_);
}

Result<SliceTimes> SliceTimes::measure(const SessionOptions& whole, const Plan& plan,
                                       int64_t prompt_tokens, int64_t context_tokens,
                                       int64_t max_batch) {
  const int64_t step_tokens = plan.limits.max_tokens;
  std::vector<GridRow> rows;
  auto add = [&](bool is_prefill, int64_t tokens, int64_t depth, int64_t batch) {
    GridRow& row = rows.emplace_back();
    row.is_prefill = is_prefill;
    row.tokens = tokens;
    row.depth = depth;
    row.batch = batch;
  };
  int64_t largest_batch = 1;
  for (const int64_t batch : values_up_to(kSliceBatches, max_batch)) {
    add(false, batch == 1 ? kDecodeSteps : 2, 0, batch);
    largest_batch = batch;
  }
  const int64_t depth = std::max<int64_t>(context_tokens, 16 * kDecodeSteps);
  add(false, kDecodeSteps, depth, 1);
  for (const int64_t tokens : values_up_to(kSlicePrompts, std::min(prompt_tokens, step_tokens)))
    add(true, std::min(tokens, step_tokens), 0, 1);
  const int64_t longest = std::max(depth + kDecodeSteps, rows.back().tokens);
  QUENCH_TRY(const auto slice, ModelSlice::open(whole, plan, longest, largest_batch,
                                                longest + largest_batch * kPageTokens));
  std::vector<std::vector<PassParts>> parts(rows.size());
  double start_s = 0.0;
  for (int64_t round = -1; round < kSliceRounds; ++round) {  // the first touches memory and caches
    if (round == 0) start_s = now_s();
    if (round > 0 && now_s() - start_s > kSliceS) break;
    for (size_t i = 0; i < rows.size(); ++i) {
      const PassParts one = slice->run(rows[i]);
      if (round >= 0) parts[i].push_back(one);
    }
  }
  std::vector<Row> measured;
  for (size_t i = 0; i < rows.size(); ++i) {
    auto middle = [&](double PassParts::*part) {
      std::vector<double> values;
      for (const PassParts& one : parts[i]) values.push_back(one.*part);
      return median(values);
    };
    measured.push_back({pass_of(rows[i]),
                        {middle(&PassParts::layer_s), middle(&PassParts::attention_s),
                         middle(&PassParts::head_s), middle(&PassParts::rest_s)}});
  }
  return SliceTimes(plan.config.num_hidden_layers, measured);
}

}  // namespace quench
