// Strings: what reports say, in one language; strings/<language>.json and
// strings/<language>_*.json, embedded at build. Numbers are formatted by the caller, so that every
// language shows the same ones. The tables live as long as the process; any thread may read.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace quench {

// A text before it is in a language: its key, what its {names} stand for, and which of them are
// texts themselves.
struct Sentence {
  std::string key;
  std::map<std::string, std::string> values = {};
  std::vector<std::pair<std::string, Sentence>> parts = {};
};

class Strings {
 public:
  // "en" or "zh"; any other name is a bug.
  static const Strings& of(std::string_view language);
  static const std::vector<std::string>& languages();
  // Of embedded files; a key is in one of them.
  explicit Strings(const std::vector<std::string_view>& files);

  // The text of a key, its {names} filled in. An unknown key and a missing name are bugs.
  std::string operator()(std::string_view key,
                         const std::map<std::string, std::string>& values = {}) const;
  std::string operator()(const Sentence& sentence) const;
  // The same where the key or the names come from a file; null when they do not fit.
  std::optional<std::string> fill(std::string_view key,
                                  const std::map<std::string, std::string>& values) const;
  std::string join(const std::vector<std::string>& parts) const;  // "a, b, c"
  const std::map<std::string, std::string, std::less<>>& all() const { return texts_; }

 private:
  std::map<std::string, std::string, std::less<>> texts_;
};

// Each of them in English, as JSON has them.
Json english(const std::vector<Sentence>& sentences);

// A part of a reason: which sentence of strings/*.json, with what in it. A value is text that is
// the same in every language, or a list of such.
struct Clause {
  std::string key;  // without "why."
  Json values;
};
// "first; second." Null when a clause is not one of this version's.
std::optional<std::string> clauses_text(const Strings& strings, const Json& clauses);
// [{"key", "values"}]
Json clauses_json(const std::vector<Clause>& clauses);

// A number as texts have it.
std::string fixed(double value, int decimals);

// How a row is called: the reference has a name in every language.
std::string profile_text(const Strings& strings, const std::string& profile);

}  // namespace quench
