// The ceilings' JSON, and the file in the user's cache directory where they are kept.
#include <ctime>
#include <filesystem>

#include "base/cgroup.h"
#include "base/cpuinfo.h"
#include "base/file.h"
#include "base/log.h"
#include "base/paths.h"
#include "plan/ceilings.h"

namespace quench {
namespace {

constexpr const char* kSchema = "quench.ceilings/1";

Json rate_json(const Rate& rate) { return {{"best", rate.best}, {"median", rate.median}}; }

Json key_json(const Ceilings& c) {
  return {{"cpu_model", c.cpu_model},
          {"isa", c.isa},
          {"threads", c.threads},
          {"quota_cpus", c.quota_cpus ? Json(*c.quota_cpus) : Json()}};
}

// What the file holds for other keys, and what it holds for this one, if that is usable. A file
// that is missing, or is not ours, holds nothing.
struct Cache {
  Json others = Json::array();
  std::optional<Ceilings> found;
};
Cache read_cache(const std::string& path, const Json& key) {
  Cache cache;
  if (path.empty() || !file_exists(path)) return cache;
  const auto json = read_json_file(path);
  if (!json || !json->is_object() || json->value("schema", Json()) != Json(kSchema) ||
      !json->contains("entries")) {
    return cache;
  }
  for (const Json& entry : (*json)["entries"]) {
    auto ceilings = parse_ceilings(entry, path);
    if (!ceilings) continue;
    if (key_json(*ceilings) == key) {
      cache.found = *std::move(ceilings);
    } else {
      cache.others.push_back(entry);
    }
  }
  return cache;
}

Result<void> write_cache(const std::string& path, Json entries) {
  if (path.empty())
    return fail(ErrorCode::kNotFound, "Neither XDG_CACHE_HOME nor HOME names a directory.");
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const Json file = {{"schema", kSchema}, {"entries", std::move(entries)}};
  return write_file_atomic(path, file.dump(1) + "\n");
}

}  // namespace

Json ceilings_json(const Ceilings& c) {
  Json json = key_json(c);
  json["unix_time_s"] = c.unix_time_s;
  json["measure_s"] = c.measure_s;
  json["others_share"] = c.others_share ? Json(*c.others_share) : Json();
  Json read = Json::array();
  for (const ReadCeiling& one : c.read) {
    read.push_back({{"level", one.level},
                    {"up_to_bytes", one.up_to_bytes > 0 ? Json(one.up_to_bytes) : Json()},
                    {"working_set_bytes", one.working_set_bytes},
                    {"streams", one.streams},
                    {"prefetch_bytes", one.prefetch_bytes},
                    {"read_gb_s", rate_json(one.read_gb_s)}});
  }
  json["read"] = read;
  json["f32_gflop_s"] = rate_json(c.f32_gflop_s);
  json["bf16_gflop_s"] = rate_json(c.bf16_gflop_s);
  json["int8_gop_s"] = rate_json(c.int8_gop_s);
  return json;
}

Result<Ceilings> parse_ceilings(const Json& json, const std::string& where) {
  Ceilings c;
  try {
    c.cpu_model = json.at("cpu_model").get<std::string>();
    c.isa = json.at("isa").get<std::string>();
    c.threads = json.at("threads").get<int>();
    if (!json.at("quota_cpus").is_null()) c.quota_cpus = json.at("quota_cpus").get<double>();
    c.unix_time_s = json.at("unix_time_s").get<int64_t>();
    c.measure_s = json.at("measure_s").get<double>();
    if (const auto others = json.find("others_share"); others != json.end() && !others->is_null())
      c.others_share = others->get<double>();
    auto rate = [](const Json& value) {
      const Rate result = {value.at("best").get<double>(), value.at("median").get<double>()};
      if (!(result.best > 0.0)) throw std::invalid_argument("a rate that is not positive");
      return result;
    };
    for (const Json& one : json.at("read")) {
      ReadCeiling& read = c.read.emplace_back();
      read.level = one.at("level").get<std::string>();
      if (!one.at("up_to_bytes").is_null()) read.up_to_bytes = one.at("up_to_bytes").get<int64_t>();
      read.working_set_bytes = one.at("working_set_bytes").get<int64_t>();
      read.streams = one.at("streams").get<int64_t>();
      read.prefetch_bytes = one.at("prefetch_bytes").get<int64_t>();
      read.read_gb_s = rate(one.at("read_gb_s"));
    }
    if (c.read.empty()) throw std::invalid_argument("no read rates");
    c.f32_gflop_s = rate(json.at("f32_gflop_s"));
    c.bf16_gflop_s = rate(json.at("bf16_gflop_s"));
    c.int8_gop_s = rate(json.at("int8_gop_s"));
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: these are no ceilings: {}.", where, e.what());
  }
  return c;
}

Result<Ceilings> cached_ceilings(Device& device, bool measure) {
  Ceilings key;
  key.cpu_model = cpu_model();
  key.isa = device.isa();
  key.threads = device.num_workers();
  key.quota_cpus = cgroup_cpu_quota();
  const std::string path = user_cache_path("ceilings.json");
  Cache cache = read_cache(path, key_json(key));
  const auto now = static_cast<int64_t>(std::time(nullptr));
  if (!measure && cache.found && cache.found->unix_time_s <= now &&
      now - cache.found->unix_time_s < cache.found->keep_s()) {
    return *cache.found;
  }
  QUENCH_TRY(Ceilings measured, measure_ceilings(device));
  cache.others.push_back(ceilings_json(measured));
  if (const auto written = write_cache(path, std::move(cache.others)); !written)
    spdlog::warn("The ceilings are not kept: {}", written.error().message);
  return measured;
}

}  // namespace quench
