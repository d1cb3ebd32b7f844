#include "measure/eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "measure/eval/continuation.h"
#include "measure/eval/reference_about.h"
#include "measure/eval/scores.h"
#include "measure/eval/task_scores.h"

namespace quench {
namespace {

// Logits that all models' chunks may take together on the host.
constexpr int64_t kChunkLogitsBytes = int64_t{64} << 20;
constexpr int64_t kMaxChunkRows = 128;

// A model's runner with room for the logits of a chunk, beside the session's own engine.
struct EvalRunner {
  Plan plan;
  std::unique_ptr<Runner> runner;
  SequenceState state;
};

Result<std::unique_ptr<EvalRunner>> make_eval_runner(const Session& session, int64_t rows) {
  auto result = std::make_unique<EvalRunner>();
  result->plan = session.plan();
  result->plan.limits.max_logit_rows = rows;
  result->plan.workspace_bytes = workspace_bytes(result->plan.config, result->plan.limits);
  QUENCH_TRY(result->runner, Runner::create(result->plan, session.model(), session.device()));
  return result;
}

// What one scored position gives, per model.
struct Position {
  double nll;
  double kld;
  bool agrees;
  double dp;  // probability of the next token, less the reference's
};

// The positions of one domain: [model][position], and where its documents begin.
struct Column {
  std::vector<std::vector<Position>> models;
  std::vector<size_t> document_begin;
};

EvalScores summarize_positions(const std::string& domain, const std::vector<const Column*>& columns,
                               size_t model) {
  EvalScores scores;
  scores.domain = domain;
  std::vector<Cluster> clusters;
  std::vector<double> divergences;
  double nll = 0.0;
  double squared_dp = 0.0;
  int64_t agreements = 0;
  for (const Column* column : columns) {
    const std::vector<Position>& positions = column->models[model];
    for (size_t d = 0; d < column->document_begin.size(); ++d) {
      const size_t begin = column->document_begin[d];
      const size_t end =
          d + 1 < column->document_begin.size() ? column->document_begin[d + 1] : positions.size();
      if (begin == end) continue;
      Cluster& cluster = clusters.emplace_back();
      for (size_t i = begin; i < end; ++i) {
        cluster.sum += positions[i].kld;
        ++cluster.count;
        nll += positions[i].nll;
        squared_dp += positions[i].dp * positions[i].dp;
        agreements += positions[i].agrees ? 1 : 0;
        divergences.push_back(positions[i].kld);
      }
    }
  }
  scores.scored = static_cast<int64_t>(divergences.size());
  if (scores.scored == 0) return scores;
  const auto count = static_cast<double>(scores.scored);
  scores.nll = nll / count;
  scores.ppl = std::exp(scores.nll);
  scores.kld = clustered_mean(clusters);
  scores.kld_median = median(divergences);
  scores.kld_p99 = percentile(divergences, 99.0);
  scores.kld_p999 = percentile(divergences, 99.9);
  scores.kld_max = *std::max_element(divergences.begin(), divergences.end());
  scores.top1_agreement = static_cast<double>(agreements) / count;
  scores.rms_dp = std::sqrt(squared_dp / count);
  return scores;
}

class Evaluator {
 public:
  // stored, store: as in EvalOptions; null for a measurement of its own.
  Evaluator(const Session& first, const EvalOptions& options, const StoredReference* stored,
            ReferenceWriter* store)
      : options_(options), stored_(stored), store_(store), team_(first.device().num_workers()) {}

  // The first runner is the reference's, unless that is stored.
  Result<void> add(const Session& session, int64_t rows) {
    QUENCH_TRY(auto runner, make_eval_runner(session, rows));
    runners_.push_back(std::move(runner));
    return {};
  }

  // Runs one window on all models and appends its scored positions to `column`.
  Result<void> run_window(std::span<const TokenId> document, const EvalWindow& window,
                          Column& column) {
    // The row of token t - 1 predicts token t: rows [first_row, last_row) are read, and the last
    // token is not run at all.
    const int64_t first_row = window.first_scored - 1;
    const int64_t last_row = window.end - 1;
    for (auto& runner : runners_) {
      runner->state.rope_table = rope_table_for(runner->plan.config, window.end - window.begin);
      const bool fits = runner->runner->reserve(runner->state, last_row - window.begin);
      QUENCH_CHECK(fits, "no pages for a window of {} tokens", window.end - window.begin);
    }
    const WorkspaceLimits& limits = runners_.front()->plan.limits;
    int64_t position = window.begin;
    Result<void> outcome;
    while (position < last_row) {
      if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed)) {
        outcome = fail(ErrorCode::kCancelled, "The evaluation was stopped.");
        break;
      }
      const bool scored = position >= first_row;
      const int64_t most = scored ? std::min(limits.max_tokens, limits.max_logit_rows)
                                  : std::min(limits.max_tokens, first_row - position);
      const int64_t count = std::min(most, last_row - position);
      outcome = run_chunk(document, position, count, scored, column);
      if (!outcome) break;
      position += count;
    }
    for (auto& runner : runners_) runner->runner->release(runner->state);
    return outcome;
  }

