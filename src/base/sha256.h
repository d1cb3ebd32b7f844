// SHA-256 (FIPS 180-4), streaming, portable C++. For naming files by their content, not for
// secrets. An object owns its 100 bytes of state; one thread at a time may use it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace quench {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // The digest as 64 lower-case hexadecimal digits. The object must not be used afterwards.
  std::string hex_digest();

 private:
  void process_block(const std::byte* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};  // the first `total_bytes_ % 64` bytes of the next block
  uint64_t total_bytes_ = 0;
};

std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace quench
