// quench eval: how well models predict texts, and what they lost against a reference.
#include <unistd.h>

#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "base/paths.h"
#include "devices/device.h"
#include "measure/eval/eval_json.h"
#include "measure/report/table.h"

namespace quench {
namespace {

constexpr const char* kEvalExamples = R"(Examples:
  quench eval demo                                     perplexity and accuracy of one model
  quench eval demo-int4 demo-int3 --against demo       what two small ones lost
  quench eval demo --against demo --format int4        the same, quantized while it loads
  quench eval model.gguf --against ~/models/Qwen3-0.6B --text wiki.txt --convention halves

The divergence from the reference (KLD, in nats per token) says what was lost; perplexity alone can
fall by chance. Accuracy is a continuation test: the true next 16 tokens against three others.)";

struct EvalFlags {
  std::vector<std::string> models = {"demo"};
  std::string reference;
  std::string format;
  std::string text;
  std::string convention = "sliding";
  int64_t max_tokens = 0;
  bool no_noise = false;
  bool domains = false;
  bool json = false, csv = false, markdown = false;
  SessionOptions session;  // device and memory
  EvalOptions options;
};

// The level below the one in force, whose float additions come in another order.
std::string other_level(const Session& session) {
  for (const DeviceRow& row : list_devices()) {
    if (row.name != session.device().name()) continue;
    for (size_t i = row.levels.size(); i-- > 0;) {
      // Levels with the same arithmetic would show nothing: avx2 and ref differ from all others.
      if (row.levels[i] != session.device().isa() &&
          (row.levels[i] == "avx2" || row.levels[i] == "ref"))
        return row.levels[i];
    }
  }
  return "";
}

Cell percent_cell(const std::optional<Accuracy>& accuracy) {
  if (!accuracy) return {};
  return {fmt::format("{:.1f} +- {:.1f}", accuracy->percent(), accuracy->standard_error()),
          accuracy->percent()};
}

Table result_table(const Evaluation& evaluation, const std::vector<std::string>& names,
                   bool has_reference, bool by_domain) {
  Table table;
  table.columns = {{"model", "model", Align::kLeft},
                   {"domain", "domain", Align::kLeft},
                   {"scored", "tokens"},
                   {"ppl", "PPL"},
                   {"accuracy_percent", "accuracy %"}};
  if (has_reference) {
    for (const auto& [key, title] : {std::pair{"kld_mean", "KLD mean"},
                                     {"kld_ci95", "95 %"},
                                     {"kld_median", "median"},
                                     {"kld_p99", "99 %"},
                                     {"kld_p999", "99.9 %"},
                                     {"kld_max", "max"},
                                     {"top1_agreement", "same top %"},
                                     {"rms_dp", "RMS dp %"}})
      table.columns.push_back({key, title, Align::kRight});
  }
  auto add = [&](const std::string& model, const EvalScores& s, bool is_reference) {
    std::vector<Cell> row = {text_cell(model),
                             text_cell(s.domain.empty() ? "all" : s.domain),
                             {std::to_string(s.scored), s.scored},
                             number_cell(s.ppl, 3),
                             percent_cell(s.accuracy)};
    if (has_reference && is_reference) row.resize(table.columns.size());
    if (has_reference && !is_reference) {
      row.push_back(number_cell(s.kld.mean, 5));
      row.push_back(
          {fmt::format("{:.5f}-{:.5f}", s.kld.low, s.kld.high), Json{s.kld.low, s.kld.high}});
      row.push_back(number_cell(s.kld_median, 5));
      row.push_back(number_cell(s.kld_p99, 4));
      row.push_back(number_cell(s.kld_p999, 3));
      row.push_back(number_cell(s.kld_max, 2));
      row.push_back(number_cell(s.top1_agreement, 2, 100.0));
      row.push_back(number_cell(s.rms_dp, 3, 100.0));
    }
    table.rows.push_back(std::move(row));
  };
  auto add_model = [&](const std::string& name, const ModelScores& scores, bool is_reference) {
    add(name, scores.overall, is_reference);
    if (!by_domain) return;
    for (const EvalScores& domain : scores.domains) add(name, domain, is_reference);
  };
  add_model(names[0], evaluation.reference, true);
  for (size_t i = 0; i < evaluation.candidates.size(); ++i)
    add_model(names[i + 1], evaluation.candidates[i], false);
  return table;
}

Json model_json(const Session& session, const std::string& name, const std::string& format) {
  return {{"name", name},
          {"dir", session.files().dir},
          {"family", session.plan().family->architecture},
          {"format", format.empty() ? Json() : Json(format)},
          {"bytes", session.plan().weights_bytes + session.plan().vectors_bytes},
          {"isa", session.device().isa()}};
}

Result<void> run_eval(EvalFlags flags) {
  install_interrupt_flag();
  flags.options.stop = &interrupt_flag();
  flags.options.convention =
      flags.convention == "halves" ? EvalConvention::kHalves : EvalConvention::kSliding;
  if (flags.session.goal.max_seq_len == 0)
    flags.session.goal.max_seq_len = std::max<int64_t>(flags.options.context, 128);
  const bool has_reference = !flags.reference.empty();
  std::vector<std::string> names = flags.models;
  if (has_reference) names.insert(names.begin(), flags.reference);
  std::vector<std::unique_ptr<Session>> sessions;
  for (size_t i = 0; i < names.size(); ++i) {
    SessionOptions session = flags.session;
    session.model = names[i];
    if (!has_reference || i > 0) session.format = flags.format;
    QUENCH_TRY(auto opened, Session::open(session, load_progress()));
    if (!sessions.empty() &&
        opened->plan().config.vocab_size != sessions.front()->plan().config.vocab_size) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} has {} token ids and {} has {}; only models with the same vocabulary can be "
                  "compared token by token.",
                  names[i], opened->plan().config.vocab_size, names.front(),
                  sessions.front()->plan().config.vocab_size);
    }
    sessions.push_back(std::move(opened));
  }
  std::unique_ptr<Session> noise;
  if (has_reference && !flags.no_noise) {
    SessionOptions session = flags.session;
    session.model = names.front();
    session.device_options.isa = other_level(*sessions.front());
    if (!session.device_options.isa.empty()) {
      QUENCH_TRY(noise, Session::open(session, {}));
    }
    flags.options.noise = noise.get();
  }
  std::string path = flags.text;
  if (path.empty()) {
    QUENCH_TRY(path, data_path("texts/eval"));
  }
  QUENCH_TRY(const ChatTemplate chat_template, load_chat_template(sessions.front()->files(), ""));
  QUENCH_TRY(EvalTexts texts, load_eval_texts(path, sessions.front()->tokenizer(), chat_template));
  limit_tokens(texts, flags.max_tokens);
  const bool is_terminal = ::isatty(STDERR_FILENO) != 0;
  if (is_terminal) {
    flags.options.progress = [](int64_t done, int64_t total) {
      std::fprintf(stderr, "\r\x1b[Kevaluating %3.0f %%",
                   100.0 * static_cast<double>(done) / static_cast<double>(total));
    };
  }
  std::vector<const Session*> candidates;
  for (size_t i = 1; i < sessions.size(); ++i) candidates.push_back(sessions[i].get());
  auto evaluation = evaluate(*sessions.front(), candidates, texts, flags.options);
  if (is_terminal) std::fputs("\r\x1b[K", stderr);
  if (!evaluation) return tl::unexpected(evaluation.error());
  if (flags.json) {
    Json all = Json::array();
    const Json reference = has_reference ? model_json(*sessions[0], names[0], "") : Json();
    for (size_t i = has_reference ? 1 : 0; i < sessions.size(); ++i) {
      const ModelScores& scores = i == 0 ? evaluation->reference : evaluation->candidates[i - 1];
      all.push_back(eval_json(*evaluation, scores, model_json(*sessions[i], names[i], flags.format),
                              reference, flags.max_tokens));
    }
    std::printf("%s\n", (all.size() == 1 ? all[0] : all).dump(1).c_str());
    return {};
  }
  const Table table = result_table(*evaluation, names, has_reference, flags.domains);
  if (flags.csv) {
    std::fputs(table.csv().c_str(), stdout);
    return {};
  }
  std::fputs((flags.markdown ? table.markdown() : table.text(stdout_takes_style())).c_str(),
             stdout);
  std::printf("\n%lld of %lld tokens of %s. %s\n", static_cast<long long>(evaluation->scored),
              static_cast<long long>(evaluation->tokens), evaluation->text_path.c_str(),
              evaluation->convention_text().c_str());
  if (has_reference) {
    std::printf(
        "Noise floor: the reference against itself (%s) is %.2g nats apart on average, %.2g at "
        "most.\n",
        evaluation->noise_floor_kernel.c_str(), evaluation->noise_floor_mean,
        evaluation->noise_floor_max);
  }
  return {};
}

}  // namespace

