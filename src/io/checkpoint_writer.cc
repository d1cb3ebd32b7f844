#include "io/checkpoint_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "io/message.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJournal = "quench-job.json";
constexpr const char* kResume =
    "what is finished is kept; make room or mend the cause, then go on with --resume";

tl::unexpected<Error> io_error(const std::string& path, const char* what) {
  return fail(ErrorCode::kIo, "{}: cannot {}: {}; {}.", path, what, std::strerror(errno), kResume);
}

Result<void> sync_directory(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return io_error(dir, "open the directory");
  ::fsync(fd);  // some file systems refuse; the data is safe either way
  ::close(fd);
  return {};
}

int64_t unit_bytes(const OutputUnit& unit) {
  int64_t bytes = 0;
  for (const NewTensor& tensor : unit.tensors)
    bytes += tensor_bytes(tensor.dtype, tensor.shape).value_or(0);
  return bytes;
}

}  // namespace

class CheckpointWriter::Shard {
 public:
  Shard(std::string name, const std::string& dir)
      : name_(std::move(name)), path_(dir + "/" + name_) {}
  ~Shard() {
    if (fd_ >= 0) ::close(fd_);
  }
  const std::string& name() const { return name_; }

  Result<void> open(const SafetensorsLayout& layout) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) return io_error(path_, "create the file");
    if (::fallocate(fd_, 0, 0, layout.file_bytes) != 0 &&
        (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
      return io_error(path_, fmt::format("reserve {} bytes", layout.file_bytes).c_str());
    }
    return write_at(0, std::as_bytes(std::span(layout.head)));
  }
  Result<void> write_at(int64_t offset_bytes, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset_bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error(path_, "write");
      bytes = bytes.subspan(static_cast<size_t>(n));
      offset_bytes += n;
    }
    return {};
  }
  Result<void> sync() {
    if (::fdatasync(fd_) != 0) return io_error(path_, "flush to disk");
    return {};
  }

 private:
  std::string name_;
  std::string path_;
  int fd_ = -1;
};

Result<CheckpointWriter> CheckpointWriter::open(CheckpointOutput output) {
  CheckpointWriter writer;
  writer.output_ = std::move(output);
  std::string& dir = writer.output_.dir;
  while (dir.size() > 1 && dir.ends_with('/')) dir.pop_back();
  writer.partial_ = dir + ".partial";
  std::error_code error;
  if (fs::exists(fs::symlink_status(dir, error))) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: it exists already and is not overwritten; give another name, or remove it.",
                dir);
  }
  const bool is_begun = is_directory(writer.partial_);
  if (is_begun && !writer.output_.resume) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: an unfinished job is there; go on with --resume, or remove the directory.",
                writer.partial_);
  }
  if (is_begun) {
    QUENCH_TRY_VOID(writer.read_journal());
    // What a kill left of files that appear by renaming.
    for (const fs::directory_entry& entry : fs::directory_iterator(writer.partial_, error)) {
      if (entry.path().extension() == ".tmp") fs::remove(entry.path(), error);
    }
  }
  fs::create_directories(writer.partial_, error);
  if (error) {
    return fail(ErrorCode::kIo, "{}: cannot create the directory: {}.", writer.partial_,
                error.message());
  }
  QUENCH_TRY_VOID(writer.open_shards());
  QUENCH_TRY_VOID(writer.write_journal());
  return writer;
}

// Units in order, as many to a file as fit.
Result<void> CheckpointWriter::open_shards() {
  std::vector<std::vector<const OutputUnit*>> files;
  int64_t filled_bytes = 0;
  for (const OutputUnit& unit : output_.units) {
    const int64_t bytes = unit_bytes(unit);
    if (files.empty() || filled_bytes + bytes > output_.max_shard_bytes) {
      files.emplace_back();
      filled_bytes = 0;
    }
    files.back().push_back(&unit);
    filled_bytes += bytes;
    total_bytes_ += bytes;
  }
  for (size_t f = 0; f < files.size(); ++f) {
    const std::string name =
        files.size() == 1 ? "model.safetensors"
                          : fmt::format("model-{:05}-of-{:05}.safetensors", f + 1, files.size());
    std::vector<NewTensor> tensors;
    for (const OutputUnit* unit : files[f])
      tensors.insert(tensors.end(), unit->tensors.begin(), unit->tensors.end());
    QUENCH_TRY(const SafetensorsLayout layout, lay_out_safetensors(name, tensors));
    auto shard = std::make_shared<Shard>(name, partial_);
    QUENCH_TRY_VOID(shard->open(layout));
    shards_.push_back(std::move(shard));
    for (const auto& [tensor, slot] : layout.slots) places_[tensor] = {f, slot, 0};
  }
  return {};
}

