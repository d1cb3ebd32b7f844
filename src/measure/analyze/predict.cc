#include "measure/analyze/predict.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace quench {
namespace {

// How far a version of an engine may move from the fit to all of them, and how far another device
// is from those that were measured, as deviations of logarithms; read off the shipped rows
// (transformers of three years, A100 and H20).
constexpr StepConstants kVersionSd = {0.3, 0.15, 0.4, 0.25, 0.4, 1.0, 0.2, 0.3};
// How far an unnamed version may be from the mean of those that were measured.
constexpr StepConstants kUnnamedSd = {0.3, 0.15, 0.4, 0.1, 0.3, 0.3, 0.2, 0.3};
constexpr StepConstants kDeviceSd = {0.3, 0.3, 0.3, 0.2, 0.2, 0.3, 0.3, 0.4};
// Published figures are single runs. Rows with a prompt, several devices or experts also bring
// effects that the model leaves out, so they count less.
constexpr double kPlainNoise = 0.03;
constexpr double kOtherNoise = 0.2;
constexpr double kLeastNoise = 0.05;  // of a prediction
// Rows of several versions disagree by this much for reasons no constant stands for.
constexpr double kScatter = 0.15;
constexpr double kMemoryNoise = 0.02;
constexpr double k90 = 1.645;  // standard deviations of a 90 % interval

using RowList = std::vector<const Predictor::Row*>;

bool has_speed(const Predictor::Row& row) {
  return row.published.decode_tok_s && row.published.batch && row.published.prompt_tokens > 0 &&
         row.published.output_tokens > 1;
}

LogNormals to_prior(const StepConstants& value, const StepConstants& log_sd) {
  return {{value.begin(), value.end()}, {log_sd.begin(), log_sd.end()}};
}

StepConstants to_constants(const std::vector<double>& values) {
  StepConstants constants{};
  std::copy(values.begin(), values.end(), constants.begin());
  return constants;
}

double predicted_tok_s(const Placement& setup, const std::vector<double>& constants) {
  return setup.output_tokens * setup.batch / request_s(setup, to_constants(constants));
}

MapFit fit_some(const LogNormals& prior, const RowList& rows, double scatter) {
  Observations seen;
  seen.is_robust = true;
  for (const Predictor::Row* row : rows) {
    seen.value.push_back(*row->published.decode_tok_s);
    seen.log_sd.push_back(std::hypot(row->is_plain() ? kPlainNoise : kOtherNoise, scatter));
  }
  seen.predict = [&](const std::vector<double>& constants, size_t i) {
    return predicted_tok_s(rows[i]->setup, constants);
  };
  return fit_map(prior, seen);
}

// Lets the rows move only these constants of a fit.
void fit_only(std::initializer_list<StepConstant> moved, const LogNormals& prior,
              const RowList& rows, double scatter, MapFit& fit) {
  if (rows.empty()) return;
  LogNormals rest = {fit.value, std::vector<double>(kNumStepConstants, 1e-6)};
  for (const StepConstant k : moved) {
    rest.value[k] = prior.value[k];
    rest.log_sd[k] = prior.log_sd[k];
  }
  const MapFit second = fit_some(rest, rows, scatter);
  for (const StepConstant k : moved) {
    fit.value[k] = second.value[k];
    const size_t at = k * kNumStepConstants + k;
    fit.covariance[at] = second.covariance[at];
  }
}

// Each constant from the rows that determine it: long prompts say how the cache is read and how
// fast prefill is, experts and several devices what those cost, and nothing else.
MapFit fit_rows(const LogNormals& prior, const RowList& rows, double scatter) {
  RowList plain, prompts, others;
  for (const Predictor::Row* row : rows) {
    const bool is_dense = row->published.devices == 1 && !row->setup.shape.is_moe();
    (row->is_plain() ? plain : is_dense ? prompts : others).push_back(row);
  }
  if (plain.empty()) return fit_some(prior, rows, scatter);
  MapFit fit = fit_some(prior, plain, scatter);
  if (!prompts.empty()) {
    fit_only({kKvFactor, kPrefillShare}, prior, prompts, scatter, fit);
    LogNormals again = prior;
    for (const StepConstant k : {kKvFactor, kPrefillShare}) {
      again.value[k] = fit.value[k];
      again.log_sd[k] = std::sqrt(fit.covariance[k * kNumStepConstants + k]);
    }
    fit = fit_some(again, plain, scatter);
  }
  fit_only({kExpert, kCollective}, prior, others, scatter, fit);
  return fit;
}

// Root mean square of what the fit leaves, over plain rows where there are some.
double remaining_noise(const MapFit& fit, const RowList& rows) {
  double squares = 0.0;
  int64_t count = 0;
  for (const Predictor::Row* row : rows) {
    if (!row->is_plain()) continue;
    const double residual =
        std::log(*row->published.decode_tok_s / predicted_tok_s(row->setup, fit.value));
    squares += residual * residual;
    ++count;
  }
  // A few rows and half as many constants: what is left is smaller than the error on a new model.
  return count == 0 ? 0.1
                    : std::max(kLeastNoise, 1.5 * std::sqrt(squares / static_cast<double>(count)));
}

int64_t count_models(const RowList& rows) {
  std::set<std::string> names;
  for (const Predictor::Row* row : rows) names.insert(row->setup.shape.name);
  return static_cast<int64_t>(names.size());
}

void widen(MapFit& fit, const StepConstants& log_sd) {
  for (size_t k = 0; k < log_sd.size(); ++k)
    fit.covariance[k * log_sd.size() + k] += fit.value[k] > 0.0 ? log_sd[k] * log_sd[k] : 0.0;
}

Interval interval(double value, double log_sd) {
  return {value, value * std::exp(-k90 * log_sd), value * std::exp(k90 * log_sd)};
}

enum MemoryConstant { kKvCopies, kRotaryTables, kActivations, kPromptLogits, kScratch };
// Copies of the cache beyond the first; tables of cosines per layer (old versions of transformers
// keep one in every layer); bytes per prompt token and unit of hidden and intermediate width; bytes
// per prompt token and word of the vocabulary; bytes per weight of the largest quantized matrix,
// which some kernels de-quantize as a whole.
const LogNormals kMemoryPrior = {{0.1, 0.1, 6.0, 0.1, 1.0}, {2.0, 2.0, 0.4, 2.0, 1.0}};

MemoryTerms memory_terms(const Placement& setup, const std::vector<double>& constants) {
  const ModelShape& shape = setup.shape;
  const ModelConfig& config = shape.config;
  const double tokens = (setup.prompt_tokens + setup.output_tokens) * setup.batch;
  const double prompt = setup.prompt_tokens * setup.batch;
  MemoryTerms terms;
  terms.weights_bytes = stored_weights_bytes(shape, setup.precision);
  terms.kv_bytes = kv_bytes_per_token(shape, setup.kv_bits) * tokens;
  // Wide buffers that are alive at once: three of the intermediate and three of the hidden width.
  const auto width = static_cast<double>(config.hidden_size + config.intermediate_size);
  const auto step_tokens = static_cast<double>(setup.engine.step_tokens);
  terms.activations_bytes = constants[kActivations] * width *
                            (step_tokens > 0.0 ? std::min(prompt, step_tokens) : prompt);
  terms.overhead_bytes = constants[kKvCopies] * terms.kv_bytes +
                         constants[kRotaryTables] * 4.0 * shape.layers() *
                             static_cast<double>(config.max_position_embeddings * config.head_dim) +
                         constants[kPromptLogits] * static_cast<double>(config.vocab_size) * prompt;
  if (setup.precision.weight_bits < 16.0)
    terms.overhead_bytes += constants[kScratch] * static_cast<double>(config.hidden_size) *
                            static_cast<double>(config.intermediate_size);
  // transformers up to 4.46 loads a tied AWQ model with a head of its own, and ties it afterwards.
  if (setup.engine.name == "transformers" && setup.precision.name == "awq" &&
      config.tie_word_embeddings)
    terms.load_peak_bytes = terms.weights_bytes + 2.0 * shape.head_weights;
  return terms;
}

}  // namespace