  void start_column(Column& column) const {
    column.models.resize(runners_.size() + (stored_ != nullptr ? 1 : 0));
  }
  double reference_s() const { return reference_s_; }
  // Whether every stored row was used, and none was missing.
  bool used_all_rows() const { return stored_ == nullptr || next_row_ == stored_->num_rows(); }

 private:
  Result<void> run_chunk(std::span<const TokenId> document, int64_t position, int64_t count,
                         bool scored, Column& column) {
    std::vector<std::span<const float>> logits;
    for (auto& runner : runners_) {
      const double start_s = now_s();
      const BatchEntry entry = {
          &runner->state,
          document.subspan(static_cast<size_t>(position), static_cast<size_t>(count)),
          scored ? count : 0};
      logits.push_back(runner->runner->run({&entry, 1}));
      if (runner == runners_.front() && stored_ == nullptr) reference_s_ += now_s() - start_s;
    }
    if (!scored) return {};
    const size_t before = column.models.front().size();
    for (auto& positions : column.models) positions.resize(before + static_cast<size_t>(count));
    if (stored_ != nullptr && next_row_ + count > stored_->num_rows()) return unfit_reference();
    std::vector<std::string> rows(store_ != nullptr ? static_cast<size_t>(count) : 0);
    std::atomic<bool> is_bad = false;
    team_.run([&](const Worker& worker) {
      const Range range = worker_range(worker, count);
      std::vector<double> p;
      for (int64_t i = range.begin; i < range.end; ++i) {
        const TokenId next = document[static_cast<size_t>(position + i + 1)];
        const size_t at = before + static_cast<size_t>(i);
        if (stored_ == nullptr) {
          score_position(logits, i, next, at, p, column);
        } else if (!score_against_stored(logits, i, next, at, column)) {
          is_bad = true;
        }
        if (store_ != nullptr) {
          const LogitsRow reference = read_row(logits[0], i);
          if (logits.size() == 1) probabilities(reference, p);  // else they are those of this row
          rows[static_cast<size_t>(i)] = encode_row(reference, p, next);
        }
      }
    });
    for (const std::string& row : rows) store_->add(row);
    next_row_ += count;
    return is_bad ? unfit_reference() : Result<void>();
  }

  LogitsRow read_row(std::span<const float> logits, int64_t row) const {
    const auto vocab = static_cast<size_t>(runners_.front()->plan.config.vocab_size);
    return read_logits(logits.subspan(static_cast<size_t>(row) * vocab, vocab));
  }

  static void put_position(const LogitsRow& candidate, TokenId next, double kld, int32_t top1,
                           double reference_nll, Position& position) {
    const double nll = negative_log_likelihood(candidate, next);
    position = {nll, kld, candidate.top1 == top1, std::exp(-nll) - std::exp(-reference_nll)};
  }

  void score_position(const std::vector<std::span<const float>>& logits, int64_t row, TokenId next,
                      size_t at, std::vector<double>& p, Column& column) const {
    const LogitsRow reference = read_row(logits[0], row);
    const double reference_nll = negative_log_likelihood(reference, next);
    column.models[0][at] = {reference_nll, 0.0, true, 0.0};
    if (logits.size() == 1) return;
    probabilities(reference, p);
    for (size_t m = 1; m < logits.size(); ++m) {
      const LogitsRow candidate = read_row(logits[m], row);
      put_position(candidate, next, kl_divergence(reference, p, candidate), reference.top1,
                   reference_nll, column.models[m][at]);
    }
  }

  bool score_against_stored(const std::vector<std::span<const float>>& logits, int64_t row,
                            TokenId next, size_t at, Column& column) const {
    const auto stored = stored_->row(next_row_ + row, runners_.front()->plan.config.vocab_size);
    if (!stored) return false;
    column.models[0][at] = {stored->nll, 0.0, true, 0.0};
    for (size_t m = 0; m < logits.size(); ++m) {
      const LogitsRow candidate = read_row(logits[m], row);
      put_position(candidate, next, kl_divergence(*stored, candidate), stored->top1, stored->nll,
                   column.models[m + 1][at]);
    }
    return true;
  }

