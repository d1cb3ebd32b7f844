// Any bytes as a quantized checkpoint: the text up to the first zero byte is config.json, the rest
// model.safetensors. A matrix is found and read, or there is an error.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "formats/quantized_tensor.h"
#include "io/stored_matrix.h"

namespace {

constexpr int64_t kRows = 32;
constexpr int64_t kCols = 64;

void write(const std::string& path, const uint8_t* data, size_t size) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string directory = [] {
    std::string path = std::filesystem::temp_directory_path() / "quench_fuzz_XXXXXX";
    if (mkdtemp(path.data()) == nullptr) std::abort();
    return path;
  }();
  const uint8_t* end = std::find(data, data + size, 0);
  if (end == data + size) return 0;
  write(directory + "/config.json", data, static_cast<size_t>(end - data));
  write(directory + "/model.safetensors", end + 1, static_cast<size_t>(data + size - end - 1));
  const auto checkpoint = quench::Checkpoint::open(directory, quench::Weights::kRequired);
  if (!checkpoint) return 0;
  const auto reader = quench::open_quant_reader(*checkpoint);
  if (!reader || *reader == nullptr) return 0;
  (void)(*reader)->surplus();
  const auto matrix = (*reader)->find("w.weight", kRows, kCols);
  if (!matrix || !*matrix) return 0;
  const quench::Format& format = *(*matrix)->format;
  if (!format.fits(kRows, kCols)) std::abort();
  std::vector<float> values(static_cast<size_t>(kRows * kCols));
  if ((*matrix)->planes[0] != nullptr) {
    format.decode_rows((*matrix)->planes, kRows, kCols, values.data());
    return 0;
  }
  quench::QuantizedTensor tensor(format, kRows, kCols);
  const int64_t half = std::max(kRows / 2, format.tile_rows);
  for (int64_t row = 0; row < kRows; row += half) {
    if (!(*matrix)->read(row, half, format.row_planes(tensor.planes(), row, kCols))) return 0;
  }
  format.decode_rows(std::as_const(tensor).planes(), kRows, kCols, values.data());
  return 0;
}
