#include "measure/history.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "base/file.h"
#include "base/paths.h"
#include "base/result.h"
#include "measure/history_sql.h"
#include "measure/records.h"
#include "measure/statistics.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Not of another program: "qnch".
constexpr int kApplicationId = 0x716e6368;
constexpr int kWaitMs = 5000;  // for another process that is writing

constexpr const char* kTable = R"(
CREATE TABLE IF NOT EXISTS measurement (
  id TEXT PRIMARY KEY, time TEXT NOT NULL, schema TEXT NOT NULL, model TEXT NOT NULL, format TEXT NOT NULL,
  machine TEXT NOT NULL, target TEXT NOT NULL, label TEXT NOT NULL, ttft_s REAL, decode_tok_s REAL,
  json TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS measurement_time ON measurement (time);
)";

// What version 1 has over 0. A score says how far one figure of a measurement was from what a
// prediction had said of it.
constexpr const char* kPredictionTables = R"(
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS prediction (
  id TEXT PRIMARY KEY, time TEXT NOT NULL, model TEXT NOT NULL, family TEXT NOT NULL, format TEXT NOT NULL,
  machine TEXT NOT NULL, isa TEXT NOT NULL, threads INTEGER NOT NULL, batch INTEGER NOT NULL,
  parameters INTEGER NOT NULL, bytes_read_per_token INTEGER NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score (
  prediction_id TEXT NOT NULL, measurement_id TEXT NOT NULL, task TEXT NOT NULL, metric TEXT NOT NULL,
  time TEXT NOT NULL, prediction_time TEXT NOT NULL, model TEXT NOT NULL, format TEXT NOT NULL, machine TEXT NOT NULL,
  tokens REAL NOT NULL, predicted REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, measured REAL NOT NULL,
  PRIMARY KEY (prediction_id, measurement_id, task, metric)) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
)";
// Version 2: what a score says beside the error.
constexpr const char* kScoreParts = R"(
BEGIN IMMEDIATE;
ALTER TABLE score ADD COLUMN expected REAL;
ALTER TABLE score ADD COLUMN others_share REAL;
PRAGMA user_version = 2;
COMMIT;
)";
// What brings a file from version i to i + 1.
constexpr const char* kUpgrades[] = {kPredictionTables, kScoreParts};
constexpr int64_t kVersion = std::size(kUpgrades);

// The string at a path of keys; empty where there is none.
std::string string_at(const Json& json, std::initializer_list<const char*> keys) {
  const Json* at = &json;
  for (const char* key : keys) {
    if (!at->is_object() || !at->contains(key)) return "";
    at = &(*at)[key];
  }
  return at->is_string() ? at->get<std::string>() : "";
}

// The median of a value over the counted runs of a record; over those of the first level where all
// of them are under load.
std::optional<double> median_of_runs(const Json& record, const char* key) {
  std::vector<double> values;
  auto take = [&](const Json& task) {
    if (!task.is_object()) return;
    for (const Json& run : task.value("runs", Json::array())) {
      const bool counts = run.is_object() && run.contains("warmup") && run["warmup"] == false;
      if (counts && run.contains(key) && run[key].is_number())
        values.push_back(run[key].get<double>());
    }
  };
  for (const Json& task : record.value("tasks", Json::array())) take(task);
  const Json loads = record.value("loads", Json::array());
  if (values.empty() && loads.is_array() && !loads.empty()) take(loads.front());
  return values.empty() ? std::nullopt : std::optional(median(values));
}

// Of the first row of decode.
std::optional<double> median_of_grid(const Json& grid) {
  for (const Json& row : grid["rows"]) {
    std::vector<double> values;
    for (const Json& value : row["tok_s"]) values.push_back(value.get<double>());
    if (row["test"] == "decode" && !values.empty()) return median(values);
  }
  return std::nullopt;
}

HistoryEntry entry_of(const Json& json) {
  HistoryEntry entry;
  entry.id = string_at(json, {"id"});
  entry.time = string_at(json, {"time"});
  entry.schema = string_at(json, {"schema"});
  const bool is_record = entry.schema == "quench.record/1";
  entry.machine = string_at(json, {"machine", "cpu_model"});
  entry.label = string_at(json, {"label"});
  if (entry.schema == "quench.bench/1") {
    entry.model = string_at(json, {"model"});
    entry.format = string_at(json, {"format"});
    entry.target = "engine";
    entry.decode_tok_s = median_of_grid(json);
    return entry;
  }
  entry.model = string_at(json, {is_record ? "model" : "reference", "name"});
  entry.format = string_at(json, {is_record ? "model" : "reference", "format"});
  entry.target = string_at(json, {"target", "url"});
  if (entry.target.empty()) entry.target = string_at(json, {"target", "kind"});
  if (is_record) {
    entry.ttft_s = median_of_runs(json, "ttft_s");
    entry.decode_tok_s = median_of_runs(json, "decode_tok_s");
  }
  return entry;
}

bool is_sqlite_file(const std::string& bytes) { return bytes.starts_with("SQLite format 3"); }

}  // namespace

