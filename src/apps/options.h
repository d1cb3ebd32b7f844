// Flags that several verbs share: which model and where, how to sample.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/session.h"
#include "measure/analyze/cost_inputs.h"

namespace quench {

// --device, --isa, --threads, --no-pin.
void add_device_options(CLI::App& verb, std::string& device, DeviceOptions& options);
// --isa, --threads, --no-pin: the part of them that is not the device itself.
void add_team_options(CLI::App& verb, DeviceOptions& options);
// MODEL, --random-weights, --format, --recipe.
void add_weights_options(CLI::App& verb, SessionOptions& options);
// Both, for a verb that runs a model.
void add_model_options(CLI::App& verb, SessionOptions& options);
// --max-seq-len, --kv-format.
void add_memory_options(CLI::App& verb, SessionOptions& options);
// --max-batch-size, --kv-tokens, --speculation: what an engine may do with several sequences.
void add_engine_options(CLI::App& verb, SessionOptions& options);

// --buy, --rent, --electricity, --watt, ...: what a machine costs. Returns the options.
std::vector<CLI::Option*> add_cost_options(CLI::App& verb, CostWishes& cost);

// What the user set; the rest comes from the model's generation_config.json.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int> top_k, max_new_tokens;
  std::optional<uint64_t> seed;
  bool greedy = false;
  std::vector<std::string> stop_strings;
  std::vector<std::string> logit_bias;  // "ID:BIAS"

  void add_to(CLI::App& verb);
  // What can be checked before a model is loaded: settings in range, biases well-formed.
  Result<void> apply(SamplingSettings& settings) const;
  // Defaults, then the model's, then the flags; stop tokens of the model and its chat format.
  Result<SamplingSettings> resolve(const ModelFiles& files, const Tokenizer& tokenizer) const;
};

// Whether a file can be written there, asked before the work and not after it. Devices and other
// special files are refused: output files appear by renaming, which would replace them.
Result<void> check_output_path(const std::string& path);

// Progress of loading on stderr, when it is a terminal and takes longer than a moment.
LoadProgress load_progress();

// Set by Ctrl-C after install_interrupt_flag().
std::atomic<bool>& interrupt_flag();
void install_interrupt_flag();
// Waits until stdin has something to read (true) or the flag is set (false). A Ctrl-C is not
// missed, whichever thread it reaches and however early.
bool wait_for_input();
// All of stdin; kCancelled when Ctrl-C comes first.
Result<std::string> read_stdin();

// What --json prints; bytes that are no UTF-8 (a file's name) become U+FFFD.
void print_json(const Json& json);

inline double megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

}  // namespace quench
