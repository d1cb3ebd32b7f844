#include "measure/allocate_bits.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/paths.h"
#include "base/random.h"
#include "formats/quantized_tensor.h"
#include "measure/machine.h"
#include "measure/report/table.h"
#include "text/documents.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Weights that a distortion is measured on: 64 rows of 1024.
constexpr int64_t kNormalRows = 64;
constexpr int64_t kNormalCols = 1024;
// Of the memory that is free, how much the candidates that are open at once may take.
constexpr double kOpenForGroupsShare = 0.5;
constexpr size_t kMostOpen = 8;
// Rungs below and above the preset's that a group may get.
constexpr size_t kRungsBelow = 1;
constexpr size_t kRungsAbove = 2;

std::string group_layers(const BitGroup& group) {
  if (group.layers.front() < 0) return "";
  return group.layers.size() == 1 ? fmt::format("{}", group.layers.front())
                                  : fmt::format("{}-{}", group.layers.front(), group.layers.back());
}

void set_format(const BitGroup& group, const std::string& format, Recipe& recipe) {
  for (const int64_t layer : group.layers) {
    const char* role = role_row(group.role).name;
    if (layer < 0) {
      recipe.role_formats[role] = format;
    } else {
      recipe.layer_formats[layer][role] = format;
    }
  }
}

// What was measured before an interrupt, beside the directory that is being made.
std::string groups_note(const QuantizeOptions& options) { return options.out + ".groups.json"; }

// How much each group alone costs. Kept in groups_note() as it is found, for --resume.
class GroupMeter {
 public:
  GroupMeter(const QuantizeOptions& options, const ChoiceOptions& measuring,
             std::vector<BitGroup>& groups)
      : model_(options.session), options_(options), measuring_(measuring), groups_(groups) {
    model_.goal.max_seq_len = EvalOptions().context;
  }

  Result<void> run() {
    QUENCH_TRY(reference_, Session::open(model_));
    QUENCH_TRY(const ChatTemplate chat_template, load_text_template(reference_->files()));
    std::string path = options_.calibration;
    if (path.empty()) {
      QUENCH_TRY(path, data_path("texts/calibration"));
    }
    QUENCH_TRY(texts_, load_eval_texts(path, reference_->tokenizer(), chat_template));
    limit_tokens(texts_, measuring_.domain_tokens);
    QUENCH_TRY(key_, key());
    const size_t together = open_at_once();
    for (size_t first = take_kept(), count; first < groups_.size(); first += count) {
      count = std::min(together, groups_.size() - first);
      QUENCH_TRY_VOID(measure(first, count));
      QUENCH_TRY_VOID(keep(first + count));
    }
    return {};
  }

 private:
  // What the prices are of. Only random weights have no checkpoint, and no loss to measure either.
  Result<Json> key() const {
    const Device& device = reference_->device();
    QUENCH_TRY(const std::string weights,
               reference_->files().checkpoint->sha256(device.num_workers()));
    return Json{{"weights", weights},
                {"text", texts_.sha256},
                {"domain_tokens", measuring_.domain_tokens},
                {"format", kCoarseFormat},
                {"groups", groups_.size()}};
  }

  // The groups that need no measuring any more, from the first on: their number.
  size_t take_kept() {
    if (!options_.resume) return 0;
    const auto note = read_json_file(groups_note(options_));
    if (!note || !note->is_object() || note->value("key", Json()) != key_) return 0;
    const Json prices = note->value("coarse_kld", Json::array());
    size_t count = 0;
    for (const Json& price : prices) {
      if (!price.is_number() || count == groups_.size()) return 0;
      groups_[count++].coarse_kld = price.get<double>();
    }
    return count;
  }

  Result<void> keep(size_t count) const {
    Json prices = Json::array();
    for (size_t i = 0; i < count; ++i) prices.push_back(groups_[i].coarse_kld);
    const Json note = {{"key", key_}, {"coarse_kld", prices}};
    return write_file_atomic(groups_note(options_), note.dump(1) + "\n");
  }

  size_t open_at_once() const {
    const auto available = available_memory_bytes();
    const auto one = static_cast<double>(reference_->plan().total_bytes());
    const double fit =
        available ? kOpenForGroupsShare * static_cast<double>(*available) / one : 1.0;
    return static_cast<size_t>(std::clamp(fit, 1.0, static_cast<double>(kMostOpen)));
  }