double MemoryTerms::total_bytes() const {
  return std::max(weights_bytes + kv_bytes + activations_bytes + overhead_bytes, load_peak_bytes);
}

bool Predictor::Row::is_plain() const {
  return published.batch == 1 && published.devices == 1 && published.prompt_tokens == 1 &&
         !setup.shape.is_moe();
}

Result<Predictor> Predictor::load(const std::vector<PublishedRow>& extra) {
  Predictor predictor;
  QUENCH_TRY(predictor.engines_, Engines::load());
  QUENCH_TRY(predictor.anomalies_, load_anomalies());
  QUENCH_TRY(std::vector<PublishedRow> rows, load_published());
  rows.insert(rows.end(), extra.begin(), extra.end());
  QUENCH_TRY(const std::vector<Hardware> devices, all_hardware());
  std::map<std::string, Hardware> known_devices;
  std::map<std::string, Result<ModelShape>> known_shapes;
  for (const PublishedRow& row : rows) {
    if (!known_devices.contains(row.device)) {
      QUENCH_TRY(known_devices[row.device], find_hardware(row.device));
    }
    if (!known_shapes.contains(row.model)) known_shapes.emplace(row.model, find_shape(row.model));
    const Result<ModelShape>& shape = known_shapes.at(row.model);
    if (!shape) return tl::unexpected(shape.error());
    // "BF16, KV Int8": the second part is not the weights'.
    const std::string precision_text = row.precision.substr(0, row.precision.find(','));
    QUENCH_TRY(const EngineRow engine, predictor.engines_.engine(row.engine));
    QUENCH_TRY(const Precision precision, predictor.engines_.precision(precision_text));
    Row known;
    known.published = row;
    known.setup = {*shape,
                   engine,
                   precision,
                   known_devices.at(row.device),
                   row.devices,
                   static_cast<double>(row.prompt_tokens),
                   static_cast<double>(row.output_tokens),
                   static_cast<double>(row.batch.value_or(1)),
                   row.precision.ends_with("KV Int8") ? 8.0 : 16.0};
    const Subject subject = {engine.name, precision.name, &known.setup.shape, row.devices,
                             row.prompt_tokens};
    for (const Anomaly* anomaly : find_anomalies(predictor.anomalies_, subject, false)) {
      (anomaly->kind == AnomalyKind::kOutlier ? known.is_outlier : known.is_pathology) = true;
    }
    known.is_memory_anomaly = !find_anomalies(predictor.anomalies_, subject, true).empty();
    predictor.rows_.push_back(std::move(known));
  }
  return predictor;
}

