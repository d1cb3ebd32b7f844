#include "measure/eval/task_scores.h"

#include <algorithm>

#include "measure/engine_target.h"
#include "measure/eval/likelihood.h"

namespace quench {
namespace {

constexpr int64_t kChoiceRows = 64;  // logits that are looked at together

// Whether the answer to one question is right.
struct Verdict {
  bool right = false;
  bool right_per_byte = false;  // of choices only
};

bool wants_stop(const EvalOptions& options) {
  return options.stop != nullptr && options.stop->load(std::memory_order_relaxed);
}

tl::unexpected<Error> stopped() {
  return fail(ErrorCode::kCancelled, "The evaluation was stopped.");
}

// A choice after its prompt, and where what is scored begins.
struct TokenizedChoices {
  std::vector<std::vector<TokenId>> ids;  // of prompt and choice, read as one text
  size_t first = 0;                       // all have the same tokens before it
};

TokenizedChoices tokenize(const Tokenizer& tokenizer, const EvalQuestion& question) {
  TokenizedChoices result;
  const std::vector<TokenId> prompt = tokenizer.encode(question.prompt);
  result.first = prompt.size();
  for (const std::string& choice : question.choices) {
    result.ids.push_back(tokenizer.encode(question.prompt + choice));
    // A token that lies across the border belongs to what is scored, of every choice alike.
    const auto& ids = result.ids.back();
    const auto differs = std::mismatch(prompt.begin(), prompt.end(), ids.begin(), ids.end()).first;
    result.first = std::min(result.first, static_cast<size_t>(differs - prompt.begin()));
  }
  const bool all_have_some =
      std::all_of(result.ids.begin(), result.ids.end(),
                  [&](const auto& ids) { return ids.size() > result.first; });
  if (result.first > 0 && all_have_some) return result;
  // Nothing stands before the border, or nothing behind it: the two are read apart.
  for (size_t c = 0; c < result.ids.size(); ++c) {
    const std::vector<TokenId> tail = tokenizer.encode(question.choices[c]);
    result.ids[c] = prompt;
    result.ids[c].insert(result.ids[c].end(), tail.begin(), tail.end());
  }
  result.first = prompt.size();
  return result;
}

Result<std::vector<Verdict>> ask_choices(const Session& session, const EvalTask& task,
                                         const EvalOptions& options) {
  Plan plan = session.plan();
  plan.limits.max_logit_rows = std::max(plan.limits.max_logit_rows, kChoiceRows);
  plan.workspace_bytes = workspace_bytes(plan.config, plan.limits);
  QUENCH_TRY(auto runner, Runner::create(plan, session.model(), session.device()));
  std::vector<Verdict> verdicts;
  for (const EvalQuestion& question : task.questions) {
    if (wants_stop(options)) return stopped();
    const TokenizedChoices choices = tokenize(session.tokenizer(), question);
    std::vector<double> score;
    std::vector<double> per_byte;
    for (size_t c = 0; c < choices.ids.size(); ++c) {
      auto sum = log_likelihood(*runner, choices.ids[c], choices.first);
      if (!sum) return fail(sum.error().code, "{}: {}", task.path, sum.error().message);
      score.push_back(*sum);
      per_byte.push_back(*sum / static_cast<double>(question.choices[c].size()));
    }
    const auto best = [](const std::vector<double>& of) {
      return static_cast<size_t>(std::max_element(of.begin(), of.end()) - of.begin());
    };
    verdicts.push_back({best(score) == question.answer, best(per_byte) == question.answer});
    if (options.progress)
      options.progress(static_cast<int64_t>(verdicts.size()),
                       static_cast<int64_t>(task.questions.size()));
  }
  return verdicts;
}

// All questions at once: the engine batches as many as its plan allows, which changes no answer.
Result<std::vector<Verdict>> ask_for_numbers(const Session& session, const EvalTask& task,
                                             const EvalOptions& options) {
  QUENCH_TRY(auto target, EngineTarget::create(session));
  std::map<int64_t, size_t> asked;  // request to question
  std::vector<std::string> answers(task.questions.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    BenchRequest request{task.questions[i].prompt, {}};
    request.sampling.greedy = true;
    request.sampling.max_new_tokens = static_cast<int>(task.max_new_tokens);
    auto id = target->submit(request);
    if (!id) return fail(id.error().code, "{}: {}", task.path, id.error().message);
    asked[*id] = i;
  }
  int64_t done = 0;
  while (done < static_cast<int64_t>(answers.size())) {
    if (wants_stop(options)) return stopped();
    QUENCH_TRY(const auto events, target->poll(0.0));
    for (const BenchEvent& event : events) {
      answers[asked.at(event.request)] += event.text;
      if (!event.finished) continue;
      if (event.reason == FinishReason::kError)
        return fail(ErrorCode::kInternal, "{}: {}", task.path, event.message);
      ++done;
      if (options.progress) options.progress(done, static_cast<int64_t>(answers.size()));
    }
  }
  std::vector<Verdict> verdicts;
  for (size_t i = 0; i < answers.size(); ++i)
    verdicts.push_back({last_number(answers[i]) == task.questions[i].number, false});
  return verdicts;
}

}  // namespace

Result<TaskScores> score_task(const Session& session, const EvalTask& task,
                              const EvalOptions& options) {
  QUENCH_TRY(const std::vector<Verdict> verdicts, task.is_written()
                                                      ? ask_for_numbers(session, task, options)
                                                      : ask_choices(session, task, options));
  TaskScores scores;
  scores.task = task.name;
  scores.sha256 = task.sha256;
  scores.parts.push_back({});  // all, then the domains in the order of the file
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const std::string& domain = task.questions[i].domain;
    auto part = std::find_if(scores.parts.begin() + 1, scores.parts.end(),
                             [&](const TaskScore& score) { return score.domain == domain; });
    if (part == scores.parts.end() && !domain.empty()) {
      TaskScore fresh;
      fresh.domain = domain;
      part = scores.parts.insert(part, fresh);
    }
    for (TaskScore* score : {&scores.parts.front(), domain.empty() ? nullptr : &*part}) {
      if (score == nullptr) continue;
      score->accuracy.correct += verdicts[i].right ? 1 : 0;
      ++score->accuracy.n;
      if (task.is_written()) continue;
      if (!score->per_byte) score->per_byte.emplace();
      score->per_byte->correct += verdicts[i].right_per_byte ? 1 : 0;
      ++score->per_byte->n;
    }
  }
  return scores;
}

Result<void> score_tasks(const std::vector<JudgedModel>& models, const EvalOptions& options) {
  for (const auto& [session, scores] : models) {
    for (const EvalTask& task : options.tasks) {
      QUENCH_TRY(TaskScores done, score_task(*session, task, options));
      scores->tasks.push_back(std::move(done));
    }
  }
  return {};
}

}  // namespace quench
