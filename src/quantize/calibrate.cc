#include "quantize/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/paths.h"
#include "quantize/second_moment.h"
#include "text/documents.h"

namespace quench {
namespace {

// Tokens of a text that are run together. Long enough for attention to be what it is in use.
constexpr int64_t kWindow = 1024;
constexpr int64_t kMinWindow = 16;
// Rows that are multiplied at once: enough that adding the products up costs little beside them.
constexpr int64_t kReduceRows = 4096;
// But fewer of the widest inputs, which would take gigabytes beside the sums.
constexpr int64_t kReduceNumbers = int64_t{1} << 25;
// What the layers run in: integers of 8 bits, twice as fast as bf16. They move a model's
// predictions by some 1e-4 nats per token, and what its inputs look like on average by less than
// another thousand tokens do.
constexpr const char* kForwardFormat = "int8_g128";

int64_t window_of(const ModelConfig& config) {
  return std::min(kWindow, config.max_position_embeddings);
}

// rows [n, cols] become their transforms.
void rotate_rows(Device& device, const InputTransform& transform, std::vector<float>& rows,
                 int64_t cols) {
  device.run([&](const OpContext& context) {
    const Range range = worker_range(context.worker, static_cast<int64_t>(rows.size()) / cols);
    std::vector<float> original(static_cast<size_t>(cols));
    for (int64_t r = range.begin; r < range.end; ++r) {
      float* const row = rows.data() + r * cols;
      std::copy_n(row, cols, original.begin());
      transform.apply(original, {row, static_cast<size_t>(cols)});
    }
  });
}

// Rows of an input that wait before they are multiplied.
int64_t waiting_rows(int64_t cols) {
  return std::min(kReduceRows, std::max(kWindow, kReduceNumbers / cols));
}

}  // namespace

Result<EvalTexts> calibration_texts(const QuantizeOptions& options, const ModelFiles& files) {
  QUENCH_TRY(const Tokenizer tokenizer, load_tokenizer(files));
  QUENCH_TRY(const ChatTemplate chat_template, load_text_template(files));
  std::string path = options.calibration;
  if (path.empty()) {
    QUENCH_TRY(path, data_path("texts/calibration"));
  }
  QUENCH_TRY(EvalTexts texts, load_eval_texts(path, tokenizer, chat_template));
  limit_tokens(texts, options.calibration_tokens);
  return texts;
}

Result<CalibrationMemory> calibration_memory(const QuantizeJob& job, int64_t num_tokens) {
  const ModelFiles& files = job.model->files;
  QUENCH_TRY(const Plan plan,
             LayerRunner::plan(*files.family, files.config, *job.model->source, *job.model->device,
                               window_of(files.config), kForwardFormat));
  std::map<int64_t, int64_t> part_bytes;  // of a layer, or of the embedding
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (matrix.role != Role::kHead) part_bytes[matrix.layer] += matrix.bytes;
  }
  int64_t largest_part = 0;
  for (const auto& [layer, bytes] : part_bytes) largest_part = std::max(largest_part, bytes);
  const int64_t always = num_tokens * files.config.hidden_size * 4 + plan.workspace_bytes +
                         plan.kv_page_bytes * plan.num_pages;
  CalibrationMemory most;
  for (const QuantizeUnit& unit : job.units) {
    std::map<std::string, int64_t> inputs;  // to its columns
    for (const QuantizeItem& item : unit.items) {
      const std::string input = item.is_quantized ? calibration_input(item.spec) : "";
      if (!input.empty()) inputs[input] = item.spec.cols;
    }
    int64_t moments = 0, largest = 0, waiting = 0, rounded = 0;
    for (const auto& [input, cols] : inputs) {
      // Experts share the tokens.
      const bool is_expert = input.starts_with("expert_down_input");
      const int64_t rows = std::min(num_tokens, waiting_rows(cols) + window_of(files.config)) /
                           (is_expert ? std::max<int64_t>(1, files.config.moe.num_experts) : 1);
      waiting += rows * cols * 4;
      if (job.algorithm->needs != Needs::kSecondMoment) continue;
      const int64_t bytes = SymmetricMatrix::size_bytes(cols);
      moments += bytes;
      largest = std::max(largest, bytes);
      rounded = std::max(rounded, rows * cols * 5);  // as f32, and as codes
    }
    most.collecting =
        std::max(most.collecting, always + largest_part + moments + waiting + rounded);
    most.kept = std::max(most.kept, always + moments);
    most.largest_moment = std::max(most.largest_moment, largest);
  }
  return most;
}

