// CheckpointWriter: writes a model directory that appears under its name only when it is complete,
// and whose writing can be resumed after a kill. Work happens in DIR.partial; the tensors come in
// units (a layer, say), and a unit that is finished is on the disk and in the journal. The same
// calls give the same bytes, interrupted or not. One thread at a time; memory: the headers.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "io/safetensors_writer.h"

namespace quench {

// Tensors that are written and finished together.
struct OutputUnit {
  std::string name;  // unique
  std::vector<NewTensor> tensors;
};

struct CheckpointOutput {
  std::string dir;  // must not exist yet
  std::vector<OutputUnit> units;
  // Everything that decides the bytes; a job is resumed only under the same key.
  std::string key;
  bool resume = false;
  int64_t max_shard_bytes = int64_t{4} << 30;  // a unit is never cut
};

class CheckpointWriter {
 public:
  // Reserves the bytes of all weight files at once, so that a full disk shows before the work.
  static Result<CheckpointWriter> open(CheckpointOutput output);
  CheckpointWriter() = default;
  CheckpointWriter(CheckpointWriter&& other) noexcept = default;
  CheckpointWriter& operator=(CheckpointWriter&& other) noexcept = default;

  // Whether an earlier run finished the unit; its note then.
  const Json* finished(const std::string& unit) const;
  // The next piece of a tensor of an unfinished unit.
  Result<void> append(const std::string& tensor, std::span<const std::byte> piece);
  // All tensors of the unit are complete. `note` is kept in the journal for a later run.
  Result<void> finish_unit(const std::string& unit, Json note);
  // Another file of the directory: "config.json".
  Result<void> add_file(const std::string& name, std::span<const std::byte> bytes);
  // Every unit is finished: writes the index where there are several weight files and renames the
  // directory.
  Result<void> commit();

  const std::string& partial_dir() const { return partial_; }
  int64_t total_bytes() const { return total_bytes_; }  // of the tensors

 private:
  class Shard;  // an open file
  struct Place {
    size_t shard;
    SafetensorsLayout::Slot slot;
    int64_t written_bytes = 0;
  };

  Result<void> read_journal();
  Result<void> write_journal() const;
  Result<void> open_shards();

  CheckpointOutput output_;
  std::string partial_;
  std::vector<std::shared_ptr<Shard>> shards_;
  std::map<std::string, Place, std::less<>> places_;
  std::map<std::string, Json> finished_;
  int64_t total_bytes_ = 0;
};

}  // namespace quench
