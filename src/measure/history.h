// History: every measurement this user has made, in one SQLite file (write-ahead log), so that an
// earlier one can be found again and another machine's be put beside it. Owns the connection; one
// thread. Several processes may use one file at the same time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "measure/predictions.h"

struct sqlite3;

namespace quench {

// Empty: any. Texts match when the column contains them.
struct HistoryFilter {
  std::string kind, schema, model, format, machine, target, label;
  std::string since, until;  // "2026-01-31" or longer
  int64_t limit = 0;         // the newest so many; 0: all
};

// A measurement without its content.
struct HistoryEntry {
  std::string id;
  std::string time;
  std::string schema;  // "quench.record/1"
  std::string kind;    // "protocol", "load", "grid", "shootout" or "eval"
  std::string model, format, machine, target, label;
  // Medians over all counted runs, as far as the schema has them: those of the protocol, those of
  // the first level under load, those of the first row of decode in a grid.
  std::optional<double> ttft_s;
  std::optional<double> decode_tok_s;
};

struct ImportCounts {
  int64_t added = 0;
  int64_t known = 0;    // were there already
  int64_t refused = 0;  // no measurements
  std::string first_problem;
};

class History {
 public:
  // Made where it is missing. kInvalidFile when the file is no history, which is then left as it
  // is.
  static Result<std::unique_ptr<History>> open(const std::string& path);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // false: it was there already.
  Result<bool> add(const Json& measurement);
  Result<std::vector<HistoryEntry>> list(const HistoryFilter& filter) const;
  // By the beginning of its id; kNotFound, or kInvalidArgument when several begin so.
  Result<Json> get(const std::string& id) const;
  // A JSON measurement, one per line, a list of them, or another history's file.
  Result<ImportCounts> import_file(const std::string& path);
  // Calls `use` with every measurement that the filter lets through, oldest first. Rows that cannot
  // be read are counted in the result and passed over.
  Result<int64_t> for_each(
      const HistoryFilter& filter,
      const std::function<void(const std::string& id, const Json&)>& use) const;
  Result<void> remove(const std::string& id);

  // What was said before it was measured (measure/predictions.cc): JSON with an id, a time and a
  // model's name, found again by its key. One that is known is left as it is.
  Result<void> keep_prediction(const PredictionKey& key, const Json& prediction);
  // The newest one with this key; null: none.
  Result<Json> find_prediction(const PredictionKey& key) const;
  Result<void> keep_scores(const std::vector<Score>& scores);
  // Oldest first; of the filter: model, format, machine, times and limit.
  Result<std::vector<Score>> scores(const HistoryFilter& filter) const;
  // Predictions that nothing has been measured for yet.
  Result<int64_t> count_unscored() const;

  // Whether every page and row can be read: kInvalidFile with what SQLite says.
  Result<void> check() const;

 private:
  explicit History(std::string path) : path_(std::move(path)) {}
  static Result<std::unique_ptr<History>> open_other(const std::string& path);
  Result<void> upgrade() const;
  Result<int64_t> ask(const char* sql) const;
  Result<void> exec(const char* sql) const;
  Error error_now(const char* doing) const;

  const std::string path_;
  sqlite3* db_ = nullptr;
};

// $XDG_DATA_HOME/quench/history.db, or ~/.local/share/quench/history.db.
Result<std::string> history_path();

// Opens the user's history and says what is wrong with it, before a long measurement.
Result<void> check_history();

// Adds to the user's history. Where that cannot be written the measurement goes to a file
// unsaved/ID.json beside it, and the error names both.
Result<void> keep_in_history(const Json& measurement);

}  // namespace quench
