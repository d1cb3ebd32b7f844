#include "engine/layer_runner.h"

#include "base/bytes.h"

namespace quench {
namespace {

// What a model needs to run one layer (or, for -1, its embedding).
Plan part_of(const Plan& whole, int64_t layer) {
  Plan part = whole;
  part.matrices.clear();
  part.vectors.clear();
  part.tied_head = false;
  for (const PlannedVector& vector : whole.vectors) {
    if (vector.source.layer == layer) {
      part.vectors.push_back(vector);
    } else {
      part.vectors_bytes -= vector.bytes;
    }
  }
  part.weights_bytes = 0;
  for (const PlannedMatrix& matrix : whole.matrices) {
    if (matrix.layer != layer || matrix.role == Role::kHead) continue;
    part.matrices.push_back(matrix);
    part.weights_bytes += matrix.bytes;
  }
  return part;
}

}  // namespace

LayerRunner::LayerRunner(Plan plan, const WeightSource& source, Device& device)
    : plan_(std::move(plan)), source_(source), device_(device) {}

Result<Plan> LayerRunner::plan(const Family& family, const ModelConfig& config,
                               const WeightSource& source, Device& device, int64_t max_tokens,
                               const std::string& format) {
  PlanGoal goal;
  QUENCH_TRY(goal.recipe, recipe_for_format(format));
  goal.kv_type = KvType::kF32;
  goal.max_seq_len = max_tokens;
  goal.max_step_tokens = max_tokens;
  goal.max_logit_rows = 1;
  return make_plan(
      family, config, [&](const TensorSpec& spec) { return stored_in(source, spec); }, device,
      goal);
}

Result<std::unique_ptr<LayerRunner>> LayerRunner::create(const Family& family,
                                                         const ModelConfig& config,
                                                         const WeightSource& source, Device& device,
                                                         int64_t max_tokens,
                                                         const std::string& format) {
  QUENCH_TRY(Plan whole, plan(family, config, source, device, max_tokens, format));
  std::unique_ptr<LayerRunner> runner(new LayerRunner(std::move(whole), source, device));
  // One layer's pages serve all: no text is continued.
  QUENCH_TRY(runner->kv_buffer_,
             device.allocate(runner->plan_.kv_page_bytes * runner->plan_.num_pages));
  QUENCH_TRY(runner->work_buffer_, device.allocate(runner->plan_.workspace_bytes));
  runner->workspace_ =
      carve_workspace(runner->plan_.config, runner->plan_.limits, runner->work_buffer_.data());
  QUENCH_TRY_VOID(runner->load_part(-1));
  return runner;
}

Result<void> LayerRunner::load_part(int64_t layer) {
  model_ = Model{};  // before the next is allocated
  QUENCH_TRY(model_, load_model(part_of(plan_, layer), source_, device_, {}));
  layer_ = layer;
  return {};
}

Result<void> LayerRunner::load(int64_t layer) { return load_part(layer); }

Result<void> LayerRunner::add_text(std::span<const int32_t> ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  if (tokens == 0 || tokens > plan_.limits.max_tokens) {
    return fail(ErrorCode::kInternal, "A text of {} tokens, expected 1 to {}.", tokens,
                plan_.limits.max_tokens);
  }
  device_.upload(reinterpret_cast<std::byte*>(workspace_.tokens),
                 reinterpret_cast<const std::byte*>(ids.data()),
                 tokens * static_cast<int64_t>(sizeof(int32_t)));
  std::vector<float> x(static_cast<size_t>(tokens * plan_.config.hidden_size));
  forward(tokens, nullptr, [](const ForwardContext& c) { embed(c); });
  device_.download(reinterpret_cast<std::byte*>(x.data()),
                   reinterpret_cast<const std::byte*>(workspace_.x),
                   static_cast<int64_t>(x.size() * sizeof(float)));
  hidden_.push_back(std::move(x));
  return {};
}

void LayerRunner::unload() { model_ = Model{}; }

void LayerRunner::forward(int64_t num_tokens, const Observer* observer,
                          const std::function<void(const ForwardContext&)>& body) {
  Batch batch;
  batch.max_pages = plan_.limits.max_pages;
  batch.query_start = {0, static_cast<int32_t>(num_tokens)};
  batch.kv_len = {static_cast<int32_t>(num_tokens)};
  const int32_t table = rope_table_for(plan_.config, num_tokens);
  for (int64_t t = 0; t < num_tokens; ++t) {
    batch.positions.push_back(static_cast<int32_t>(t));
    batch.sequence.push_back(0);
    batch.rope_table.push_back(table);
    if (plan_.config.use_logn_attn) batch.query_scale.push_back(logn_scale(plan_.config, t));
  }
  for (int64_t p = 0; p < batch.max_pages; ++p) batch.page_table.push_back(static_cast<int32_t>(p));
  upload_batch(device_, batch, workspace_);  // without tokens: they are there, or not needed
  device_.run([&](OpContext op) {
    op.scratch = workspace_.scratch;
    op.transformed = workspace_.transformed;
    body({op,
          &device_.ops(),
          &device_.phases(),
          &model_,
          &workspace_,
          {kv_buffer_.data(), 0, plan_.kv_page_bytes, plan_.kv_type},
          num_tokens,
          1,
          batch.max_pages,
          0,
          plan_.config.use_logn_attn,
          observer});
  });
}

void LayerRunner::run(int64_t text, const Observer* observer) {
  std::vector<float>& x = hidden_[static_cast<size_t>(text)];
  const auto bytes = static_cast<int64_t>(x.size() * sizeof(float));
  device_.upload(reinterpret_cast<std::byte*>(workspace_.x),
                 reinterpret_cast<const std::byte*>(x.data()), bytes);
  forward(static_cast<int64_t>(x.size()) / plan_.config.hidden_size, observer,
          [&](const ForwardContext& c) {
            rope_table(c);
            c.op.worker.wait();
            decoder_layer(c, layer_);
          });
  device_.download(reinterpret_cast<std::byte*>(x.data()),
                   reinterpret_cast<const std::byte*>(workspace_.x), bytes);
}

int64_t LayerRunner::num_tokens() const {
  int64_t floats = 0;
  for (const auto& x : hidden_) floats += static_cast<int64_t>(x.size());
  return floats / plan_.config.hidden_size;
}

}  // namespace quench
