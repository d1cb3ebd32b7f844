// What running benchmarks have read and generated so far, for other processes to watch: each engine
// has one small file in $XDG_RUNTIME_DIR/quench (or /tmp/quench-UID), mapped and counted up in
// place. A publisher owns its file and removes it; one thread counts, any process reads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace quench {

class Publisher {
 public:
  // Where no file can be made nothing is published, and nothing else changes.
  Publisher();
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Of the model in use: the fastest it could be read.
  void set_ceiling(double gb_s);
  void add(int64_t read_bytes, int64_t tokens);

 private:
  struct Counters;
  std::string path_;
  Counters* counters_ = nullptr;  // the mapping
};

// The counters of all processes that are alive.
struct PublishedReads {
  int64_t engines = 0;
  int64_t read_bytes = 0;
  int64_t tokens = 0;
  std::optional<double> ceiling_gb_s;  // the largest; null: none is known
};
PublishedReads published_reads();

}  // namespace quench
