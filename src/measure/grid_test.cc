#include "measure/grid.h"

#include <gtest/gtest.h>

#include <map>

#include "devices/trace.h"
#include "measure/records.h"
#include "measure/report/grid_report.h"
#include "own_cache.h"
#include "plan/trace_file.h"
#include "test_paths.h"

namespace quench {
namespace {

GridOptions tiny(const std::string& model) {
  GridOptions options;
  options.session.model = source_path("tests/tiny_model/" + model);
  options.session.random_weights = true;
  options.session.device_options.num_threads = 2;
  options.session.device_options.isa = "ref";
  options.prompt_tokens = {70};
  options.generated_tokens = {3};
  options.repetitions = 2;
  return options;
}

TEST(SpeedGrid, KeepsEveryValueBesideItsLimit) {
  const OwnCache cache;
  GridOptions options = tiny("qwen2");
  options.prompt_tokens = {5, 0};
  options.depths = {0, 100};
  options.batches = {1, 3};
  const auto grid = run_grid(options);
  ASSERT_TRUE(grid) << grid.error().message;
  ASSERT_EQ(grid->rows.size(), 8u);  // prefill and decode, two depths, two batches
  for (const GridRow& row : grid->rows) {
    EXPECT_EQ(row.tok_s.size(), 2u);
    EXPECT_GT(row.median_tok_s(), 0.0);
    EXPECT_GT(row.limit_tok_s, 0.0);
    EXPECT_GT(row.usual_limit_tok_s, 0.0);
    EXPECT_LE(row.usual_limit_tok_s, row.limit_tok_s);
    EXPECT_GT(row.read_bytes_per_token, 0.0);
  }
  // More context is more to read, more sequences share the weights.
  EXPECT_GT(grid->rows[6].read_bytes_per_token, grid->rows[4].read_bytes_per_token);
  EXPECT_LT(grid->rows[5].read_bytes_per_token, grid->rows[4].read_bytes_per_token);
  const Json json = grid_json(*grid, "2026-01-31T12:34:56Z");
  const auto valid = validate_measurement(json);
  EXPECT_TRUE(valid) << valid.error().message;
  EXPECT_TRUE(json["state"].contains("others_share"));
  EXPECT_EQ(json["prefill_tok_s"].size(), 8u);
  EXPECT_EQ(json["decode_tok_s"].size(), 8u);
  EXPECT_EQ(json["limit_decode_tok_s"].size(), 4u);
  EXPECT_EQ(json["read_bytes_per_token"].size(), 4u);
  EXPECT_EQ(json["kernels"], Json({"bf16: ref_generic"}));
  EXPECT_TRUE(json["ceilings"].contains("read"));
  EXPECT_EQ(json["problems"].is_array(), true);
  const std::string shown = grid_text(json, Strings::of("en"), false);
  EXPECT_NE(shown.find("decode 3"), std::string::npos) << shown;
  EXPECT_NE(grid_html(json, Strings::of("zh")).find("解码 3 @100 x3"), std::string::npos);
}

TEST(SpeedGrid, NamesItsWeightsAndWhatWasReadWhen) {
  const OwnCache cache;
  GridOptions options = tiny("qwen2");
  options.session.model = "demo";
  options.session.random_weights = false;
  options.prompt_tokens = {200};
  options.repetitions = 6;
  const auto grid = run_grid(options);  // on the reference kernels, so that it takes a while
  ASSERT_TRUE(grid) << grid.error().message;
  const Json json = grid_json(*grid, "2026-01-31T12:34:56Z");
  EXPECT_EQ(json["model_sha256"].get<std::string>().size(), 64u);
  const Json& columns = json["series"]["columns"];
  ASSERT_GE(columns["time_s"].size(), 2u);
  double read_gb = 0.0;
  for (const Json& gb_s : columns["read_gb_s"])
    read_gb += gb_s.is_null() ? 0.0 : gb_s.get<double>() * 0.1;
  EXPECT_GT(read_gb, 0.0);
  EXPECT_TRUE(json["series"]["ceiling_gb_s"].is_number());
}

TEST(SpeedGrid, FasterThanTheLimitIsImpossible) {
  GridRow row;
  row.tokens = 8;
  row.limit_tok_s = 100.0;
  row.tok_s = {99.0, 104.0, 120.0};
  EXPECT_TRUE(impossible_rows({row}).empty());
  row.tok_s = {99.0, 106.0, 120.0};
  const auto found = impossible_rows({row});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kind, "impossible");
  EXPECT_NE(found[0].message.find("decode 8 at depth 0 with batch 1 reached 106.0 tok/s"),
            std::string::npos)
      << found[0].message;
}

TEST(SpeedGrid, CutsLayersOfRandomWeightsOnly) {
  const OwnCache cache;
  GridOptions options = tiny("qwen2_window");
  options.session.num_layers = 1;
  options.repetitions = 1;
  const auto grid = run_grid(options);
  ASSERT_TRUE(grid) << grid.error().message;
  EXPECT_EQ(grid->num_layers, 1);
  options.session.num_layers = 1000;
  EXPECT_NE(run_grid(options).error().message.find("1000"), std::string::npos);
  options.session.num_layers = 1;
  options.session.random_weights = false;
  EXPECT_NE(run_grid(options).error().message.find("--random-weights"), std::string::npos);
  options.prompt_tokens = options.generated_tokens = {0};
  EXPECT_EQ(run_grid(options).error().code, ErrorCode::kInvalidArgument);
}

struct Event {
  std::string name;
  double begin;
  double end;
  Json args;
};

// Per track, in the order of the file.
std::map<int, std::vector<Event>> events_of(const Json& trace) {
  std::map<int, std::vector<Event>> tracks;
  for (const Json& e : trace.at("traceEvents")) {
    if (e.at("ph") != "X") continue;
    const double begin = e.at("ts").get<double>();
    tracks[e.at("tid").get<int>()].push_back(
        {e.at("name").get<std::string>(), begin, begin + e.at("dur").get<double>(), e.at("args")});
  }
  return tracks;
}

// Every two spans of a track lie apart or one inside the other (to half a nanosecond's rounding).
void expect_nested(const std::vector<Event>& track) {
  constexpr double kRounding = 0.0015;
  std::vector<Event> open;
  std::vector<Event> sorted = track;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Event& a, const Event& b) { return a.begin < b.begin; });
  for (const Event& event : sorted) {
    while (!open.empty() && open.back().end <= event.begin + kRounding) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(event.end, open.back().end + kRounding)
          << event.name << " sticks out of " << open.back().name;
    }
    open.push_back(event);
  }
}

