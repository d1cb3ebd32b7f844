#include "measure/run_limits.h"

#include <algorithm>
#include <map>

namespace quench {
namespace {

// The prompt of a run as the engine computes it: pieces, logits with the last.
template <class Use>
void for_each_prompt_step(const Plan& plan, int64_t prompt_tokens, const Use& use) {
  const int64_t most = std::max<int64_t>(plan.limits.max_tokens, 1);
  for (int64_t begin = 0; begin < prompt_tokens; begin += most) {
    const int64_t count = std::min(most, prompt_tokens - begin);
    use(Pass{count, begin, 1, begin + count == prompt_tokens ? 1 : 0});
  }
}

double prompt_limit_s(const Plan& plan, const Ceilings& ceilings, int64_t prompt_tokens) {
  double sum_s = 0.0;
  for_each_prompt_step(plan, prompt_tokens, [&](const Pass& pass) {
    sum_s += pass_limit(plan, ceilings, pass).limit_s();
  });
  return sum_s;
}

// Between two contexts a step's limit is nearly a straight line; a few are computed, the rest lie
// between them.
class DecodeLimits {
 public:
  DecodeLimits(const Plan& plan, const Ceilings& ceilings) : plan_(plan), ceilings_(ceilings) {}
  double step_s(int64_t context) {
    constexpr int64_t kApart = 64;
    const int64_t low = context / kApart * kApart;
    const double share = static_cast<double>(context - low) / kApart;
    return (1.0 - share) * at(low) + share * at(low + kApart);
  }

 private:
  double at(int64_t context) {
    const auto [it, is_new] = known_.try_emplace(context, 0.0);
    if (is_new) it->second = pass_limit(plan_, ceilings_, {1, context, 1, 1}).limit_s();
    return it->second;
  }

  const Plan& plan_;
  const Ceilings& ceilings_;
  std::map<int64_t, double> known_;
};

std::vector<ReadSpan> read_spans(const Plan& plan, const Ceilings& ceilings,
                                 const std::vector<const BenchRun*>& runs) {
  std::vector<ReadSpan> spans;
  struct Step {
    double begin_s = 0.0;
    int64_t batch = 0;
    int64_t context = 0;  // of all together
  };
  std::map<double, Step> steps;  // decode steps by their end
  for (const BenchRun* run : runs) {
    if (run->token_s.empty() || !run->prompt_tokens) continue;
    double prompt_bytes = 0.0;
    for_each_prompt_step(plan, *run->prompt_tokens, [&](const Pass& pass) {
      prompt_bytes += static_cast<double>(pass_limit(plan, ceilings, pass).read_bytes);
    });
    spans.push_back({run->start_s, run->start_s + run->token_s.front(), prompt_bytes});
    for (size_t i = 1; i < run->token_s.size(); ++i) {
      Step& step = steps[run->start_s + run->token_s[i]];
      step.begin_s = std::max(step.begin_s, run->start_s + run->token_s[i - 1]);
      step.batch += 1;
      step.context += *run->prompt_tokens + static_cast<int64_t>(i);
    }
  }
  std::map<std::pair<int64_t, int64_t>, double> known;
  for (const auto& [end_s, step] : steps) {
    const int64_t context = step.context / step.batch / 64 * 64;
    const auto [it, is_new] = known.try_emplace({step.batch, context}, 0.0);
    if (is_new) {
      const Pass pass = {1, context, step.batch, step.batch};
      it->second = static_cast<double>(pass_limit(plan, ceilings, pass).read_bytes);
    }
    spans.push_back({step.begin_s, end_s, it->second});
  }
  return spans;
}

}  // namespace

void set_run_limits(const Plan& plan, const Ceilings& ceilings, std::vector<TaskRuns>& tasks) {
  DecodeLimits decode(plan, ceilings);
  std::map<int64_t, double> prompts;
  for (TaskRuns& task : tasks) {
    for (BenchRun& run : task.runs) {
      if (!run.prompt_tokens || run.token_s.empty()) continue;
      const int64_t prompt = *run.prompt_tokens;
      const auto [it, is_new] = prompts.try_emplace(prompt, 0.0);
      if (is_new) it->second = prompt_limit_s(plan, ceilings, prompt);
      run.limit_ttft_s = it->second;
      if (run.token_s.size() < 2) continue;
      double sum_s = 0.0;
      const auto steps = static_cast<int64_t>(run.token_s.size()) - 1;
      for (int64_t i = 0; i < steps; ++i) sum_s += decode.step_s(prompt + i);
      run.limit_decode_tok_s = static_cast<double>(steps) / sum_s;
    }
  }
}

std::vector<Problem> impossible_runs(const std::vector<TaskRuns>& tasks) {
  std::vector<Problem> found;
  for (const TaskRuns& task : tasks) {
    for (const BenchRun& run : task.runs) {
      if (run.warmup || !run.error.empty()) continue;
      const std::string seed = std::to_string(run.seed);
      const auto speed = run.decode_tok_s();
      if (speed && run.limit_decode_tok_s &&
          *speed > *run.limit_decode_tok_s * (1.0 + kCeilingTolerance)) {
        found.push_back(make_problem("impossible",
                                     {{"task", task.task},
                                      {"seed", seed},
                                      {"speed", fmt::format("{:.1f}", *speed)},
                                      {"limit", fmt::format("{:.1f}", *run.limit_decode_tok_s)}},
                                     "impossible_decode"));
      }
      if (!run.token_s.empty() && run.limit_ttft_s &&
          run.ttft_s * (1.0 + kCeilingTolerance) < *run.limit_ttft_s) {
        found.push_back(make_problem("impossible",
                                     {{"task", task.task},
                                      {"seed", seed},
                                      {"ttft_ms", fmt::format("{:.2f}", 1e3 * run.ttft_s)},
                                      {"tokens", std::to_string(run.prompt_tokens.value_or(0))},
                                      {"limit_ms", fmt::format("{:.2f}", 1e3 * *run.limit_ttft_s)}},
                                     "impossible_prefill"));
      }
    }
  }
  return found;
}

void add_reads(const Plan& plan, const Ceilings& ceilings, const std::vector<const BenchRun*>& runs,
               std::vector<TelemetrySample>& samples) {
  spread_reads(read_spans(plan, ceilings, runs), samples);
}

void spread_reads(const std::vector<ReadSpan>& spans, std::vector<TelemetrySample>& samples) {
  if (samples.size() < 2) return;
  std::vector<double> bytes(samples.size(), 0.0);
  for (const ReadSpan& span : spans) {
    const double length_s = std::max(span.end_s - span.begin_s, 1e-9);
    // The first sample whose interval ends after the span's beginning.
    auto it = std::upper_bound(samples.begin() + 1, samples.end(), span.begin_s,
                               [](double time_s, const TelemetrySample& sample) {
                                 return time_s < sample.reading.time_s;
                               });
    for (; it != samples.end(); ++it) {
      const double begin_s = (it - 1)->reading.time_s;
      const double overlap_s =
          std::min(span.end_s, it->reading.time_s) - std::max(span.begin_s, begin_s);
      if (begin_s >= span.end_s) break;
      bytes[static_cast<size_t>(it - samples.begin())] +=
          span.bytes * std::max(overlap_s, 0.0) / length_s;
    }
  }
  for (size_t i = 1; i < samples.size(); ++i) {
    const double duration_s = samples[i].interval.duration_s;
    if (duration_s > 0.0) samples[i].read_gb_s = bytes[i] / duration_s / 1e9;
  }
}

}  // namespace quench