Error History::error_now(const char* doing) const {
  const int code = db_ == nullptr ? SQLITE_CANTOPEN : sqlite3_errcode(db_);
  const char* what = db_ == nullptr ? "cannot open" : sqlite3_errmsg(db_);
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return {ErrorCode::kInvalidFile,
            fmt::format("{}: this history is damaged or none ({}); it was left as it is: move it "
                        "away to begin a new one.",
                        path_, what)};
  }
  return {ErrorCode::kIo, fmt::format("{}: cannot {} the history: {}.", path_, doing, what)};
}

Result<std::unique_ptr<History>> History::open(const std::string& path) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  std::unique_ptr<History> history(new History(path));
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (sqlite3_open_v2(path.c_str(), &history->db_, flags, nullptr) != SQLITE_OK)
    return tl::unexpected(history->error_now("open"));
  sqlite3_busy_timeout(history->db_, kWaitMs);
  QUENCH_TRY(const int64_t tables, history->ask("SELECT count(*) FROM sqlite_master"));
  QUENCH_TRY(const int64_t application, history->ask("PRAGMA application_id"));
  if (tables > 0 && application != kApplicationId) {
    return fail(ErrorCode::kInvalidFile,
                "{}: this is another program's database, not a history of quench.", path);
  }
  if (tables > 0) {
    QUENCH_TRY_VOID(history->upgrade());
    return history;
  }
  QUENCH_TRY_VOID(history->exec("PRAGMA journal_mode = WAL"));
  QUENCH_TRY_VOID(history->exec(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
  QUENCH_TRY_VOID(history->exec(kTable));
  QUENCH_TRY_VOID(history->upgrade());
  return history;
}

// Files of earlier versions get what they lack; what is in them stays as it is.
Result<void> History::upgrade() const {
  QUENCH_TRY(int64_t version, ask("PRAGMA user_version"));
  if (version > kVersion) {
    return fail(ErrorCode::kInvalidFile,
                "{}: this history has version {}, a newer quench has written it; this one knows "
                "versions up to {}.",
                path_, version, kVersion);
  }
  while (version < kVersion) {
    const auto done = exec(kUpgrades[version]);
    if (!done) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    const int64_t before = version;
    // Another process may have been quicker; then its work is found, and ours has failed.
    QUENCH_TRY(version, ask("PRAGMA user_version"));
    if (version == before) return done;
  }
  return {};
}

// Of another machine: only read, and nothing is written beside it. Where a log lies beside it, that
// has to be read too, and only a usual connection does.
Result<std::unique_ptr<History>> History::open_other(const std::string& path) {
  if (file_exists(path + "-wal")) return open(path);
  std::string uri = "file:";
  for (const char c : fs::absolute(path).string()) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' ||
                          c == '.' || c == '-' || c == '_';
    uri += is_plain ? std::string(1, c) : fmt::format("%{:02x}", static_cast<unsigned char>(c));
  }
  uri += "?immutable=1";
  std::unique_ptr<History> history(new History(path));
  const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
  if (sqlite3_open_v2(uri.c_str(), &history->db_, flags, nullptr) != SQLITE_OK)
    return tl::unexpected(history->error_now("open"));
  QUENCH_TRY(const int64_t application, history->ask("PRAGMA application_id"));
  if (application != kApplicationId)
    return fail(ErrorCode::kInvalidFile, "{}: this database is not a history of quench.", path);
  return history;
}

// The number that a statement gives.
Result<int64_t> History::ask(const char* sql) const {
  Statement statement(db_, sql);
  if (!statement.step()) return tl::unexpected(error_now("read"));
  return static_cast<int64_t>(statement.number(0).value_or(0.0));
}

History::~History() { sqlite3_close(db_); }

Result<void> History::exec(const char* sql) const {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return tl::unexpected(error_now("write"));
}

Result<bool> History::add(const Json& measurement) {
  QUENCH_TRY_VOID(validate_measurement(measurement));
  const HistoryEntry entry = entry_of(measurement);
  if (entry.id.empty() || entry.time.empty()) {
    return fail(ErrorCode::kInvalidFile, "A {} without an id and a time cannot be kept.",
                entry.schema);
  }
  Statement insert(db_,
                   "INSERT OR IGNORE INTO measurement (id, time, schema, model, format, machine, "
                   "target, label, ttft_s, decode_tok_s, json) VALUES (?,?,?,?,?,?,?,?,?,?,?)");
  int at = 0;
  for (const std::string* text : {&entry.id, &entry.time, &entry.schema, &entry.model,
                                  &entry.format, &entry.machine, &entry.target, &entry.label})
    insert.bind(++at, *text);
  insert.bind(++at, entry.ttft_s);
  insert.bind(++at, entry.decode_tok_s);
  insert.bind(++at, measurement.dump(-1, ' ', false, Json::error_handler_t::replace));
  insert.step();
  if (!insert.is_done()) return tl::unexpected(error_now("write"));
  return sqlite3_changes(db_) > 0;
}

