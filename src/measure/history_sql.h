// What the history's files share of SQLite: a prepared statement, and the conditions of a filter.
// A Statement owns its statement and must not outlive the connection; one thread.
#pragma once

#include <sqlite3.h>

#include <optional>
#include <string>
#include <vector>

#include "measure/history.h"

namespace quench {

// Parameters and columns count as SQLite's do.
class Statement {
 public:
  Statement(sqlite3* db, const std::string& sql) {
    status_ = sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void bind(int at, const std::string& text) {
    sqlite3_bind_text(statement_, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  }
  void bind(int at, std::optional<double> value) {
    if (value) sqlite3_bind_double(statement_, at, *value);
  }
  bool step() {
    if (statement_ == nullptr) return false;
    status_ = sqlite3_step(statement_);
    return status_ == SQLITE_ROW;
  }
  bool is_done() const { return status_ == SQLITE_DONE; }
  std::string text(int column) {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return bytes == nullptr
               ? std::string()
               : std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::optional<double> number(int column) {
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::nullopt;
    return sqlite3_column_double(statement_, column);
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int status_ = SQLITE_OK;
};

// What was done, from the row itself: a column of its own would make two kinds of files. The JSON
// lies in it without spaces, as add() writes it.
inline constexpr const char* kKind = R"(CASE schema WHEN 'quench.bench/1' THEN 'grid'
  WHEN 'quench.record/1' THEN iif(instr(json, '"loads":[{') > 0, 'load', 'protocol')
  ELSE substr(schema, 8, length(schema) - 9) END)";

// The conditions of a filter and what stands for their question marks.
struct Where {
  std::string sql = " WHERE 1";
  std::vector<std::string> values;

  explicit Where(const HistoryFilter& filter) {
    auto contains = [&](const char* column, const std::string& text) {
      if (text.empty()) return;
      sql += fmt::format(" AND instr(lower({}), lower(?)) > 0", column);
      values.push_back(text);
    };
    contains("schema", filter.schema);
    contains(kKind, filter.kind);
    contains("model", filter.model);
    contains("format", filter.format);
    contains("machine", filter.machine);
    contains("target", filter.target);
    contains("label", filter.label);
    auto bound = [&](const char* relation, const std::string& text) {
      if (text.empty()) return;
      sql += fmt::format(" AND time {} ?", relation);
      values.push_back(text);
    };
    bound(">=", filter.since);
    // "until 2026-01-31" means that day too.
    bound("<=", filter.until.empty() ? "" : filter.until + "~");
  }
  void bind(Statement& statement) const {
    for (size_t i = 0; i < values.size(); ++i) statement.bind(static_cast<int>(i) + 1, values[i]);
  }
};

}  // namespace quench
