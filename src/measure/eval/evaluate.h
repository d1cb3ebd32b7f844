// Evaluation: how well a model predicts texts (perplexity), and how far another one is from it
// (Kullback-Leibler divergence of the distributions it predicts from the reference's). Reference
// and candidates run side by side over the same tokens, chunk by chunk, so that no logits are kept.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "measure/eval/eval_task.h"
#include "measure/eval/stored_reference.h"
#include "measure/statistics.h"
#include "text/documents.h"

namespace quench {

// How a text is cut into windows, and what of a window counts.
enum class EvalConvention {
  kSliding,  // windows overlap, every token is scored once (Hugging Face, "Perplexity of
             // fixed-length models")
  kHalves,   // windows follow each other and the second half of each but its first token is scored
             // (llama.cpp's perplexity tool); what does not fill a window is left out
};

struct EvalOptions {
  EvalConvention convention = EvalConvention::kSliding;
  int64_t context = 512;  // tokens per window; cut to what the models' plans allow
  int64_t stride = 0;     // kSliding: tokens by which a window advances; 0: half of the context
  int64_t continuation_items = 0;  // per domain; 0: no continuation test
  std::vector<EvalTask> tasks;     // asked after the texts
  // The reference again, by other kernels: its distance from the reference is the noise floor.
  // Null: the reference is run a second time by the same kernels.
  const Session* noise = nullptr;
  // The reference's predictions as an earlier evaluation stored them, instead of the reference
  // itself; or where to store them now. Of the same texts, windows, items and tasks:
  // reference_key().
  const StoredReference* stored = nullptr;
  ReferenceWriter* store = nullptr;
  double load_s = 0.0;  // what opening the reference took, for the note of what storing saves
  const std::atomic<bool>* stop = nullptr;
  std::function<void(int64_t done, int64_t total)> progress;  // in tokens, or a task's questions
};

// One window of a document: tokens [begin, end) are run, tokens [first_scored, end) count.
struct EvalWindow {
  int64_t begin;
  int64_t first_scored;
  int64_t end;
};
// Every token of the document but the first is scored once. A window starts `stride` after the one
// before it, so that every token beyond the first window has at least context - stride tokens
// before it (Hugging Face, "Perplexity of fixed-length models").
std::vector<EvalWindow> cut_windows(int64_t num_tokens, int64_t context, int64_t stride);
// kHalves: only whole windows, of which the second half but its first token counts; never nothing.
std::vector<EvalWindow> cut_halves(int64_t num_tokens, int64_t context);

// Of a multiple-choice test: how often the right answer was the most probable.
struct Accuracy {
  int64_t correct = 0;
  int64_t n = 0;

  double percent() const;
  double standard_error() const;  // of percent(), binomial
};

// Of one model on one domain, or on all.
struct EvalScores {
  std::string domain;  // "" for all
  int64_t scored = 0;  // positions
  double nll = 0.0;    // mean, in nats
  double ppl = 0.0;    // exp(nll)
  // Against the reference; all 0, and agreement 1, for the reference itself.
  ClusteredMean kld;  // documents are the clusters
  double kld_median = 0.0;
  double kld_p99 = 0.0;  // nearest ranks over positions
  double kld_p999 = 0.0;
  double kld_max = 0.0;
  double top1_agreement = 1.0;  // share of positions with the same most probable token
  double rms_dp = 0.0;  // root mean square change of the probability of the text's next token
  std::optional<Accuracy> accuracy;  // of the continuation test (measure/eval/continuation.h)
};

// Of one model on one domain of a task, or on all of it.
struct TaskScore {
  std::string domain;  // "" for all
  Accuracy accuracy;
  std::optional<Accuracy> per_byte;  // of choices: by likelihood per byte
};
struct TaskScores {
  std::string task;
  std::string sha256;
  std::vector<TaskScore> parts;  // all of it first
};

struct ModelScores {
  EvalScores overall;
  std::vector<EvalScores> domains;
  std::vector<TaskScores> tasks;
};

// A model that answers questions, and where its scores go.
struct JudgedModel {
  const Session* session;
  ModelScores* scores;
};

struct Evaluation {
  std::string text_path;
  std::string text_sha256;
  int64_t tokens = 0;  // of all documents
  int64_t scored = 0;
  int64_t context = 0;
  int64_t stride = 0;
  ModelScores reference;
  std::vector<ModelScores> candidates;
  // The reference against itself (EvalOptions::noise), over the first window of every domain: what
  // this measurement shows where there is nothing to show.
  double noise_floor_mean = 0.0;
  double noise_floor_max = 0.0;
  int64_t noise_floor_positions = 0;
  std::string noise_floor_kernel;  // "the same kernels", or the other's ISA level
  double seconds = 0.0;
  double reference_s = 0.0;  // of it, for the reference; as it was then, where it was stored
  bool reference_is_stored = false;
  EvalConvention convention = EvalConvention::kSliding;

  std::string convention_text() const;
};

// Windows are never longer than the plans allow.
int64_t effective_context(const EvalOptions& options, int64_t min_max_seq_len);

// All sessions have the same vocabulary; their plans' max_seq_len limits the context. `reference`
// is null where options.stored stands in for it; there is then a candidate.
Result<Evaluation> evaluate(const Session* reference, const std::vector<const Session*>& candidates,
                            const EvalTexts& texts, const EvalOptions& options);

}  // namespace quench
