// The judge of the whole forward pass: tests/golden holds what Hugging Face transformers computes
// for tiny models of all five architectures (tools/make_golden.py). Every layer's output, every
// position's logits, 64 greedy tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "base/bytes.h"
#include "engine/session.h"
#include "io/safetensors.h"
#include "test_paths.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Relative error, norm over norm. The bound is 1e-4; float32 summation order alone explains
// about 1e-6.
constexpr double kTolerance = 1e-5;

fs::path golden_root() { return source_path("tests/golden"); }

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_root())) {
    if (fs::exists(entry.path() / "golden.safetensors"))
      names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

double relative_error(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return 1e9;
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    norm += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(error / norm);
}

struct GoldenSequence {
  std::vector<int32_t> ids;
  std::vector<int32_t> greedy;
  std::span<const float> embed;
  std::span<const float> logits;
  std::vector<std::span<const float>> layers;
};

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path directory = golden_root() / GetParam();
    auto file = SafetensorsFile::open((directory / "golden.safetensors").string());
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::make_unique<SafetensorsFile>(std::move(*file));
    for (int s = 0; file_->find(fmt::format("seq{}.ids", s)) != nullptr; ++s) {
      GoldenSequence sequence;
      const std::string prefix = fmt::format("seq{}.", s);
      sequence.ids = integers(prefix + "ids");
      sequence.greedy = integers(prefix + "greedy");
      sequence.embed = floats(prefix + "embed");
      sequence.logits = floats(prefix + "logits");
      for (int l = 0; file_->find(fmt::format("{}layer{}.out", prefix, l)) != nullptr; ++l) {
        sequence.layers.push_back(floats(fmt::format("{}layer{}.out", prefix, l)));
      }
      sequences_.push_back(std::move(sequence));
    }
    ASSERT_FALSE(sequences_.empty());
    auto info = read_json_file((directory / "case.json").string());
    ASSERT_TRUE(info);
    model_dir_ = (directory / info->at("model").get<std::string>()).lexically_normal().string();
  }

  void open(int64_t step_tokens, int threads, int64_t batch) {
    SessionOptions options;
    options.model = model_dir_;
    options.device_options.isa = "ref";
    options.device_options.num_threads = threads;
    options.goal.kv_type = KvType::kF32;  // as transformers computes
    options.goal.max_seq_len = 192;
    options.goal.max_batch_size = batch;
    options.goal.max_step_tokens = step_tokens;
    options.goal.max_logit_rows = std::max(step_tokens, batch);
    model_ = Model{};  // its buffers belong to the device that is replaced next
    auto planned = plan_model(options, Weights::kRequired);
    ASSERT_TRUE(planned) << planned.error().message;
    planned_ = std::move(*planned);
    auto model = load_model(planned_->plan, *planned_->source, *planned_->device, {});
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
  }

  std::vector<int32_t> integers(const std::string& name) const {
    const std::span<const std::byte> data = file_->find(name)->data;
    std::vector<int32_t> values;
    for (size_t i = 0; i < data.size(); i += 8) {
      values.push_back(static_cast<int32_t>(load<int64_t>(data.data() + i)));
    }
    return values;
  }
  std::span<const float> floats(const std::string& name) const {
    const std::span<const std::byte> data = file_->find(name)->data;
    return {reinterpret_cast<const float*>(data.data()), data.size() / 4};
  }

  // Logits of all positions, and what the observer saw, of one sequence run in chunks.
  struct Trace {
    std::vector<float> logits;
    std::map<std::pair<std::string, int64_t>, std::vector<float>> seen;
  };
  Trace trace(Runner& runner, const std::vector<int32_t>& ids) {
    Trace result;
    const Observer observer = [&](const char* name, int64_t layer, const float* data, int64_t rows,
                                  int64_t cols) {
      auto& values = result.seen[{name, layer}];
      values.insert(values.end(), data, data + rows * cols);
    };
    const auto done = runner.run_text(
        ids,
        [&](int64_t, std::span<const float> logits) {
          result.logits.insert(result.logits.end(), logits.begin(), logits.end());
        },
        &observer);
    EXPECT_TRUE(done) << done.error().message;
    return result;
  }

  std::string model_dir_;
  std::unique_ptr<SafetensorsFile> file_;
  std::vector<GoldenSequence> sequences_;
  std::unique_ptr<PlannedModel> planned_;
  Model model_;
};

TEST_P(Golden, EveryLayerAndEveryLogitAgree) {
  open(128, 2, 1);
  auto runner = Runner::create(planned_->plan, model_, *planned_->device).value();
  for (const GoldenSequence& sequence : sequences_) {
    const Trace result = trace(*runner, sequence.ids);
    EXPECT_LT(relative_error(result.seen.at({"embed", -1}), sequence.embed), kTolerance);
    ASSERT_EQ(static_cast<int64_t>(sequence.layers.size()),
              planned_->plan.config.num_hidden_layers);
    for (size_t l = 0; l < sequence.layers.size(); ++l) {
      const auto& got = result.seen.at({"layer_output", static_cast<int64_t>(l)});
      EXPECT_LT(relative_error(got, sequence.layers[l]), kTolerance) << "layer " << l;
    }
    EXPECT_LT(relative_error(result.logits, sequence.logits), kTolerance);
  }
}

// Chunked prefill and the number of threads change no bit.
TEST_P(Golden, ChunksAndThreadsGiveTheSameBits) {
  std::vector<std::vector<float>> first;
  for (const auto& [chunk, threads] : {std::pair{128, 1}, {7, 3}, {1, 2}}) {
    open(chunk, threads, 1);
    auto runner = Runner::create(planned_->plan, model_, *planned_->device).value();
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const std::vector<float> logits = trace(*runner, sequences_[s].ids).logits;
      if (first.size() <= s) first.push_back(logits);
      EXPECT_EQ(logits, first[s]) << "chunk " << chunk << " threads " << threads << " sequence "
                                  << s;
    }
  }
}

// 64 greedy tokens, each sequence alone and all of them in one ragged batch with small prefill
// chunks.
TEST_P(Golden, GreedyTokensAgreeAloneAndInABatch) {
  for (const int64_t batch : {int64_t{1}, int64_t{4}}) {
    open(16, 2, batch);
    auto engine =
        make_engine(planned_->plan, model_, *planned_->device, planned_->plan.config.vocab_size)
            .value();
    std::map<RequestId, size_t> index;
    std::vector<std::vector<int32_t>> tokens(sequences_.size());
    for (size_t s = 0; s < sequences_.size(); ++s) {
      SamplingSettings sampling;
      sampling.greedy = true;
      sampling.max_new_tokens = 64;
      const auto id = engine->submit({sequences_[s].ids, sampling});
      ASSERT_TRUE(id) << id.error().message;
      index[*id] = s;
    }
    while (!engine->idle()) {
      for (const Event& event : engine->step()) tokens[index[event.id]].push_back(event.token);
    }
    for (size_t s = 0; s < sequences_.size(); ++s) {
      EXPECT_EQ(tokens[s], sequences_[s].greedy) << "batch " << batch << " sequence " << s;
    }
    EXPECT_EQ(engine->status().pages_free, engine->status().pages_total);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(case_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace quench
