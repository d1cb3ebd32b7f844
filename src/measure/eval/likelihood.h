// How probable a model finds a given text. One thread drives the runner.
#pragma once

#include <span>

#include "engine/runner.h"

namespace quench {

// log p(ids[first] ... ids[last] | ids before them), in nats; 0 < first. Runs the tokens in a fresh
// sequence, as many at a time as the plan allows. An error where its context is too short.
Result<double> log_likelihood(Runner& runner, std::span<const int32_t> ids, size_t first);

}  // namespace quench
