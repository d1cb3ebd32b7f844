// Streaming writer of one safetensors file: all tensors are declared first, then their data comes
// in pieces. The file appears under its name only after finish(); a writer that is destroyed before
// leaves nothing behind. Memory: the header. One thread at a time.
//
// The header takes a multiple of 8 bytes, and tensors with wider elements come first in the file
// (as the reference writer does), so that every tensor is aligned to its element size.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/result.h"
#include "io/dtype.h"
#include "io/tensor_slots.h"

namespace quench {

struct NewTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
};

// Where everything of a file with these tensors lies: the same for the same arguments.
struct SafetensorsLayout {
  struct Slot {
    int64_t begin_bytes = 0;  // in the file
    int64_t size_bytes = 0;
  };
  std::string head;  // the first bytes of the file: header length and header
  int64_t file_bytes = 0;
  std::map<std::string, Slot, std::less<>> slots;  // by tensor name
};

// `path` stands for the file in messages.
Result<SafetensorsLayout> lay_out_safetensors(const std::string& path,
                                              std::span<const NewTensor> tensors,
                                              const std::map<std::string, std::string>& metadata = {
                                                  {"format", "pt"}});

class SafetensorsWriter {
 public:
  // {"format": "pt"}: transformers before 5 refuses files without it.
  static Result<SafetensorsWriter> create(const std::string& path,
                                          std::span<const NewTensor> tensors,
                                          const std::map<std::string, std::string>& metadata = {
                                              {"format", "pt"}});

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