  Result<void> measure(size_t first, size_t count) {
    std::vector<std::unique_ptr<Session>> open;
    std::vector<const Session*> candidates;
    for (size_t i = first; i < first + count; ++i) {
      if (measuring_.stop != nullptr && measuring_.stop->load(std::memory_order_relaxed))
        return interrupted();
      if (measuring_.progress) {
        measuring_.progress("Measuring what each group of matrices costs", static_cast<int64_t>(i),
                            static_cast<int64_t>(groups_.size()));
      }
      SessionOptions session = model_;
      session.recipe.emplace();
      set_format(groups_[i], kCoarseFormat, *session.recipe);
      QUENCH_TRY(auto opened, Session::open(session));
      candidates.push_back(opened.get());
      open.push_back(std::move(opened));
    }
    EvalOptions eval;
    eval.stop = measuring_.stop;
    const auto evaluation = evaluate(reference_.get(), candidates, texts_, eval);
    if (!evaluation && evaluation.error().code == ErrorCode::kCancelled) return interrupted();
    if (!evaluation) return tl::unexpected(evaluation.error());
    for (size_t i = 0; i < count; ++i)
      groups_[first + i].coarse_kld = std::max(evaluation->candidates[i].overall.kld.mean, 0.0);
    return {};
  }

  static Result<void> interrupted() {
    return fail(ErrorCode::kCancelled,
                "Interrupted while the groups were measured; --resume goes on from there.");
  }

  SessionOptions model_;
  const QuantizeOptions& options_;
  const ChoiceOptions& measuring_;
  std::vector<BitGroup>& groups_;
  std::unique_ptr<Session> reference_;
  EvalTexts texts_;
  Json key_;
};

// The rungs that are tried around the one that the preset begins with.
std::span<const Rung> rungs_around(const Recipe& preset) {
  const std::span<const Rung> ladder = format_ladder();
  size_t at = 0;
  while (at + 1 < ladder.size() && preset.default_format != ladder[at].format) ++at;
  const size_t first = at - std::min(at, kRungsBelow);
  const size_t last = std::min(at + kRungsAbove, ladder.size() - 1);
  return ladder.subspan(first, last - first + 1);
}

double rung_bits(const std::string& format) {
  for (const Rung& rung : format_ladder()) {
    if (format == rung.format) return rung.bits;
  }
  return 16.0;
}

// What each group gets by measurement.
Result<BitAllocation> measure_bits(const QuantizeOptions& options, const Recipe& preset,
                                   const ChoiceOptions& measuring) {
  BitAllocation allocation;
  allocation.preset = preset;
  QUENCH_TRY(const auto planned, plan_model(options.session, Weights::kRequired));
  allocation.groups = bit_groups(planned->plan);
  QUENCH_TRY_VOID(GroupMeter(options, measuring, allocation.groups).run());
  const std::span<const Rung> rungs = rungs_around(preset);
  std::vector<double> distortions;
  for (const Rung& rung : rungs) {
    QUENCH_TRY(const double distortion, normal_distortion(rung.format, *planned->device));
    distortions.push_back(distortion);
  }
  QUENCH_TRY(const double coarse, normal_distortion(kCoarseFormat, *planned->device));
  double bits = 0.0;  // of what the preset gives to the same matrices
  for (const BitGroup& group : allocation.groups)
    bits += rung_bits(preset.format_for(group.role, group.layers.front())) * group.weights;
  const std::vector<size_t> at =
      allocate_rungs(allocation.groups, rungs, distortions, coarse, bits * (1.0 + 1e-9));
  Recipe& measured = allocation.measured;
  measured = preset;
  measured.name = preset.name + ", by measurement";
  measured.role_formats.clear();
  measured.default_format = rungs.front().format;
  for (size_t g = 0; g < at.size(); ++g) {
    set_format(allocation.groups[g], rungs[at[g]].format, measured);
    // A trellis wants rows that look normal.
    measured.rotate |= find_format(rungs[at[g]].format)->trellis != nullptr;
  }
  return allocation;
}

struct MadeModel {
  QuantizeJob job;
  QuantizeReport report;
  ClusteredMean kld;
};

