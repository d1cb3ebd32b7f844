// Helpers for tests of src/io: safetensors files made by hand (also wrong ones), scratch
// directories, and the third-party files that are not in the repository.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "test_paths.h"

namespace quench {

// The length, the header as given, `data_bytes` bytes 0 1 2 ...
inline std::string raw_safetensors(const std::string& header, int data_bytes) {
  const uint64_t header_bytes = header.size();
  std::string file(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
  file += header;
  for (int i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// A directory of one test; removed with the object.
class ScratchDir {
 public:
  // A test that needs several gives each a name.
  explicit ScratchDir(const std::string& name = "") {
    const auto* unit = testing::UnitTest::GetInstance();
    const auto* suite = unit->current_test_suite();
    const auto* test = unit->current_test_info();  // null while a suite is set up
    path_ = testing::TempDir() + "/quench_" + suite->name() + "_" +
            (test != nullptr ? test->name() : "suite") + name;
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(file(name)).parent_path());
    std::ofstream(file(name), std::ios::binary) << bytes;
  }
  int num_files() const {
    int count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++count;
    return count;
  }

 private:
  std::string path_;
};

// The folder of third-party files: QUENCH_TEST_DATA, or shared/data in or beside the repository.
// Empty if there is none: skip the test then.
inline std::string test_data_dir() {
  if (const char* dir = std::getenv("QUENCH_TEST_DATA")) return dir;
  for (const char* place : {"/shared/data", "/../shared/data", "/../../shared/data"}) {
    const std::string dir = source_path(place);
    if (std::filesystem::is_directory(dir)) return dir;
  }
  return {};
}

}  // namespace quench
