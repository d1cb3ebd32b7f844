// Problem: something that whoever reads the figures has to know. A sentence of strings/*.json with
// its values, so that a report says it in the reader's language, and the same in English. A plain
// value; any thread.
#pragma once

#include <map>
#include <string>

#include "base/json.h"

namespace quench {

struct Problem {
  std::string kind;                           // one word
  std::string key;                            // "problem.KEY" is its sentence
  std::map<std::string, std::string> values;  // what is filled in
  std::string message;                        // the sentence in English
};

// The key of most is their kind.
Problem make_problem(const std::string& kind, std::map<std::string, std::string> values,
                     const std::string& key = "");

Json problem_json(const Problem& problem);

}  // namespace quench
