#include "measure/shootout.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/paths.h"
#include "measure/engine_target.h"
#include "measure/eval/continuation.h"
#include "measure/make_profile.h"

namespace quench {
namespace {

constexpr const char* kReferenceName = "reference";
// Of the memory that is free, how much the plans of the open models may take.
constexpr double kMemoryShare = 0.8;
// Room for a prompt beside the longest answer.
constexpr int64_t kQuestionTokens = 512;

// A row that is open: its session and the engine on it.
struct OpenRow {
  size_t index;  // in Shootout::rows
  std::unique_ptr<Session> session;
  std::unique_ptr<EngineTarget> target;
};

// A directory that is removed with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "quench-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Runs {
 public:
  Runs(const ShootoutOptions& options, Shootout& result) : options_(options), result_(result) {}

  Result<void> run() {
    QUENCH_TRY_VOID(prepare());
    QUENCH_TRY(const auto groups, plan_rows());
    QUENCH_TRY(OpenRow reference, open(0));
    for (size_t g = 0; g < groups.size(); ++g) {
      std::vector<OpenRow> group;
      for (const size_t index : groups[g]) {
        QUENCH_TRY(OpenRow row, open(index));
        group.push_back(std::move(row));
      }
      QUENCH_TRY_VOID(measure_speed(reference, group, g == 0));
      QUENCH_TRY_VOID(measure_loss(reference, group));
    }
    result_.complete = true;
    return {};
  }

 private:
  // Where models are written that cannot be made while they load.
  const std::string& work_dir() {
    if (!options_.models_dir.empty()) return options_.models_dir;
    if (!temporary_) temporary_.emplace();
    return temporary_->path();
  }

  void report(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }

  Result<void> prepare() {
    QUENCH_TRY(result_.protocol, load_protocol());
    QUENCH_TRY(result_.length, result_.protocol.length(options_.length));
    result_.lang = options_.lang;
    result_.first_seed = options_.first_seed;
    int64_t longest = 0;
    for (const std::string& name : result_.protocol.tasks) {
      QUENCH_TRY(Task task, load_task(name));
      QUENCH_TRY(const SamplingSettings settings, result_.protocol.settings(task, result_.length));
      longest = std::max<int64_t>(longest, settings.max_new_tokens);
      tasks_.push_back(std::move(task));
    }
    SessionOptions reference = options_.session;
    QUENCH_TRY(const auto planned, plan_model(reference, Weights::kRequired));
    if (reference.goal.max_seq_len == 0) {
      reference.goal.max_seq_len =
          std::min(longest + kQuestionTokens, planned->plan.config.max_position_embeddings);
    }
    report("Hashing the weights", 0, 1);
    QUENCH_TRY(sha256_, hash_weights(planned->files, planned->device->num_workers()));
    const std::vector<std::string>& profiles =
        options_.profiles.empty() ? result_.protocol.profiles : options_.profiles;
    std::set<std::string> seen = {kReferenceName};
    add_row(kReferenceName, reference);
    make_s_.push_back(0.0);
    for (const std::string& profile : profiles) {
      QUENCH_TRY(SessionOptions session, session_for_profile(reference, profile));
      if (!seen.insert(profile).second) {
        return fail(ErrorCode::kInvalidArgument, "The profile \"{}\" is named twice.", profile);
      }
      QUENCH_TRY(MadeProfile made,
                 make_profile(session, profile, work_dir(), options_.stop, options_.progress));
      add_row(profile, std::move(made.session));
      result_.rows.back().choice = std::move(made.choice);
      make_s_.push_back(made.make_s);
    }
    return {};
  }

  void add_row(const std::string& profile, SessionOptions session) {
    result_.rows.emplace_back().profile = profile;
    sessions_.push_back(std::move(session));
  }

