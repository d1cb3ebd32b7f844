#include "devices/cpu/ref/ref.h"

namespace quench::ref {
namespace {

uint64_t read(const std::byte* data, int64_t size_bytes, int64_t streams, int64_t) {
  const int64_t part_words = size_bytes / streams / 8;
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sums[4] = {};
  for (int64_t i = 0; i < part_words; i += kProbeGrain / 8) {
    for (int64_t s = 0; s < streams; ++s) {
      const uint64_t* at = words + s * part_words + i;
      for (int64_t j = 0; j < kProbeGrain / 8; j += 4) {
        for (int64_t l = 0; l < 4; ++l) sums[l] += at[j + l];
      }
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// A multiply and then an add, as in the reference matmul; twelve vectors of the baseline's four
// floats, so that the chains hide the latency of both.
constexpr int kSums = 48;

float f32(int64_t rounds) {
  volatile float factor = 0.5f;
  const float a = factor;
  float sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = factor * static_cast<float>(i);  // none equal another
  for (int64_t r = 0; r < rounds; ++r) {
    for (float& sum : sums) sum = sum * a + a;
  }
  float total = 0.0f;
  for (const float sum : sums) total += sum;
  return total;
}

}  // namespace

const Probes probes = {read, {f32, kSums * 2}, {}, {}, {}};

}  // namespace quench::ref