std::string calibration_input(const TensorSpec& spec) {
  switch (spec.role) {
    case Role::kQ:
    case Role::kK:
    case Role::kV:
      return "attn_input";
    case Role::kO:
      return "o_input";
    case Role::kGate:
    case Role::kUp:
    case Role::kSharedGate:
    case Role::kSharedUp:
    case Role::kExpertGate:
    case Role::kExpertUp:
      return "ffn_input";
    case Role::kDown:
      return "down_input";
    case Role::kSharedDown:
      return "shared_down_input";
    case Role::kExpertDown:
      return fmt::format("expert_down_input {}", spec.expert);
    case Role::kEmbedding:  // matters only where it is the head as well
    case Role::kHead:
      return "head_input";
    default:
      return "";
  }
}

Result<std::unique_ptr<Calibration>> Calibration::open(const QuantizeOptions& options,
                                                       const QuantizeJob& job, JobTimes& times) {
  const ModelFiles& files = job.model->files;
  auto calibration = std::unique_ptr<Calibration>(new Calibration);
  calibration->needs_ = job.algorithm->needs;
  calibration->job_ = &job;
  calibration->times_ = &times;
  QUENCH_TRY(const EvalTexts texts, calibration_texts(options, files));
  calibration->sha256_ = texts.sha256;
  const int64_t window = window_of(files.config);
  QUENCH_TRY(calibration->runner_,
             LayerRunner::create(*files.family, files.config, *job.model->source,
                                 *job.model->device, window, kForwardFormat));
  for (const EvalDomain& domain : texts.domains) {
    for (const std::vector<TokenId>& document : domain.documents) {
      const std::span<const TokenId> ids(document);
      for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(window)) {
        const auto part =
            ids.subspan(begin, std::min(ids.size() - begin, static_cast<size_t>(window)));
        if (begin > 0 && part.size() < kMinWindow) continue;
        QUENCH_TRY_VOID(calibration->runner_->add_text(part));
      }
    }
  }
  calibration->runner_->unload();
  return calibration;
}

Result<void> Calibration::load_layer(int64_t layer) {
  const JobTimes::Span span(*times_, JobPart::kRead);
  return runner_->load(layer);
}

void Calibration::run_layer(const Observer* observer) {
  for (int64_t text = 0; text < runner_->num_texts(); ++text) {
    {
      const JobTimes::Span span(*times_, JobPart::kForward);
      runner_->run(text, observer);
    }
    reduce(kReduceRows);
  }
  reduce(1);
}

Result<void> Calibration::collect(int64_t layer) {
  const int64_t end = layer < 0 ? runner_->config().num_hidden_layers : layer;
  // Layers that an earlier run finished are passed through again.
  for (; next_layer_ < end; ++next_layer_) {
    QUENCH_TRY_VOID(load_layer(next_layer_));
    run_layer(nullptr);
  }
  stats_.clear();
  waiting_.clear();
  find_rotations(layer);
  if (layer < 0) return collect_head_input();
  QUENCH_TRY_VOID(load_layer(layer));
  ++next_layer_;
  const Observer observer = [&](const char* name, int64_t, const float* data, int64_t rows,
                                int64_t cols) { observe(name, data, rows, cols); };
  run_layer(&observer);
  runner_->unload();
  waiting_.clear();  // and what they had room for
  finish_sums();
  return {};
}

Result<void> Calibration::collect_head_input() {
  const auto& vectors = job_->model->plan.vectors;
  const auto norm = std::find_if(vectors.begin(), vectors.end(), [](const PlannedVector& vector) {
    return vector.source.role == Role::kFinalNorm;
  });
  const auto hidden = static_cast<size_t>(runner_->config().hidden_size);
  std::vector<float> weight(hidden);
  QUENCH_TRY_VOID(job_->model->source->read_rows(norm->source, 0, 1, weight.data()));
  std::vector<float> normed;
  for (int64_t text = 0; text < runner_->num_texts(); ++text) {
    const std::span<const float> x = runner_->hidden(text);
    normed.resize(x.size());
    for (size_t begin = 0; begin < x.size(); begin += hidden) {
      double squares = 0.0;
      for (size_t i = begin; i < begin + hidden; ++i) squares += static_cast<double>(x[i]) * x[i];
      const auto scale = static_cast<float>(
          1.0 / std::sqrt(squares / static_cast<double>(hidden) + runner_->config().rms_norm_eps));
      for (size_t i = 0; i < hidden; ++i) normed[begin + i] = x[begin + i] * scale * weight[i];
    }
    add("head_input", normed.data(), static_cast<int64_t>(x.size() / hidden),
        static_cast<int64_t>(hidden));
    reduce(kReduceRows);
  }
  reduce(1);
  finish_sums();
  return {};
}

