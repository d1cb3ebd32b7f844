// quench logits: the raw output of the model for given ids, for oracles and bug reports.
#include <algorithm>
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "io/npy.h"

namespace quench {
namespace {

constexpr const char* kLogitsExamples = R"~(Examples:
  quench logits demo --ids 1,2,3 --out logits.npy
  python3 -c "import numpy; print(numpy.load('logits.npy').argmax(-1))")~";

struct LogitsFlags {
  SessionOptions session;
  std::vector<int32_t> ids;
  std::string out;
};

Result<void> logits(LogitsFlags flags) {
  QUENCH_TRY_VOID(check_output_path(flags.out));
  flags.session.needs_tokenizer = false;
  const auto length = static_cast<int64_t>(flags.ids.size());
  flags.session.goal.max_seq_len = std::max<int64_t>(flags.session.goal.max_seq_len, length);
  flags.session.goal.max_step_tokens =
      std::min<int64_t>(length, 64);  // [64, vocab] at a time, whatever the length
  flags.session.goal.max_logit_rows = flags.session.goal.max_step_tokens;
  QUENCH_TRY(auto session, Session::open(flags.session, load_progress()));
  const int64_t rows = session->plan().config.vocab_size;
  for (const int32_t id : flags.ids) {
    if (id >= 0 && id < rows) continue;
    return fail(ErrorCode::kInvalidArgument, "Token id {} is outside the vocabulary of {} rows.",
                id, rows);
  }
  QUENCH_TRY(auto runner, session->make_runner());
  QUENCH_TRY(NpyWriter writer, NpyWriter::create(flags.out, rows));
  Result<void> written;
  QUENCH_TRY_VOID(runner->run_text(flags.ids, [&](int64_t, std::span<const float> values) {
    if (written) written = writer.append_rows(values);
  }));
  QUENCH_TRY_VOID(std::move(written));
  QUENCH_TRY_VOID(writer.finish());
  std::printf("%s: float32 [%lld, %lld]\n", flags.out.c_str(), static_cast<long long>(length),
              static_cast<long long>(rows));
  return {};
}

}  // namespace

void add_logits(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* verb = app.add_subcommand(
      "logits", "Write the logits of every position as float32 [positions, vocab]");
  verb->footer(kLogitsExamples);
  add_model_options(*verb, flags->session);
  add_memory_options(*verb, flags->session);
  verb->add_option("--ids", flags->ids, "Token ids: 1,2,3")
      ->required()
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--out", flags->out, "The .npy file to write")->required();
  verb->callback([flags, &chosen] { chosen = [flags] { return logits(*flags); }; });
}

}  // namespace quench
