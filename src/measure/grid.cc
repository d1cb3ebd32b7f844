#include "measure/grid.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/clock.h"
#include "base/version.h"
#include "devices/trace.h"
#include "measure/bench_record.h"
#include "measure/run_limits.h"
#include "measure/slice.h"
#include "plan/trace_file.h"

namespace quench {
namespace {

int64_t largest(const std::vector<int64_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

std::vector<GridRow> make_rows(const GridOptions& options) {
  std::vector<GridRow> rows;
  for (const bool is_prefill : {true, false}) {
    for (const int64_t tokens : is_prefill ? options.prompt_tokens : options.generated_tokens) {
      for (const int64_t depth : options.depths) {
        for (const int64_t batch : options.batches) {
          GridRow& row = rows.emplace_back();
          row.is_prefill = is_prefill;
          row.tokens = tokens;
          row.depth = depth;
          row.batch = batch;
          if (tokens == 0) rows.pop_back();
        }
      }
    }
  }
  return rows;
}

Result<void> trace_rows(const Session& session, GridRunner& runner, const SpeedGrid& grid,
                        const std::string& path) {
  Trace trace(session.device().num_workers());
  session.device().set_trace(&trace);
  for (const GridRow& row : grid.rows) runner.run(row);
  session.device().set_trace(nullptr);
  return write_trace(path, trace, grid.ceilings, session.plan().read_bytes_per_token);
}

// A slice takes a share of the model's time: repeated for about as long, it meets as much of what
// others do meanwhile. Tokens per second of the whole model.
double expected_tok_s(ModelSlice& slice, const GridRow& row, int64_t num_layers) {
  const int64_t repeats = std::max<int64_t>(num_layers / slice.num_layers() / 2, 1);
  double sum_s = 0.0;
  for (int64_t i = 0; i < repeats; ++i) sum_s += slice.run(row).total_s(num_layers);
  const double passes = row.is_prefill ? 1.0 : static_cast<double>(row.tokens);
  return static_cast<double>(row.tokens * row.batch) * static_cast<double>(repeats) /
         (passes * std::max(sum_s, 1e-9));
}

// Ceilings in turns with the rows: so many rounds before each repetition.
constexpr int64_t kCeilingRoundsInTurns = 2;

void describe(const Session& session, const std::string& sha256, SpeedGrid& grid) {
  const Plan& plan = session.plan();
  grid.model = session.files().name;
  grid.family = plan.family->architecture;
  grid.measured = measured_model(grid.model, plan, sha256);
  grid.num_layers = plan.config.num_hidden_layers;
  grid.device = session.device().name();
  grid.isa = session.device().isa();
  grid.threads = session.device().num_workers();
  std::set<std::string> kernels;
  for (const PlannedMatrix& matrix : plan.matrices)
    kernels.insert(fmt::format("{}: {}", matrix.format->name, matrix.kernel->name));
  grid.kernels.assign(kernels.begin(), kernels.end());
  grid.weights_bytes = plan.weights_bytes;
  grid.step_tokens = plan.limits.max_tokens;
  grid.load_s = session.load_s();
}

// All rows in turn, options.repetitions times, beside the slice where there is one. `reads` gets
// what each run has read and when.
Result<void> measure_rows(const GridOptions& options, Device& device, ModelSlice* slice,
                          GridRunner& runner, SpeedGrid& grid, std::vector<ReadSpan>& reads) {
  const auto num_rows = static_cast<int64_t>(grid.rows.size());
  std::vector<Ceilings> turns = {grid.ceilings};
  for (int64_t repetition = -1; repetition < options.repetitions; ++repetition) {
    if (slice != nullptr) {
      QUENCH_TRY(const Ceilings now, measure_ceilings(device, kCeilingRoundsInTurns));
      turns.push_back(now);
    }
    for (int64_t i = 0; i < num_rows; ++i) {
      if (options.stop != nullptr && options.stop->load(std::memory_order_relaxed))
        return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
      if (options.progress) {
        options.progress("measuring the model", (repetition + 1) * num_rows + i,
                         (options.repetitions + 1) * num_rows);
      }
      GridRow& row = grid.rows[static_cast<size_t>(i)];
      double expected = 0.0;
      const bool is_slice_first = repetition % 2 == 0;
      auto ask_slice = [&] { expected = expected_tok_s(*slice, row, grid.num_layers); };
      if (slice != nullptr && is_slice_first) ask_slice();
      const double elapsed_s = runner.run(row);
      const double end_s = now_s();
      reads.push_back({end_s - elapsed_s, end_s,
                       row.read_bytes_per_token * static_cast<double>(row.tokens * row.batch)});
      if (slice != nullptr && !is_slice_first) ask_slice();
      if (repetition < 0) continue;  // the first touches memory and caches, and does not count
      row.tok_s.push_back(static_cast<double>(row.tokens * row.batch) / elapsed_s);
      if (slice != nullptr) row.expected_tok_s.push_back(expected);
    }
  }
  grid.ceilings = combined(turns);
  return {};
}

}  // namespace

std::vector<Problem> impossible_rows(const std::vector<GridRow>& rows) {
  std::vector<Problem> found;
  for (const GridRow& row : rows) {
    const double speed = row.median_tok_s();
    if (speed <= row.limit_tok_s * (1.0 + kCeilingTolerance)) continue;
    found.push_back(make_problem(
        "impossible",
        {{"test", fmt::format("{} {}", row.is_prefill ? "prefill" : "decode", row.tokens)},
         {"depth", std::to_string(row.depth)},
         {"batch", std::to_string(row.batch)},
         {"speed", fmt::format("{:.1f}", speed)},
         {"limit", fmt::format("{:.1f}", row.limit_tok_s)}},
        "impossible_grid"));
  }
  return found;
}

Result<SpeedGrid> run_grid(GridOptions options) {
  SpeedGrid grid;
  grid.rows = make_rows(options);
  if (grid.rows.empty())
    return fail(ErrorCode::kInvalidArgument, "Nothing to measure: --pp and --tg are both 0.");
  PlanGoal& goal = options.session.goal;
  const int64_t longest = largest(options.depths) + std::max(largest(options.prompt_tokens),
                                                             largest(options.generated_tokens));
  goal.max_seq_len = std::max(goal.max_seq_len, longest);
  goal.max_batch_size = largest(options.batches);
  options.session.needs_tokenizer = false;
  auto report = [&](const std::string& stage, int64_t done, int64_t total) {
    if (options.progress) options.progress(stage, done, total);
  };
  report("loading", 0, 1);
  QUENCH_TRY(const auto session, Session::open(options.session, [&](int64_t done, int64_t total) {
               report("loading", done, total);
               return options.stop == nullptr || !options.stop->load(std::memory_order_relaxed);
             }));
  QUENCH_TRY(auto made, session->make_runner());
  GridRunner runner(*session, std::move(made), options.seed);
  runner.stop_by(options.stop);
  std::string sha256;
  if (!options.session.random_weights) {
    report("hashing the weights", 0, 1);
    QUENCH_TRY(sha256, hash_weights(session->files(), session->device().num_workers()));
  }
  describe(*session, sha256, grid);
  grid.label = options.label;
  grid.random_weights = options.session.random_weights;
  grid.format = !options.session.recipe_path.empty() ? options.session.recipe_path
                : options.session.format.empty()     ? "as stored"
                                                     : options.session.format;
  std::unique_ptr<ModelSlice> slice;
  if (options.predict) {
    report("loading a slice of it", 0, 1);
    QUENCH_TRY(slice,
               ModelSlice::open(options.session, session->plan(), longest, goal.max_batch_size));
  }
  report("measuring the machine", 0, 1);
  QUENCH_TRY(grid.ceilings, cached_ceilings(session->device(), true));
  for (GridRow& row : grid.rows) runner.set_limit(grid.ceilings, row);
  MachineReader reader;
  const MachineReading begin = reader.read();
  Telemetry telemetry;
  std::vector<ReadSpan> reads;
  QUENCH_TRY_VOID(measure_rows(options, session->device(), slice.get(), runner, grid, reads));
  if (slice != nullptr) {
    for (GridRow& row : grid.rows) runner.set_limit(grid.ceilings, row);
  }
  telemetry.stop();
  grid.series = telemetry.samples();
  grid.state = machine_state(grid.series, begin, reader.read());
  spread_reads(reads, grid.series);
  if (!impossible_rows(grid.rows).empty()) {
    if (const auto again = cached_ceilings(session->device(), true)) {
      grid.ceilings = combined(std::array{grid.ceilings, *again});
      for (GridRow& row : grid.rows) runner.set_limit(grid.ceilings, row);
    }
  }
  grid.problems = impossible_rows(grid.rows);
  for (Problem& problem : machine_problems(grid.state, true))
    grid.problems.push_back(std::move(problem));
  if (!options.trace_path.empty())
    QUENCH_TRY_VOID(trace_rows(*session, runner, grid, options.trace_path));
  return grid;
}

namespace {

// Of the weights, which every step reads; null where it was not measured.
std::optional<double> series_ceiling_gb_s(const SpeedGrid& grid) {
  const int64_t bytes = grid.measured.bytes_read_per_token;
  if (bytes <= 0 || grid.ceilings.read.empty()) return std::nullopt;
  return grid.ceilings.for_working_set(bytes).read_gb_s.best;
}

}  // namespace

Json grid_json(const SpeedGrid& grid, const std::string& time) {
  Json rows = Json::array();
  Json problems = Json::array();
  for (const Problem& problem : grid.problems) problems.push_back(problem_json(problem));
  Json speeds[2] = {Json::array(), Json::array()};  // decode, prefill: all values, row by row
  Json limits[2] = {Json::array(), Json::array()};  // one per row
  Json read = Json::array();
  for (const GridRow& row : grid.rows) {
    rows.push_back({{"test", row.is_prefill ? "prefill" : "decode"},
                    {"tokens", row.tokens},
                    {"depth", row.depth},
                    {"batch", row.batch},
                    {"tok_s", row.tok_s},
                    {"median_tok_s", row.median_tok_s()},
                    {"best_tok_s", row.best_tok_s()},
                    {"limit_tok_s", row.limit_tok_s},
                    {"usual_limit_tok_s", row.usual_limit_tok_s},
                    {"limit_share", row.median_tok_s() / row.limit_tok_s},
                    {"expected_tok_s", row.expected_tok_s},
                    {"expected_error", or_null(row.expected_error())},
                    {"bound", row.bound},
                    {"read_bytes_per_token", row.read_bytes_per_token}});
    for (const double value : row.tok_s) speeds[row.is_prefill ? 1 : 0].push_back(value);
    limits[row.is_prefill ? 1 : 0].push_back(row.limit_tok_s);
    if (!row.is_prefill) read.push_back(row.read_bytes_per_token);
  }
  Json json = {{"schema", "quench.bench/1"},
               {"id", nullptr},
               {"time", time},
               {"label", or_null(grid.label)},
               {"build", {{"commit", build_commit()}, {"isa", grid.isa}}},
               {"machine", machine_json()},
               {"state", state_json(grid.state)},
               {"model", grid.model},
               {"model_sha256", or_null(grid.measured.sha256)},
               {"random_weights", grid.random_weights},
               {"family", grid.family},
               {"num_hidden_layers", grid.num_layers},
               {"format", grid.format},
               {"device", grid.device},
               {"isa", grid.isa},
               {"threads", grid.threads},
               {"kernels", grid.kernels},
               {"weights_bytes", grid.weights_bytes},
               {"step_tokens", grid.step_tokens},
               {"load_s", grid.load_s},
               {"ceilings", ceilings_json(grid.ceilings)},
               {"prefill_tok_s", speeds[1]},
               {"decode_tok_s", speeds[0]},
               {"read_bytes_per_token", read},
               {"limit_prefill_tok_s", limits[1]},
               {"limit_decode_tok_s", limits[0]},
               {"rows", rows},
               {"series", series_json(grid.series, series_ceiling_gb_s(grid))},
               {"problems", problems}};
  add_id(json);
  return json;
}

}  // namespace quench
