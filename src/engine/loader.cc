#include "engine/loader.h"

#include <atomic>
#include <cmath>
#include <mutex>

#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "formats/hadamard.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

Result<void> pack_block(const PlannedMatrix& matrix, const TensorSpec& spec,
                        const InputTransform* transform, const WeightSource& source, int64_t row,
                        std::byte* packed) {
  const int64_t rows = std::min(kPackRows, spec.rows - row);
  const InputTransform* stored_transform = source.transform(spec);
  const bool same_basis = stored_transform == nullptr
                              ? transform == nullptr
                              : transform != nullptr && *stored_transform == *transform;
  if (!same_basis && transform != nullptr) {
    return fail(ErrorCode::kUnsupported,
                "Tensor \"{}\" goes through another input transform than the first expert of its "
                "layer; quench needs one for all experts.",
                spec.name);
  }
  if (same_basis && source.stored_format(spec) == matrix.format) {
    std::optional<QuantizedTensor> buffer;
    QUENCH_TRY(const ConstPlanes planes, source.stored_rows(spec, row, rows, buffer));
    if (planes[0] != nullptr) {
      matrix.kernel->pack(Tensor{matrix.format, rows, spec.cols, planes}, spec.rows, row, packed);
      return {};
    }
  }
  if (matrix.format->trellis != nullptr) {
    return fail(ErrorCode::kUnsupported,
                "The codes of {} are not made while a model loads: that takes minutes. Use quench "
                "quantize first, and run its output.",
                matrix.format->name);
  }
  std::vector<float> values(static_cast<size_t>(rows * spec.cols));
  QUENCH_TRY_VOID(source.read_rows(spec, row, rows, values.data()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return fail(ErrorCode::kInvalidFile,
                "Tensor \"{}\" holds {} at row {}; it cannot be stored as {}.", spec.name,
                values[i], spec.row_begin + row + static_cast<int64_t>(i) / spec.cols,
                matrix.format->name);
  }
  QuantizedTensor encoded(*matrix.format, rows, spec.cols);
  matrix.format->encode_rows(values.data(), rows, spec.cols, encoded.planes());
  matrix.kernel->pack(Tensor{matrix.format, rows, spec.cols, std::as_const(encoded).planes()},
                      spec.rows, row, packed);
  return {};
}

// All experts of it, the row blocks shared out among the device's workers.
Result<void> pack_matrix(const PlannedMatrix& matrix,
                         std::span<const InputTransform* const> transforms,
                         const WeightSource& source, Device& device, std::byte* packed) {
  const auto num_experts = static_cast<int64_t>(matrix.sources.size());
  const InputTransform* transform =
      matrix.transform < 0 ? nullptr : transforms[static_cast<size_t>(matrix.transform)];
  const int64_t blocks = ceil_div(matrix.sources.front().rows, kPackRows);
  const int64_t total = blocks * num_experts;
  std::atomic<bool> failed{false};
  std::mutex mutex;
  Result<void> outcome;
  device.run([&](const OpContext& context) {
    const Range range = worker_range(context.worker, total);
    for (int64_t i = range.begin; i < range.end && !failed.load(std::memory_order_relaxed); ++i) {
      const TensorSpec& spec = matrix.sources[static_cast<size_t>(i / blocks)];
      auto result = pack_block(matrix, spec, transform, source, i % blocks * kPackRows,
                               packed + i / blocks * (matrix.bytes / num_experts));
      if (result) {
        source.drop_rows(spec, i % blocks * kPackRows,
                         std::min(kPackRows, spec.rows - i % blocks * kPackRows));
        continue;
      }
      const std::lock_guard lock(mutex);
      failed.store(true, std::memory_order_relaxed);
      outcome = std::move(result);
    }
  });
  QUENCH_TRY_VOID(std::move(outcome));
  for (const TensorSpec& spec : matrix.sources) source.drop(spec);
  return {};
}

}  // namespace

