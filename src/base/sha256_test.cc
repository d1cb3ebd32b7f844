#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace quench {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The examples of FIPS 180-4 (NIST "SHA256.pdf") and the long vector of RFC 6234.
TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(bytes_of("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(bytes_of(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameDigestAsTheWhole) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (size_t length_bytes = 0; length_bytes <= text.size(); ++length_bytes) {
    const std::string part = text.substr(0, length_bytes);
    for (const size_t piece_bytes : {size_t{1}, size_t{55}, size_t{64}, size_t{100}}) {
      Sha256 hash;
      for (size_t i = 0; i < part.size(); i += piece_bytes) {
        hash.update(bytes_of(part).subspan(i, std::min(piece_bytes, part.size() - i)));
      }
      ASSERT_EQ(hash.hex_digest(), sha256_hex(bytes_of(part)))
          << length_bytes << " " << piece_bytes;
    }
  }
}

}  // namespace
}  // namespace quench
