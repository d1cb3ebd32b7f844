#include "quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <mutex>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "io/checkpoint_writer.h"
#include "quantize/model_text_parts.h"
#include "quantize/scale_parts.h"
#include "quantize/transcode_parts.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Changes when the same input begins to give other bytes, so that no job is resumed across it.
constexpr int kRevision = 6;
// Of a unit's note in the journal, beside the errors by role and format.
constexpr const char* kFallbacksKey = "fallbacks";
// Weights that a worker encodes at a time.
constexpr int64_t kBlockWeights = int64_t{1} << 20;

Dtype float_dtype(const Format& format) {
  return format.name == "f32" ? Dtype::kF32 : format.name == "f16" ? Dtype::kF16 : Dtype::kBF16;
}

// What the writer makes of a matrix with such a name, format and shape; all zeros will do.
Result<std::vector<NewTensor>> output_tensors(const QuantWriter& writer, const QuantizeItem& item) {
  const TensorSpec& spec = item.spec;
  if (!item.is_quantized) {
    std::vector<int64_t> shape = {spec.rows, spec.cols};
    if (!role_row(spec.role).is_matrix) shape = {spec.rows * spec.cols};
    return std::vector<NewTensor>{{spec.name, float_dtype(*item.format), shape}};
  }
  QuantizedTensor nothing(*item.format, spec.rows, spec.cols);
  QUENCH_TRY(const std::vector<EncodedTensor> encoded,
             writer.write(spec.name, nothing, item.transform));
  std::vector<NewTensor> tensors;
  for (const EncodedTensor& tensor : encoded) tensors.push_back(tensor.tensor);
  return tensors;
}

// Everything that decides the bytes.
std::string job_key(const QuantizeOptions& options, const QuantizeJob& job) {
  Json key = {{"revision", kRevision},
              {"layout", job.writer->name},
              {"algorithm", job.algorithm->name},
              {"default", job.recipe.default_format},
              {"roles", job.recipe.role_formats},
              {"layers", job.recipe.layers_json()},
              {"conversion", job.is_conversion},
              {"rotate", job.recipe.rotate},
              {"calibration", options.calibration},
              {"calibration_tokens", options.calibration_tokens},
              {"isa", job.algorithm->needs == Needs::kNothing ? "" : job.model->device->isa()},
              {"config", job.model->files.config_json}};
  if (job.model->files.checkpoint) {
    for (const MappedFile& file : job.model->files.checkpoint->files()) {
      std::error_code error;
      const auto time = fs::last_write_time(file.path(), error);
      key["files"].push_back({fs::absolute(file.path(), error).string(), file.bytes().size(),
                              time.time_since_epoch().count()});
    }
  } else {
    key["seed"] = options.session.weights_seed;
  }
  return key.dump();
}

// `values`: rows of the tensor from `row` on.
Result<void> check_finite(const TensorSpec& spec, int64_t row, std::span<const float> values) {
  if (all_finite(values)) return {};
  const auto bad = std::find_if_not(values.begin(), values.end(),
                                    [](float value) { return std::isfinite(value); });
  const auto at = static_cast<int64_t>(bad - values.begin());
  return fail(
      ErrorCode::kInvalidFile,
      "Tensor \"{}\" holds {} at row {}, column {}; it cannot be quantized. The file may be "
      "damaged: check it against its published hash.",
      spec.name, *bad, row + at / spec.cols, at % spec.cols);
}

class Quantizer {
 public:
  Quantizer(const QuantizeOptions& options, QuantizeJob& job) : options_(options), job_(job) {
    report_.roles = planned_roles(job);
  }

  Result<QuantizeReport> run() {
    const double start_s = now_s();
    CheckpointOutput output;
    output.dir = options_.out;
    output.resume = options_.resume;
    output.key = job_key(options_, job_);
    for (const QuantizeUnit& unit : job_.units) {
      output.units.push_back({unit.name, {}});
      for (const QuantizeItem& item : unit.items) {
        QUENCH_TRY(std::vector<NewTensor> tensors, output_tensors(*job_.writer, item));
        for (NewTensor& tensor : tensors) output.units.back().tensors.push_back(std::move(tensor));
      }
    }
    // Before anything is written: a text that is missing leaves nothing behind.
    QUENCH_TRY_VOID(check_model_text(job_.model->files));
    if (job_.algorithm->needs != Needs::kNothing) {
      QUENCH_TRY(calibration_, Calibration::open(options_, job_, report_.times));
      report_.calibration_sha256 = calibration_->text_sha256();
      report_.calibration_tokens = calibration_->num_tokens();
    }
    QUENCH_TRY(writer_, CheckpointWriter::open(std::move(output)));
    for (const QuantizeUnit& unit : job_.units) QUENCH_TRY_VOID(run_unit(unit));
    if (const Result<void> copied = copy_files(); !copied) {
      return fail(copied.error().code,
                  "{} The weights are finished and kept in {}: go on with --resume.",
                  copied.error().message, writer_.partial_dir());
    }
    QUENCH_TRY_VOID(writer_.commit());
    report_.seconds = now_s() - start_s;
    return std::move(report_);
  }

