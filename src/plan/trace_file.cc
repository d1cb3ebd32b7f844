#include "plan/trace_file.h"

#include <algorithm>
#include <vector>

#include "base/file.h"

namespace quench {
namespace {

constexpr int64_t kShortestWait_ns = 1000;

class TraceText {
 public:
  TraceText(const Ceilings& ceilings, int64_t model_bytes)
      : ceilings_(ceilings), model_bytes_(model_bytes) {}

  std::string write(const Trace& trace) {
    text_ = "{\"displayTimeUnit\": \"ms\", \"otherData\": ";
    text_ += Json{{"isa", ceilings_.isa},
                  {"threads", ceilings_.threads},
                  {"model_bytes", model_bytes_},
                  {"dropped_spans", trace.num_dropped()}}
                 .dump();
    text_ += ", \"traceEvents\": [";
    for (int worker = 0; worker < trace.num_workers(); ++worker) {
      if (!trace.spans(worker).empty())
        begin_ns_ = std::min(begin_ns_, trace.spans(worker)[0].begin_ns);
    }
    for (int worker = 0; worker < trace.num_workers(); ++worker) write_track(trace, worker);
    return text_ + "\n]}\n";
  }

 private:
  void write_track(const Trace& trace, int worker) {
    next_line();
    text_ += fmt::format(
        R"({{"ph": "M", "pid": 1, "tid": {}, "name": "thread_name", "args": {{"name": "worker {}"}}}})",
        worker, worker);
    // [depth]: where the last span of that depth inside the present one of the depth above ended;
    // 0: there has been none.
    std::vector<int64_t> last_end_ns;
    for (const TraceSpan& span : trace.spans(worker)) {
      const auto depth = static_cast<size_t>(span.depth);
      last_end_ns.resize(depth + 1, 0);
      const int64_t wait_ns = span.begin_ns - last_end_ns[depth];
      if (depth > 0 && last_end_ns[depth] > 0 && wait_ns >= kShortestWait_ns)
        write_event("wait", worker, last_end_ns[depth], span.begin_ns, "");
      last_end_ns[depth] = span.end_ns;
      write_event(span.name, worker, span.begin_ns, span.end_ns, arguments(span));
    }
  }

  std::string arguments(const TraceSpan& span) const {
    std::string args;
    auto add = [&](std::string one) { args += (args.empty() ? "" : ", ") + std::move(one); };
    if (span.layer >= 0) add(fmt::format("\"layer\": {}", span.layer));
    if (span.detail != nullptr) add(fmt::format("\"kernel\": \"{}\"", span.detail));
    if (span.cost.read_bytes > 0) {
      add(fmt::format("\"read_bytes\": {}, \"ops\": {}, \"limit_share\": {:.4g}",
                      span.cost.read_bytes, span.cost.ops, limit_share(span)));
    }
    return args;
  }

  double limit_share(const TraceSpan& span) const {
    const OpCost& cost = span.cost;
    const ReadCeiling& read =
        ceilings_.for_working_set(cost.reads_model ? model_bytes_ : cost.read_bytes);
    // GB/s and Gop/s are per nanosecond.
    const double limit_ns =
        std::max(static_cast<double>(cost.read_bytes) / read.read_gb_s.best,
                 static_cast<double>(cost.ops) / ceilings_.peak(cost.arithmetic).best);
    return limit_ns / static_cast<double>(std::max<int64_t>(span.end_ns - span.begin_ns, 1));
  }

  void write_event(const char* name, int worker, int64_t begin_ns, int64_t end_ns,
                   const std::string& args) {
    next_line();
    text_ += fmt::format(
        R"({{"ph": "X", "pid": 1, "tid": {}, "name": "{}", "ts": {:.3f}, "dur": {:.3f}, "args": {{{}}}}})",
        worker, name, static_cast<double>(begin_ns - begin_ns_) / 1e3,
        static_cast<double>(end_ns - begin_ns) / 1e3, args);
  }

  void next_line() {
    text_ += is_first_ ? "\n" : ",\n";
    is_first_ = false;
  }

  const Ceilings& ceilings_;
  const int64_t model_bytes_;
  int64_t begin_ns_ = INT64_MAX;
  bool is_first_ = true;
  std::string text_;
};

}  // namespace

Result<void> write_trace(const std::string& path, const Trace& trace, const Ceilings& ceilings,
                         int64_t model_bytes) {
  return write_file_atomic(path, TraceText(ceilings, model_bytes).write(trace));
}

}  // namespace quench