Result<Placement> Predictor::setup(const std::string& model, const std::string& engine,
                                   const std::string& precision, const Hardware& device) const {
  Placement setup;
  QUENCH_TRY(setup.shape, find_shape(model));
  QUENCH_TRY(setup.engine, engines_.engine(engine));
  const std::string named = precision.empty() ? precision_in_name(model) : precision;
  QUENCH_TRY(setup.precision, engines_.precision(named.empty() ? "bf16" : named));
  setup.device = device;
  return setup;
}

PredictorFit Predictor::calibrate(const Placement& setup, const std::string& engine_text,
                                  const CalibrationScope& scope) const {
  auto is_known = [&](const Row& row, const std::string& precision) {
    return has_speed(row) && !row.is_outlier && !(scope.sound && row.is_pathology) &&
           row.setup.engine.name == setup.engine.name && row.setup.precision.name == precision &&
           row.setup.shape.name != scope.skip_model;
  };
  // Where nobody has measured the precision, the engine in bf16 says all but its efficiency.
  const bool has_precision = std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) {
    return is_known(row, setup.precision.name);
  });
  const std::string precision = has_precision ? setup.precision.name : "bf16";
  RowList family, device, version;
  for (const Row& row : rows_) {
    if (!is_known(row, precision)) continue;
    family.push_back(&row);
    if (!row.setup.device.same_silicon(setup.device)) continue;
    device.push_back(&row);
    if (plain_name(row.published.engine) == plain_name(engine_text) &&
        (scope.source.empty() || row.published.source == scope.source))
      version.push_back(&row);
  }
  StepPrior prior = engines_.prior(setup.engine.kind, setup.precision);
  if (scope.sound) prior.value[kExpert] = 0.0;
  LogNormals known = to_prior(prior.value, prior.log_sd);
  PredictorFit result;
  result.speed = prior_fit(known);
  result.noise = 0.1;
  result.basis = {"plan.basis.prior", {{"kind", setup.engine.kind}}};
  const RowList* last = nullptr;
  auto refine = [&](const RowList& rows, double scatter, Sentence basis) {
    // The same rows again say nothing new, except that a version's own need no scatter.
    if (rows.empty() || (scatter > 0.0 && last != nullptr && rows.size() == last->size())) return;
    result.speed = fit_rows(known, rows, scatter);
    result.noise = remaining_noise(result.speed, rows);
    result.num_models = count_models(rows);
    basis.values["rows"] = std::to_string(rows.size());
    basis.values["models"] = std::to_string(result.num_models);
    result.basis = std::move(basis);
    known = to_prior(to_constants(result.speed.value), kVersionSd);
    last = &rows;
  };
  auto on_device = [&](const std::string& engine) {
    return Sentence{"plan.basis.rows_on",
                    {{"engine", engine}, {"precision", precision}, {"device", setup.device.name}}};
  };
  refine(family, kScatter,
         {"plan.basis.rows", {{"engine", setup.engine.name}, {"precision", precision}}});
  refine(device, kScatter, on_device(setup.engine.name));
  if (!family.empty() && device.empty()) widen(result.speed, kDeviceSd);
  if (last != nullptr && version.empty()) widen(result.speed, kUnnamedSd);
  refine(version, 0.0, on_device(engine_text));
  if (!has_precision && last != nullptr) {
    constexpr size_t kN = kNumStepConstants;
    result.speed.value[kEfficiency] = prior.value[kEfficiency];
    for (size_t k = 0; k < kN; ++k)
      result.speed.covariance[k * kN + kEfficiency] =
          result.speed.covariance[kEfficiency * kN + k] = 0.0;
    result.speed.covariance[kEfficiency * kN + kEfficiency] =
        prior.log_sd[kEfficiency] * prior.log_sd[kEfficiency];
    result.basis = {"plan.basis.other_precision",
                    {{"precision", setup.precision.name}},
                    {{"basis", std::move(result.basis)}}};
  }
  result.constants = to_constants(result.speed.value);
  result.memory = fit_memory(setup, engine_text, scope);
  return result;
}

