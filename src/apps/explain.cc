// quench explain: why a number is what it is. Here the offline form: a number that the user already
// has, judged by arithmetic and published rows.
#include <cstdio>

#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/explain.h"
#include "measure/analyze/quantity.h"

namespace quench {
namespace {

constexpr const char* kExamples = R"~(Examples:
  quench explain --model Qwen-14B --device A800 --precision bf16 --engine transformers --latency 7s --tokens 20
  quench explain --device A800 --engine transformers --model Qwen-7B --latency 0.5s --model Qwen-14B --latency 7s --tflops 19.5
  quench explain --model Qwen2.5-72B --precision gptq-int4 --engine "vLLM 0.6.3" --device A100 --tok-s 16.47
  quench explain --model Qwen2.5-0.5B --precision awq --engine transformers --device A100 --memory-gb 0.73)~";

struct ExplainFlags {
  std::vector<std::string> models, precisions, engines, latencies;
  std::vector<double> tokens, tok_s, memory_gb;
  std::string device, rows_path;
  double tflops = 0.0, prompt_tokens = 1.0, batch = 1.0;
  int64_t devices = 1;
  bool json = false;
};

// Without a length, a short answer's is assumed.
constexpr double kAssumedTokens = 20.0;
// A speed without lengths is taken as the published tables have it.
constexpr double kTableTokens = 2048.0;

// The i-th of as many values as there are claims, the only one of one, or none.
template <class T>
Result<std::optional<T>> pick(const std::vector<T>& values, size_t i, size_t claims,
                              const char* flag) {
  if (values.empty()) return std::optional<T>();
  if (values.size() != 1 && values.size() != claims) {
    return fail(ErrorCode::kInvalidArgument,
                "{} was given {} times for {} models; give it once for "
                "all or once for each.",
                flag, values.size(), claims);
  }
  return std::optional<T>(values.size() == 1 ? values.front() : values[i]);
}

Result<Claim> read_claim(const ExplainFlags& flags, const Predictor& predictor,
                         const Hardware& device, size_t i) {
  const size_t n = flags.models.size();
  QUENCH_TRY(const auto engine, pick(flags.engines, i, n, "--engine"));
  QUENCH_TRY(const auto precision, pick(flags.precisions, i, n, "--precision"));
  QUENCH_TRY(const auto latency, pick(flags.latencies, i, n, "--latency"));
  QUENCH_TRY(const auto tokens, pick(flags.tokens, i, n, "--tokens"));
  Claim claim;
  claim.engine_text = engine.value_or("transformers");
  QUENCH_TRY(claim.placement,
             predictor.setup(flags.models[i], claim.engine_text, precision.value_or(""), device));
  QUENCH_TRY(claim.tok_s, pick(flags.tok_s, i, n, "--tok-s"));
  QUENCH_TRY(const auto memory_gb, pick(flags.memory_gb, i, n, "--memory-gb"));
  if (memory_gb) claim.memory_bytes = *memory_gb * 1e9;
  if (latency) {
    QUENCH_TRY(claim.latency_s, parse_seconds(*latency, "--latency"));
  }
  claim.has_tokens = tokens.has_value();
  claim.placement.output_tokens = tokens.value_or(latency ? kAssumedTokens : kTableTokens);
  claim.placement.prompt_tokens = flags.prompt_tokens;
  claim.placement.batch = flags.batch;
  claim.placement.devices = flags.devices;
  return claim;
}

Result<void> explain(const ExplainFlags& flags) {
  std::vector<PublishedRow> extra;
  if (!flags.rows_path.empty()) {
    QUENCH_TRY(const std::string text, read_file(flags.rows_path));
    QUENCH_TRY(extra, parse_published(text, flags.rows_path));
  }
  QUENCH_TRY(const Predictor predictor, Predictor::load(extra));
  QUENCH_TRY(const Hardware device, find_hardware(flags.device));
  std::vector<Claim> claims;
  for (size_t i = 0; i < flags.models.size(); ++i) {
    QUENCH_TRY(Claim claim, read_claim(flags, predictor, device, i));
    claims.push_back(std::move(claim));
  }
  QUENCH_TRY(ExplainReport report, explain_claims(predictor, std::move(claims)));
  if (flags.tflops > 0.0) report.peak = check_peak(device, flags.tflops);
  if (flags.json) {
    std::puts(explain_json(report).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    std::fputs(explain_text(report).c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_explain(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ExplainFlags>();
  CLI::App* verb =
      app.add_subcommand("explain", "Is a number plausible, and if it is not, what causes fit it");
  verb->footer(kExamples);
  auto many = [&](const char* name, auto& values, const char* help) {
    return verb->add_option(name, values, help)->allow_extra_args(false);
  };
  many("--model", flags->models, "Official name or directory; twice to compare two claims");
  verb->add_option("--device", flags->device, "A device of `quench list hardware`")->required();
  many("--precision", flags->precisions, "bf16, fp8, gptq-int8, gptq-int4, awq, bnb-int8, ...");
  many("--engine", flags->engines, "transformers, vllm, sglang, llama.cpp, ..., with a version");
  many("--latency", flags->latencies, "Of one whole request: 7s, 500ms");
  many("--tokens", flags->tokens, "Generated in it")->check(CLI::Range(1.0, 1e7));
  many("--tok-s", flags->tok_s, "Generated tokens per second")->check(CLI::Range(1e-6, 1e9));
  many("--memory-gb", flags->memory_gb, "Memory in 1e9 bytes")->check(CLI::Range(1e-3, 1e6));
  verb->add_option("--prompt", flags->prompt_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1.0, 1e7));
  verb->add_option("--batch", flags->batch, "Requests at once")->check(CLI::Range(1, 4096));
  verb->add_option("--devices", flags->devices, "Devices it runs on")->check(CLI::Range(1, 64));
  verb->add_option("--tflops", flags->tflops, "A claimed 16-bit peak of the device")
      ->check(CLI::Range(0.0, 1e6));
  verb->add_option("--rows", flags->rows_path, "More measured rows, as for quench plan");
  verb->add_flag("--json", flags->json, "One JSON object instead of text");
  verb->callback([flags, &chosen] { chosen = [flags] { return explain(*flags); }; });
}

}  // namespace quench