  const EvalOptions& options_;
  const StoredReference* stored_;
  ReferenceWriter* store_;
  std::vector<std::unique_ptr<EvalRunner>> runners_;
  ThreadTeam team_;
  int64_t next_row_ = 0;  // of what is stored
  double reference_s_ = 0.0;
};

Result<void> measure_noise_floor(const Session& reference, const EvalTexts& texts,
                                 const EvalOptions& options, int64_t rows, Evaluation& result) {
  Evaluator twice(reference, options, nullptr, nullptr);
  const Session& other = options.noise != nullptr ? *options.noise : reference;
  QUENCH_TRY_VOID(twice.add(reference, rows));
  QUENCH_TRY_VOID(twice.add(other, rows));
  result.noise_floor_kernel =
      options.noise != nullptr ? other.device().isa() : std::string("the same kernels");
  for (const EvalDomain& domain : texts.domains) {
    const std::vector<TokenId>& document = domain.documents.front();
    Column column;
    twice.start_column(column);
    const auto windows =
        cut_windows(static_cast<int64_t>(document.size()), result.context, result.stride);
    QUENCH_TRY_VOID(twice.run_window(document, windows.front(), column));
    for (const Position& position : column.models[1]) {
      result.noise_floor_mean += position.kld;
      result.noise_floor_max = std::max(result.noise_floor_max, position.kld);
      ++result.noise_floor_positions;
    }
  }
  if (result.noise_floor_positions > 0)
    result.noise_floor_mean /= static_cast<double>(result.noise_floor_positions);
  return {};
}

// Token ids beyond the models' rows come from a tokenizer that is not theirs.
Result<void> check_ids(const EvalTexts& texts, int64_t vocab_size) {
  for (const EvalDomain& domain : texts.domains) {
    for (const auto& document : domain.documents) {
      for (const TokenId id : document) {
        if (id >= 0 && id < vocab_size) continue;
        return fail(ErrorCode::kInvalidFile,
                    "The tokenizer gives id {}, but the model has {} rows of embeddings.", id,
                    vocab_size);
      }
    }
  }
  return {};
}

size_t num_documents(const EvalTexts& texts) {
  size_t count = 0;
  for (const EvalDomain& domain : texts.domains) count += domain.documents.size();
  return count;
}

// Every window of every document.
Result<void> run_texts(Evaluator& evaluator, const EvalTexts& texts, const EvalOptions& options,
                       const Evaluation& result, std::vector<Column>& columns) {
  int64_t done = 0;
  for (const EvalDomain& domain : texts.domains) {
    Column& column = columns.emplace_back();
    evaluator.start_column(column);
    for (const auto& document : domain.documents) {
      column.document_begin.push_back(column.models.front().size());
      const auto length = static_cast<int64_t>(document.size());
      const auto windows = result.convention == EvalConvention::kHalves
                               ? cut_halves(length, result.context)
                               : cut_windows(length, result.context, result.stride);
      for (const EvalWindow& window : windows)
        QUENCH_TRY_VOID(evaluator.run_window(document, window, column));
      done += length;
      if (options.progress) options.progress(done, result.tokens);
    }
  }
  if (!evaluator.used_all_rows()) return unfit_reference();
  const bool any = std::any_of(columns.begin(), columns.end(),
                               [](const Column& column) { return !column.models.front().empty(); });
  if (any) return {};
  return fail(
      ErrorCode::kInvalidArgument,
      "{}: no token can be scored: of {} documents with {} tokens in all none fills a "
      "window of {} tokens, which the convention of halves wants; take a smaller --context, "
      "more text, or the sliding convention.",
      texts.path, num_documents(texts), result.tokens, result.context);
}

Result<void> ask_questions(const std::vector<JudgedModel>& models, const EvalTexts& texts,
                           const EvalOptions& options) {
  if (options.continuation_items > 0) QUENCH_TRY_VOID(score_continuations(models, texts, options));
  return score_tasks(models, options);
}

}  // namespace

std::vector<EvalWindow> cut_windows(int64_t num_tokens, int64_t context, int64_t stride) {
  std::vector<EvalWindow> windows;
  int64_t scored_end = 1;
  for (int64_t begin = 0; scored_end < num_tokens; begin += stride) {
    const int64_t end = std::min(begin + context, num_tokens);
    windows.push_back({begin, scored_end, end});
    scored_end = end;
  }
  return windows;
}

std::vector<EvalWindow> cut_halves(int64_t num_tokens, int64_t context) {
  std::vector<EvalWindow> windows;
  // Its logits of position context / 2 are the first that count: they predict the token after it.
  const int64_t before = std::min(context / 2 + 1, context - 1);
  for (int64_t begin = 0; begin + context <= num_tokens; begin += context)
    windows.push_back({begin, begin + before, begin + context});
  return windows;
}

