// quench run: one answer, or a chat on a terminal.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>

#include "apps/options.h"
#include "apps/verbs.h"
#include "devices/trace.h"
#include "plan/trace_file.h"

namespace quench {
namespace {

constexpr const char* kRunExamples = R"~(Examples:
  quench run demo "Tell me a story about a fox."
  echo "Translate to Chinese: good morning" | quench run
  quench run                                            chat on a terminal; Ctrl-D ends it
  quench run ~/models/Qwen3-8B --prompt hello --json
  quench run Qwen2.5-7B --random-weights --format int4 --prompt hi --max_new_tokens 8)~";

struct RunFlags {
  SessionOptions session;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  std::optional<std::string> system;
  std::string chat_template;
  std::optional<bool> thinking;
  std::string trace_path;
  bool raw = false;
  bool json = false;
};

class Run {
 public:
  explicit Run(RunFlags flags) : flags_(std::move(flags)) {}

  Result<void> operator()() {
    install_interrupt_flag();
    // Wrong flags are said before a large model is loaded, not after.
    SamplingSettings trial;
    QUENCH_TRY_VOID(flags_.sampling.apply(trial));
    if (!flags_.trace_path.empty()) QUENCH_TRY_VOID(check_output_path(flags_.trace_path));
    if (!flags_.chat_template.empty()) {
      QUENCH_TRY_VOID(ChatTemplate::by_name(flags_.chat_template));
    }
    // A trace is to show the kernels of the long run.
    flags_.session.pack_late = flags_.trace_path.empty();
    QUENCH_TRY(session_, Session::open(flags_.session, load_progress()));
    QUENCH_TRY(engine_, session_->make_engine());
    QUENCH_TRY(settings_, flags_.sampling.resolve(session_->files(), session_->tokenizer()));
    if (!flags_.raw) {
      QUENCH_TRY(const ChatTemplate chat_template,
                 load_chat_template(session_->files(), flags_.chat_template));
      template_ = std::make_unique<ChatTemplate>(chat_template);
    }
    if (flags_.trace_path.empty()) return answer_or_chat();
    // Measured before, so that the spans' shares of the limit need no second run.
    QUENCH_TRY(const Ceilings ceilings, cached_ceilings(session_->device(), false));
    Trace trace(session_->device().num_workers());
    session_->device().set_trace(&trace);
    Result<void> done = answer_or_chat();
    session_->device().set_trace(nullptr);
    QUENCH_TRY_VOID(
        write_trace(flags_.trace_path, trace, ceilings, session_->plan().read_bytes_per_token));
    return done;
  }

 private:
  Result<void> answer_or_chat() {
    if (flags_.system) messages_.push_back({"system", *flags_.system});
    if (!flags_.prompt && ::isatty(STDIN_FILENO) != 0 && !flags_.json && !flags_.raw) return chat();
    if (!flags_.prompt) {
      QUENCH_TRY(flags_.prompt, read_stdin());
    }
    QUENCH_TRY(const Generation generation, answer(*flags_.prompt));
    if (flags_.json) {
      print_json(generation);
    } else if (!generation.text.ends_with('\n')) {
      std::fputc('\n', stdout);
    }
    return outcome(generation);
  }

  Result<std::vector<TokenId>> encode(const std::string& text) {
    const Tokenizer& tokenizer = session_->tokenizer();
    if (flags_.raw) return tokenizer.encode(text);
    messages_.push_back({"user", text});
    ChatOptions options;
    options.enable_thinking = flags_.thinking;
    return encode_chat(tokenizer, *template_, messages_, options);
  }

  Result<Generation> answer(const std::string& text) {
    QUENCH_TRY(std::vector<TokenId> prompt, encode(text));
    const bool stream = !flags_.json;
    auto show = [stream](std::string_view piece) {
      if (!stream) return;
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    };
    QUENCH_TRY(Generation generation,
               generate(*engine_, session_->tokenizer(), {std::move(prompt), settings_}, show,
                        &interrupt_flag()));
    if (stream) {
      // Speed is that of the tokens after the first.
      const int64_t count = generation.generated_tokens();
      std::string tokens = fmt::format("{} token{}", count, count == 1 ? "" : "s");
      if (count > 1) tokens += fmt::format(", {:.1f} tok/s", generation.decode_tok_s());
      const std::string line =
          fmt::format("{}[{} prompt tokens, first token after {:.3f} s; {}; {}]\n",
                      generation.text.ends_with('\n') ? "" : "\n", generation.prompt_tokens,
                      generation.ttft_s, tokens, finish_reason_name(generation.finish_reason));
      std::fputs(line.c_str(), stderr);
    }
    return generation;
  }

