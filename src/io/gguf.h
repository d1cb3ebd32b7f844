// Reader of one GGUF file (versions 2 and 3): memory-mapped, validated in full before anything else
// happens. The file object owns the mapping; fields and tensors point into it and are valid as long
// as the object (or what it was moved to, or the mapping it released) lives. Reading is const: any
// thread. Format: https://github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "io/dtype.h"

namespace quench {

// The numbers of a tensor, as the file names them.
struct GgmlType {
  uint32_t id;
  const char* name;  // "F32", "Q4_K"
  int64_t block_weights;
  int64_t block_bytes;
  std::optional<Dtype> dtype;  // of plain numbers
  const char* format;          // of quantized ones: the quench::Format of the same blocks, or null
};
// Null for ids that ggml does not have, or has given up.
const GgmlType* find_ggml_type(uint32_t id);
// By the name of a quench::Format: "bf16", "q4_k".
const GgmlType* ggml_type_of_format(std::string_view format);

enum class GgufKind : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// One key and its value, as bytes of the file.
struct GgufField {
  std::string_view key;
  GgufKind kind;
  GgufKind element_kind;            // of an array; otherwise `kind`
  int64_t count;                    // of an array; otherwise 1
  std::span<const std::byte> data;  // the value without types and counts; of strings with lengths
};

struct GgufTensor {
  std::string_view name;
  const GgmlType* type;
  std::vector<int64_t> shape;       // outermost first, as in PyTorch (the file has it reversed)
  std::span<const std::byte> data;  // blocks along the last dimension
  int64_t offset_bytes;             // of `data` in the file
};

// Whether the file begins as a GGUF file does, or is named like one.
bool looks_like_gguf(const std::string& path);

class GgufFile {
 public:
  static Result<GgufFile> open(const std::string& path);
  // The same for bytes in memory, which must outlive the object. `where` stands for the path in
  // messages.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string_view where);

  const std::string& path() const { return path_; }
  const std::vector<GgufField>& fields() const { return fields_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  // Null when there is none of that name.
  const GgufField* find(std::string_view key) const;
  // A number, a boolean or a string as JSON; null for what is absent or an array.
  Json value(std::string_view key) const;
  // An array of strings, or of integers; nothing when the key is absent, an error when it is of
  // another kind.
  Result<std::optional<std::vector<std::string>>> strings(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> integers(std::string_view key) const;

  // Hands the mapping over. What points into it stays valid as long as the mapping.
  MappedFile release() { return std::move(file_); }

 private:
  std::string path_;
  MappedFile file_;
  std::vector<GgufField> fields_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace quench
