// What is stored of a reference beside its rows (stored_reference.h): the key that says what they
// are predictions of, and the figures that are not of rows. Pure functions; any thread.
#pragma once

#include "measure/eval/evaluate.h"

namespace quench {

// What decides what a reference predicts, and all that is stored of it. `model`: whose predictions,
// by which kernels.
Json reference_key(const Json& model, const EvalTexts& texts, const EvalOptions& options,
                   int64_t context);

// Its accuracies, its noise floor, how long it took.
Json reference_about(const Evaluation& result);
// The same back into the result, whose domains are there already.
Result<void> read_about_reference(const Json& about, Evaluation& result);

// The error of a stored reference that is of something else.
Result<void> unfit_reference();

}  // namespace quench
