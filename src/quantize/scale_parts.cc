#include "quantize/scale_parts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "quantize/dense_parts.h"
#include "quantize/grid_parts.h"

namespace quench {
namespace {

constexpr int kPowers = 20;              // tried: 0, 1/20, ... 19/20
constexpr int64_t kSampleRows = 512;     // of all matrices that share an input
constexpr float kSmallestScale = 1e-4f;  // of a channel that is never used, before normalization

// Some rows of a matrix that reads the input, evenly spaced.
struct Sample {
  const Format* format;
  double weight;  // rows of the matrix for each one here
  int64_t num_rows;
  std::vector<float> values;  // [num_rows, cols]
};

class LayerScaler {
 public:
  LayerScaler(const QuantizeJob& job, const QuantizeUnit& unit, const Calibration& calibration)
      : job_(job), unit_(unit), calibration_(calibration) {}

  Result<LayerScaling> run() {
    QUENCH_TRY_VOID(scale_behind_norm(Role::kInputNorm, {Role::kQ, Role::kK, Role::kV}));
    QUENCH_TRY_VOID(scale_behind_norm(
        Role::kPostNorm, {Role::kGate, Role::kUp, Role::kRouter, Role::kSharedGate, Role::kSharedUp,
                          Role::kSharedRouter, Role::kExpertGate, Role::kExpertUp}));
    for (const auto& [up, down] :
         {std::pair{Role::kUp, Role::kDown}, std::pair{Role::kSharedUp, Role::kSharedDown},
          std::pair{Role::kExpertUp, Role::kExpertDown}}) {
      for (const QuantizeItem* from : items({up}))
        QUENCH_TRY_VOID(scale_behind_rows(*from, down, nullptr));
    }
    const ModelConfig& config = job_.model->files.config;
    if (config.num_attention_heads == config.num_key_value_heads) {
      for (const QuantizeItem* from : items({Role::kV})) {
        const auto bias = items({Role::kVBias});
        QUENCH_TRY_VOID(scale_behind_rows(*from, Role::kO, bias.empty() ? nullptr : bias.front()));
      }
    }
    return std::move(scaling_);
  }

 private:
  std::vector<const QuantizeItem*> items(std::initializer_list<Role> roles) const {
    std::vector<const QuantizeItem*> found;
    for (const QuantizeItem& item : unit_.items) {
      if (std::find(roles.begin(), roles.end(), item.spec.role) != roles.end())
        found.push_back(&item);
    }
    return found;
  }

  // The norm is stored in few bits. Its rounding is made up for by the scales: channel i is scaled
  // by what the stored norm really lacks.
  Result<void> scale_behind_norm(Role norm_role, std::initializer_list<Role> reader_roles) {
    const auto norms = items({norm_role});
    const auto readers = items(reader_roles);
    if (norms.empty() || readers.empty()) return {};
    const QuantizeItem& norm = *norms.front();
    const auto cols = static_cast<size_t>(norm.spec.cols);
    std::vector<float> weight(cols);
    QUENCH_TRY_VOID(job_.model->source->read_rows(norm.spec, 0, 1, weight.data()));
    const auto storable = [&](std::vector<float>& scale) {
      std::vector<float> folded(cols);
      for (size_t i = 0; i < cols; ++i) folded[i] = weight[i] / scale[i];
      QuantizedTensor stored(*norm.format, 1, norm.spec.cols);
      norm.format->encode_rows(folded.data(), 1, norm.spec.cols, stored.planes());
      norm.format->decode_rows(std::as_const(stored).planes(), 1, norm.spec.cols, folded.data());
      for (size_t i = 0; i < cols; ++i)
        scale[i] = weight[i] != 0.0f && folded[i] != 0.0f ? weight[i] / folded[i] : 1.0f;
    };
    QUENCH_TRY(const std::vector<float> scale, find_scale(readers, storable));
    if (scale.empty()) return {};
    for (const QuantizeItem* reader : readers) scaling_[reader->spec.name].cols = scale;
    scaling_[norm.spec.name].cols = inverse(scale);
    return {};
  }

  // Row i of `from` makes channel i of what the matrix with the role `reader_role` reads.
  Result<void> scale_behind_rows(const QuantizeItem& from, Role reader_role,
                                 const QuantizeItem* bias) {
    std::vector<const QuantizeItem*> readers;
    for (const QuantizeItem* item : items({reader_role})) {
      if (item->spec.expert == from.spec.expert) readers.push_back(item);
    }
    if (readers.empty() || readers.front()->spec.cols != from.spec.rows) return {};
    QUENCH_TRY(const std::vector<float> scale, find_scale(readers, [](std::vector<float>&) {}));
    if (scale.empty()) return {};
    for (const QuantizeItem* reader : readers) scaling_[reader->spec.name].cols = scale;
    scaling_[from.spec.name].rows = inverse(scale);
    if (bias != nullptr) scaling_[bias->spec.name].cols = inverse(scale);
    return {};
  }

  static std::vector<float> inverse(std::vector<float> scale) {
    for (float& s : scale) s = 1.0f / s;
    return scale;
  }

