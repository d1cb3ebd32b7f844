#include "measure/eval/stored_reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

// Logits such as a model's: a few likely ids, a long tail.
std::vector<float> some_logits(uint64_t seed, size_t vocab, float sharpness) {
  std::vector<float> logits(vocab);
  for (size_t i = 0; i < vocab; ++i) {
    const double u = std::max(random_uniform(seed, i), 1e-9);
    logits[i] = static_cast<float>(-std::log(u)) * sharpness;
  }
  return logits;
}

std::string encoded(const std::vector<float>& logits, int32_t next) {
  std::vector<double> p;
  const LogitsRow row = read_logits(logits);
  probabilities(row, p);
  return encode_row(row, p, next);
}

TEST(StoredReference, TheDivergenceIsNearTheExactOne) {
  constexpr size_t kVocab = 7680;
  for (const float sharpness : {0.3f, 1.0f, 2.0f, 5.0f}) {
    for (const float change : {0.0f, 0.01f, 0.2f, 1.0f}) {
      double exact = 0.0;
      double stored = 0.0;
      constexpr int kRows = 8;
      for (uint64_t r = 0; r < kRows; ++r) {
        const std::vector<float> logits = some_logits(r, kVocab, sharpness);
        std::vector<float> other = logits;
        for (size_t i = 0; i < kVocab; ++i)
          other[i] += change * static_cast<float>(random_uniform(100 + r, i) - 0.5);
        const LogitsRow reference = read_logits(logits);
        const LogitsRow candidate = read_logits(other);
        std::vector<double> p;
        probabilities(reference, p);
        exact += kl_divergence(reference, p, candidate) / kRows;
        const std::string bytes = encoded(logits, 7);
        const auto row = decode_row(bytes_of(bytes));
        ASSERT_TRUE(row);
        EXPECT_EQ(row->nll, negative_log_likelihood(reference, 7));
        EXPECT_EQ(row->top1, reference.top1);
        EXPECT_LE(row->tail, kMaxTail * 1.0001);
        stored += kl_divergence(*row, candidate) / kRows;
      }
      EXPECT_NEAR(stored, exact, 1e-5 + 1e-3 * exact) << sharpness << " " << change;
    }
  }
}

TEST(StoredReference, ComesBackFromItsFile) {
  const ScratchDir scratch;
  const Json key = {{"model", "m"}};
  const std::string path = reference_path(scratch.path(), key);
  auto writer = ReferenceWriter::create(path, key);
  ASSERT_TRUE(writer);
  const std::string a = encoded({1.0f, 2.0f, 3.0f}, 0);
  const std::string b = encoded({5.0f, 0.0f, -30.0f}, 2);
  writer->add(a);
  writer->add(b);
  ASSERT_TRUE(writer->finish({{"x", 1}}));
  const auto stored = StoredReference::open(path, key);
  ASSERT_TRUE(stored) << stored.error().message;
  ASSERT_EQ((*stored)->num_rows(), 2);
  EXPECT_EQ((*stored)->about()["x"], 1);
  EXPECT_EQ((*stored)->row(0, 3)->ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ((*stored)->row(1, 3)->ids.size(), 2u);  // the third is as good as impossible
  EXPECT_NEAR((*stored)->row(1, 3)->nll, 35.0067, 1e-3);
  EXPECT_FALSE((*stored)->row(0, 2));  // a smaller vocabulary
  EXPECT_EQ(StoredReference::open(path + "x", key).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(StoredReference::open(path, {{"model", "n"}}));

  // Any byte that changes, and any end that is missing, is noticed.
  const std::string whole = *read_file(path);
  for (size_t i = 0; i < whole.size(); i += 5) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 4);
    scratch.write("bad.reference", bytes);
    EXPECT_FALSE(StoredReference::open(scratch.file("bad.reference"), key)) << i;
    scratch.write("bad.reference", whole.substr(0, i));
    EXPECT_FALSE(StoredReference::open(scratch.file("bad.reference"), key)) << i;
  }
}

TEST(StoredReference, DamagedRowsAreErrors) {
  const std::string row = encoded(some_logits(1, 300, 1.0f), 5);
  ASSERT_TRUE(decode_row(bytes_of(row)));
  for (size_t i = 0; i < row.size(); ++i) EXPECT_FALSE(decode_row(bytes_of(row.substr(0, i))));
  for (size_t i = 0; i < row.size(); ++i) {
    std::string bytes = row;
    bytes[i] = static_cast<char>(~bytes[i]);
    const auto decoded = decode_row(bytes_of(bytes));  // may be wrong, must not crash
    if (decoded) {
      EXPECT_TRUE(std::is_sorted(decoded->ids.begin(), decoded->ids.end()));
    }
  }
}

}  // namespace
}  // namespace quench
