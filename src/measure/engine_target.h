// EngineTarget: the engine of this process as a BenchTarget. The time of a first token includes the
// chat template and the tokenizer, as it does for a user.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine/session.h"
#include "engine/stop.h"
#include "measure/published.h"
#include "measure/target.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"

namespace quench {

// The ids that end an answer of this model: its generation_config.json's, and ChatML's.
Result<std::vector<int32_t>> model_stop_tokens(const Session& session);

class EngineTarget : public BenchTarget {
 public:
  // The session must outlive the target.
  static Result<std::unique_ptr<EngineTarget>> create(const Session& session);

  Json describe() const override;
  Result<int64_t> submit(const BenchRequest& request) override;
  Result<std::span<const BenchEvent>> poll(double until_s) override;
  void cancel(int64_t request) override;

  // What quench monitor shows the speed as a share of.
  void set_ceiling(double gb_s) { publisher_.set_ceiling(gb_s); }

 private:
  struct Stream {
    int64_t prompt_tokens;
    Detokenizer detokenizer;
    StopChecker checker;
  };

  EngineTarget(const Session& session, std::unique_ptr<Engine> engine, ChatTemplate chat_template,
               std::vector<int32_t> stop_token_ids);

  const Session& session_;
  std::unique_ptr<Engine> engine_;
  ChatTemplate template_;
  std::vector<int32_t> stop_token_ids_;
  std::map<RequestId, Stream> streams_;
  std::vector<BenchEvent> events_;
  Publisher publisher_;  // of what each step reads, for quench monitor
};

}  // namespace quench
