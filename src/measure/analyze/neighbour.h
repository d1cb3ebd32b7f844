// Neighbour: processes of our own that do nothing but read memory, to see what a neighbour on the
// device costs. Owns the processes and their memory: they end with the object, and with this
// process however it ends. One thread.
#pragma once

#include <sys/types.h>

#include <vector>

#include "base/result.h"
#include "devices/probes.h"

namespace quench {

class Neighbour {
 public:
  // Memory for the readers to read, larger than the caches; nothing runs yet.
  static Result<Neighbour> create(int readers, const Probes& probes);
  Neighbour(Neighbour&& other) noexcept;
  Neighbour& operator=(Neighbour&&) = delete;
  ~Neighbour();

  int readers() const { return readers_; }
  Result<void> start();
  void stop();  // returns when they are gone
  bool is_running() const { return !processes_.empty(); }

 private:
  Neighbour() = default;

  int readers_ = 0;
  decltype(Probes::read) read_ = nullptr;
  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
  std::vector<pid_t> processes_;
};

}  // namespace quench
