// RecordSide: what compare reads of one record: the counted runs' values, and what is known of the
// machine and the model. Fields that a record lacks stay empty. Plain values; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/analyze/cost.h"
#include "measure/analyze/shape.h"
#include "plan/hardware.h"

namespace quench {

struct SideTask {
  std::string name;  // "chat/en"
  std::vector<double> ttft_s, e2e_s, decode_tok_s;
  std::vector<double> tokens;         // generated
  std::vector<double> prompt_tokens;  // empty: unknown
  std::vector<double> host_s;         // seen by the caller after the engine, per token
  // Of a token, or of a prompt's first one, outside the matmuls and attention: small operations,
  // waiting of the team, the host between passes. Known where it was traced.
  std::vector<double> overhead_s;
};

// A cost that somebody wrote down: "20 minutes of rent were 20 CNY".
struct CostClaim {
  std::string kind;  // "rent", "power"
  double seconds = 0.0;
  Money amount;
};

struct RecordSide {
  std::string name;  // "demo int4_g128 on AMD EPYC"
  std::vector<SideTask> tasks;
  std::string format;
  std::optional<ModelShape> shape;
  std::optional<Hardware> hardware;  // of the data sheet, when the record names it
  std::optional<double> read_gb_s;   // measured, else the data sheet's
  std::optional<double> peak_tflops;
  bool peaks_are_measured = false;
  std::optional<double> prompt_flop;  // operations of the prompt, of all types
  std::optional<double> bytes_per_token;
  std::optional<double> weights_bytes;
  std::optional<Money> purchase, rent_per_hour, electricity;
  std::vector<CostClaim> cost_claims;
};

Result<RecordSide> read_side(const Json& record, const std::string& where);

}  // namespace quench
