// Ceilings: what this machine can do at most, measured: reading, by where the working set lies, and
// arithmetic, by type. A speed is reported as a share of the limit that follows from them
// (plan/roofline.h). Plain values; measuring drives the device, so one thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "devices/device.h"

namespace quench {

// Over short interleaved repetitions. The best is the ceiling: a disturbed repetition says
// something about the neighbours, not about the machine.
struct Rate {
  double best = 0.0;
  double median = 0.0;
};

struct ReadCeiling {
  std::string level;              // "L2", "L3", "memory"
  int64_t up_to_bytes = 0;        // the working sets that it is for; of the last: all larger ones
  int64_t working_set_bytes = 0;  // what was read
  int64_t streams = 0;            // side by side in each thread, the best of 1, 2, 4, 8, 16
  int64_t prefetch_bytes = 0;     // ahead of each, the best of two
  Rate read_gb_s;
};

// Why another minute would give others.
enum class Disturbance { kNone, kOthers, kMemory };

struct Ceilings {
  // What they belong to: the key of the cache.
  std::string cpu_model;
  std::string isa;
  int threads = 0;
  std::optional<double> quota_cpus;  // of the control groups

  int64_t unix_time_s = 0;
  double measure_s = 0.0;  // how long it took
  // Of the processors' time meanwhile, what others took, stolen time included; null: not known.
  std::optional<double> others_share;
  std::vector<ReadCeiling> read;  // from small to large working sets
  Rate f32_gflop_s;               // a multiply and an add are two
  Rate bf16_gflop_s;              // that of f32 where the level has no such instruction; so int8
  Rate int8_gop_s;

  const ReadCeiling& for_working_set(int64_t bytes) const;
  const Rate& peak(Arithmetic arithmetic) const;

  // With the medians in place of the bests: what the machine does as a rule, for predictions.
  Ceilings usual() const;

  // kOthers: they took a large share of the processors' time; kMemory: the median of reading it is
  // far from the best.
  Disturbance disturbance() const;
  // A day, or where something disturbed them some minutes.
  int64_t keep_s() const;
};

// Takes some seconds. Rates are those of a whole team; where a quota grants less time than the team
// has threads they are scaled down to what can be kept up. Each round is a tenth of a second: few
// of them, again and again, follow a machine that changes.
constexpr int64_t kCeilingRounds = 15;
Result<Ceilings> measure_ceilings(Device& device, int64_t rounds = kCeilingRounds);

// Of several measurements of one machine, at least one: the best of the bests, the median of the
// medians. A neighbour may have pressed some of them.
Ceilings combined(std::span<const Ceilings> turns);

// From $XDG_CACHE_HOME/quench/ceilings.json (or ~/.cache/...) when they were measured there for the
// same key no longer ago than they are good for; otherwise, or with `measure`, measured and kept
// there.
Result<Ceilings> cached_ceilings(Device& device, bool measure);

Json ceilings_json(const Ceilings& ceilings);
Result<Ceilings> parse_ceilings(const Json& json, const std::string& where);

}  // namespace quench
