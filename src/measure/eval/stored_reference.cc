#include "measure/eval/stored_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kReferenceMagic = "quench.reference/1\n";
constexpr size_t kDigestBytes = 64;  // of hexadecimal digits
constexpr double kNatsPerCode = 1.0 / 2048.0;
constexpr uint32_t kMaxCode = 65535;
constexpr size_t kRowHead = 8 + 4 + 4 + 4;  // nll f64, top1 i32, tail f32, number of ids u32

// Codes of the same bin are kept or left out together: 1/16 nat.
constexpr uint32_t kBinShift = 7;
constexpr size_t kBins = (kMaxCode >> kBinShift) + 1;

uint32_t code_of(double log_p) {
  return static_cast<uint32_t>(std::min<double>(std::nearbyint(-log_p / kNatsPerCode), kMaxCode));
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

tl::unexpected<Error> damaged(const std::string& path) {
  return fail(ErrorCode::kInvalidFile, "{}: the stored reference is damaged or cut short.", path);
}

}  // namespace

std::string encode_row(const LogitsRow& reference, std::span<const double> p, int32_t next_token) {
  std::vector<uint32_t> codes(p.size());
  std::array<double, kBins> mass{};
  for (size_t i = 0; i < p.size(); ++i) {
    codes[i] = code_of(static_cast<double>(reference.logits[i]) - reference.log_normalizer);
    mass[codes[i] >> kBinShift] += p[i];
  }
  size_t bins = kBins;  // how many are kept
  double tail = 0.0;
  while (bins > 1 && tail + mass[bins - 1] <= kMaxTail) tail += mass[--bins];
  std::string out;
  put(out, negative_log_likelihood(reference, next_token));
  put(out, reference.top1);
  put(out, static_cast<float>(tail));
  const size_t count_at = out.size();
  put(out, uint32_t{0});
  uint32_t count = 0;
  size_t before = 0;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] >> kBinShift >= bins) continue;
    // The distance to the id before, 7 bits at a time, the lowest first.
    for (size_t distance = i - before;; distance >>= 7) {
      out += static_cast<char>((distance & 127) | (distance > 127 ? 128 : 0));
      if (distance <= 127) break;
    }
    before = i;
    put(out, static_cast<uint16_t>(codes[i]));
    ++count;
  }
  std::copy_n(reinterpret_cast<const char*>(&count), sizeof(count), out.data() + count_at);
  return out;
}

Result<StoredRow> decode_row(std::span<const std::byte> bytes) {
  const auto bad = [] { return fail(ErrorCode::kInvalidFile, "A stored row is damaged."); };
  if (bytes.size() < kRowHead) return bad();
  StoredRow row;
  row.nll = load<double>(bytes.data());
  row.top1 = load<int32_t>(bytes.data() + 8);
  row.tail = load<float>(bytes.data() + 12);
  const auto count = load<uint32_t>(bytes.data() + 16);
  if (count > bytes.size() / 3 || !(row.tail >= 0.0 && row.tail < 1.0)) return bad();
  row.ids.reserve(count);
  row.log_p.reserve(count);
  size_t at = kRowHead;
  uint64_t id = 0;
  double sum = 0.0;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t distance = 0;
    for (int shift = 0;; shift += 7) {
      if (at >= bytes.size() || shift > 28) return bad();
      const auto byte = std::to_integer<uint64_t>(bytes[at++]);
      distance |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    if (at + 2 > bytes.size() || (i > 0 && distance == 0)) return bad();
    id += distance;
    if (id > INT32_MAX) return bad();
    row.ids.push_back(static_cast<int32_t>(id));
    row.log_p.push_back(-kNatsPerCode * load<uint16_t>(bytes.data() + at));
    sum += std::exp(row.log_p.back());
    at += 2;
  }
  if (at != bytes.size() || count == 0) return bad();
  // Rounding made the sum a little more or less than it was.
  const double correction = std::log((1.0 - row.tail) / sum);
  for (double& log_p : row.log_p) log_p += correction;
  return row;
}

double kl_divergence(const StoredRow& reference, const LogitsRow& candidate) {
  double sum = 0.0;
  double listed = 0.0;  // what the candidate gives the listed ids
  for (size_t i = 0; i < reference.ids.size(); ++i) {
    const double log_q = -negative_log_likelihood(candidate, reference.ids[i]);
    sum += std::exp(reference.log_p[i]) * (reference.log_p[i] - log_q);
    listed += std::exp(log_q);
  }
  if (reference.tail > 0.0)
    sum += reference.tail * std::log(reference.tail / std::max(1.0 - listed, 1e-15));
  return std::max(0.0, sum);
}

Result<ReferenceWriter> ReferenceWriter::create(const std::string& path, const Json& key) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  ReferenceWriter writer;
  QUENCH_TRY(writer.file_, AtomicFile::create(path, 0));
  writer.key_ = key;
  writer.append(kReferenceMagic);
  return writer;
}

