#include "base/result.h"
#include "measure/records.h"

namespace quench {
namespace {

enum class Kind { kAny, kText, kNumber, kAmount, kList, kObject };
const char* kind_name(Kind kind) {
  static constexpr const char* kNames[] = {"anything",           "a text", "a number",
                                           "a number from 0 on", "a list", "an object"};
  return kNames[static_cast<int>(kind)];
}
bool matches(Kind kind, const Json& value) {
  switch (kind) {
    case Kind::kAny:
      return true;
    case Kind::kText:
      return value.is_string();
    case Kind::kNumber:
      return value.is_number();
    case Kind::kAmount:
      return value.is_number() && value.get<double>() >= 0.0;
    case Kind::kList:
      return value.is_array();
    case Kind::kObject:
      return value.is_object();
  }
  return false;
}

struct Field {
  const char* name;
  Kind kind;
  bool may_be_null;
};

struct Schema {
  const char* name;
  std::vector<Field> fields;
};

constexpr bool kOrNull = true;

const std::vector<Schema>& schemas() {
  static const std::vector<Schema> all = {{"quench.record/1",
                                           {{"id", Kind::kText, false},
                                            {"time", Kind::kText, false},
                                            {"build", Kind::kObject, false},
                                            {"machine", Kind::kObject, false},
                                            {"ceilings", Kind::kObject, kOrNull},
                                            {"model", Kind::kObject, false},
                                            {"plan", Kind::kObject, kOrNull},
                                            {"kernels", Kind::kList, kOrNull},
                                            {"settings", Kind::kObject, false},
                                            {"tasks", Kind::kList, false},
                                            {"memory", Kind::kObject, false},
                                            {"series", Kind::kObject, kOrNull},
                                            {"energy_j", Kind::kAmount, kOrNull}}},
                                          {"quench.eval/1",
                                           {{"model", Kind::kObject, false},
                                            {"reference", Kind::kObject, kOrNull},
                                            {"text_sha256", Kind::kText, false},
                                            {"tokens", Kind::kNumber, false},
                                            {"context", Kind::kNumber, false},
                                            {"stride", Kind::kNumber, false},
                                            {"convention", Kind::kText, false},
                                            {"ppl", Kind::kNumber, false},
                                            {"kld", Kind::kObject, false},
                                            {"top1_agreement", Kind::kNumber, false},
                                            {"accuracy", Kind::kAny, kOrNull},
                                            {"domains", Kind::kList, false},
                                            {"noise_floor", Kind::kObject, false}}},
                                          {"quench.shootout/1",
                                           {{"reference", Kind::kObject, false},
                                            {"rows", Kind::kList, false},
                                            {"recommendation", Kind::kObject, false},
                                            {"report", Kind::kText, kOrNull}}},
                                          {"quench.bench/1",
                                           {{"model", Kind::kText, false},
                                            {"format", Kind::kText, false},
                                            {"isa", Kind::kText, false},
                                            {"threads", Kind::kNumber, false},
                                            {"kernels", Kind::kList, false},
                                            {"ceilings", Kind::kObject, kOrNull},
                                            {"rows", Kind::kList, false}}}};
  return all;
}

const std::vector<Field>& task_fields() {
  static const std::vector<Field> fields = {
      {"task", Kind::kText, false}, {"lang", Kind::kText, kOrNull}, {"runs", Kind::kList, false}};
  return fields;
}

// A run that was typed in from a publication knows its times and little else.
const std::vector<Field>& run_fields() {
  static const std::vector<Field> fields = {{"warmup", Kind::kAny, false},
                                            {"seed", Kind::kNumber, kOrNull},
                                            {"prompt_tokens", Kind::kAmount, kOrNull},
                                            {"generated_tokens", Kind::kAmount, kOrNull},
                                            {"finish_reason", Kind::kText, kOrNull},
                                            {"ttft_s", Kind::kAmount, kOrNull},
                                            {"e2e_s", Kind::kAmount, false},
                                            {"token_s", Kind::kList, kOrNull},
                                            {"engine_token_s", Kind::kList, kOrNull}};
  return fields;
}

const std::vector<Field>& grid_row_fields() {
  static const std::vector<Field> fields = {
      {"test", Kind::kText, false},    {"tokens", Kind::kAmount, false},
      {"depth", Kind::kAmount, false}, {"batch", Kind::kAmount, false},
      {"tok_s", Kind::kList, false},   {"limit_tok_s", Kind::kAmount, kOrNull}};
  return fields;
}

Result<void> check_fields(const Json& json, const std::vector<Field>& fields,
                          const std::string& what) {
  if (!json.is_object())
    return fail(ErrorCode::kInvalidFile, "{}: expected an object, found {:.60}.", what,
                json.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (const Field& field : fields) {
    const auto it = json.find(field.name);
    if (it == json.end())
      return fail(ErrorCode::kInvalidFile, "{}: the field \"{}\" is missing.", what, field.name);
    if (it->is_null() ? !field.may_be_null : !matches(field.kind, *it)) {
      return fail(ErrorCode::kInvalidFile, "{}: expected {}{} for \"{}\", found {:.60}.", what,
                  kind_name(field.kind), field.may_be_null ? " or null" : "", field.name,
                  it->dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
  return {};
}

Result<void> check_tasks(const Json& record, const std::string& what) {
  for (size_t t = 0; t < record["tasks"].size(); ++t) {
    const Json& task = record["tasks"][t];
    const std::string where = fmt::format("{}, task {}", what, t + 1);
    QUENCH_TRY_VOID(check_fields(task, task_fields(), where));
    for (size_t r = 0; r < task["runs"].size(); ++r) {
      const Json& run = task["runs"][r];
      const std::string this_run = fmt::format("{}, run {}", where, r + 1);
      QUENCH_TRY_VOID(check_fields(run, run_fields(), this_run));
      const bool failed = run.contains("error") && !run["error"].is_null();
      if (!failed && !run["ttft_s"].is_null() && run["ttft_s"] > run["e2e_s"]) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: the first token came after {} s, the whole answer after {} s.", this_run,
                    run["ttft_s"].dump(), run["e2e_s"].dump());
      }
    }
  }
  return {};
}

Result<void> check_grid_rows(const Json& grid, const std::string& what) {
  for (size_t r = 0; r < grid["rows"].size(); ++r) {
    const std::string where = fmt::format("{}, row {}", what, r + 1);
    const Json& row = grid["rows"][r];
    QUENCH_TRY_VOID(check_fields(row, grid_row_fields(), where));
    for (const Json& speed : row["tok_s"]) {
      if (!speed.is_number() || !(speed.get<double>() > 0.0))
        return fail(ErrorCode::kInvalidFile, "{}: expected speeds over 0 in \"tok_s\", found {}.",
                    where, speed.dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
  return {};
}

}  // namespace

Result<void> validate_measurement(const Json& json) {
  const bool has_name = json.is_object() && json.contains("schema") && json["schema"].is_string();
  const std::string name = has_name ? json["schema"].get<std::string>() : "";
  for (const Schema& schema : schemas()) {
    if (name != schema.name) continue;
    QUENCH_TRY_VOID(check_fields(json, schema.fields, name));
    if (name == "quench.record/1") QUENCH_TRY_VOID(check_tasks(json, name));
    if (name == "quench.bench/1") QUENCH_TRY_VOID(check_grid_rows(json, name));
    for (const char* list : {"records", "evaluations"}) {
      if (!json.contains(list) || !json[list].is_array()) continue;
      for (const Json& part : json[list]) QUENCH_TRY_VOID(validate_measurement(part));
    }
    return {};
  }
  return fail(ErrorCode::kInvalidFile,
              "Expected a measurement with one of quench's schemas, found {}.",
              name.empty() ? "none" : "\"" + name + "\"");
}

}  // namespace quench
