#include "engine/runner.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/float16.h"
#include "base/random.h"
#include "devices/trace.h"

namespace quench {

Runner::Runner(const Plan& plan, const Model& model, Device& device)
    : plan_(plan), model_(model), device_(device), pages_(0) {}

Result<std::unique_ptr<Runner>> Runner::create(const Plan& plan, const Model& model,
                                               Device& device) {
  std::unique_ptr<Runner> runner(new Runner(plan, model, device));
  QUENCH_TRY(runner->kv_buffer_, device.allocate(plan.kv_bytes));
  runner->pages_ = PagePool(plan.num_pages);  // after the bytes: they are what may be missing
  QUENCH_TRY(runner->work_buffer_, device.allocate(plan.workspace_bytes));
  runner->workspace_ = carve_workspace(plan.config, plan.limits, runner->work_buffer_.data());
  runner->host_logits_.resize(
      static_cast<size_t>(plan.limits.max_logit_rows * plan.config.vocab_size));
  return runner;
}

void Runner::fill_batch(std::span<const BatchEntry> entries) {
  batch_ = Batch{};
  batch_.max_pages = plan_.limits.max_pages;
  batch_.query_start.push_back(0);
  for (const BatchEntry& entry : entries) {
    const auto sequence = static_cast<int32_t>(batch_.kv_len.size());
    for (size_t i = 0; i < entry.tokens.size(); ++i) {
      const int64_t position = entry.state->num_cached + static_cast<int64_t>(i);
      if (entry.tokens.size() - i <= static_cast<size_t>(entry.num_logits))
        batch_.logit_rows.push_back(static_cast<int32_t>(batch_.tokens.size()));
      batch_.tokens.push_back(entry.tokens[i]);
      batch_.positions.push_back(static_cast<int32_t>(position));
      batch_.sequence.push_back(sequence);
      batch_.rope_table.push_back(entry.state->rope_table);
      if (plan_.config.use_logn_attn)
        batch_.query_scale.push_back(logn_scale(plan_.config, position));
    }
    const int64_t length = entry.state->num_cached + static_cast<int64_t>(entry.tokens.size());
    QUENCH_CHECK(static_cast<int64_t>(entry.state->pages.size()) * kPageTokens >= length,
                 "{} pages for {} tokens", entry.state->pages.size(), length);
    batch_.query_start.push_back(static_cast<int32_t>(batch_.tokens.size()));
    batch_.kv_len.push_back(static_cast<int32_t>(length));
    batch_.page_table.insert(batch_.page_table.end(), entry.state->pages.begin(),
                             entry.state->pages.end());
    batch_.page_table.resize(batch_.kv_len.size() * static_cast<size_t>(batch_.max_pages), 0);
  }
  QUENCH_CHECK(batch_.num_tokens() <= plan_.limits.max_tokens &&
                   batch_.num_sequences() <= plan_.limits.max_sequences &&
                   static_cast<int64_t>(batch_.logit_rows.size()) <= plan_.limits.max_logit_rows,
               "batch of {} tokens, {} sequences, {} rows exceeds the plan", batch_.num_tokens(),
               batch_.num_sequences(), batch_.logit_rows.size());
}

std::span<float> Runner::run(std::span<const BatchEntry> entries, const Observer* observer) {
  fill_batch(entries);
  upload_batch(device_, batch_, workspace_);
  const int64_t layer_bytes = plan_.kv_page_bytes * plan_.num_pages;
  const auto rows = static_cast<int64_t>(batch_.logit_rows.size());
  device_.run([&](OpContext op) {
    op.scratch = workspace_.scratch;
    op.transformed = workspace_.transformed;
    const TraceScope step(op, "step");
    const Trace* trace = op.trace;
    const ForwardContext context = {
        op,
        trace != nullptr ? &trace->ops() : &device_.ops(),
        trace != nullptr ? &trace->phases() : &device_.phases(),
        &model_,
        &workspace_,
        {kv_buffer_.data(), layer_bytes, plan_.kv_page_bytes, plan_.kv_type},
        batch_.num_tokens(),
        batch_.num_sequences(),
        batch_.max_pages,
        rows,
        plan_.config.use_logn_attn,
        observer};
    model_.family->forward(context);
  });
  for (const BatchEntry& entry : entries)
    entry.state->num_cached += static_cast<int64_t>(entry.tokens.size());
  const int64_t count = rows * plan_.config.vocab_size;
  device_.download(reinterpret_cast<std::byte*>(host_logits_.data()),
                   reinterpret_cast<const std::byte*>(workspace_.logits),
                   count * static_cast<int64_t>(sizeof(float)));
  return {host_logits_.data(), static_cast<size_t>(count)};
}

void Runner::fill_cache(SequenceState& state, int64_t num_tokens, uint64_t seed) {
  QUENCH_CHECK(static_cast<int64_t>(state.pages.size()) * kPageTokens >= num_tokens,
               "{} pages for {} tokens", state.pages.size(), num_tokens);
  // Pages of int8 take the bf16 pairs too: any byte is a code, and their scales read a pair as a
  // finite number of at most 1.
  const int64_t element_bytes = plan_.kv_type == KvType::kF32 ? 4 : 2;
  std::vector<std::byte> page(static_cast<size_t>(plan_.kv_page_bytes));
  for (int64_t i = 0; i < plan_.kv_page_bytes / element_bytes; ++i) {
    const auto value =
        static_cast<float>(random_uniform(seed, static_cast<uint64_t>(i)) * 2.0 - 1.0);
    if (plan_.kv_type == KvType::kF32) {
      store(page.data() + i * element_bytes, value);
    } else {
      store(page.data() + i * element_bytes, f32_to_bf16(value));
    }
  }
  const int64_t layer_bytes = plan_.kv_page_bytes * plan_.num_pages;
  for (int64_t layer = 0; layer < plan_.config.num_hidden_layers; ++layer) {
    for (int64_t block = 0; block < ceil_div(num_tokens, kPageTokens); ++block) {
      const int64_t at =
          layer * layer_bytes + state.pages[static_cast<size_t>(block)] * plan_.kv_page_bytes;
      device_.upload(kv_buffer_.data() + at, page.data(), plan_.kv_page_bytes);
    }
  }
  state.num_cached = num_tokens;
}

Result<void> Runner::run_text(std::span<const int32_t> ids, const LogitsUse& use,
                              const Observer* observer) {
  const auto length = static_cast<int64_t>(ids.size());
  SequenceState state;
  state.rope_table = rope_table_for(plan_.config, length);
  if (length == 0 || length > plan_.max_seq_len || !reserve(state, length)) {
    return fail(ErrorCode::kInvalidArgument,
                "A text of {} tokens does not fit a context of {} tokens.", length,
                plan_.max_seq_len);
  }
  const int64_t chunk = std::min(plan_.limits.max_tokens, plan_.limits.max_logit_rows);
  while (state.num_cached < length) {
    const int64_t first = state.num_cached;
    const int64_t count = std::min(chunk, length - first);
    const BatchEntry entry = {
        &state, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), count};
    use(first, run({&entry, 1}, observer));
  }
  release(state);
  return {};
}

}  // namespace quench