Result<MadeModel> make_and_judge(const QuantizeOptions& options, const Recipe& recipe,
                                 const std::string& out, const ChoiceOptions& measuring) {
  QuantizeOptions job_options = options;
  job_options.recipe = recipe;
  if (!options.algorithm.empty()) job_options.recipe->algorithm = options.algorithm;
  job_options.out = out;
  job_options.resume = options.resume && is_directory(out + ".partial");
  MadeModel made;
  QUENCH_TRY(made.job, plan_quantize(job_options));
  QUENCH_TRY(made.report, run_quantize(job_options, made.job));
  SessionOptions session = options.session;
  session.model = out;
  QUENCH_TRY(made.kld, measure_kld(options.session, session, measuring));
  return made;
}

Json judged_json(int64_t bytes, const std::optional<ClusteredMean>& kld) {
  return {{"bytes", bytes},
          {"kld_mean", kld ? Json(kld->mean) : Json()},
          {"kld_ci95", kld ? Json(Json::array({kld->low, kld->high})) : Json()}};
}

}  // namespace

std::vector<BitGroup> bit_groups(const Plan& plan, int64_t most) {
  std::map<Role, std::map<int64_t, double>> weights;  // by layer
  int64_t count = 0;
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (!role_row(matrix.role).is_quantized) continue;
    auto& of_layer = weights[matrix.role];
    count += of_layer.contains(matrix.layer) ? 0 : 1;
    of_layer[matrix.layer] += num_weights(matrix);
  }
  const int64_t band = (count + most - 1) / most;
  std::vector<BitGroup> groups;
  for (const auto& [role, layers] : weights) {
    int64_t filled = band;
    for (const auto& [layer, number] : layers) {
      if (filled == band) {
        groups.push_back({role, {}, 0.0, 0.0});
        filled = 0;
      }
      groups.back().layers.push_back(layer);
      groups.back().weights += number;
      ++filled;
    }
  }
  return groups;
}

Result<double> normal_distortion(const std::string& name, Device& device) {
  QUENCH_TRY(const Format* format, require_encoder(name));
  QUENCH_TRY(const Algorithm* algorithm, require_algorithm("rtn"));
  QUENCH_TRY(const auto encoder, algorithm->prepare(*format, kNormalCols, nullptr, device));
  std::vector<float> rows(static_cast<size_t>(kNormalRows * kNormalCols));
  for (size_t i = 0; i < rows.size(); ++i) {
    // Box and Muller 1958.
    const double radius = std::sqrt(-2.0 * std::log(random_uniform(1, 2 * i) + 0x1p-60));
    rows[i] = static_cast<float>(radius * std::cos(2.0 * M_PI * random_uniform(1, 2 * i + 1)));
  }
  QuantizedTensor tensor(*format, kNormalRows, kNormalCols);
  encoder->encode(rows.data(), kNormalRows, tensor.planes());
  std::vector<float> decoded(rows.size());
  format->decode_rows(std::as_const(tensor).planes(), kNormalRows, kNormalCols, decoded.data());
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const double difference = static_cast<double>(decoded[i]) - rows[i];
    error += difference * difference;
    norm += static_cast<double>(rows[i]) * rows[i];
  }
  return error / norm;
}

std::vector<size_t> allocate_rungs(const std::vector<BitGroup>& groups, std::span<const Rung> rungs,
                                   const std::vector<double>& distortions, double coarse_distortion,
                                   double bits) {
  std::vector<size_t> at(groups.size(), 0);
  for (const BitGroup& group : groups) bits -= rungs.front().bits * group.weights;
  for (;;) {
    double best = 0.0;
    size_t chosen = groups.size();
    for (size_t g = 0; g < groups.size(); ++g) {
      if (at[g] + 1 == rungs.size()) continue;
      const double cost = (rungs[at[g] + 1].bits - rungs[at[g]].bits) * groups[g].weights;
      const double gain =
          groups[g].coarse_kld / coarse_distortion * (distortions[at[g]] - distortions[at[g] + 1]);
      if (cost > bits || gain / cost <= best) continue;
      best = gain / cost;
      chosen = g;
    }
    if (chosen == groups.size()) return at;
    bits -= (rungs[at[chosen] + 1].bits - rungs[at[chosen]].bits) * groups[chosen].weights;
    ++at[chosen];
  }
}

