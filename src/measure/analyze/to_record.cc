#include "base/sha256.h"
#include "measure/analyze/compare.h"
#include "measure/records.h"

namespace quench {
namespace {

// A row of decode has a speed alone, a row of prefill the time to its end: the first token.
Json grid_task(const Json& row) {
  const bool is_prefill = row["test"] == "prefill";
  const double tokens = row["tokens"].get<double>() * row["batch"].get<double>();
  Json runs = Json::array();
  for (const Json& speed : row["tok_s"]) {
    const double tok_s = speed.get<double>();
    runs.push_back({{"warmup", false},
                    {"finish_reason", nullptr},
                    {"ttft_s", is_prefill ? Json(tokens / tok_s) : Json()},
                    {"decode_tok_s", is_prefill ? Json() : Json(tok_s)},
                    {"limit_decode_tok_s", is_prefill ? Json() : row["limit_tok_s"]}});
  }
  return {{"task", fmt::format("{} {} @{} x{}", row["test"].get<std::string>(),
                               row["tokens"].dump(), row["depth"].dump(), row["batch"].dump())},
          {"lang", nullptr},
          {"runs", runs}};
}

Json grid_record(const Json& grid) {
  auto part = [&](const char* key) { return grid.contains(key) ? grid[key] : Json(); };
  Json read_bytes;
  Json tasks = Json::array();
  for (const Json& row : grid["rows"]) {
    tasks.push_back(grid_task(row));
    if (row["test"] == "decode" && read_bytes.is_null() && row.contains("read_bytes_per_token"))
      read_bytes = row["read_bytes_per_token"];
  }
  const Json ceilings = part("ceilings");
  Json machine = part("machine");
  if (!machine.is_object()) {
    machine = Json::object();
    machine["cpu_model"] = ceilings.is_object() ? ceilings.value("cpu_model", Json()) : Json();
  }
  return {{"schema", "quench.record/1"},
          {"id", part("id")},
          {"time", part("time")},
          {"label", part("label")},
          {"build", grid.contains("build") ? grid["build"] : Json::object()},
          {"machine", machine},
          {"ceilings", ceilings},
          {"model",
           {{"name", grid["model"]},
            {"family", part("family")},
            {"format", grid["format"]},
            {"bytes", part("weights_bytes")},
            {"bytes_read_per_token", read_bytes}}},
          {"kernels", grid["kernels"]},
          {"settings", {{"device", part("device")}, {"threads", grid["threads"]}}},
          {"tasks", tasks}};
}

}  // namespace

Result<Json> to_record(const Json& json, const std::string& where) {
  const std::string schema =
      json.is_object() && json.contains("schema") && json["schema"].is_string()
          ? json["schema"].get<std::string>()
          : std::string();
  if (schema == "quench.record/1" || schema == "quench.bench/1") {
    if (auto valid = validate_measurement(json); !valid)
      return fail(ErrorCode::kInvalidFile, "{}: {}", where, valid.error().message);
    return schema == "quench.bench/1" ? grid_record(json) : json;
  }
  if (schema != "quench.typed/1") {
    return fail(ErrorCode::kInvalidFile,
                "{}: expected a quench.record/1 or quench.bench/1 (quench bench --json) or a "
                "quench.typed/1, found \"{}\".",
                where, schema);
  }
  auto part = [&](const char* key) { return json.contains(key) ? json[key] : Json(); };
  const std::string text = json.dump();
  Json record = {{"schema", "quench.record/1"},
                 {"id", "typed-" + sha256_hex(std::as_bytes(std::span(text))).substr(0, 12)},
                 {"time", part("time")},
                 {"build", Json::object()},
                 {"machine", {{"hardware", part("hardware")}}},
                 {"ceilings", nullptr},
                 {"model", {{"name", part("model")}, {"format", part("format")}}},
                 {"plan", nullptr},
                 {"kernels", nullptr},
                 {"settings", {{"source", part("source")}, {"engine", part("engine")}}},
                 {"tasks", Json::array()},
                 {"memory", Json::object()},
                 {"series", nullptr},
                 {"energy_j", nullptr},
                 {"cost", part("cost")}};
  const Json tasks = part("tasks");
  if (!tasks.is_array() || tasks.empty())
    return fail(ErrorCode::kInvalidFile, "{}: a typed record needs \"tasks\", a list.", where);
  for (const Json& task : tasks) {
    auto value = [&](const char* key) { return task.contains(key) ? task[key] : Json(); };
    if (!task.is_object() || !value("task").is_string() || !value("e2e_s").is_number()) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: a typed task needs a \"task\" (its name) and an \"e2e_s\".", where);
    }
    Json run = {{"warmup", false},
                {"seed", nullptr},
                {"finish_reason", nullptr},
                {"token_s", nullptr},
                {"engine_token_s", nullptr},
                {"ttft_s", value("ttft_s")},
                {"e2e_s", value("e2e_s")},
                {"decode_tok_s", value("decode_tok_s")},
                {"generated_tokens", value("generated_tokens")},
                {"prompt_tokens", value("prompt_tokens")}};
    record["tasks"].push_back(
        {{"task", value("task")}, {"lang", value("lang")}, {"runs", Json::array({run})}});
  }
  return record;
}

}  // namespace quench
