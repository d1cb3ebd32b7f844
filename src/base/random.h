// Counter-based random numbers: the value at (seed, index) is a pure function, so that a draw does
// not depend on what was drawn before, on the batch or on the number of threads. Nothing here has
// state; any thread may call.
#pragma once

#include <array>
#include <cstdint>

namespace quench {

// Philox4x32 with 10 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011), section 3.3. The tests hold the vectors published with Random123.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9u;  // the golden ratio
    key[1] += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

// 64 random bits at (seed, index) of one of many independent streams.
constexpr uint64_t random_bits(uint64_t seed, uint64_t index, uint32_t stream = 0) {
  const auto words =
      philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), stream, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (uint64_t{words[1]} << 32) | words[0];
}

// A multiple of 2^-53 in [0, 1), from the upper 53 of those bits.
constexpr double random_uniform(uint64_t seed, uint64_t index, uint32_t stream = 0) {
  return static_cast<double>(random_bits(seed, index, stream) >> 11) * 0x1p-53;
}

}  // namespace quench
