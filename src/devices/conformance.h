// Conformance: every op and every matmul kernel of a device, judged against ref/. The tests and
// `quench check` run the same cases. Two questions per case: is the result as near to ref's as the
// kernel's arithmetic allows (tolerance.h), and does it have the same bits for any number of tokens
// and workers? A TestBench owns its devices; one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"

namespace quench {

struct ConformanceResult {
  std::string name;        // of the kernel or op
  std::string shape;       // "int4_g128 [48, 160]"
  double error = 0.0;      // norm over norm, of the token that comes nearest to its tolerance
  double tolerance = 0.0;  // of that token
  bool passed = true;
  std::string message;  // what is wrong; empty when passed
};

struct TestBench {
  std::unique_ptr<Device> reference;           // level ref, one worker
  std::vector<std::unique_ptr<Device>> teams;  // the level to judge with 1, 2 and 3 workers
};
Result<TestBench> open_bench(const std::string& device, const std::string& isa);

// Quick: fewer shapes and formats of every group, for `make test`.
enum class Effort { kQuick, kFull };

std::vector<ConformanceResult> judge_matmul(TestBench& bench, const MatmulKernel& kernel,
                                            Effort effort);
std::vector<ConformanceResult> judge_ops(TestBench& bench, const Ops& ops, Effort effort);

// Judges levels, lowest first. What a level takes over from one that was judged before is not
// judged again.
class Conformance {
 public:
  explicit Conformance(Effort effort) : effort_(effort) {}
  Result<std::vector<ConformanceResult>> judge(const std::string& device, const std::string& isa);

 private:
  const Effort effort_;
  std::vector<const MatmulKernel*> judged_;
  std::vector<Ops> judged_ops_;
};

}  // namespace quench