Result<void> CheckpointWriter::read_journal() {
  const std::string path = partial_ + "/" + kJournal;
  if (!file_exists(path)) return {};  // killed before its first line, or after its last
  QUENCH_TRY(const Json journal, read_json_file(path));
  const auto units = journal.is_object() ? journal.find("finished") : journal.end();
  if (!journal.is_object() || units == journal.end() || !units->is_object() ||
      !journal.contains("key")) {
    return fail(ErrorCode::kInvalidFile,
                "{}: this is no journal of a job; remove {} and begin again.", path, partial_);
  }
  if (journal["key"] != Json(output_.key)) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: the unfinished job there is another one (model, recipe, settings or program "
                "differ); remove the directory, or repeat the command that began it.",
                partial_);
  }
  for (const auto& [name, note] : units->items()) finished_[name] = note;
  return {};
}

Result<void> CheckpointWriter::write_journal() const {
  Json units = Json::object();
  for (const auto& [name, note] : finished_) units[name] = note;
  return write_file_atomic(partial_ + "/" + kJournal,
                           Json{{"key", output_.key}, {"finished", units}}.dump(1) + "\n");
}

const Json* CheckpointWriter::finished(const std::string& unit) const {
  const auto it = finished_.find(unit);
  return it == finished_.end() ? nullptr : &it->second;
}

Result<void> CheckpointWriter::append(const std::string& tensor, std::span<const std::byte> piece) {
  const auto it = places_.find(tensor);
  if (it == places_.end()) {
    return fail(ErrorCode::kInternal, "{}: tensor {} was not declared.", partial_,
                in_quotes(tensor));
  }
  Place& place = it->second;
  const auto piece_bytes = static_cast<int64_t>(piece.size());
  if (piece_bytes > place.slot.size_bytes - place.written_bytes) {
    return fail(ErrorCode::kInternal, "{}: tensor {} got {} bytes, expected {}.", partial_,
                in_quotes(tensor), place.written_bytes + piece_bytes, place.slot.size_bytes);
  }
  QUENCH_TRY_VOID(
      shards_[place.shard]->write_at(place.slot.begin_bytes + place.written_bytes, piece));
  place.written_bytes += piece_bytes;
  return {};
}

Result<void> CheckpointWriter::finish_unit(const std::string& name, Json note) {
  for (const OutputUnit& unit : output_.units) {
    if (unit.name != name) continue;
    for (const NewTensor& tensor : unit.tensors) {
      const Place& place = places_.find(tensor.name)->second;
      if (place.written_bytes != place.slot.size_bytes) {
        return fail(ErrorCode::kInternal, "{}: tensor {} got {} bytes, expected {}.", partial_,
                    in_quotes(tensor.name), place.written_bytes, place.slot.size_bytes);
      }
      QUENCH_TRY_VOID(shards_[place.shard]->sync());
    }
    finished_[name] = std::move(note);
    return write_journal();
  }
  return fail(ErrorCode::kInternal, "{}: unit {} was not declared.", partial_, in_quotes(name));
}

Result<void> CheckpointWriter::add_file(const std::string& name, std::span<const std::byte> bytes) {
  return write_file_atomic(
      partial_ + "/" + name,
      std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Result<void> CheckpointWriter::commit() {
  for (const OutputUnit& unit : output_.units) {
    if (finished(unit.name) == nullptr)
      return fail(ErrorCode::kInternal, "{}: unit {} is not finished.", partial_, unit.name);
  }
  if (shards_.size() > 1) {
    Json map = Json::object();
    for (const auto& [tensor, place] : places_) map[tensor] = shards_[place.shard]->name();
    const Json index = {{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", map}};
    QUENCH_TRY_VOID(
        write_file_atomic(partial_ + "/model.safetensors.index.json", index.dump(1) + "\n"));
  }
  std::error_code error;
  fs::remove(partial_ + "/" + kJournal, error);
  QUENCH_TRY_VOID(sync_directory(partial_));
  if (::rename(partial_.c_str(), output_.dir.c_str()) != 0)
    return io_error(partial_, "rename the finished directory");
  const fs::path parent = fs::path(output_.dir).parent_path();
  return sync_directory(parent.empty() ? "." : parent.string());
}

}  // namespace quench