Result<std::vector<HistoryEntry>> History::list(const HistoryFilter& filter) const {
  const Where where(filter);
  std::string sql = fmt::format(
      "SELECT id, time, schema, {}, model, format, machine, target, label, ttft_s, decode_tok_s "
      "FROM measurement{} ORDER BY time DESC, id",
      kKind, where.sql);
  if (filter.limit > 0) sql += fmt::format(" LIMIT {}", filter.limit);
  Statement select(db_, sql);
  where.bind(select);
  std::vector<HistoryEntry> entries;
  while (select.step()) {
    entries.push_back({select.text(0), select.text(1), select.text(2), select.text(3),
                       select.text(4), select.text(5), select.text(6), select.text(7),
                       select.text(8), select.number(9), select.number(10)});
  }
  if (!select.is_done()) return tl::unexpected(error_now("read"));
  std::reverse(entries.begin(), entries.end());
  return entries;
}

Result<Json> History::get(const std::string& id) const {
  Statement select(db_, "SELECT id, json FROM measurement WHERE substr(id, 1, ?) = ? LIMIT 2");
  select.bind(1, static_cast<double>(id.size()));
  select.bind(2, id);
  std::vector<std::string> texts;
  while (select.step()) texts.push_back(select.text(1));
  if (!select.is_done()) return tl::unexpected(error_now("read"));
  if (texts.empty()) {
    return fail(ErrorCode::kNotFound,
                "The history has no measurement \"{}\"; `quench history` "
                "lists them.",
                id);
  }
  if (texts.size() > 1)
    return fail(ErrorCode::kInvalidArgument, "Several measurements begin with \"{}\".", id);
  return parse_json(texts.front(), fmt::format("{}: measurement {}", path_, id));
}

Result<int64_t> History::for_each(
    const HistoryFilter& filter,
    const std::function<void(const std::string& id, const Json&)>& use) const {
  QUENCH_TRY(const std::vector<HistoryEntry> entries, list(filter));
  int64_t unreadable = 0;
  for (const HistoryEntry& entry : entries) {
    const auto json = get(entry.id);
    if (json) {
      use(entry.id, *json);
    } else {
      ++unreadable;
    }
  }
  return unreadable;
}

Result<ImportCounts> History::import_file(const std::string& path) {
  QUENCH_TRY(const std::string bytes, read_file(path));
  ImportCounts counts;
  auto take = [&](const Result<Json>& json) {
    Result<bool> added = json ? add(*json) : Result<bool>(tl::unexpected(json.error()));
    if (added) {
      ++(*added ? counts.added : counts.known);
    } else {
      ++counts.refused;
      if (counts.first_problem.empty()) counts.first_problem = added.error().message;
    }
  };
  if (is_sqlite_file(bytes)) {
    QUENCH_TRY(const auto other, open_other(path));
    QUENCH_TRY(const int64_t unreadable,
               other->for_each({}, [&](const std::string&, const Json& json) { take(json); }));
    counts.refused += unreadable;
    if (unreadable > 0 && counts.first_problem.empty())
      counts.first_problem = fmt::format("{}: {} rows cannot be read.", path, unreadable);
    return counts;
  }
  if (const auto whole = parse_json(bytes, path)) {
    if (whole->is_array()) {
      for (const Json& one : *whole) take(one);
    } else {
      take(*whole);
    }
    return counts;
  }
  std::istringstream lines(bytes);
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string::npos)
      take(parse_json(line, fmt::format("{}: line {}", path, number)));
  }
  return counts;
}

Result<void> History::remove(const std::string& id) {
  QUENCH_TRY(const Json json, get(id));
  Statement erase(db_, "DELETE FROM measurement WHERE id = ?");
  erase.bind(1, string_at(json, {"id"}));
  erase.step();
  if (!erase.is_done()) return tl::unexpected(error_now("write"));
  return {};
}

Result<void> History::check() const {
  Statement statement(db_, "PRAGMA quick_check(1)");
  const bool answered = statement.step();
  if (!answered) return tl::unexpected(error_now("read"));
  if (const std::string found = statement.text(0); found != "ok") {
    return fail(ErrorCode::kInvalidFile,
                "{}: this history is damaged ({}); what can be read is "
                "given by `quench history export`.",
                path_, found);
  }
  return {};
}

Result<std::string> history_path() { return user_data_path("history.db"); }

Result<void> check_history() {
  QUENCH_TRY(const std::string path, history_path());
  QUENCH_TRY([[maybe_unused]] const auto history, History::open(path));
  return {};
}

Result<void> keep_in_history(const Json& measurement) {
  QUENCH_TRY(const std::string path, history_path());
  Error error;
  if (const auto history = History::open(path); !history) {
    error = history.error();
  } else if (const auto added = (*history)->add(measurement); !added) {
    error = added.error();
  } else {
    return {};
  }
  const fs::path dir = fs::path(path).parent_path() / "unsaved";
  std::error_code ignored;
  fs::create_directories(dir, ignored);
  const std::string file = (dir / (string_at(measurement, {"id"}) + ".json")).string();
  const auto written = write_file_atomic(
      file, measurement.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  if (!written)
    return fail(error.code, "{} Nor could the measurement be written to a file: {}", error.message,
                written.error().message);
  return fail(error.code, "{} The measurement is in {}; `quench history import` takes it.",
              error.message, file);
}

}  // namespace quench
