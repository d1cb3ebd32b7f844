// The plan of a quantization: which tensor of the output is what, and how large.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/bytes.h"
#include "base/sha256.h"
#include "formats/hadamard.h"
#include "quantize/calibrate.h"
#include "quantize/quantize.h"
#include "quantize/transcode_parts.h"

namespace quench {
namespace {

bool is_float(const Format& format) {
  return format.name == "f32" || format.name == "f16" || format.name == "bf16";
}

Result<void> refuse_quantized(const PlannedModel& model) {
  if (!model.files.checkpoint || model.files.checkpoint->quantization_config() == nullptr)
    return {};
  return fail(ErrorCode::kInvalidArgument,
              "{}: the model is quantized already; quantizing it again would add one loss to "
              "another. Give the original model.",
              model.files.dir);
}

class JobPlanner {
 public:
  explicit JobPlanner(QuantizeJob& job) : job_(job) {}

  void add_matrix(const PlannedMatrix& matrix) {
    for (const TensorSpec& spec : matrix.sources) add(spec, matrix.format, matrix.fallback);
  }
  void add_vector(const PlannedVector& vector) {
    add(vector.source, job_.model->source->stored_format(vector.source), "");
  }

 private:
  void add(TensorSpec spec, const Format* format, const std::string& fallback) {
    if (!seen_.insert(spec.name).second) return;  // a further block of a fused tensor
    if (spec.file_rows > 0) spec.rows = spec.file_rows;
    spec.row_begin = 0;
    QuantizeItem item;
    item.format = format;
    item.is_quantized = !is_float(*format);
    item.fallback = fallback;
    if (item.is_quantized && job_.is_conversion) keep_numbers(spec, item);
    if (item.is_quantized && !item.keeps_numbers) keep_what_does_not_fit(spec, item);
    format = item.format;
    const int64_t weights = spec.rows * spec.cols;
    item.source_bytes = weights * 2;
    item.bytes = format->matrix_bytes(spec.rows, spec.cols);
    if (job_.recipe.rotate && item.is_quantized && !item.keeps_numbers &&
        odd_part(spec.cols) <= kMaxOddPart) {
      item.transform = rotation_of(spec);
      item.bytes += ceil_div(spec.cols, 8);  // its signs
    }
    job_.num_weights += weights;
    job_.source_bytes += item.source_bytes;
    job_.bytes += item.bytes;
    QuantizeUnit& unit = unit_of(spec.layer);
    item.spec = std::move(spec);
    unit.items.push_back(std::move(item));
  }

  // The stored format, or one that the layout has for the same numbers.
  void keep_numbers(const TensorSpec& spec, QuantizeItem& item) const {
    const WeightSource& source = *job_.model->source;
    const Format& stored = *source.stored_format(spec);
    if (item.format != &stored) return;  // the recipe wants another
    const InputTransform* transform = source.transform(spec);
    const auto kind = transform == nullptr ? InputTransform::Kind::kNone : transform->kind;
    const bool is_own = job_.has_own_layout();
    auto takes = [&](const Format& format) {
      if (!holds_numbers_of(format, stored, spec.rows, spec.cols)) return false;
      return is_own ? format.encode != nullptr
                    : spec.layer >= 0 && job_.writer->accepts(format, spec.rows, spec.cols, kind);
    };
    const Format* twin = takes(stored) ? &stored : nullptr;
    for (const Format& format : all_formats()) {
      if (twin == nullptr && takes(format)) twin = &format;
    }
    if (twin == nullptr) {
      item.fallback = fmt::format("{} does not hold {}", job_.writer->name,
                                  spec.layer < 0 ? std::string("it") : stored.name);
      item.format = find_format("bf16");
      item.is_quantized = false;
      return;
    }
    item.format = twin;
    item.keeps_numbers = true;
    if (transform != nullptr) item.transform = *transform;
  }

  // Other programs' layouts hold the matrices of layers only, and not every format.
  void keep_what_does_not_fit(const TensorSpec& spec, QuantizeItem& item) const {
    const bool is_own = job_.has_own_layout();
    const auto kind =
        job_.recipe.rotate ? InputTransform::Kind::kHadamard : InputTransform::Kind::kNone;
    if (is_own ||
        (spec.layer >= 0 && job_.writer->accepts(*item.format, spec.rows, spec.cols, kind)))
      return;
    item.fallback = fmt::format("{} does not hold {}", job_.writer->name,
                                spec.layer < 0 ? std::string("it") : item.format->name);
    item.format = job_.model->source->stored_format(spec);
    if (!is_float(*item.format)) item.format = find_format("bf16");
    item.is_quantized = false;
  }

  // The same for all matrices that share an input, so that it is rotated once, and for all experts
  // of a layer, which run together.
  static InputTransform rotation_of(const TensorSpec& spec) {
    const std::string name = calibration_input(spec);
    const std::string input = fmt::format("{} {}", spec.layer, name.substr(0, name.find(' ')));
    uint64_t seed = 0;
    for (const char c : sha256_hex(std::as_bytes(std::span(input))).substr(0, 16))
      seed = seed * 31 + static_cast<uint64_t>(c);
    return InputTransform::hadamard(spec.cols, seed);
  }