void add_eval(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<EvalFlags>();
  flags->options.continuation_items = 50;
  CLI::App* verb =
      app.add_subcommand("eval", "Perplexity, accuracy, and what was lost against a reference");
  verb->footer(kEvalExamples);
  verb->add_option("MODEL", flags->models, "Models to judge (default: demo)");
  verb->add_option("--against", flags->reference, "The model they were made from");
  verb->add_option("--format", flags->format, "Quantize MODEL to this format while it loads");
  verb->add_option("--text", flags->text, "Text file or directory (default: the texts that ship)");
  verb->add_option("--context", flags->options.context, "Tokens per window")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--stride", flags->options.stride,
                   "Tokens by which a window advances; 0: half of the context")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--convention", flags->convention,
                   "sliding: every token is scored once; halves: as llama.cpp's perplexity")
      ->check(CLI::IsMember({"sliding", "halves"}))
      ->capture_default_str();
  verb->add_option("--max-tokens", flags->max_tokens, "Per domain; 0: all")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--items", flags->options.continuation_items,
                   "Questions per domain of the continuation test; 0: none")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  verb->add_flag("--domains", flags->domains, "A line per domain too");
  verb->add_flag("--no-noise-floor", flags->no_noise,
                 "Do not load the reference a second time for the noise floor");
  verb->add_flag("--json", flags->json, "quench.eval/1 on stdout, a list for several models");
  verb->add_flag("--csv", flags->csv, "The table as CSV");
  verb->add_flag("--md", flags->markdown, "The table as Markdown");
  add_device_options(*verb, flags->session.device, flags->session.device_options);
  add_memory_options(*verb, flags->session);
  verb->callback([flags, &chosen] { chosen = [flags] { return run_eval(*flags); }; });
}

}  // namespace quench