  // Empty where no scaling is best, or calibration saw no such input.
  Result<std::vector<float>> find_scale(const std::vector<const QuantizeItem*>& readers,
                                        const std::function<void(std::vector<float>&)>& storable) {
    std::vector<const QuantizeItem*> quantized;
    std::copy_if(readers.begin(), readers.end(), std::back_inserter(quantized),
                 [](const QuantizeItem* item) { return item->is_quantized; });
    if (quantized.empty()) return std::vector<float>();
    const InputStats* stats = calibration_.stats(quantized.front()->spec);
    if (stats == nullptr || stats->tokens == 0) return std::vector<float>();
    QUENCH_TRY(const std::vector<Sample> samples, draw_samples(quantized));
    const PackedMatrix moment(*job_.model->device, "f32", stats->second_moment);
    std::vector<float> best;
    double least = std::numeric_limits<double>::infinity();
    for (int power = 0; power < kPowers; ++power) {
      std::vector<float> scale = scale_of(*stats, static_cast<float>(power) / kPowers);
      if (power > 0) storable(scale);
      const bool usable = std::all_of(scale.begin(), scale.end(), [](float s) {
        return std::isfinite(s) && std::isfinite(1.0f / s);
      });
      if (!usable) continue;
      double error = 0.0;
      for (const Sample& sample : samples)
        error += sample.weight * output_error(sample, scale, moment);
      if (error >= least) continue;
      least = error;
      best = power > 0 ? std::move(scale) : std::vector<float>();
    }
    return best;
  }

  // mean |x_i|^power, such that the largest and the smallest lie equally far from 1.
  static std::vector<float> scale_of(const InputStats& stats, float power) {
    std::vector<float> scale;
    for (const float x : stats.mean_abs)
      scale.push_back(std::max(std::pow(x, power), kSmallestScale));
    const auto [low, high] = std::minmax_element(scale.begin(), scale.end());
    const float middle = std::sqrt(*low * *high);
    for (float& s : scale) s /= middle;
    return scale;
  }

  Result<std::vector<Sample>> draw_samples(const std::vector<const QuantizeItem*>& readers) const {
    std::vector<Sample> samples;
    const int64_t share = std::max<int64_t>(1, kSampleRows / static_cast<int64_t>(readers.size()));
    for (const QuantizeItem* reader : readers) {
      const TensorSpec& spec = reader->spec;
      Sample& sample = samples.emplace_back();
      sample.format = reader->format;
      sample.num_rows = std::min(share, spec.rows);
      sample.weight = static_cast<double>(spec.rows) / static_cast<double>(sample.num_rows);
      sample.values.resize(static_cast<size_t>(sample.num_rows * spec.cols));
      for (int64_t i = 0; i < sample.num_rows; ++i) {
        QUENCH_TRY_VOID(job_.model->source->read_rows(spec, i * spec.rows / sample.num_rows, 1,
                                                      sample.values.data() + i * spec.cols));
      }
    }
    return samples;
  }

  // Sum over the rows of e M e^T, e = w - Q(w S) S^-1.
  double output_error(const Sample& sample, const std::vector<float>& scale,
                      const PackedMatrix& moment) const {
    const auto cols = static_cast<int64_t>(scale.size());
    const auto encoder = make_search_encoder(*sample.format, cols, nullptr);
    std::vector<float> error = sample.values;
    std::vector<float> product(error.size());
    QuantizedTensor stored(*sample.format, sample.num_rows, cols);
    job_.model->device->run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, sample.num_rows);
      const int64_t count = range.end - range.begin;
      if (count > 0) {
        float* rows = error.data() + range.begin * cols;
        std::vector<float> scaled(rows, rows + count * cols);
        TensorScaling{scale, {}}.apply(scaled.data(), 0, count, cols);
        const Planes to = sample.format->row_planes(stored.planes(), range.begin, cols);
        encoder->encode(scaled.data(), count, to);
        ConstPlanes from{};
        std::copy(to.begin(), to.end(), from.begin());
        sample.format->decode_rows(from, count, cols, scaled.data());
        for (int64_t i = 0; i < count * cols; ++i)
          rows[i] -= scaled[static_cast<size_t>(i)] / scale[static_cast<size_t>(i % cols)];
      }
    });
    moment.multiply(OpContext{}, error.data(), sample.num_rows, product.data());
    return std::inner_product(error.begin(), error.end(), product.begin(), 0.0);
  }

  const QuantizeJob& job_;
  const QuantizeUnit& unit_;
  const Calibration& calibration_;
  LayerScaling scaling_;
};

}  // namespace

void TensorScaling::apply(float* values, int64_t row, int64_t num_rows, int64_t num_cols) const {
  for (int64_t r = 0; r < num_rows; ++r) {
    float* at = values + r * num_cols;
    for (int64_t c = 0; c < num_cols && !cols.empty(); ++c) at[c] *= cols[static_cast<size_t>(c)];
    for (int64_t c = 0; c < num_cols && !rows.empty(); ++c)
      at[c] *= rows[static_cast<size_t>(row + r)];
  }
}

Result<LayerScaling> scale_layer(const QuantizeJob& job, const QuantizeUnit& unit,
                                 const Calibration& calibration) {
  if (unit.layer < 0) return LayerScaling();
  return LayerScaler(job, unit, calibration).run();
}

InputStats scaled_stats(const InputStats& stats, const std::vector<float>& scale) {
  InputStats result = stats;
  const size_t cols = scale.size();
  for (size_t i = 0; i < cols; ++i) {
    result.mean_square[i] /= scale[i] * scale[i];
    result.mean_abs[i] /= scale[i];
    if (result.second_moment.empty()) continue;
    float* const row = result.second_moment.row(static_cast<int64_t>(i));
    for (size_t j = i; j < cols; ++j) row[j] /= scale[i] * scale[j];
  }
  return result;
}

}  // namespace quench
