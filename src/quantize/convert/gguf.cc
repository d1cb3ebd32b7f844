// A model as one GGUF file. Matrices go into the type that the recipe asks for, in the order of the
// family's inventory; norms, biases and routers are F32, as llama.cpp's own converter leaves them.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/bytes.h"
#include "base/threads.h"
#include "io/message.h"
#include "quantize/convert/convert.h"
#include "quantize/convert/gguf_metadata.h"
#include "quantize/transcode_parts.h"

namespace quench {
namespace {

// What takes the place of a type whose blocks do not divide a row: as in llama.cpp.
constexpr std::pair<const char*, const char*> kNarrower[] = {
    {"q2_k", "iq4_nl"}, {"q3_k", "iq4_nl"}, {"iq4_xs", "iq4_nl"},
    {"q4_k", "q5_0"},   {"q5_k", "q5_1"},   {"q6_k", "q8_0"}};

constexpr int64_t kChunkWeights = int64_t{1} << 21;  // read and encoded at a time

// A tensor of the file: one of the model, the blocks of rows of a fused one, or a stack of experts.
struct OutTensor {
  std::string name;
  std::vector<TensorSpec> parts;
  const Format* format = nullptr;
  int64_t rows = 0;  // of each part
  bool is_stack = false;

  bool is_matrix() const { return role_row(parts.front().role).is_matrix; }
  int64_t cols() const { return parts.front().cols; }
  std::vector<int64_t> shape() const {
    const auto count = static_cast<int64_t>(parts.size());
    const Role role = parts.front().role;
    if (is_stack) return {count, rows, cols()};
    if (!is_matrix() || role == Role::kSharedRouter) return {count * rows * cols()};
    return {count * rows, cols()};
  }
};

const Format* narrower_than(const Format& format) {
  for (const auto& [from, to] : kNarrower) {
    if (format.name == from) return find_format(to);
  }
  return nullptr;
}

// The type whose numbers are those of a format that GGUF files do not have; null: there is none.
const Format* twin_of(const Format& format, int64_t cols) {
  for (const Format& type : all_formats()) {
    if (ggml_type_of_format(type.name) != nullptr && holds_numbers_of(type, format, 1, cols))
      return &type;
  }
  return nullptr;
}

class GgufOutput {
 public:
  explicit GgufOutput(const ConvertJob& job) : job_(job), team_(job.num_threads) {}

  Result<ConvertReport> write() {
    const GgufFamily* family = gguf_family_of(job_.files.config.architecture);
    if (family == nullptr) {
      return fail(ErrorCode::kUnsupported, "{}: there is no GGUF form of {}.", job_.files.name,
                  job_.files.config.architecture);
    }
    QUENCH_TRY_VOID(collect(*family));
    std::vector<NewGgufTensor> declared;
    for (OutTensor& tensor : tensors_) {
      QUENCH_TRY(tensor.format, choose_format(tensor));
      declared.push_back({tensor.name, ggml_type_of_format(tensor.format->name), tensor.shape()});
    }
    QUENCH_TRY(const GgufKeys keys,
               make_gguf_keys(job_.files, *family, main_format(), report_.notes));
    QUENCH_TRY(GgufWriter writer, GgufWriter::create(job_.out, keys, declared));
    int64_t total = 0;
    for (const OutTensor& tensor : tensors_) total += num_weights(tensor);
    int64_t done = 0;
    for (const OutTensor& tensor : tensors_) {
      QUENCH_TRY_VOID(write_tensor(tensor, writer));
      done += num_weights(tensor);
      if (job_.progress && !job_.progress(done, total))
        return fail(ErrorCode::kCancelled, "{}: the conversion was interrupted.", job_.out);
    }
    QUENCH_TRY_VOID(writer.finish());
    return std::move(report_);
  }

 private:
  static int64_t num_weights(const OutTensor& tensor) {
    return static_cast<int64_t>(tensor.parts.size()) * tensor.rows * tensor.cols();
  }

  Result<void> collect(const GgufFamily& family) {
    std::map<std::string, size_t> index;
    std::string unknown;
    job_.files.family->tensors(job_.files.config, [&](const TensorSpec& spec) {
      const auto place = gguf_place(family, spec.name);
      if (!place) {
        unknown = spec.name;
        return;
      }
      const auto [it, fresh] = index.emplace(place->name, tensors_.size());
      if (fresh) tensors_.push_back({place->name, {}, nullptr, spec.rows, place->expert >= 0});
      tensors_[it->second].parts.push_back(spec);
    });
    if (unknown.empty()) return {};
    return fail(ErrorCode::kUnsupported, "{}: tensor {} has no name in GGUF files.",
                job_.files.name, in_quotes(unknown));
  }

  // The format of most weights, for "general.file_type".
  const Format& main_format() const {
    std::map<const Format*, int64_t> weights;
    for (const OutTensor& tensor : tensors_) weights[tensor.format] += num_weights(tensor);
    return *std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) {
              return a.second < b.second;
            })->first;
  }

