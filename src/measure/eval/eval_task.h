// EvalTask: questions with right answers, described by data: a JSONL file, one question per line.
// A question is a choice between texts (the model's likelihood decides) or asks for a number (the
// model writes, and the last number of its answer counts). The form is in docs/quantizing.md.
// Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace quench {

struct EvalQuestion {
  std::string domain;                // "" where the file has none
  std::string prompt;                // with the task's prefix and suffix
  std::vector<std::string> choices;  // empty: a number is asked for
  size_t answer = 0;                 // index into choices
  std::string number;                // as last_number() gives it
};

struct EvalTask {
  std::string name;
  std::string description;
  std::string path;
  std::string sha256;                   // of the file
  int64_t max_new_tokens = 400;         // of an answer that is written
  std::vector<EvalQuestion> questions;  // all of one kind, at least one

  bool is_written() const { return questions.front().choices.empty(); }
  // An upper guess, before there is a tokenizer, of the tokens that a question and its answer take.
  int64_t tokens_guess() const;
};

Result<EvalTask> parse_eval_task(const std::string& text, const std::string& path);
// A file, or the NAME of a shipped tasks/eval/NAME.jsonl.
Result<EvalTask> load_eval_task(const std::string& name_or_path);

// The last number of a text, or the first after "####" where that stands (the form of GSM8K's
// answers), in one spelling: "1,250.50" is "1250.5", "$18." is "18". Empty where there is none.
std::string last_number(const std::string& text);

}  // namespace quench
