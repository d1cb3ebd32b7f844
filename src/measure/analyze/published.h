// Published measurements: rows of hardware/published/qwen_speed.csv, or of a file of the same form
// that somebody adds, and the list of those among them that no sound program explains. Plain
// values; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/analyze/engines.h"
#include "measure/analyze/shape.h"
#include "plan/hardware.h"

namespace quench {

struct PublishedRow {
  std::string source;
  std::string model;  // as published: "Qwen2.5-7B-Instruct"
  std::string precision;
  std::string engine;
  std::string device;
  int64_t prompt_tokens = 0;  // 0: not stated
  int64_t output_tokens = 0;
  int64_t devices = 1;
  std::optional<int64_t> batch;        // empty: something else than a number was published
  std::optional<double> decode_tok_s;  // generated tokens over total time, prefill inside
  std::optional<double> memory_bytes;  // published in GiB
  std::string note;
};

// Rows with the columns source, model, precision, engine, gpu, input_len, output_len, gpu_mem_gb,
// num_gpus, batch, note and generated_tokens_per_s (or tokens_per_s), in any order.
Result<std::vector<PublishedRow>> parse_published(std::string_view csv, const std::string& where);
Result<std::vector<PublishedRow>> load_published();

enum class AnomalyKind { kOutlier, kPathology };

// Conditions that are empty hold for every row.
struct Anomaly {
  std::string id;
  AnomalyKind kind = AnomalyKind::kOutlier;
  bool is_memory = false;  // of the memory figure, not of the speed
  std::string engine, precision, model;
  std::optional<int64_t> devices, max_prompt_tokens;
  std::optional<bool> moe, tied;
};

// What a row or a claim is about, with the names of Engines and shapes.
struct Subject {
  std::string engine;     // "transformers"
  std::string precision;  // "bf16"
  const ModelShape* shape = nullptr;
  int64_t devices = 1;
  int64_t prompt_tokens = 1;
};

Result<std::vector<Anomaly>> load_anomalies();
// Those that the subject falls under.
std::vector<const Anomaly*> find_anomalies(const std::vector<Anomaly>& all, const Subject& subject,
                                           bool is_memory);

}  // namespace quench