MapFit Predictor::fit_memory(const Placement& setup, const std::string& engine_text,
                             const CalibrationScope& scope) const {
  RowList family, version;
  for (const Row& row : rows_) {
    if (!row.published.memory_bytes || !row.published.batch || row.published.prompt_tokens < 1 ||
        row.published.output_tokens < 1 || row.is_memory_anomaly ||
        row.setup.engine.name != setup.engine.name || row.setup.shape.name == scope.skip_model)
      continue;
    family.push_back(&row);
    if (plain_name(row.published.engine) == plain_name(engine_text) &&
        row.setup.precision.name == setup.precision.name &&
        (scope.source.empty() || row.published.source == scope.source))
      version.push_back(&row);
  }
  MapFit fit = prior_fit(kMemoryPrior);
  // An engine that nobody has measured is taken to waste nothing.
  for (const MemoryConstant k : {kKvCopies, kRotaryTables, kPromptLogits, kScratch})
    fit.value[k] = 0.0;
  LogNormals known = kMemoryPrior;
  for (const RowList* rows : {&family, &version}) {
    if (rows->empty()) continue;
    Observations seen;
    for (const Row* row : *rows) {
      seen.value.push_back(*row->published.memory_bytes);
      seen.log_sd.push_back(rows == &family ? 5.0 * kMemoryNoise : kMemoryNoise);
    }
    seen.predict = [&](const std::vector<double>& constants, size_t i) {
      return memory_terms((*rows)[i]->setup, constants).total_bytes();
    };
    fit = fit_map(known, seen);
    known.value = fit.value;
  }
  return fit;
}

