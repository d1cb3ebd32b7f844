// LayerRunner: a model run layer by layer over a set of texts, with one layer's weights in memory
// at a time. The hidden states of all texts wait on the host between the layers. It is how a model
// much larger than memory is calibrated. One thread drives it; it owns its buffers.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/loader.h"
#include "models/blocks.h"

namespace quench {

class LayerRunner {
 public:
  // The plan by which create() loads layers, one at a time.
  static Result<Plan> plan(const Family& family, const ModelConfig& config,
                           const WeightSource& source, Device& device, int64_t max_tokens,
                           const std::string& format);
  // Texts are at most max_tokens long. format: of the matrices in memory; "": as stored. `source`
  // and `device` must outlive the runner.
  static Result<std::unique_ptr<LayerRunner>> create(const Family& family,
                                                     const ModelConfig& config,
                                                     const WeightSource& source, Device& device,
                                                     int64_t max_tokens, const std::string& format);

  // The embeddings of a text: [ids.size(), hidden_size], appended to the texts.
  Result<void> add_text(std::span<const int32_t> ids);
  // Frees the weights in memory: the embedding, when no text will follow, or a layer.
  void unload();

  // Loads a layer in place of the one before it.
  Result<void> load(int64_t layer);
  // Runs the loaded layer over a text, whose outputs replace its hidden states.
  void run(int64_t text, const Observer* observer);

  // What came out of the last run of a text: [tokens, hidden_size].
  std::span<const float> hidden(int64_t text) const { return hidden_[static_cast<size_t>(text)]; }
  int64_t num_texts() const { return static_cast<int64_t>(hidden_.size()); }
  int64_t num_tokens() const;  // of all texts
  const Workspace& workspace() const { return workspace_; }
  const ModelConfig& config() const { return plan_.config; }

 private:
  LayerRunner(Plan plan, const WeightSource& source, Device& device);
  Result<void> load_part(int64_t layer);
  void forward(int64_t num_tokens, const Observer* observer,
               const std::function<void(const ForwardContext&)>& body);

  Plan plan_;  // of the whole model as stored
  const WeightSource& source_;
  Device& device_;
  int64_t layer_ = -2;
  Model model_;  // the loaded part
  Buffer kv_buffer_;
  Buffer work_buffer_;
  Workspace workspace_;
  std::vector<std::vector<float>> hidden_;  // per text [tokens, hidden_size]
};

}  // namespace quench