  Result<const Format*> choose_format(const OutTensor& tensor) {
    const TensorSpec& spec = tensor.parts.front();
    const Format* f32 = find_format("f32");
    if (!tensor.is_matrix() || spec.role == Role::kRouter || spec.role == Role::kSharedRouter)
      return f32;
    const std::string& wanted = job_.recipe.format_for(spec.role, spec.layer);
    const Format* stored = job_.source.stored_format(spec);
    const Format* format = wanted.empty() ? stored : find_format(wanted);
    if (format != nullptr && ggml_type_of_format(format->name) == nullptr) {
      const Format* twin = twin_of(*format, tensor.cols());
      if (twin == nullptr) {
        return fail(
            ErrorCode::kUnsupported,
            "{}: {} would be {}, which GGUF files do not have; choose a type of theirs with "
            "--type (f16, bf16, q8_0, q6_k, q5_k, q4_k, q3_k, q2_k, iq4_xs, ...).",
            job_.files.name, in_quotes(spec.name), format->name);
      }
      format = twin;
    }
    if (format == nullptr) format = find_format("bf16");
    const Format* fitting = format;
    if (!fitting->fits(1, tensor.cols())) {
      const Format* narrower = narrower_than(*format);
      fitting =
          narrower != nullptr && narrower->fits(1, tensor.cols()) ? narrower : find_format("f16");
      report_.fallbacks.push_back(fmt::format("{} [{} columns]: {} instead of {}", tensor.name,
                                              tensor.cols(), fitting->name, format->name));
    }
    return fitting;
  }

  Result<void> write_tensor(const OutTensor& tensor, GgufWriter& writer) {
    ConvertedFormat sums;
    for (const TensorSpec& spec : tensor.parts) {
      const int64_t step = std::max<int64_t>(1, kChunkWeights / spec.cols);
      for (int64_t row = 0; row < spec.rows; row += step) {
        const int64_t rows = std::min(step, spec.rows - row);
        QuantizedTensor encoded(*tensor.format, rows, spec.cols);
        QUENCH_TRY_VOID(encode(tensor, spec, row, rows, encoded, sums));
        const auto size_bytes = static_cast<size_t>(tensor.format->plane_bytes(0, rows, spec.cols));
        QUENCH_TRY_VOID(writer.append(tensor.name, {encoded.planes()[0], size_bytes}));
        sums.bytes += static_cast<int64_t>(size_bytes);
      }
      job_.source.drop(spec);
    }
    report_.out_bytes += sums.bytes;
    if (!tensor.is_matrix()) return {};
    ConvertedFormat& all = report_.formats[tensor.format->name];
    all.num_matrices += static_cast<int64_t>(tensor.parts.size());
    if (sums.squared_error == 0.0) all.num_exact += static_cast<int64_t>(tensor.parts.size());
    all.bytes += sums.bytes;
    all.squared += sums.squared;
    all.squared_error += sums.squared_error;
    return {};
  }

  // Rows of one tensor of the model, shared out among the team. Numbers that the format has are
  // taken over as they stand.
  Result<void> encode(const OutTensor& tensor, const TensorSpec& spec, int64_t row, int64_t rows,
                      QuantizedTensor& out, ConvertedFormat& sums) {
    const Format& format = *tensor.format;
    const Format* stored = job_.source.stored_format(spec);
    if (stored != nullptr && job_.source.transform(spec) == nullptr &&
        holds_numbers_of(format, *stored, rows, spec.cols)) {
      std::optional<QuantizedTensor> buffer;
      QUENCH_TRY(const ConstPlanes planes, job_.source.stored_rows(spec, row, rows, buffer));
      if (planes[0] != nullptr) {
        if (stored == &format)
          std::copy_n(planes[0], format.plane_bytes(0, rows, spec.cols), out.planes()[0]);
        else
          transcode_rows(*stored, planes, format, out.planes(), rows, spec.cols);
        return {};
      }
    }
    std::mutex mutex;
    Result<void> outcome;
    team_.run([&](const Worker& worker) {
      const Range range = worker_range(worker, rows, format.tile_rows);
      ConvertedFormat mine;
      auto done = encode_rows(format, spec, row + range.begin, range.end - range.begin,
                              format.row_planes(out.planes(), range.begin, spec.cols), mine);
      const std::lock_guard lock(mutex);
      if (!done) outcome = std::move(done);
      sums.squared += mine.squared;
      sums.squared_error += mine.squared_error;
    });
    return outcome;
  }

  Result<void> encode_rows(const Format& format, const TensorSpec& spec, int64_t row, int64_t rows,
                           const Planes& out, ConvertedFormat& sums) const {
    if (rows <= 0) return {};
    const auto count = static_cast<size_t>(rows * spec.cols);
    std::vector<float> values(count);
    QUENCH_TRY_VOID(job_.source.read_rows(spec, row, rows, values.data()));
    for (size_t i = 0; i < count; ++i) {
      if (std::isfinite(values[i])) continue;
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} holds {} at row {}; it cannot be stored as {}.", job_.files.name,
                  in_quotes(spec.name), values[i],
                  spec.row_begin + row + static_cast<int64_t>(i) / spec.cols, format.name);
    }
    format.encode_rows(values.data(), rows, spec.cols, out);
    std::vector<float> decoded(count);
    ConstPlanes planes{};
    std::copy(out.begin(), out.end(), planes.begin());
    format.decode_rows(planes, rows, spec.cols, decoded.data());
    for (size_t i = 0; i < count; ++i) {
      const double difference = static_cast<double>(values[i]) - decoded[i];
      sums.squared += static_cast<double>(values[i]) * values[i];
      sums.squared_error += difference * difference;
    }
    return {};
  }

  const ConvertJob& job_;
  ThreadTeam team_;
  std::vector<OutTensor> tensors_;
  ConvertReport report_;
};

Result<ConvertReport> write(const ConvertJob& job) { return GgufOutput(job).write(); }

}  // namespace

extern const ConvertTarget gguf_target;
const ConvertTarget gguf_target = {"gguf", "one GGUF file, for llama.cpp and what is built on it",
                                   write};

}  // namespace quench