  // Plans every row, which finds what is wrong before anything is loaded. Returns the rows that are
  // open together beside the reference: all at once where memory allows it, else one by one.
  Result<std::vector<std::vector<size_t>>> plan_rows() {
    int64_t sum_bytes = 0;
    int64_t largest_bytes = 0;
    for (size_t i = 0; i < sessions_.size(); ++i) {
      QUENCH_TRY(const auto planned, plan_model(sessions_[i], Weights::kRequired));
      ShootoutRow& row = result_.rows[i];
      row.model = measured_model(planned->files.name, planned->plan, sha256_);
      row.planned_bytes = planned->plan.total_bytes();
      sum_bytes += row.planned_bytes;
      if (i > 0) largest_bytes = std::max(largest_bytes, row.planned_bytes);
    }
    std::vector<std::vector<size_t>> groups(1);
    for (size_t i = 1; i < sessions_.size(); ++i) groups[0].push_back(i);
    const auto available = options_.memory_bytes ? options_.memory_bytes : available_memory_bytes();
    if (!available) return groups;
    const auto allowed = static_cast<int64_t>(kMemoryShare * static_cast<double>(*available));
    if (sum_bytes <= allowed) return groups;
    const int64_t pair_bytes = result_.rows[0].planned_bytes + largest_bytes;
    if (pair_bytes > allowed) {
      return fail(ErrorCode::kOutOfMemory,
                  "The reference and one profile take {:.1f} GB together; {:.1f} GB of the {:.1f} "
                  "GB that are free may be used. A smaller model fits.",
                  static_cast<double>(pair_bytes) / 1e9, static_cast<double>(allowed) / 1e9,
                  static_cast<double>(*available) / 1e9);
    }
    result_.interleaved = false;
    groups.clear();
    for (size_t i = 1; i < sessions_.size(); ++i) groups.push_back({i});
    return groups;
  }

  // Opens a row and takes its peak memory: the largest growth of this process's resident anonymous
  // memory since before the row was opened, seen after every tensor that was loaded and after a
  // first short answer. Nothing else runs meanwhile. Memory that the allocator kept from a row
  // closed before can make it too small; the plan's bytes stand beside it.
  Result<OpenRow> open(size_t index) {
    ShootoutRow& row = result_.rows[index];
    const std::string stage = fmt::format("Loading {} ({})", row.profile, row.model.format);
    const auto before = anonymous_memory_bytes();
    int64_t peak = before.value_or(0);
    auto look = [&] { peak = std::max(peak, anonymous_memory_bytes().value_or(0)); };
    OpenRow result;
    result.index = index;
    QUENCH_TRY(result.session, Session::open(sessions_[index], [&](int64_t done, int64_t total) {
                 look();
                 report(stage, done, total);
                 return !stopped();
               }));
    QUENCH_TRY(result.target, EngineTarget::create(*result.session));
    QUENCH_TRY_VOID(first_answer(*result.target));
    look();
    if (before) row.peak_bytes = peak - *before;
    row.make_s = make_s_[index] + result.session->load_s();
    row.target = result.target->describe();
    return result;
  }

  Result<void> first_answer(BenchTarget& target) const {
    BenchRequest request;
    QUENCH_TRY(request.prompt, tasks_.front().prompt(options_.lang));
    QUENCH_TRY(request.sampling, result_.protocol.settings(tasks_.front(), result_.length));
    request.sampling.max_new_tokens = 4;
    QUENCH_TRY(const BenchRun run, measure_run(target, request, options_.stop));
    if (!run.error.empty()) return fail(ErrorCode::kInternal, "{}", run.error);
    return {};
  }

  bool stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }

