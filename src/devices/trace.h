// Trace: what every worker did when, span inside span: step, layer, phase, op. Each worker writes
// to its own track, so nothing is shared while a step runs; read it between steps. Without a trace
// an op costs one test of OpContext::trace.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/matmul.h"
#include "devices/phases.h"

namespace quench {

// What an op has to do, counted once for the whole team.
struct OpCost {
  int64_t read_bytes = 0;
  int64_t ops = 0;  // a multiply and an add are two
  Arithmetic arithmetic = Arithmetic::kF32;
  bool reads_model = false;  // weights or keys and values, not activations
};

struct TraceSpan {
  const char* name;    // of static storage, as is `detail`
  const char* detail;  // the kernel of a matmul; or null
  int64_t layer;       // -1: outside the layers
  int depth;           // 0: encloses all others
  int64_t begin_ns;    // steady clock
  int64_t end_ns;
  OpCost cost;
};

class Trace {
 public:
  // Past max_spans a worker's spans are counted and dropped.
  explicit Trace(int num_workers, int64_t max_spans = 1 << 20);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // The tables to use instead of the device's: each row is the device's own inside a span. A device
  // sets them when it is given the trace.
  void wrap(const Ops& ops, const Phases& phases);
  const Ops& ops() const { return traced_ops_; }
  const Phases& phases() const { return traced_phases_; }

  // layer -1: that of the enclosing span.
  void open(int worker, const char* name, const char* detail, int64_t layer, const OpCost& cost);
  void close(int worker);

  int num_workers() const { return static_cast<int>(tracks_.size()); }
  // In the order in which they were opened.
  std::span<const TraceSpan> spans(int worker) const;
  int64_t num_dropped() const;

  const Ops& inner_ops() const { return inner_ops_; }
  const Phases& inner_phases() const { return inner_phases_; }

 private:
  struct Track;

  const int64_t max_spans_;
  Ops inner_ops_{};
  Phases inner_phases_{};
  Ops traced_ops_{};
  Phases traced_phases_{};
  std::vector<std::unique_ptr<Track>> tracks_;
};

// A span as long as a scope; nothing without a trace.
class TraceScope {
 public:
  TraceScope(const OpContext& context, const char* name, int64_t layer = -1,
             const OpCost& cost = {}, const char* detail = nullptr)
      : trace_(context.trace), worker_(context.worker.index) {
    if (trace_ != nullptr) trace_->open(worker_, name, detail, layer, cost);
  }
  ~TraceScope() {
    if (trace_ != nullptr) trace_->close(worker_);
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  Trace* trace_;
  int worker_;
};

// kernel->run() inside a span; context.trace is set.
void run_traced_matmul(const OpContext& context, const MatmulArgs& args);

}  // namespace quench