 private:
  // Errors of a unit go into the journal with it, so that a resumed job reports all of them.
  Result<void> run_unit(const QuantizeUnit& unit) {
    if (const Json* note = writer_.finished(unit.name)) {
      ++report_.resumed_units;
      for (const auto& [key, value] : note->items()) {
        if (key != kFallbacksKey) {
          add_error(key, value[0], value[1]);
          continue;
        }
        for (const Json& fallback : value)
          report_.fallbacks.push_back({fallback.at(0), fallback.at(1)});
      }
      for (const QuantizeItem& item : unit.items) done_bytes_ += item.source_bytes;
      return {};
    }
    if (calibration_ != nullptr) QUENCH_TRY_VOID(calibration_->collect(unit.layer));
    if (job_.algorithm->scales_inputs) {
      const JobTimes::Span span(report_.times, JobPart::kFactorization);
      QUENCH_TRY(scaling_, scale_layer(job_, unit, *calibration_));
    }
    Json note = Json::object();
    for (const QuantizeItem& item : unit.items) {
      const std::span later(&item + 1, unit.items.data() + unit.items.size());
      QUENCH_TRY_VOID(run_item(item, later, note));
      const std::string input = calibration_input(item.spec);
      if (calibration_ != nullptr && !needs_input(later, input)) {  // the widest take gigabytes
        std::erase_if(encoders_, [&](const auto& e) { return e.first.starts_with(input + " "); });
        calibration_->forget(input);
      }
      done_bytes_ += item.source_bytes;
      if (options_.progress) {
        options_.progress(
            {unit.name, done_bytes_, job_.source_bytes, relative_error(), report_.times});
      }
      if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed)) {
        return fail(ErrorCode::kCancelled,
                    "Interrupted; {} of {} units are finished and kept in {}: go on with --resume.",
                    finished_units(), job_.units.size(), writer_.partial_dir());
      }
    }
    encoders_.clear();
    fallback_reasons_.clear();
    const JobTimes::Span span(report_.times, JobPart::kWrite);
    return writer_.finish_unit(unit.name, std::move(note));
  }

  int64_t finished_units() const {
    int64_t count = 0;
    for (const QuantizeUnit& unit : job_.units) count += writer_.finished(unit.name) != nullptr;
    return count;
  }

  const TensorScaling* scaling_of(const TensorSpec& spec) const {
    const auto it = scaling_.find(spec.name);
    return it == scaling_.end() ? nullptr : &it->second;
  }

  void note_fallback(const QuantizeItem& item, const std::string& reason, Json& note) {
    note[kFallbacksKey].push_back({item.spec.name, reason});
    report_.fallbacks.push_back({item.spec.name, reason});
  }

  static bool needs_input(std::span<const QuantizeItem> items, const std::string& input) {
    auto is_fed = [&](const QuantizeItem& item) { return calibration_input(item.spec) == input; };
    return std::any_of(items.begin(), items.end(), is_fed);
  }

  // later: the matrices of the unit that are still to come.
  Result<const Encoder*> encoder_for(const QuantizeItem& item, std::span<const QuantizeItem> later,
                                     Json& note) {
    const JobTimes::Span span(report_.times, JobPart::kFactorization);
    const std::string input = calibration_input(item.spec);
    InputStats* stats = calibration_ == nullptr ? nullptr : calibration_->stats(item.spec);
    const std::string key = fmt::format("{} {} {}", stats == nullptr ? "unseen" : input,
                                        item.format->name, item.spec.cols);
    // What calibration says nothing about (an embedding that is only looked up, an expert that no
    // token reached) is rounded.
    const Algorithm* algorithm = job_.algorithm;
    std::string reason;
    if (stats != nullptr && stats->tokens == 0) reason = "no calibration token reached it";
    if (const auto it = encoders_.find(key); it != encoders_.end()) {
      if (const auto why = fallback_reasons_.find(key); why != fallback_reasons_.end())
        note_fallback(item, why->second, note);
      return it->second.get();
    }
    if (algorithm->needs != Needs::kNothing && (stats == nullptr || !reason.empty())) {
      QUENCH_TRY(algorithm, require_algorithm("rtn"));
    }
    const TensorScaling* scaling = scaling_of(item.spec);
    InputStats changed;
    const bool is_scaled = stats != nullptr && scaling != nullptr && !scaling->cols.empty();
    if (is_scaled || (stats != nullptr && needs_input(later, input))) {
      changed = is_scaled ? scaled_stats(*stats, scaling->cols) : *stats;
      stats = &changed;
    }
    auto prepared = algorithm->prepare(*item.format, item.spec.cols, stats, *job_.model->device);
    if (!prepared && stats != nullptr) {
      reason = prepared.error().message;
      QUENCH_TRY(algorithm, require_algorithm("rtn"));
      prepared = algorithm->prepare(*item.format, item.spec.cols, nullptr, *job_.model->device);
    }
    if (!prepared) return tl::unexpected(prepared.error());
    encoders_[key] = *std::move(prepared);
    if (!reason.empty()) {
      fallback_reasons_[key] = reason;
      note_fallback(item, reason, note);
    }
    return encoders_[key].get();
  }

  Result<void> run_item(const QuantizeItem& item, std::span<const QuantizeItem> later, Json& note) {
    if (!item.is_quantized) return copy_item(item, note);
    if (item.keeps_numbers) return keep_item(item, note);
    QUENCH_TRY(const Encoder* encoder, encoder_for(item, later, note));
    const TensorSpec& spec = item.spec;
    Device& device = *job_.model->device;
    const int64_t block = encoding_block_rows(spec.cols);
    const int64_t round = job_.has_own_layout() ? block * device.num_workers() : spec.rows;
    EncodingErrors all;
    for (int64_t begin = 0; begin < spec.rows; begin += round) {
      const int64_t rows = std::min(round, spec.rows - begin);
      QuantizedTensor encoded(*item.format, rows, spec.cols);
      const double start_s = now_s();
      const double fed_back_s = encoder->feedback_s();
      QUENCH_TRY(EncodingErrors errors, encode_rows(encoder, item, begin, block, encoded));
      // The workers' seconds side by side, as if all had been busy all the time.
      const double feedback_s = (encoder->feedback_s() - fed_back_s) / device.num_workers();
      report_.times.add(JobPart::kFeedback, feedback_s);
      report_.times.add(JobPart::kRounding, now_s() - start_s - feedback_s);
      const JobTimes::Span span(report_.times, JobPart::kWrite);
      QUENCH_TRY(const std::vector<EncodedTensor> tensors,
                 job_.writer->write(spec.name, encoded, item.transform));
      if (job_.writer->rounds) {
        QUENCH_TRY(errors, encode_rows(nullptr, item, begin, block, encoded));
      }
      all.add(errors);
      for (const EncodedTensor& tensor : tensors) {
        // A transform belongs to the whole matrix: it comes with the first rows.
        if (begin > 0 && tensor.tensor.name.ends_with(".signs")) continue;
        QUENCH_TRY_VOID(writer_.append(tensor.tensor.name, tensor.data));
      }
    }
    job_.model->source->drop(spec);
    note_error(item, all, note);
    return {};
  }

  // The rows from `begin` on, as many as `encoded` has, by the whole team, `block` rows at a time.
  // Null `encoder`: they are there already, and only their errors are asked for.
  Result<EncodingErrors> encode_rows(const Encoder* encoder, const QuantizeItem& item,
                                     int64_t begin, int64_t block, QuantizedTensor& encoded) const {
    const Format& format = *item.format;
    std::vector<EncodingErrors> of_workers(static_cast<size_t>(job_.model->device->num_workers()));
    Result<void> outcome;
    std::mutex mutex;
    job_.model->device->run([&](const OpContext& context) {
      const Range part = worker_range(context.worker, encoded.rows(), block);
      std::vector<float> values;
      for (int64_t row = part.begin; row < part.end; row += block) {
        const int64_t rows = std::min(block, part.end - row);
        auto loaded = load_rows(item, begin + row, rows, values);
        if (!loaded) {
          const std::lock_guard lock(mutex);
          outcome = std::move(loaded);
          return;
        }
        const Planes planes = format.row_planes(encoded.planes(), row, item.spec.cols);
        if (encoder != nullptr) encoder->encode(values.data(), rows, planes);
        of_workers[static_cast<size_t>(context.worker.index)].add(
            encoding_errors(format, planes, rows, item.spec.cols, values.data()));
      }
    });
    QUENCH_TRY_VOID(std::move(outcome));
    EncodingErrors sum;  // in the order of the workers: the same on every run
    for (const EncodingErrors& errors : of_workers) sum.add(errors);
    return sum;
  }

  // Rows of a matrix as an encoder takes them: scaled, and in the basis of the stored matrix.
  Result<void> load_rows(const QuantizeItem& item, int64_t row, int64_t num_rows,
                         std::vector<float>& values) const {
    const TensorSpec& spec = item.spec;
    const auto count = static_cast<size_t>(num_rows * spec.cols);
    values.resize(count);
    QUENCH_TRY_VOID(job_.model->source->read_rows(spec, row, num_rows, values.data()));
    QUENCH_TRY_VOID(check_finite(spec, row, values));
    if (const TensorScaling* scaling = scaling_of(spec))  // errors are then of the scaled weights
      scaling->apply(values.data(), row, num_rows, spec.cols);
    if (!item.transform) return {};
    // Lengths and errors are the same in both bases.
    const auto cols = static_cast<size_t>(spec.cols);
    std::vector<float> original(cols);
    for (size_t begin = 0; begin < count; begin += cols) {
      const std::span<float> values_row(values.data() + begin, cols);
      std::copy(values_row.begin(), values_row.end(), original.begin());
      item.transform.row_to_stored(original, values_row);
    }
    return {};
  }

  // A quantized matrix whose codes move to their places in the layout.
  Result<void> keep_item(const QuantizeItem& item, Json& note) {
    const JobTimes::Span span(report_.times, JobPart::kWrite);
    const TensorSpec& spec = item.spec;
    const WeightSource& source = *job_.model->source;
    std::optional<QuantizedTensor> buffer;
    QUENCH_TRY(const ConstPlanes planes, source.stored_rows(spec, 0, spec.rows, buffer));
    const Format& stored = *source.stored_format(spec);
    QuantizedTensor matrix(*item.format, spec.rows, spec.cols);
    if (&stored == item.format) {
      for (size_t p = 0; p < stored.planes.size(); ++p) {
        const auto bytes =
            static_cast<size_t>(stored.plane_bytes(static_cast<int>(p), spec.rows, spec.cols));
        std::copy_n(planes[p], bytes, matrix.planes()[p]);
      }
    } else {
      transcode_rows(stored, planes, *item.format, matrix.planes(), spec.rows, spec.cols);
    }
    QUENCH_TRY(const std::vector<EncodedTensor> tensors,
               job_.writer->write(spec.name, matrix, item.transform));
    for (const EncodedTensor& tensor : tensors)
      QUENCH_TRY_VOID(writer_.append(tensor.tensor.name, tensor.data));
    if (job_.writer->rounds) {
      QUENCH_TRY(const EncodingErrors errors, encode_rows(nullptr, item, 0, kPackRows, matrix));
      note_error(item, errors, note);
    }
    source.drop(spec);
    return {};
  }

  // A tensor that stays in a float format: as it is stored, or rounded to the wanted one.
  Result<void> copy_item(const QuantizeItem& item, Json& note) {
    const JobTimes::Span span(report_.times, JobPart::kWrite);
    const TensorSpec& spec = item.spec;
    const WeightSource& source = *job_.model->source;
    EncodingErrors errors;
    const int64_t block = std::max<int64_t>(1, kBlockWeights / spec.cols);
    for (int64_t row = 0; row < spec.rows; row += block) {
      const int64_t rows = std::min(block, spec.rows - row);
      const auto bytes = static_cast<size_t>(item.format->matrix_bytes(rows, spec.cols));
      std::optional<QuantizedTensor> buffer;
      ConstPlanes planes{};
      const TensorScaling* scaling = scaling_of(spec);
      if (scaling == nullptr && source.stored_format(spec) == item.format) {
        QUENCH_TRY(planes, source.stored_rows(spec, row, rows, buffer));
      }
      if (planes[0] != nullptr && !job_.is_conversion) {
        std::vector<float> values(static_cast<size_t>(rows * spec.cols));
        item.format->decode_rows(planes, rows, spec.cols, values.data());
        QUENCH_TRY_VOID(check_finite(spec, row, values));
      }
      if (planes[0] == nullptr) {
        std::vector<float> values(static_cast<size_t>(rows * spec.cols));
        QUENCH_TRY_VOID(source.read_rows(spec, row, rows, values.data()));
        QUENCH_TRY_VOID(check_finite(spec, row, values));
        if (scaling != nullptr) scaling->apply(values.data(), row, rows, spec.cols);
        buffer.emplace(*item.format, rows, spec.cols);
        item.format->encode_rows(values.data(), rows, spec.cols, buffer->planes());
        planes = std::as_const(*buffer).planes();
        std::vector<float> rounded(values.size());
        item.format->decode_rows(planes, rows, spec.cols, rounded.data());
        for (size_t i = 0; i < values.size(); ++i) {
          const double difference = static_cast<double>(values[i]) - rounded[i];
          errors.add({difference * difference, static_cast<double>(values[i]) * values[i]});
        }
      }
      QUENCH_TRY_VOID(writer_.append(spec.name, {planes[0], bytes}));
    }
    source.drop(spec);
    if (role_row(spec.role).is_matrix) note_error(item, errors, note);
    return {};
  }

  void note_error(const QuantizeItem& item, const EncodingErrors& errors, Json& note) {
    const std::string role = fmt::format("{} {}", role_row(item.spec.role).name, item.format->name);
    add_error(role, errors.error, errors.norm);
    if (!note.contains(role)) note[role] = {0.0, 0.0};
    note[role][0] = note[role][0].get<double>() + errors.error;
    note[role][1] = note[role][1].get<double>() + errors.norm;
  }

  void add_error(const std::string& role_and_format, double squared_error, double squared_norm) {
    for (QuantizedRole& role : report_.roles) {
      if (role.role + " " + role.format != role_and_format) continue;
      role.squared_error += squared_error;
      role.squared_norm += squared_norm;
    }
  }

  double relative_error() const {
    QuantizedRole all;
    for (const QuantizedRole& role : report_.roles) {
      all.squared_error += role.squared_error;
      all.squared_norm += role.squared_norm;
    }
    return all.relative_error();
  }

  // Of what stays in a float format, by the most bytes, in the words of a config.json.
  std::string plain_type() const {
    std::map<std::string, int64_t> bytes;
    for (const QuantizeUnit& unit : job_.units) {
      for (const QuantizeItem& item : unit.items) {
        if (!item.is_quantized) bytes[item.format->name] += item.bytes;
      }
    }
    const auto most =
        std::max_element(bytes.begin(), bytes.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == bytes.end() || most->first == "bf16") return "bfloat16";
    return most->first == "f16" ? "float16" : "float32";
  }

  // config.json says how the weights are stored; tokenizer, template and the like are copied.
  Result<void> copy_files() {
    Json config = job_.model->files.config_json;
    Json formats = Json::object();
    for (const QuantizedRole& role : report_.roles) {
      if (!formats.contains(role.role)) formats[role.role] = Json::array();
      formats[role.role].push_back(role.format);
    }
    std::vector<WrittenMatrix> matrices;
    for (const QuantizeUnit& unit : job_.units) {
      for (const QuantizeItem& item : unit.items) {
        if (!role_row(item.spec.role).is_matrix) continue;
        matrices.push_back(
            {item.spec.name, item.format, item.spec.rows, item.spec.cols, item.transform.kind});
      }
    }
    QUENCH_TRY(Json quantization, job_.writer->config(matrices));
    const bool is_plain = quantization.is_null();
    quantization["quench"] = {{"recipe", job_.recipe.name},
                              {"algorithm", job_.algorithm->name},
                              {"rotated", job_.recipe.rotate},
                              {"formats", formats},
                              {"bits_per_weight", job_.bits_per_weight()}};
    if (calibration_ != nullptr) {
      quantization["quench"]["calibration"] = {{"sha256", report_.calibration_sha256},
                                               {"tokens", report_.calibration_tokens}};
    }
    config.erase("quantization_config");
    if (!is_plain) config["quantization_config"] = quantization;
    // What transformers computes in; without it in float32, whatever is stored.
    if (!config.contains("torch_dtype") && !config.contains("dtype"))
      config["torch_dtype"] = plain_type();
    const std::string text = config.dump(2) + "\n";
    QUENCH_TRY_VOID(writer_.add_file("config.json", std::as_bytes(std::span(text))));
    return add_model_text(job_.model->files, writer_);
  }

  const QuantizeOptions& options_;
  QuantizeJob& job_;
  QuantizeReport report_;
  CheckpointWriter writer_;
  std::unique_ptr<Calibration> calibration_;
  std::map<std::string, std::unique_ptr<Encoder>> encoders_;  // of this unit, by input and format
  std::map<std::string, std::string> fallback_reasons_;  // where rtn took over, by the same key
  LayerScaling scaling_;                                 // of this unit
  int64_t done_bytes_ = 0;
};

}  // namespace

int64_t encoding_block_rows(int64_t cols) {
  return std::max(kPackRows, round_up(kBlockWeights / cols, kPackRows));
}

Result<QuantizeReport> run_quantize(const QuantizeOptions& options, QuantizeJob& job) {
  return Quantizer(options, job).run();
}

}  // namespace quench