// Matrices that share an input share its rotation.
void Calibration::find_rotations(int64_t layer) {
  rotations_.clear();
  for (const QuantizeUnit& unit : job_->units) {
    if (unit.layer != layer) continue;
    for (const QuantizeItem& item : unit.items) {
      if (item.is_quantized && item.transform)
        rotations_[calibration_input(item.spec)] = &item.transform;
    }
  }
}

void Calibration::finish_sums() {
  const JobTimes::Span span(*times_, JobPart::kSecondMoments);
  for (auto& [input, stats] : stats_) {
    const float factor = stats.tokens > 0 ? 1.0f / static_cast<float>(stats.tokens) : 0.0f;
    for (auto* sums : {&stats.mean_square, &stats.mean_abs}) {
      for (float& sum : *sums) sum *= factor;
    }
    if (stats.second_moment.empty()) continue;
    scale_second_moment(*job_->model->device, factor, stats.second_moment);
  }
}

void Calibration::reduce(int64_t min_rows) {
  const JobTimes::Span span(*times_, JobPart::kSecondMoments);
  for (auto& entry : waiting_) {
    std::vector<float>& rows = entry.second;
    InputStats& stats = stats_[entry.first];
    const auto cols = static_cast<int64_t>(stats.mean_square.size());
    const int64_t count = static_cast<int64_t>(rows.size()) / cols;
    if (count < std::min(min_rows, waiting_rows(cols))) continue;
    if (const auto it = rotations_.find(entry.first); it != rotations_.end())
      rotate_rows(*job_->model->device, *it->second, rows, cols);
    job_->model->device->run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, cols, 16);
      for (int64_t r = 0; r < count; ++r) {
        const float* row = rows.data() + r * cols;
        for (int64_t i = range.begin; i < range.end; ++i) {
          const auto at = static_cast<size_t>(i);
          stats.mean_square[at] += row[i] * row[i];
          stats.mean_abs[at] += std::fabs(row[i]);
        }
      }
    });
    if (needs_ == Needs::kSecondMoment) {
      if (stats.second_moment.empty()) stats.second_moment = SymmetricMatrix(cols);
      add_second_moment(*job_->model->device, rows.data(), count, stats.second_moment);
    }
    rows.clear();
  }
}

// Called by one worker while the others wait, so it cannot use the team.
void Calibration::observe(const char* name, const float* data, int64_t rows, int64_t cols) {
  if (std::strcmp(name, "layer_output") == 0) return;
  if (std::strcmp(name, "expert_down_input") != 0) {
    add(name, data, rows, cols);
    return;
  }
  const int32_t* begin = runner_->workspace().expert_begin;
  for (int64_t e = 0; e < runner_->config().moe.num_experts; ++e) {
    add(fmt::format("{} {}", name, e), data + begin[e] * cols, begin[e + 1] - begin[e], cols);
  }
}

void Calibration::add(const std::string& input, const float* data, int64_t rows, int64_t cols) {
  InputStats& stats = stats_[input];
  stats.mean_square.resize(static_cast<size_t>(cols));
  stats.mean_abs.resize(static_cast<size_t>(cols));
  stats.tokens += rows;
  std::vector<float>& waiting = waiting_[input];
  // Its pages are taken as rows come; growing, it would hold them twice for a while.
  if (waiting.empty()) waiting.reserve(static_cast<size_t>((waiting_rows(cols) + kWindow) * cols));
  waiting.insert(waiting.end(), data, data + rows * cols);
}

const InputStats* Calibration::stats(const TensorSpec& spec) const {
  // A row of an embedding that is only looked up is read as it is: no input weighs its errors.
  if (spec.role == Role::kEmbedding && !runner_->config().tie_word_embeddings) return nullptr;
  const auto it = stats_.find(calibration_input(spec));
  return it == stats_.end() ? nullptr : &it->second;
}

InputStats* Calibration::stats(const TensorSpec& spec) {
  return const_cast<InputStats*>(std::as_const(*this).stats(spec));
}

}  // namespace quench
