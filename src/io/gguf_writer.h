// Streaming writer of one GGUF file (version 3): keys and tensors are declared first, then the
// tensors' data comes in pieces. The file appears under its name only after finish(); a writer that
// is destroyed before leaves nothing behind. Memory: the header. One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/result.h"
#include "io/gguf.h"
#include "io/tensor_slots.h"

namespace quench {

struct NewGgufTensor {
  std::string name;
  const GgmlType* type;
  std::vector<int64_t> shape;  // outermost first
};

// The keys and values of a file, as its bytes.
class GgufKeys {
 public:
  void add_u32(std::string_view key, uint32_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_i32s(std::string_view key, std::span<const int32_t> values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(std::string_view key, GgufKind kind);
  void begin_array(std::string_view key, GgufKind kind, uint64_t count);

  uint64_t count_ = 0;
  std::string bytes_;
};

class GgufWriter {
 public:
  // The tensors' data follows in the declared order.
  static Result<GgufWriter> create(const std::string& path, const GgufKeys& keys,
                                   std::span<const NewGgufTensor> tensors);

  // The next piece of a tensor's data. Tensors may be filled in any order and in turns.
  Result<void> append(std::string_view name, std::span<const std::byte> piece) {
    return slots_.append(file_, name, piece);
  }
  // kInternal when data is missing, naming the tensor.
  Result<void> finish();

 private:
  AtomicFile file_;
  TensorSlots slots_;
};

}  // namespace quench