  QuantizeUnit& unit_of(int64_t layer) {
    const auto [it, is_new] = unit_of_layer_.emplace(layer, job_.units.size());
    if (is_new) {
      job_.units.push_back(
          {layer < 0 ? std::string("globals") : fmt::format("layer {}", layer), layer, {}});
    }
    return job_.units[it->second];
  }

  QuantizeJob& job_;
  std::set<std::string> seen_;
  std::map<int64_t, size_t> unit_of_layer_;
};

}  // namespace

double QuantizeJob::saved_fraction() const {
  return 1.0 - static_cast<double>(bytes) / static_cast<double>(source_bytes);
}

double QuantizeJob::bits_per_weight() const {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(num_weights);
}

bool QuantizeJob::has_own_layout() const { return std::string_view(writer->name) == "quench"; }

Result<QuantizeJob> plan_quantize(const QuantizeOptions& options) {
  QuantizeJob job;
  SessionOptions session = options.session;
  session.recipe = options.recipe;
  if (!options.recipe) {
    QUENCH_TRY(session, session_for_profile(options.session, options.profile));
  }
  QUENCH_TRY(job.recipe, session_recipe(session));
  if (!options.algorithm.empty()) job.recipe.algorithm = options.algorithm;
  job.recipe.rotate = job.recipe.rotate || options.rotate;
  QUENCH_TRY(job.algorithm, require_algorithm(job.recipe.algorithm));
  if (job.algorithm->scales_inputs && job.recipe.rotate) {
    return fail(ErrorCode::kInvalidArgument,
                "{} scales the channels of an input, and a rotation mixes those channels, after "
                "which no one of them stands out; give one of the two.",
                job.algorithm->name);
  }
  job.is_conversion = options.is_conversion;
  if (job.is_conversion && options.layout == kPlainLayout) {
    job.writer = &plain_writer();
  } else {
    QUENCH_TRY(job.writer, require_quant_writer(options.layout));
  }
  QUENCH_TRY(job.model, plan_model(session, Weights::kRequired));
  if (!job.is_conversion) QUENCH_TRY_VOID(refuse_quantized(*job.model));
  JobPlanner planner(job);
  for (const PlannedMatrix& matrix : job.model->plan.matrices) planner.add_matrix(matrix);
  for (const PlannedVector& vector : job.model->plan.vectors) planner.add_vector(vector);
  // Ascending, and what belongs to no layer last: the head's input comes after all layers.
  std::sort(job.units.begin(), job.units.end(), [](const QuantizeUnit& a, const QuantizeUnit& b) {
    return static_cast<uint64_t>(a.layer) < static_cast<uint64_t>(b.layer);
  });
  for (const QuantizedRole& role : planned_roles(job)) {
    const Format& format = **require_format(role.format);
    if (is_float(format) || job.algorithm->accepts(format)) continue;
    std::vector<std::string_view> suited;
    for (const Algorithm* other : all_algorithms()) {
      if (other->accepts(format)) suited.emplace_back(other->name);
    }
    return fail(ErrorCode::kInvalidArgument,
                "The algorithm {} does not suit the format {}; choose one of {}.",
                job.algorithm->name, format.name, fmt::join(suited, ", "));
  }
  const bool any = std::any_of(job.units.begin(), job.units.end(), [](const QuantizeUnit& unit) {
    return std::any_of(unit.items.begin(), unit.items.end(),
                       [](const QuantizeItem& item) { return item.is_quantized; });
  });
  // A conversion into the own layout, or out of all, may find nothing but floats.
  const bool needs_quantized =
      !job.is_conversion || (job.writer != &plain_writer() && !job.has_own_layout());
  if (!any && job.is_conversion && needs_quantized) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: the layout {} has a place for no matrix of it as it is stored; give --type "
                "FORMAT to quantize them, or --to {}. docs/formats.md says what the layout holds.",
                job.model->files.name, job.writer->name, kPlainLayout);
  }
  if (!any && needs_quantized) {
    return fail(ErrorCode::kInvalidArgument,
                "Nothing would be quantized: the layout {} holds no matrix of this model in the "
                "formats of {}{}. docs/formats.md says which it holds.",
                job.writer->name, job.recipe.name, job.recipe.rotate ? ", rotated" : "");
  }
  return job;
}

std::vector<QuantizedRole> planned_roles(const QuantizeJob& job) {
  std::vector<QuantizedRole> roles;
  for (const QuantizeUnit& unit : job.units) {
    for (const QuantizeItem& item : unit.items) {
      const RoleRow& row = role_row(item.spec.role);
      const std::string name = row.is_matrix ? row.name : "norms, biases";
      auto it = std::find_if(roles.begin(), roles.end(), [&](const QuantizedRole& role) {
        return role.role == name && role.format == item.format->name;
      });
      if (it == roles.end()) {
        roles.push_back({name, item.format->name, item.fallback});
        it = roles.end() - 1;
      }
      ++it->count;
      it->weights += item.spec.rows * item.spec.cols;
      it->bytes += item.bytes;
    }
  }
  return roles;
}

double QuantizedRole::relative_error() const {
  return squared_norm > 0.0 ? std::sqrt(squared_error / squared_norm) : 0.0;
}

}  // namespace quench