class GridTrace : public testing::TestWithParam<const char*> {};

TEST_P(GridTrace, ParsesNestsAndAddsUp) {
  const OwnCache cache;
  GridOptions options = tiny(GetParam());
  options.prompt_tokens = {0};
  options.generated_tokens = {1};
  options.repetitions = 1;
  options.trace_path = cache.scratch().file("trace.json");
  const auto grid = run_grid(options);
  ASSERT_TRUE(grid) << grid.error().message;
  const auto trace = read_json_file(options.trace_path);
  ASSERT_TRUE(trace) << trace.error().message;
  const auto tracks = events_of(*trace);
  ASSERT_EQ(tracks.size(), 2u);
  for (const auto& [worker, track] : tracks) {
    expect_nested(track);
    std::map<std::string, int64_t> count;
    double matmul_bytes = 0.0;
    double step_us = 0.0;
    double layers_us = 0.0;
    for (const Event& event : track) {
      ++count[event.name];
      if (event.name == "step") step_us += event.end - event.begin;
      if (event.name == "layer") layers_us += event.end - event.begin;
      if (event.name != "matmul") continue;
      matmul_bytes += event.args.at("read_bytes").get<double>();
      EXPECT_GT(event.args.at("limit_share").get<double>(), 0.0);
      EXPECT_EQ(event.args.at("kernel"), "ref_generic");
    }
    EXPECT_EQ(count["step"], 1);
    EXPECT_EQ(count["layer"], grid->num_layers);
    EXPECT_EQ(count["attention"], grid->num_layers);
    EXPECT_EQ(count["head"], 1);
    EXPECT_GT(layers_us, 0.0);
    EXPECT_LE(layers_us, step_us);
    // What the matmuls of one decoded token read is what the roofline says: all weights, of which
    // an untied embedding gives one row, which no matmul reads.
    const double want = grid->rows[0].read_bytes_per_token;
    EXPECT_LE(matmul_bytes, want);
    EXPECT_GE(matmul_bytes, want - 4096);
  }
  // Spans of a phase carry the layer they belong to.
  std::map<int64_t, int> attention;
  for (const Event& event : tracks.at(0)) {
    if (event.name == "attention") ++attention[event.args.at("layer").get<int64_t>()];
  }
  EXPECT_EQ(static_cast<int64_t>(attention.size()), grid->num_layers);
}

INSTANTIATE_TEST_SUITE_P(Models, GridTrace, testing::Values("qwen2", "qwen3_moe", "qwen1"));

TEST(Trace, DropsWhatDoesNotFitAndSaysSo) {
  Trace trace(1, 2);
  OpContext context;
  context.trace = &trace;
  {
    const TraceScope outer(context, "outer", 7);
    const TraceScope inner(context, "inner");
    const TraceScope dropped(context, "dropped");
    const TraceScope dropped_too(context, "dropped");
  }
  ASSERT_EQ(trace.spans(0).size(), 2u);
  EXPECT_EQ(trace.spans(0)[1].layer, 7);
  EXPECT_EQ(trace.num_dropped(), 2);
  EXPECT_GE(trace.spans(0)[0].end_ns, trace.spans(0)[1].end_ns);
}

}  // namespace
}  // namespace quench
