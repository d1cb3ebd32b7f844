#include "engine/loader.h"

#include <atomic>
#include <cmath>
#include <mutex>

#include "base/bytes.h"
#include "base/check.h"
#include "formats/hadamard.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

class Loader {
 public:
  Loader(const Plan& plan, const WeightSource& source, Device& device)
      : plan_(plan), source_(source), device_(device) {}

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
    QUENCH_TRY(weight.packed, allocate(matrix.bytes));
    // Row blocks of all experts, shared out among the workers.
    const int64_t blocks = ceil_div(weight.n, kPackRows);
    const int64_t total = blocks * weight.num_experts;
    std::atomic<bool> failed{false};
    std::mutex mutex;
    Result<void> outcome;
    device_.run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, total);
      for (int64_t i = range.begin; i < range.end && !failed.load(std::memory_order_relaxed); ++i) {
        const TensorSpec& spec = matrix.sources[static_cast<size_t>(i / blocks)];
        std::byte* packed = weight.packed + i / blocks * weight.packed_bytes;
        if (auto result = pack_block(matrix, spec, i % blocks * kPackRows, packed); !result) {
          const std::lock_guard lock(mutex);
          failed.store(true, std::memory_order_relaxed);
          outcome = std::move(result);
        }
      }
    });
    QUENCH_TRY_VOID(std::move(outcome));
    for (const TensorSpec& spec : matrix.sources) source_.drop(spec);
    model_.layer(matrix.layer).weights[index(matrix.role)] = weight;
    return {};
  }

  Result<void> pack_block(const PlannedMatrix& matrix, const TensorSpec& spec, int64_t row,
                          std::byte* packed) const {
    const int64_t rows = std::min(kPackRows, spec.rows - row);
    const InputTransform* stored_transform = source_.transform(spec);
    const InputTransform* transform =
        matrix.transform < 0 ? nullptr : plan_.transforms[static_cast<size_t>(matrix.transform)];
    const bool same_basis = stored_transform == nullptr
                                ? transform == nullptr
                                : transform != nullptr && *stored_transform == *transform;
    if (!same_basis && transform != nullptr) {
      return fail(ErrorCode::kUnsupported,
                  "Tensor \"{}\" goes through another input transform than the first expert of its "
                  "layer; quench needs one for all experts.",
                  spec.name);
    }
    if (same_basis && source_.stored_format(spec) == matrix.format) {
      std::optional<QuantizedTensor> buffer;
      QUENCH_TRY(const ConstPlanes planes, source_.stored_rows(spec, row, rows, buffer));
      if (planes[0] != nullptr) {
        matrix.kernel->pack(Tensor{matrix.format, rows, spec.cols, planes}, spec.rows, row, packed);
        return {};
      }
    }
    if (matrix.format->trellis != nullptr) {
      return fail(
          ErrorCode::kUnsupported,
          "The codes of {} are not made while a model loads: that takes minutes. Use quench "
          "quantize first, and run its output.",
          matrix.format->name);
    }
    std::vector<float> values(static_cast<size_t>(rows * spec.cols));
    QUENCH_TRY_VOID(source_.read_rows(spec, row, rows, values.data()));
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
  Model model_;
};

}  // namespace

Result<Model> load_model(const Plan& plan, const WeightSource& source, Device& device,
                         const LoadProgress& progress) {
  return Loader(plan, source, device).load(progress);
}

}  // namespace quench
