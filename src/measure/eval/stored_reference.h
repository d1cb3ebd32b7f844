// What a reference model predicted for every scored position of some texts, kept in a file, so that
// the next evaluation against it neither loads nor runs it.
//
// Of a position the ids are kept that hold all but kMaxTail of the probability, each with its
// log-probability in 16 bits (steps of 1/2048 nat, down to e^-32); the rest counts as one further
// outcome. The divergence from such a row is too small by the divergence inside the rest times its
// probability, at most kMaxTail, and off by the rounding: together under 1e-5 nats + 0.1 % on what
// was tested (stored_reference_test.cc). Perplexity and the most probable token are kept exactly.
//
// A writer and a reader belong to one thread; row() may be called by any.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "measure/eval/scores.h"

namespace quench {

constexpr double kMaxTail = 1e-4;
// Of all files of the cache together; the ones that were used the longest ago make room.
constexpr int64_t kMaxCacheBytes = int64_t{8} << 30;

struct StoredRow {
  double nll = 0.0;  // of the text's next token
  int32_t top1 = 0;
  double tail = 0.0;          // probability of what is not listed
  std::vector<int32_t> ids;   // ascending
  std::vector<double> log_p;  // of each; the probabilities and the tail add up to 1
};

// The bytes of a row, p being probabilities(reference).
std::string encode_row(const LogitsRow& reference, std::span<const double> p, int32_t next_token);
Result<StoredRow> decode_row(std::span<const std::byte> bytes);
// As kl_divergence() of the whole rows, but for the error told above.
double kl_divergence(const StoredRow& reference, const LogitsRow& candidate);

class ReferenceWriter {
 public:
  static Result<ReferenceWriter> create(const std::string& path, const Json& key);
  // An error of the file, or more than kMaxCacheBytes: the rest is left out and finish() says why.
  void add(const std::string& row);
  // `about`: what else is kept, given back by the reader. Makes room in the directory.
  Result<void> finish(Json about);

 private:
  void append(std::string_view bytes);
  void flush();

  AtomicFile file_;
  Json key_;
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
  std::string pending_;
  Sha256 digest_;
  Result<void> outcome_;
};

class StoredReference {
 public:
  // kNotFound: there is none; anything else: it is damaged, or of another key.
  static Result<std::unique_ptr<StoredReference>> open(const std::string& path, const Json& key);

  int64_t num_rows() const { return static_cast<int64_t>(begin_.size()) - 1; }
  // An error where the row does not fit the vocabulary, which open() did not look at.
  Result<StoredRow> row(int64_t index, int64_t vocab_size) const;
  const Json& about() const { return about_; }

 private:
  std::span<const std::byte> row_bytes(int64_t index) const;

  MappedFile file_;
  std::vector<size_t> begin_;  // of every row, and the end of the last
  Json about_;
};

// DIR/<hash of key>.reference
std::string reference_path(const std::string& dir, const Json& key);

}  // namespace quench