void ReferenceWriter::append(std::string_view bytes) {
  pending_ += bytes;
  if (pending_.size() > size_t{1} << 20) flush();
}

void ReferenceWriter::flush() {
  const auto bytes = std::as_bytes(std::span(pending_));
  if (outcome_) {
    digest_.update(bytes);
    outcome_ = file_.write_at(bytes_, bytes);
    bytes_ += static_cast<int64_t>(bytes.size());
  }
  if (outcome_ && bytes_ > kMaxCacheBytes) {
    outcome_ = fail(ErrorCode::kIo, "{}: the reference's predictions take more than {} bytes.",
                    file_.path(), kMaxCacheBytes);
  }
  pending_.clear();
}

void ReferenceWriter::add(const std::string& row) {
  const auto length = static_cast<uint32_t>(row.size());
  append({reinterpret_cast<const char*>(&length), sizeof(length)});
  append(row);
  ++rows_;
}

Result<void> ReferenceWriter::finish(Json about) {
  const std::string json = Json({{"key", key_}, {"rows", rows_}, {"about", about}}).dump();
  append(json);
  const auto json_bytes = static_cast<uint64_t>(json.size());
  append({reinterpret_cast<const char*>(&json_bytes), sizeof(json_bytes)});
  flush();
  pending_ = digest_.hex_digest();
  if (outcome_) outcome_ = file_.write_at(bytes_, std::as_bytes(std::span(pending_)));
  if (!outcome_) return outcome_;
  QUENCH_TRY_VOID(file_.commit());
  // The oldest make room.
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  int64_t total = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(file_.path()).parent_path(), error)) {
    if (entry.path().extension() != ".reference") continue;
    files.emplace_back(entry.last_write_time(error), entry.path());
    total += static_cast<int64_t>(entry.file_size(error));
  }
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i + 1 < files.size() && total > kMaxCacheBytes; ++i) {
    total -= static_cast<int64_t>(fs::file_size(files[i].second, error));
    fs::remove(files[i].second, error);
  }
  return {};
}

Result<std::unique_ptr<StoredReference>> StoredReference::open(const std::string& path,
                                                               const Json& key) {
  if (!file_exists(path)) return fail(ErrorCode::kNotFound, "{}: not there.", path);
  auto stored = std::make_unique<StoredReference>();
  QUENCH_TRY(stored->file_, MappedFile::open(path));
  const std::span<const std::byte> bytes = stored->file_.bytes();
  constexpr size_t kEnd = kDigestBytes + sizeof(uint64_t);
  if (bytes.size() < kReferenceMagic.size() + kEnd) return damaged(path);
  const size_t end = bytes.size() - kDigestBytes;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kReferenceMagic) || sha256_hex(bytes.first(end)) != text.substr(end))
    return damaged(path);
  const auto json_bytes = load<uint64_t>(bytes.data() + end - sizeof(uint64_t));
  if (json_bytes > end - sizeof(uint64_t) - kReferenceMagic.size()) return damaged(path);
  const size_t rows_end = end - sizeof(uint64_t) - json_bytes;
  QUENCH_TRY(const Json json, parse_json(text.substr(rows_end, json_bytes), path));
  if (!json.is_object() || !json.contains("key") || json["key"] != key || !json.contains("about"))
    return fail(ErrorCode::kInvalidFile, "{}: it holds another reference.", path);
  stored->about_ = json["about"];
  size_t at = kReferenceMagic.size();
  while (at < rows_end) {
    if (rows_end - at < sizeof(uint32_t)) return damaged(path);
    const auto length = load<uint32_t>(bytes.data() + at);
    if (length > rows_end - at - sizeof(uint32_t)) return damaged(path);
    stored->begin_.push_back(at);
    at += sizeof(uint32_t) + length;
  }
  stored->begin_.push_back(at);
  // Used now: the last to make room.
  std::error_code error;
  fs::last_write_time(path, fs::file_time_type::clock::now(), error);
  return stored;
}

std::span<const std::byte> StoredReference::row_bytes(int64_t index) const {
  const size_t begin = begin_[static_cast<size_t>(index)] + sizeof(uint32_t);
  return file_.bytes().subspan(begin, begin_[static_cast<size_t>(index) + 1] - begin);
}

Result<StoredRow> StoredReference::row(int64_t index, int64_t vocab_size) const {
  auto row = decode_row(row_bytes(index));
  if (!row || row->ids.back() >= vocab_size || row->top1 < 0 || row->top1 >= vocab_size)
    return damaged(file_.path());
  return row;
}

std::string reference_path(const std::string& dir, const Json& key) {
  const std::string text = key.dump();
  return fmt::format("{}/{}.reference", dir, sha256_hex(std::as_bytes(std::span(text))));
}

}  // namespace quench