class Loader {
 public:
  Loader(const Plan& plan, const WeightSource& source, Device& device, LateWeights* late)
      : plan_(plan), source_(source), device_(device), late_(late) {}

  Result<Model> load(const LoadProgress& progress) {
    const int64_t before = device_.allocated_bytes();
    model_.family = plan_.family;
    model_.config = plan_.config;
    model_.layers.resize(static_cast<size_t>(plan_.config.num_hidden_layers));
    QUENCH_TRY_VOID(load_transforms());
    int64_t done_bytes = 0;
    for (const PlannedMatrix& matrix : plan_.matrices) {
      QUENCH_TRY_VOID(load_matrix(matrix));
      done_bytes += matrix.bytes;
      if (progress && !progress(done_bytes, plan_.weights_bytes)) {
        return fail(ErrorCode::kCancelled, "Loading was interrupted.");
      }
    }
    for (const PlannedVector& vector : plan_.vectors) QUENCH_TRY_VOID(load_vector(vector));
    attach_biases();
    QUENCH_TRY_VOID(load_rope());
    if (plan_.tied_head)
      model_.globals.weights[index(Role::kHead)] = model_.globals.weight(Role::kEmbedding);
    const int64_t allocated = device_.allocated_bytes() - before;
    const int64_t planned = plan_.weights_bytes + plan_.vectors_bytes;
    QUENCH_CHECK(allocated == planned, "the plan says {} bytes, the loader took {}", planned,
                 allocated);
    return std::move(model_);
  }

 private:
  static size_t index(Role role) { return static_cast<size_t>(role); }

  Result<std::byte*> allocate(int64_t size_bytes) {
    QUENCH_TRY(Buffer buffer, device_.allocate(size_bytes));
    std::byte* data = buffer.data();
    model_.buffers.push_back(std::move(buffer));
    return data;
  }

  template <class T>
  Result<const T*> upload_array(const std::vector<T>& values) {
    if (values.empty()) return static_cast<const T*>(nullptr);
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    QUENCH_TRY(std::byte * data, allocate(round_up(bytes, 64)));
    device_.upload(data, reinterpret_cast<const std::byte*>(values.data()), bytes);
    return reinterpret_cast<const T*>(data);
  }

  Result<void> load_transforms() {
    for (const InputTransform* transform : plan_.transforms) {
      WeightTransform& loaded = model_.transforms.emplace_back();
      loaded.run = device_.ops().transform;
      loaded.odd =
          transform->hartley.empty() ? 1 : odd_part(static_cast<int64_t>(transform->signs.size()));
      QUENCH_TRY(loaded.permutation, upload_array(transform->permutation));
      QUENCH_TRY(loaded.signs, upload_array(transform->signs));
      QUENCH_TRY(loaded.hartley, upload_array(transform->hartley));
    }
    return {};
  }

  Result<void> load_matrix(const PlannedMatrix& matrix) {
    const TensorSpec& first = matrix.sources.front();
    Weight weight;
    weight.kernel = matrix.kernel;
    weight.format = matrix.format;
    weight.num_experts = static_cast<int64_t>(matrix.sources.size());
    weight.n = first.rows;
    weight.k = first.cols;
    weight.packed_bytes = matrix.bytes / weight.num_experts;
    if (matrix.transform >= 0)
      weight.transform = &model_.transforms[static_cast<size_t>(matrix.transform)];
    QUENCH_TRY(std::byte * packed, allocate(matrix.bytes));
    weight.packed = packed;
    const std::byte* const in_file = late_ == nullptr ? nullptr : usable_in_file(matrix);
    if (in_file != nullptr) {
      weight.kernel = matrix.kernel->in_file;
      weight.packed = in_file;
      weight.packed_bytes = weight.kernel->packed_bytes(*weight.format, weight.n, weight.k);
      late_->matrices_.push_back({&matrix, in_file, packed});
    } else {
      QUENCH_TRY_VOID(pack_matrix(matrix, plan_.transforms, source_, device_, packed));
    }
    model_.layer(matrix.layer).weights[index(matrix.role)] = weight;
    return {};
  }

