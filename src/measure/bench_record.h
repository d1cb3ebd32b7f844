// quench.record/1: the speed of one model on one target, with everything that was measured. Fields
// are only ever added; unknown is null, never 0; units stand at the end of every name. The schema
// with an example is in docs/measuring.md.
#pragma once

#include "base/json.h"
#include "measure/bench.h"

namespace quench {

// `time` comes from the caller, so that equal inputs give equal JSON; the id follows from the
// content.
Json record_json(const Bench& bench, const std::string& time);

// Parts that other schemas share.
Json model_json(const MeasuredModel& model);
Json machine_json();
Json summary_json(const Summary& summary);  // null where nothing was measured
template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}
inline Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }
// Sets "id" to the first 16 hexadecimal digits of the SHA-256 of what is in it.
void add_id(Json& json);

// The figures of one task that a record summarizes, over its counted runs.
struct TaskSummary {
  Summary generated_tokens;
  Summary ttft_s, e2e_s, tpot_s;
  Summary decode_tok_s, prefill_tok_s;
  Summary e2e_at_median_length_s;  // of every run, as if its answer had the median length
  Summary limit_decode_tok_s, limit_ttft_s;
  std::optional<double> decode_share;   // median over the runs' own shares of their limits
  std::optional<double> prefill_share;  // limit_ttft_s / ttft_s likewise
  Trend trend;                          // of decode_tok_s
  double autocorrelation = 0.0;         // likewise
};
TaskSummary summarize_task(const TaskRuns& task);

}  // namespace quench