Result<AllocatedModel> make_allocated(const QuantizeOptions& options, const Recipe& preset,
                                      const ChoiceOptions& measuring) {
  QuantizeOptions first = options;
  first.recipe = preset;
  // What cannot be made is refused before minutes of measuring.
  QUENCH_TRY_VOID(plan_quantize(first));
  const std::string other = options.out + ".by-role";
  const std::string note = groups_note(options);
  for (const std::string& left : {other, note}) {
    if (options.resume || !fs::exists(left)) continue;
    return fail(ErrorCode::kInvalidArgument,
                "{}: an interrupted --allocate left this; go on with --resume, or remove it.",
                left);
  }
  AllocatedModel made;
  QUENCH_TRY(made.allocation, measure_bits(options, preset, measuring));
  BitAllocation& allocation = made.allocation;
  QUENCH_TRY_VOID(remove_directory(other));
  QUENCH_TRY(MadeModel by_role, make_and_judge(options, allocation.preset, other, measuring));
  auto by_measurement = make_and_judge(options, allocation.measured, options.out, measuring);
  if (!by_measurement) {
    QUENCH_TRY_VOID(remove_directory(other));
    return tl::unexpected(by_measurement.error());
  }
  allocation.preset_kld = by_role.kld;
  allocation.preset_bytes = by_role.job.bytes;
  allocation.measured_kld = by_measurement->kld;
  allocation.measured_bytes = by_measurement->job.bytes;
  allocation.is_accepted = by_measurement->kld.mean < by_role.kld.mean;
  MadeModel& kept = allocation.is_accepted ? *by_measurement : by_role;
  made.job = std::move(kept.job);
  made.report = std::move(kept.report);
  if (allocation.is_accepted) {
    QUENCH_TRY_VOID(remove_directory(other));
  } else {
    QUENCH_TRY_VOID(remove_directory(options.out));
    std::error_code error;
    fs::rename(other, options.out, error);
    if (error)
      return fail(ErrorCode::kIo, "{}: cannot rename to {}: {}.", other, options.out,
                  error.message());
  }
  QUENCH_TRY_VOID(write_file_atomic(options.out + "/allocation.json",
                                    allocation_json(allocation).dump(1) + "\n"));
  std::error_code ignored;
  fs::remove(note, ignored);
  return made;
}

Json allocation_json(const BitAllocation& allocation) {
  Json groups = Json::array();
  for (const BitGroup& group : allocation.groups) {
    const int64_t layer = group.layers.front();
    groups.push_back({{"role", role_row(group.role).name},
                      {"layers", group_layers(group)},
                      {"weights", group.weights},
                      {"coarse_kld", group.coarse_kld},
                      {"preset", allocation.preset.format_for(group.role, layer)},
                      {"measured", allocation.measured.format_for(group.role, layer)}});
  }
  return {{"accepted", allocation.is_accepted},
          {"coarse_format", kCoarseFormat},
          {"preset", judged_json(allocation.preset_bytes, allocation.preset_kld)},
          {"measured", judged_json(allocation.measured_bytes, allocation.measured_kld)},
          {"groups", groups}};
}

std::string allocation_text(const Json& allocation) {
  Table table;
  table.columns = {{"role", "role", Align::kLeft},
                   {"layers", "layers"},
                   {"weights", "M weights"},
                   {"coarse_kld", "KLD alone coarse"},
                   {"preset", "by role", Align::kLeft},
                   {"measured", "by measurement", Align::kLeft}};
  for (const Json& group : allocation["groups"]) {
    table.rows.push_back({text_cell(group["role"].get<std::string>()),
                          text_cell(group["layers"].get<std::string>()),
                          number_cell(group["weights"].get<double>(), 3, 1e-6),
                          number_cell(group["coarse_kld"].get<double>(), 5),
                          text_cell(group["preset"].get<std::string>()),
                          text_cell(group["measured"].get<std::string>())});
  }
  auto judged = [&](const char* side) {
    const Json& row = allocation[side];
    return fmt::format("{:.2f} MB, KLD {:.5f} ({:.5f} to {:.5f})",
                       row["bytes"].get<double>() * 1e-6, row["kld_mean"].get<double>(),
                       row["kld_ci95"][0].get<double>(), row["kld_ci95"][1].get<double>());
  };
  return fmt::format(
      "{}By role: {}.\nBy measurement: {}: {}.\n", table.text(), judged("preset"),
      judged("measured"),
      allocation["accepted"] == true ? "kept" : "not better, so the one by role is kept");
}

}  // namespace quench