  // The reference runs with the first group only.
  Result<void> measure_speed(OpenRow& reference, std::vector<OpenRow>& group, bool is_first) {
    std::vector<OpenRow*> open_rows;
    if (is_first) open_rows.push_back(&reference);
    for (OpenRow& row : group) open_rows.push_back(&row);
    std::vector<BenchTarget*> targets;
    for (OpenRow* row : open_rows) targets.push_back(row->target.get());
    ProtocolOptions protocol;
    protocol.tasks = tasks_;
    protocol.lang = options_.lang;
    protocol.length = result_.length;
    protocol.first_seed = options_.first_seed;
    protocol.stop = options_.stop;
    std::vector<std::vector<TaskRuns>> runs;
    const auto done =
        run_protocol(targets, result_.protocol, protocol, runs, [&](const RunProgress& progress) {
          report(fmt::format("Measuring speed: {}", progress.task->name), progress.run,
                 progress.runs);
        });
    for (size_t i = 0; i < runs.size(); ++i) {
      ShootoutRow& row = result_.rows[open_rows[i]->index];
      row.runs = std::move(runs[i]);
      row.speed = summarize_speed(row.runs);
    }
    return done;
  }

  Result<void> measure_loss(const OpenRow& reference, const std::vector<OpenRow>& group) {
    std::string path = options_.text_path;
    if (path.empty()) {
      QUENCH_TRY(path, data_path("texts/eval"));
    }
    QUENCH_TRY(const ChatTemplate chat_template, load_text_template(reference.session->files()));
    QUENCH_TRY(EvalTexts texts,
               load_eval_texts(path, reference.session->tokenizer(), chat_template));
    if (options_.text_path.empty()) texts.path = "texts/eval";
    // Its questions need passages that have nothing to do with each other: of all texts.
    const EvalTexts all_texts = texts;
    limit_tokens(texts, result_.length.max_tokens_per_domain);
    EvalOptions eval;
    eval.stop = options_.stop;
    eval.progress = [&](int64_t done, int64_t total) { report("Measuring loss", done, total); };
    std::vector<const Session*> candidates;
    for (const OpenRow& row : group) candidates.push_back(row.session.get());
    QUENCH_TRY(Evaluation evaluation, evaluate(reference.session.get(), candidates, texts, eval));
    if (result_.length.continuation_items > 0) {
      report("Measuring accuracy", 0, 1);
      eval.continuation_items = result_.length.continuation_items;
      std::vector<JudgedModel> judged = {{reference.session.get(), &evaluation.reference}};
      for (size_t i = 0; i < candidates.size(); ++i)
        judged.push_back({candidates[i], &evaluation.candidates[i]});
      QUENCH_TRY_VOID(score_continuations(judged, all_texts, eval));
    }
    result_.rows[0].scores = evaluation.reference;
    for (size_t i = 0; i < group.size(); ++i)
      result_.rows[group[i].index].scores = evaluation.candidates[i];
    if (!result_.evaluation) result_.evaluation = std::move(evaluation);
    return {};
  }

  const ShootoutOptions& options_;
  Shootout& result_;
  std::optional<TemporaryDirectory> temporary_;
  std::vector<double> make_s_;            // of writing each row's model
  std::vector<SessionOptions> sessions_;  // by row
  std::vector<Task> tasks_;
  std::string sha256_;
};

}  // namespace

Result<void> run_shootout(const ShootoutOptions& options, Shootout& result) {
  result = {};
  Result<void> done = Runs(options, result).run();
  std::vector<CandidateFigures> figures;
  for (const ShootoutRow& row : result.rows) {
    CandidateFigures& figure = figures.emplace_back();
    figure.profile = row.profile;
    figure.bytes = row.model.bytes;
    figure.decode_tok_s = row.speed.decode_tok_s;
    if (!row.scores) continue;
    figure.kld_mean = row.scores->overall.kld.mean;
    figure.accuracy = row.scores->overall.accuracy;
  }
  const bool planned = std::all_of(figures.begin(), figures.end(),
                                   [](const auto& figure) { return figure.bytes > 0; });
  if (!figures.empty() && planned) result.recommendation = recommend(figures, options.rules);
  return done;
}

}  // namespace quench