  // The rows of a matrix where the source has them, if a kernel can use them there; or null.
  const std::byte* usable_in_file(const PlannedMatrix& matrix) const {
    const TensorSpec& spec = matrix.sources.front();
    const MatmulKernel* kernel = matrix.kernel->in_file;
    if (kernel == nullptr || !kernel->accepts(*matrix.format, spec.rows, spec.cols) ||
        matrix.sources.size() > 1 || matrix.transform >= 0 || source_.transform(spec) != nullptr ||
        source_.stored_format(spec) != matrix.format)
      return nullptr;
    std::optional<QuantizedTensor> buffer;
    const auto planes = source_.stored_rows(spec, 0, spec.rows, buffer);
    return planes && !buffer ? (*planes)[0] : nullptr;
  }

  Result<const float*> upload_floats(const std::vector<float>& values, int64_t size_bytes) {
    QUENCH_TRY(std::byte * data, allocate(size_bytes));
    device_.upload(data, reinterpret_cast<const std::byte*>(values.data()),
                   static_cast<int64_t>(values.size() * sizeof(float)));
    return reinterpret_cast<const float*>(data);
  }

  Result<void> load_vector(const PlannedVector& vector) {
    const TensorSpec& spec = vector.source;
    std::vector<float> values(static_cast<size_t>(spec.cols));
    QUENCH_TRY_VOID(source_.read_rows(spec, 0, 1, values.data()));
    QUENCH_TRY(model_.layer(spec.layer).vectors[index(spec.role)],
               upload_floats(values, vector.bytes));
    return {};
  }

  // A bias belongs to its weight: the matmul adds it.
  void attach_biases() {
    constexpr std::pair<Role, Role> kBiases[] = {{Role::kQ, Role::kQBias},
                                                 {Role::kK, Role::kKBias},
                                                 {Role::kV, Role::kVBias},
                                                 {Role::kO, Role::kOBias}};
    for (Layer& layer : model_.layers) {
      for (const auto& [weight, bias] : kBiases)
        layer.weights[index(weight)].bias = layer.vector(bias);
    }
  }

  Result<void> load_rope() {
    model_.rope = make_rope_bank(plan_.config);
    auto rounded = [](const std::vector<float>& values) {
      return round_up(static_cast<int64_t>(values.size() * sizeof(float)), 64);
    };
    QUENCH_TRY(model_.rope_inv_freq,
               upload_floats(model_.rope.inv_freq, rounded(model_.rope.inv_freq)));
    QUENCH_TRY(model_.rope_scales, upload_floats(model_.rope.scales, rounded(model_.rope.scales)));
    return {};
  }

  const Plan& plan_;
  const WeightSource& source_;
  Device& device_;
  LateWeights* late_;
  Model model_;
};

Result<Model> load_model(const Plan& plan, const WeightSource& source, Device& device,
                         const LoadProgress& progress, LateWeights* late) {
  return Loader(plan, source, device, late).load(progress);
}

void LateWeights::advance(const WeightSource& source, Device& device, Model& model,
                          double seconds) {
  const double end_s = now_s() + seconds;
  while (!done()) {
    const Matrix& matrix = matrices_[next_++];
    const PlannedMatrix& planned = *matrix.planned;
    // Rows that are there as they are need no more than a copy.
    const auto packed = pack_matrix(planned, {}, source, device, matrix.packed);
    QUENCH_CHECK(packed.has_value(), "{}", packed.error().message);
    for (Layer* layer : {&model.layer(planned.layer), &model.globals}) {
      for (Weight& weight : layer->weights) {  // a tied head is the embedding again
        if (weight.packed != matrix.in_file) continue;
        weight.kernel = planned.kernel;
        weight.packed = matrix.packed;
        weight.packed_bytes = planned.bytes;
      }
    }
    if (now_s() >= end_s) return;
  }
}

}  // namespace quench
