// Where the tensors of a file that is being written lie, and how much of each is there: what the
// streaming writers of safetensors and GGUF share. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/atomic_file.h"
#include "base/result.h"

namespace quench {

class TensorSlots {
 public:
  // begin_bytes counts from the data's begin. False: there is one of that name.
  bool add(const std::string& name, int64_t begin_bytes, int64_t size_bytes) {
    return slots_.emplace(name, Slot{begin_bytes, size_bytes, 0}).second;
  }
  // Where in the file the data begins.
  void set_data_begin(int64_t data_begin_bytes) { data_begin_bytes_ = data_begin_bytes; }

  // The next piece of a tensor's data. kInternal when the tensor was not declared, or is full.
  Result<void> append(AtomicFile& file, std::string_view name, std::span<const std::byte> piece);
  // kInternal when data is missing, naming the tensor.
  Result<void> check_full(const AtomicFile& file) const;

 private:
  struct Slot {
    int64_t begin_bytes = 0;
    int64_t size_bytes = 0;
    int64_t written_bytes = 0;
  };

  std::map<std::string, Slot, std::less<>> slots_;
  int64_t data_begin_bytes_ = 0;
};

}  // namespace quench
