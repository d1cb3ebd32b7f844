// Probes: small kernels that do nothing but reach a limit of the machine: reading memory, and
// arithmetic on registers. What plan/ceilings.h measures with. They own nothing; each is called by
// every worker of the team with its own part.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {

// Instructions of one kind in long independent chains, nothing else.
struct PeakProbe {
  // Does `rounds` rounds; the result depends on all of them and means nothing.
  float (*run)(int64_t rounds) = nullptr;  // null: this level has no such instruction
  int64_t ops_per_round = 0;               // a multiply and an add are two
};

struct Probes {
  // Reads each of size_bytes once, as `streams` equal parts side by side, fetching prefetch_bytes
  // ahead in each (0: not at all). size_bytes is a multiple of streams * kProbeGrain. The result
  // depends on all that was read.
  uint64_t (*read)(const std::byte* data, int64_t size_bytes, int64_t streams,
                   int64_t prefetch_bytes) = nullptr;
  PeakProbe f32;          // fused multiply-add
  PeakProbe bf16;         // dot product of pairs, summed in f32
  PeakProbe int8;         // dot product of fours, summed in int32, at the level's full width
  PeakProbe int8_narrow;  // the same in 256 bits, where that is not the full width
};

constexpr int64_t kProbeGrain = 256;  // bytes that a stream reads before the next one has its turn

}  // namespace quench