double Accuracy::percent() const {
  return n > 0 ? 100.0 * static_cast<double>(correct) / static_cast<double>(n) : 0.0;
}

double Accuracy::standard_error() const {
  const double p = percent() / 100.0;
  return n > 0 ? 100.0 * std::sqrt(p * (1.0 - p) / static_cast<double>(n)) : 0.0;
}

std::string Evaluation::convention_text() const {
  if (convention == EvalConvention::kHalves) {
    return fmt::format(
        "Documents are read in windows of {} tokens that follow each other; the second half of "
        "each but its first token is scored, and what does not fill a window is left out (the "
        "convention of llama.cpp).",
        context);
  }
  return fmt::format(
      "Documents are read one by one in windows of {} tokens that advance by {}; every token but a "
      "document's first is scored once, in the first window that holds it.",
      context, stride);
}

int64_t effective_context(const EvalOptions& options, int64_t min_max_seq_len) {
  return std::min(std::max<int64_t>(options.context, 2), min_max_seq_len);
}

Result<Evaluation> evaluate(const Session* reference, const std::vector<const Session*>& candidates,
                            const EvalTexts& texts, const EvalOptions& options) {
  const double start_s = now_s();
  QUENCH_CHECK((reference == nullptr) == (options.stored != nullptr), "one reference");
  std::vector<const Session*> sessions = candidates;
  if (reference != nullptr) sessions.insert(sessions.begin(), reference);
  const int64_t vocab_size = sessions.front()->plan().config.vocab_size;
  Evaluation result;
  int64_t shortest = sessions.front()->plan().max_seq_len;
  for (const Session* session : sessions) {
    QUENCH_CHECK(session->plan().config.vocab_size == vocab_size, "vocabularies differ");
    shortest = std::min(shortest, session->plan().max_seq_len);
  }
  result.context = effective_context(options, shortest);
  result.stride = options.stride > 0 ? std::min(options.stride, result.context - 1)
                                     : std::max<int64_t>(result.context / 2, 1);
  result.convention = options.convention;
  result.text_path = texts.path;
  result.text_sha256 = texts.sha256;
  result.tokens = texts.num_tokens();
  QUENCH_TRY_VOID(check_ids(texts, vocab_size));
  const size_t models = candidates.size() + 1;
  const int64_t row_bytes = vocab_size * static_cast<int64_t>(sizeof(float) * models);
  const int64_t rows = std::clamp(kChunkLogitsBytes / row_bytes, int64_t{8}, kMaxChunkRows);

  Evaluator evaluator(*sessions.front(), options, options.stored, options.store);
  for (const Session* session : sessions) QUENCH_TRY_VOID(evaluator.add(*session, rows));
  std::vector<Column> columns;
  QUENCH_TRY_VOID(run_texts(evaluator, texts, options, result, columns));

  std::vector<const Column*> all;
  for (const Column& column : columns) all.push_back(&column);
  result.candidates.resize(candidates.size());
  for (size_t m = 0; m < models; ++m) {
    ModelScores& scores = m == 0 ? result.reference : result.candidates[m - 1];
    scores.overall = summarize_positions("", all, m);
    for (size_t d = 0; d < columns.size(); ++d)
      scores.domains.push_back(summarize_positions(texts.domains[d].name, {&columns[d]}, m));
    if (!std::isfinite(scores.overall.nll)) {
      return fail(ErrorCode::kInternal,
                  "The {} gives logits that are not numbers; its loss cannot be measured.",
                  m == 0 ? "reference" : "candidate");
    }
  }
  result.scored = result.reference.overall.scored;
  result.reference_s = options.load_s + evaluator.reference_s();
  result.reference_is_stored = reference == nullptr;
  if (reference != nullptr) {
    const double from_s = now_s();
    QUENCH_TRY_VOID(measure_noise_floor(*reference, texts, options, rows, result));
    QUENCH_TRY_VOID(ask_questions({{reference, &result.reference}}, texts, options));
    result.reference_s += now_s() - from_s;
    if (options.store != nullptr) {
      if (const auto kept = options.store->finish(reference_about(result)); !kept)
        spdlog::warn("The reference's predictions are not kept: {}", kept.error().message);
    }
  } else {
    QUENCH_TRY_VOID(read_about_reference(options.stored->about(), result));
  }
  std::vector<JudgedModel> judged;
  for (size_t i = 0; i < candidates.size(); ++i)
    judged.push_back({candidates[i], &result.candidates[i]});
  QUENCH_TRY_VOID(ask_questions(judged, texts, options));
  result.seconds = now_s() - start_s;
  return result;
}

}  // namespace quench
