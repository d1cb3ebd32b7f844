// quench bench: how fast the model runs here, beside how fast it could.
#include <unistd.h>

#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "measure/grid.h"

namespace quench {
namespace {

constexpr const char* kExamples = R"~(Examples:
  quench bench
  quench bench ~/models/Qwen3-8B --format int4 --pp 512,2048 --tg 64 --depth 0,4096
  quench bench Qwen2.5-72B --random-weights --layers 4 --format int4 --json
  quench bench --batch 1,8 --trace trace.json)~";

struct BenchFlags {
  GridOptions grid;
  bool json = false;
};

Result<void> bench(BenchFlags flags) {
  install_interrupt_flag();
  if (!flags.grid.trace_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.grid.trace_path));
  flags.grid.stop = &interrupt_flag();
  const bool is_terminal = ::isatty(STDERR_FILENO) != 0;
  if (is_terminal) {
    flags.grid.progress = [](const std::string& stage, int64_t done, int64_t total) {
      std::fprintf(
          stderr, "\r\x1b[K%s %3.0f %%", stage.c_str(),
          100.0 * static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1)));
    };
  }
  const auto grid = run_grid(flags.grid);
  if (is_terminal) std::fputs("\r\x1b[K", stderr);
  if (!grid) return tl::unexpected(grid.error());
  if (flags.json) {
    std::puts(grid_json(*grid).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    return {};
  }
  std::printf("%s, %lld layers, %s: %.1f MB of weights, loaded in %.2f s\n", grid->model.c_str(),
              static_cast<long long>(grid->num_layers), grid->format.c_str(),
              static_cast<double>(grid->weights_bytes) / 1e6, grid->load_s);
  std::printf("%s, ISA level %s, %d threads; kernels %s\n\n", grid->ceilings.cpu_model.c_str(),
              grid->isa.c_str(), grid->threads,
              fmt::format("{}", fmt::join(grid->kernels, ", ")).c_str());
  std::fputs(grid_table(*grid).text(stdout_takes_style()).c_str(), stdout);
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<BenchFlags>();
  GridOptions& grid = flags->grid;
  CLI::App* verb =
      app.add_subcommand("bench", "Speed of prefill and decode beside the limit of this machine");
  verb->footer(kExamples);
  add_model_options(*verb, grid.session);
  add_memory_options(*verb, grid.session);
  auto list = [&](const char* name, std::vector<int64_t>& values, int64_t low, int64_t high,
                  const char* help) {
    verb->add_option(name, values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::Range(low, high))
        ->capture_default_str();
  };
  list("--pp", grid.prompt_tokens, 0, int64_t{1} << 20, "Prompt lengths in tokens; 0: no prefill");
  list("--tg", grid.generated_tokens, 0, int64_t{1} << 20, "Generated tokens; 0: no decode");
  list("--depth", grid.depths, 0, int64_t{1} << 20,
       "Tokens in the cache before; they are filled in, not computed");
  list("--batch", grid.batches, 1, 4096, "Sequences side by side; speeds are of all together");
  verb->add_option("--repetitions", grid.repetitions, "Counted runs of each; one more warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--layers", grid.session.num_layers,
                   "Cut the model to so many layers, so that a large shape fits; needs "
                   "--random-weights")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  verb->add_option("--seed", grid.seed, "Seed of the token ids")->capture_default_str();
  verb->add_option("--trace", grid.trace_path,
                   "Write a trace of one more run, for Perfetto (ui.perfetto.dev)");
  verb->add_flag("--json", flags->json, "One JSON object instead of text");
  verb->callback([flags, &chosen] { chosen = [flags] { return bench(*flags); }; });
}

}  // namespace quench
