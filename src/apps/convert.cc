// quench convert: a model in the file form of other programs, with what it cost.
#include <fmt/ranges.h>

#include <cmath>
#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/threads.h"
#include "base/topology.h"
#include "quantize/convert/convert.h"
#include "quantize/quantize.h"

namespace quench {
namespace {

constexpr const char* kConvertExamples = R"~(Examples:
  quench convert ~/models/Qwen3-8B --to gguf --type q4_k -o Qwen3-8B-Q4_K.gguf
  quench convert demo --to gguf -o demo.gguf
  quench convert model.gguf --to gguf --type q8_0 -o model-q8_0.gguf
  quench convert model-q4_0.gguf --to gptq -o model-gptq          the same numbers, where it has them
  quench convert Qwen2.5-7B-Instruct-AWQ --to plain -o Qwen2.5-7B)~";

// What `--to` takes beside the targets, and where the output is a directory.
bool is_layout(const std::string& name) {
  return name == kPlainLayout || require_quant_writer(name).has_value();
}

struct ConvertFlags {
  SessionOptions session;
  std::string target;
  std::string out;
  int num_threads = 0;
  bool resume = false;
};

const ConvertTarget* find_target(const std::string& name) {
  for (const ConvertTarget* target : all_convert_targets()) {
    if (name == target->name) return target;
  }
  return nullptr;
}

void print_report(const ConvertReport& report, const std::string& out) {
  std::printf("%-10s %9s %9s %12s  %s\n", "format", "matrices", "exact", "MB", "relative error");
  for (const auto& [name, format] : report.formats) {
    const double error =
        format.squared > 0.0 ? std::sqrt(format.squared_error / format.squared) : 0.0;
    std::printf("%-10s %9lld %9lld %12.2f  %.2e\n", name.c_str(),
                static_cast<long long>(format.num_matrices),
                static_cast<long long>(format.num_exact), megabytes(format.bytes), error);
  }
  for (const std::string& fallback : report.fallbacks) std::printf("%s\n", fallback.c_str());
  for (const std::string& note : report.notes) std::printf("note: %s\n", note.c_str());
  std::printf("%s: %.2f MB of tensors\n", out.c_str(), megabytes(report.out_bytes));
}

// Of one format; a float format that the source has already is exact, too.
ConvertReport report_of(const QuantizeJob& job, const QuantizeReport& done) {
  ConvertReport report;
  report.out_bytes = job.bytes;
  for (const QuantizedRole& role : done.roles) {
    if (!role.fallback.empty())
      report.fallbacks.push_back(fmt::format("{}: {} ({})", role.role, role.format, role.fallback));
    ConvertedFormat& format = report.formats[role.format];
    format.num_matrices += role.count;
    if (role.squared_error == 0.0) format.num_exact += role.count;
    format.bytes += role.bytes;
    format.squared += role.squared_norm;
    format.squared_error += role.squared_error;
  }
  return report;
}

Result<void> convert_layout(const ConvertFlags& flags) {
  QuantizeOptions options;
  options.session.model = flags.session.model;
  options.session.device_options.num_threads = flags.num_threads;
  QUENCH_TRY(options.recipe, session_recipe(flags.session));
  options.recipe->algorithm = "rtn";
  options.layout = flags.target;
  options.out = flags.out;
  options.resume = flags.resume;
  options.is_conversion = true;
  install_interrupt_flag();
  options.stop = &interrupt_flag();
  ProgressLine line(true);
  options.progress = [&](const QuantizeOptions::Progress& at) {
    line.show(at.unit, at.done_bytes, at.total_bytes);
  };
  QUENCH_TRY(QuantizeJob job, plan_quantize(options));
  const auto done = run_quantize(options, job);
  line.clear();
  if (!done) return tl::unexpected(done.error());
  print_report(report_of(job, *done), flags.out);
  return {};
}

Result<void> convert(const ConvertFlags& flags) {
  if (is_layout(flags.target)) return convert_layout(flags);
  if (flags.resume) {
    return fail(ErrorCode::kInvalidArgument,
                "--resume goes on with a directory; {} is one file and begins anew.", flags.target);
  }
  QUENCH_TRY_VOID(check_output_path(flags.out));
  QUENCH_TRY(const Recipe recipe, session_recipe(flags.session));
  QUENCH_TRY(const ModelFiles files,
             ModelFiles::find(flags.session.model, Weights::kRequired, false));
  QUENCH_TRY(const auto source,
             open_checkpoint_source(*files.checkpoint, *files.family, files.config));
  install_interrupt_flag();
  const int num_threads = flags.num_threads > 0 ? flags.num_threads : available_cpus();
  const ConvertJob job = {files, *source, recipe, flags.out, num_threads, load_progress()};
  QUENCH_TRY(const ConvertReport report, find_target(flags.target)->write(job));
  print_report(report, flags.out);
  return {};
}

}  // namespace

void add_convert(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* verb =
      app.add_subcommand("convert", "Write a model in the file form of other programs");
  verb->footer(kConvertExamples);
  verb->add_option("MODEL", flags->session.model,
                   "Model directory or GGUF file; \"demo\" is the model that ships")
      ->required();
  std::vector<std::string> names;
  std::string help = "What to write.";
  for (const ConvertTarget* target : all_convert_targets()) {
    names.emplace_back(target->name);
    help += fmt::format(" {}: {}.", target->name, target->description);
  }
  names.emplace_back(kPlainLayout);
  help += fmt::format(" {}: {}.", kPlainLayout, plain_writer().description);
  for (const QuantWriter* writer : all_quant_writers()) names.emplace_back(writer->name);
  help += " The others (quench list layouts): codes move where the layout has the same numbers.";
  verb->add_option("--to", flags->target, help)->required()->check(CLI::IsMember(names));
  verb->add_option("--type,--format", flags->session.format,
                   "Format of all matrices (quench list formats); without it they stay as stored");
  verb->add_option("--recipe", flags->session.recipe_path,
                   "One format per role: a recipe (quench list recipes) or a recipe file");
  verb->add_option("-o,--out", flags->out, "The file to write; of a layout, the directory")
      ->required();
  verb->add_flag("--resume", flags->resume, "Go on with an interrupted directory");
  verb->add_option("--threads", flags->num_threads, "Threads; 0: the CPUs this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->callback([flags, &chosen] { chosen = [flags] { return convert(*flags); }; });
}

}  // namespace quench