  static Result<void> outcome(const Generation& generation) {
    if (generation.finish_reason == FinishReason::kError)
      return fail(ErrorCode::kInternal, "{}", generation.message);
    if (generation.finish_reason == FinishReason::kCancelled)
      return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
    return {};
  }

  // Ctrl-C stops an answer and clears a half-typed line; it never ends the program.
  Result<void> chat() {
    std::fprintf(stderr, "%s on %s (%s). Ctrl-C stops an answer, Ctrl-D ends.\n",
                 session_->files().name.c_str(), session_->device().name().c_str(),
                 session_->device().isa().c_str());
    for (;;) {
      interrupt_flag().store(false);
      std::fputs("\n> ", stderr);
      if (!wait_for_input()) continue;
      std::string line;
      if (!std::getline(std::cin, line)) break;
      if (line.empty()) continue;
      const auto generation = answer(line);
      if (!generation) {
        std::fprintf(stderr, "quench: %s\n", generation.error().message.c_str());
        forget_after_error();
        continue;
      }
      if (generation->finish_reason == FinishReason::kError) {
        std::fprintf(stderr, "quench: %s\n", generation->message.c_str());
        messages_.pop_back();
        continue;
      }
      messages_.push_back({"assistant", generation->text});
    }
    std::fputc('\n', stderr);
    return {};
  }

  // A question that had no room, with all that came before, leaves none for the next either.
  void forget_after_error() {
    messages_.pop_back();
    const size_t kept = flags_.system ? 1 : 0;
    if (messages_.size() <= kept) return;
    messages_.resize(kept);
    std::fputs("quench: What was said before is forgotten; ask again.\n", stderr);
  }

  void print_json(const Generation& generation) const {
    const EngineStatus status = engine_->status();
    const Json json = {
        {"text", generation.text},
        {"ids", generation.ids},
        {"prompt_tokens", generation.prompt_tokens},
        {"generated_tokens", generation.generated_tokens()},
        {"finish_reason", finish_reason_name(generation.finish_reason)},
        {"ttft_s", generation.ids.empty() ? Json() : Json(generation.ttft_s)},
        {"prefill_tok_s", generation.ids.empty() ? Json() : Json(generation.prefill_tok_s())},
        {"decode_tok_s", generation.ids.size() < 2 ? Json() : Json(generation.decode_tok_s())},
        {"drafted_tokens", status.drafted_tokens},
        {"accepted_tokens", status.accepted_tokens}};
    std::puts(json.dump(2).c_str());
  }

  RunFlags flags_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ChatTemplate> template_;
  SamplingSettings settings_;
  std::vector<Message> messages_;
};

}  // namespace

void add_run(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = app.add_subcommand("run", "Answer a prompt, or chat on a terminal");
  verb->footer(kRunExamples);
  add_model_options(*verb, flags->session);
  add_memory_options(*verb, flags->session);
  add_engine_options(*verb, flags->session);
  verb->add_option("-p,--prompt,PROMPT", flags->prompt,
                   "The prompt; without it stdin is read, or a chat begins");
  auto* system = verb->add_option("--system", flags->system, "System message");
  auto* chat_template = verb->add_option("--chat-template", flags->chat_template,
                                         "Use this template (quench list templates)");
  auto* thinking = verb->add_flag("--thinking,!--no-thinking", flags->thinking,
                                  "For models that can think or not");
  verb->add_flag("--raw", flags->raw, "No chat template: continue the prompt as it is")
      ->excludes(system)
      ->excludes(chat_template)
      ->excludes(thinking);
  verb->add_flag("--json", flags->json, "One JSON object instead of streamed text");
  verb->add_option("--trace", flags->trace_path,
                   "Write what every thread did when, for Perfetto (ui.perfetto.dev)");
  flags->sampling.add_to(*verb);
  verb->callback([flags, &chosen] { chosen = [flags] { return Run(*flags)(); }; });
}

}  // namespace quench
