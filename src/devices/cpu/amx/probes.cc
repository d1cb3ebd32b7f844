// The peak as a kernel can reach it: a 2 x 2 block of sums, its four operands loaded from the
// first-level cache for every four products. Chains on registers alone run faster and say nothing.
#include "devices/cpu/amx/probes.h"

#include "devices/cpu/amx/tiles.h"

namespace quench::amx {
namespace {

constexpr int64_t kSums = 4;

struct Operands {
  alignas(64) std::byte inputs[2 * kTileBytes];
  alignas(64) std::byte weights[2 * kTileBytes];
};

// `fill` copies one element of `size` bytes everywhere; Product multiplies tiles.
template <class Sum, class Product>
float run(int64_t rounds, const void* element, int64_t size, Product product) {
  Operands operands;
  for (int64_t i = 0; i < 2 * kTileBytes; i += size) {
    __builtin_memcpy(operands.inputs + i, element, static_cast<size_t>(size));
    __builtin_memcpy(operands.weights + i, element, static_cast<size_t>(size));
  }
  begin_tiles(kTileRowBytes);
  zero_sums();
  for (int64_t r = 0; r < rounds; ++r) {
    load_inputs<true>(operands.inputs, kTileRowBytes);
    load_weights<true>(operands.weights, operands.weights + kTileBytes, kTileRowBytes);
    product();
  }
  alignas(64) Sum sums[kSums * kTileBytes / 4];
  store_sums(reinterpret_cast<std::byte*>(sums));
  release_tiles();
  double total = 0.0;
  for (const Sum sum : sums) total += static_cast<double>(sum);
  return static_cast<float>(total);
}

float int8(int64_t rounds) {
  const int8_t one = 1;
  return run<int32_t>(rounds, &one, 1, [] { multiply_int8<true, true>(); });
}

float bf16(int64_t rounds) {
  const uint16_t half = 0x3f00;
  return run<float>(rounds, &half, 2, [] { multiply_bf16<true, true>(); });
}

}  // namespace

void set_probes(Probes& probes) {
  probes.int8 = {int8, kSums * 16 * 16 * 64 * 2};
  probes.bf16 = {bf16, kSums * 16 * 16 * 32 * 2};
}

}  // namespace quench::amx
