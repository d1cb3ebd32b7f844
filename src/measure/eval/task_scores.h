// Asking models the questions of a task (eval_task.h). One thread drives a session.
#pragma once

#include "measure/eval/evaluate.h"

namespace quench {

// By likelihood: the choice that is the most probable after the prompt is the model's answer, and
// beside it the one that is the most probable per byte of its text, which does not favour short
// ones. By writing: the last number of the greedy answer to the prompt as a user's message.
Result<TaskScores> score_task(const Session& session, const EvalTask& task,
                              const EvalOptions& options);

// Asks every model all of options.tasks.
Result<void> score_tasks(const std::vector<JudgedModel>& models, const EvalOptions& options);

}  // namespace quench