Prediction Predictor::predict(const Placement& setup, PredictorFit known) {
  Prediction result;
  result.calibration = std::move(known);
  const PredictorFit& calibration = result.calibration;
  const double context = setup.prompt_tokens + setup.output_tokens / 2.0;
  result.step = decode_step(setup, calibration.constants, context);
  result.prefill = prefill(setup, calibration.constants);
  auto with_interval = [&](const std::function<double(const StepConstants&)>& of) {
    const double log_sd = log_sd_of(calibration.speed, [&](const std::vector<double>& constants) {
      return of(to_constants(constants));
    });
    return interval(of(calibration.constants), std::hypot(log_sd, calibration.noise));
  };
  result.tpot_s =
      with_interval([&](const StepConstants& c) { return decode_step(setup, c, context).total_s; });
  result.ttft_s =
      with_interval([&](const StepConstants& c) { return quench::prefill(setup, c).total_s; });
  result.request_s =
      with_interval([&](const StepConstants& c) { return quench::request_s(setup, c); });
  const double tokens = setup.output_tokens * setup.batch;
  const Interval& request = result.request_s;
  result.decode_tok_s = {tokens / request.value, tokens / request.high, tokens / request.low};
  result.memory = memory_terms(setup, calibration.memory.value);
  const double memory_sd = log_sd_of(calibration.memory, [&](const std::vector<double>& constants) {
    return memory_terms(setup, constants).total_bytes();
  });
  result.memory_bytes = interval(result.memory.total_bytes(), std::hypot(memory_sd, kMemoryNoise));
  return result;
}

const Predictor::Row* Predictor::nearest(const Placement& setup, const std::string& engine_text,
                                         bool memory) const {
  const Row* best = nullptr;
  double best_distance = 0.0;
  for (const Row& row : rows_) {
    if (memory ? !row.published.memory_bytes : !row.published.decode_tok_s) continue;
    if (row.setup.engine.name != setup.engine.name) continue;
    auto apart = [](double a, double b) { return std::fabs(std::log(a / b)); };
    // Reading bandwidth counts between devices; a wrong precision costs as much as twice the size.
    const double distance =
        apart(row.setup.shape.active_weights, setup.shape.active_weights) +
        (row.setup.shape.name == setup.shape.name ? 0.0 : 0.2) +
        (row.setup.precision.name == setup.precision.name ? 0.0 : 1.0) +
        apart(row.setup.device.read_bytes_per_s(), setup.device.read_bytes_per_s()) +
        apart(static_cast<double>(row.published.devices), static_cast<double>(setup.devices)) +
        0.3 * apart(row.setup.prompt_tokens + row.setup.output_tokens / 2.0 + 100.0,
                    setup.prompt_tokens + setup.output_tokens / 2.0 + 100.0) +
        0.5 * apart(row.setup.batch, setup.batch) +
        (row.setup.shape.is_moe() == setup.shape.is_moe() ? 0.0 : 1.0) +
        (plain_name(row.published.engine) == plain_name(engine_text) ? 0.0 : 0.1);
    if (best == nullptr || distance < best_distance) {
      best = &row;
      best_distance = distance;
    }
  }
  return best;
}

Json interval_json(const Interval& interval, double scale) {
  return {{"value", interval.value * scale},
          {"low", interval.low * scale},
          {"high", interval.high * scale}};
}

}  // namespace quench
