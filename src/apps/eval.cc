// quench eval: how well models predict texts, and what they lost against a reference.
#include <unistd.h>

#include <cstdio>
#include <set>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/version.h"
#include "devices/device.h"
#include "measure/eval/eval_json.h"
#include "measure/eval/reference_about.h"
#include "measure/report/table.h"

namespace quench {
namespace {

constexpr const char* kEvalExamples = R"(Examples:
  quench eval demo                                     perplexity and accuracy of one model
  quench eval demo-int4 demo-int3 --against demo       what two small ones lost
  quench eval demo --against demo --format int4        the same, quantized while it loads
  quench eval demo --tasks choices,arithmetic          questions with right answers, or your own file
  quench eval model.gguf --against ~/models/Qwen3-0.6B --text wiki.txt --convention halves

The divergence from the reference (KLD, in nats per token) says what was lost; perplexity alone can
fall by chance. Accuracy is a continuation test: the true next 16 tokens against three others.)";

constexpr int64_t kWrittenAtOnce = 8;  // answers that are written side by side

struct EvalFlags {
  std::vector<std::string> models = {"demo"};
  std::string reference;
  std::string format;
  std::string text;
  std::string convention = "sliding";
  std::vector<std::string> tasks;
  int64_t max_tokens = 0;
  bool no_noise = false;
  std::string reference_cache;  // directory; empty: the user's own
  bool no_reference_cache = false;
  bool domains = false;
  bool json = false, csv = false, markdown = false;
  SessionOptions session;  // device and memory
  EvalOptions options;
};

// The level below the one in force, whose float additions come in another order.
std::string other_level(const Device& device) {
  for (const DeviceRow& row : list_devices()) {
    if (row.name != device.name()) continue;
    for (size_t i = row.levels.size(); i-- > 0;) {
      // Levels with the same arithmetic would show nothing: avx2 and ref differ from all others.
      if (row.levels[i] != device.isa() && (row.levels[i] == "avx2" || row.levels[i] == "ref"))
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

// One line per model, task and domain.
Table task_table(const Evaluation& evaluation, const std::vector<std::string>& names,
                 bool by_domain) {
  Table table;
  table.columns = {{"model", "model", Align::kLeft},   {"task", "task", Align::kLeft},
                   {"domain", "domain", Align::kLeft}, {"questions", "questions"},
                   {"accuracy_percent", "accuracy %"}, {"accuracy_per_byte_percent", "per byte %"}};
  for (size_t i = 0; i <= evaluation.candidates.size(); ++i) {
    const ModelScores& scores = i == 0 ? evaluation.reference : evaluation.candidates[i - 1];
    for (const TaskScores& task : scores.tasks) {
      for (const TaskScore& part : task.parts) {
        if (!by_domain && !part.domain.empty()) continue;
        table.rows.push_back({text_cell(names[i]),
                              text_cell(task.task),
                              text_cell(part.domain.empty() ? "all" : part.domain),
                              {std::to_string(part.accuracy.n), part.accuracy.n},
                              percent_cell(part.accuracy),
                              percent_cell(part.per_byte)});
      }
    }
  }
  return table;
}

Json model_json(const ModelFiles& files, const Plan& plan, const std::string& isa,
                const std::string& name, const std::string& format) {
  return {{"name", name},
          {"dir", files.dir},
          {"family", plan.family->architecture},
          {"format", format.empty() ? Json() : Json(format)},
          {"bytes", plan.weights_bytes + plan.vectors_bytes},
          {"isa", isa}};
}

// The reference: planned, and then either opened or, where an earlier evaluation stored what it
// predicts, left on the disk.
struct Reference {
  std::unique_ptr<PlannedModel> planned;
  std::unique_ptr<Session> session;
  std::unique_ptr<Session> noise;
  std::unique_ptr<StoredReference> stored;
  std::optional<ReferenceWriter> writer;
};

// Whose predictions, by which program and kernels.
Result<Json> predictor(const PlannedModel& model, const EvalFlags& flags) {
  QUENCH_TRY(const std::string sha256, model.files.checkpoint->sha256(model.device->num_workers()));
  std::set<std::string> kernels;
  for (const PlannedMatrix& matrix : model.plan.matrices)
    kernels.insert(matrix.format->name + ": " + matrix.kernel->name);
  return Json{{"weights", sha256},
              {"config", model.files.config_json},
              {"program", version_string()},
              {"device", model.device->name()},
              {"isa", model.device->isa()},
              {"kernels", kernels},
              {"kv", static_cast<int>(flags.session.goal.kv_type)},
              {"noise_floor", !flags.no_noise}};
}

Result<void> find_stored(const EvalFlags& flags, const EvalTexts& texts, Reference& reference) {
  const std::string dir =
      flags.reference_cache.empty() ? user_cache_path("references") : flags.reference_cache;
  if (flags.no_reference_cache || dir.empty() || !reference.planned->files.checkpoint) return {};
  QUENCH_TRY(const Json model, predictor(*reference.planned, flags));
  const Json key = reference_key(model, texts, flags.options, flags.options.context);
  const std::string path = reference_path(dir, key);
  auto stored = StoredReference::open(path, key);
  if (stored) {
    reference.stored = *std::move(stored);
    return {};
  }
  if (stored.error().code != ErrorCode::kNotFound)
    spdlog::warn("{} The reference is run again.", stored.error().message);
  auto writer = ReferenceWriter::create(path, key);
  if (writer) {
    reference.writer = *std::move(writer);
  } else {
    spdlog::warn("The reference's predictions will not be kept: {}", writer.error().message);
  }
  return {};
}

Result<void> open_reference(const EvalFlags& flags, SessionOptions options, Reference& reference) {
  QUENCH_TRY(reference.session, Session::open(options, load_progress()));
  if (flags.no_noise) return {};
  options.device_options.isa = other_level(reference.session->device());
  if (options.device_options.isa.empty()) return {};
  QUENCH_TRY(reference.noise, Session::open(options, {}));
  return {};
}

// The tasks that are asked for, with room for the longest in the plan.
Result<void> add_tasks(EvalFlags& flags) {
  int64_t longest = 128;
  for (const std::string& name : flags.tasks) {
    QUENCH_TRY(EvalTask task, load_eval_task(name));
    longest = std::max(longest, task.tokens_guess());
    if (task.is_written()) flags.session.goal.max_batch_size = kWrittenAtOnce;
    flags.options.tasks.push_back(std::move(task));
  }
  if (flags.session.goal.max_seq_len == 0)
    flags.session.goal.max_seq_len = std::max(flags.options.context, longest);
  return {};
}

Result<std::vector<std::unique_ptr<Session>>> open_models(const EvalFlags& flags) {
  std::vector<std::unique_ptr<Session>> sessions;
  for (const std::string& name : flags.models) {
    SessionOptions session = flags.session;
    session.model = name;
    session.format = flags.format;
    QUENCH_TRY(auto opened, Session::open(session, load_progress()));
    sessions.push_back(std::move(opened));
  }
  return sessions;
}

// The context that all have, if the token ids of all are those of `first`, the plan of first_name.
Result<int64_t> common_context(const EvalFlags& flags, const std::vector<const Session*>& models,
                               const Plan& first, const std::string& first_name) {
  int64_t shortest = first.max_seq_len;
  for (size_t i = 0; i < models.size(); ++i) {
    const Plan& plan = models[i]->plan();
    shortest = std::min(shortest, plan.max_seq_len);
    if (plan.config.vocab_size == first.config.vocab_size) continue;
    return fail(ErrorCode::kInvalidArgument,
                "{} has {} token ids and {} has {}; only models with the same vocabulary can be "
                "compared token by token.",
                flags.models[i], plan.config.vocab_size, first_name, first.config.vocab_size);
  }
  return effective_context(flags.options, shortest);
}

// names: of the reference, if there is one, and the models.
void print_evaluation(const EvalFlags& flags, const Evaluation& evaluation,
                      const std::vector<std::string>& names) {
  const bool has_reference = !flags.reference.empty();
  std::vector<Table> tables = {result_table(evaluation, names, has_reference, flags.domains)};
  if (!flags.tasks.empty()) tables.push_back(task_table(evaluation, names, flags.domains));
  for (size_t i = 0; i < tables.size(); ++i) {
    if (i > 0) std::puts("");
    const std::string text = flags.csv        ? tables[i].csv()
                             : flags.markdown ? tables[i].markdown()
                                              : tables[i].text(stdout_takes_style());
    std::fputs(text.c_str(), stdout);
  }
  if (flags.csv) return;
  std::printf("\n%lld of %lld tokens of %s. %s\n", static_cast<long long>(evaluation.scored),
              static_cast<long long>(evaluation.tokens), evaluation.text_path.c_str(),
              evaluation.convention_text().c_str());
  if (has_reference) {
    std::printf(
        "Noise floor: the reference against itself (%s) is %.2g nats apart on average, %.2g at "
        "most.\n",
        evaluation.noise_floor_kernel.c_str(), evaluation.noise_floor_mean,
        evaluation.noise_floor_max);
    if (evaluation.reference_is_stored) {
      std::printf("An earlier evaluation stored what the reference predicts: %.1f s saved.\n",
                  evaluation.reference_s);
    }
  }
}

Result<void> run_eval(EvalFlags flags) {
  install_interrupt_flag();
  flags.options.stop = &interrupt_flag();
  flags.options.convention =
      flags.convention == "halves" ? EvalConvention::kHalves : EvalConvention::kSliding;
  QUENCH_TRY_VOID(add_tasks(flags));
  const bool has_reference = !flags.reference.empty();
  std::vector<std::string> names;
  for (const std::string& name : flags.models)
    names.push_back(flags.format.empty() ? name : name + " as " + flags.format);
  if (has_reference) names.insert(names.begin(), flags.reference);
  Reference reference;
  SessionOptions reference_options = flags.session;
  reference_options.model = flags.reference;
  if (has_reference) {
    QUENCH_TRY(reference.planned, plan_model(reference_options, Weights::kRequired));
  }
  QUENCH_TRY(const auto sessions, open_models(flags));
  std::vector<const Session*> models;
  for (const auto& session : sessions) models.push_back(session.get());
  const ModelFiles& files = has_reference ? reference.planned->files : models.front()->files();
  const Plan& first = has_reference ? reference.planned->plan : models.front()->plan();
  QUENCH_TRY(flags.options.context, common_context(flags, models, first, names.front()));
  std::string path = flags.text;
  if (path.empty()) {
    QUENCH_TRY(path, data_path("texts/eval"));
  }
  QUENCH_TRY(const ChatTemplate chat_template, load_text_template(files));
  QUENCH_TRY(const Tokenizer tokenizer, load_tokenizer(files));
  QUENCH_TRY(EvalTexts texts, load_eval_texts(path, tokenizer, chat_template));
  limit_tokens(texts, flags.max_tokens);
  if (has_reference) {
    QUENCH_TRY_VOID(find_stored(flags, texts, reference));
    if (reference.stored == nullptr) {
      const double start_s = now_s();
      QUENCH_TRY_VOID(open_reference(flags, reference_options, reference));
      flags.options.load_s = now_s() - start_s;
    }
    flags.options.noise = reference.noise.get();
    flags.options.stored = reference.stored.get();
    flags.options.store = reference.writer ? &*reference.writer : nullptr;
  }
  const bool is_terminal = ::isatty(STDERR_FILENO) != 0;
  if (is_terminal) {
    flags.options.progress = [](int64_t done, int64_t total) {
      std::fprintf(stderr, "\r\x1b[Kevaluating %3.0f %%",
                   100.0 * static_cast<double>(done) / static_cast<double>(total));
    };
  }
  const Session* judge = reference.session.get();
  std::vector<const Session*> candidates = models;
  if (!has_reference) {  // the first is compared with nothing, the others with it
    judge = models.front();
    candidates.erase(candidates.begin());
  }
  auto evaluation = evaluate(judge, candidates, texts, flags.options);
  if (is_terminal) std::fputs("\r\x1b[K", stderr);
  if (!evaluation) return tl::unexpected(evaluation.error());
  if (flags.json) {
    Json all = Json::array();
    const auto of_reference = [&]() -> Json {
      if (!has_reference) return nullptr;
      return model_json(files, first, reference.planned->device->isa(), names[0], "");
    };
    for (size_t i = 0; i < models.size(); ++i) {
      const size_t candidate = has_reference ? i : i - 1;
      const ModelScores& scores =
          !has_reference && i == 0 ? evaluation->reference : evaluation->candidates[candidate];
      all.push_back(eval_json(*evaluation, scores,
                              model_json(models[i]->files(), models[i]->plan(),
                                         models[i]->device().isa(), flags.models[i], flags.format),
                              of_reference(), flags.max_tokens));
    }
    std::printf("%s\n", (all.size() == 1 ? all[0] : all).dump(1).c_str());
    return {};
  }
  print_evaluation(flags, *evaluation, names);
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
  verb->add_option("--tasks", flags->tasks,
                   "Questions with right answers: names (quench list tasks) or JSONL files")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_flag("--domains", flags->domains, "A line per domain too");
  verb->add_flag("--no-noise-floor", flags->no_noise,
                 "Do not load the reference a second time for the noise floor");
  verb->add_option("--reference-cache", flags->reference_cache,
                   "Where the reference's predictions are kept for the next evaluation (default: "
                   "~/.cache/quench/references)");
  verb->add_flag("--no-reference-cache", flags->no_reference_cache,
                 "Neither keep them nor use those that were kept");
  verb->add_flag("--json", flags->json, "quench.eval/1 on stdout, a list for several models");
  verb->add_flag("--csv", flags->csv, "The table as CSV");
  verb->add_flag("--md", flags->markdown, "The table as Markdown");
  add_device_options(*verb, flags->session.device, flags->session.device_options);
  add_memory_options(*verb, flags->session);
  verb->callback([flags, &chosen] { chosen = [flags] { return run_eval(*flags); }; });
}

}  // namespace quench
