#include "measure/eval/eval_task.h"

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/lines.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "measure/member_reader.h"

namespace quench {
namespace {

constexpr int64_t kTemplateTokens = 64;  // around a message, at most

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// Of digits with at most one point: "007.50" becomes "7.5", "0.0" becomes "0".
std::string one_spelling(std::string digits, bool is_negative) {
  if (digits.find('.') != std::string::npos) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') digits.pop_back();
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty() || digits.front() == '.') digits.insert(digits.begin(), '0');
  return is_negative && digits != "0" ? "-" + digits : digits;
}

// All numbers of a text in the order they stand.
std::vector<std::string> numbers_of(const std::string& text) {
  std::vector<std::string> numbers;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_digit(text[i])) continue;
    // A minus belongs to a number unless something stands before it: "10-5", "GSM-8".
    const bool is_negative =
        i > 0 && text[i - 1] == '-' && (i == 1 || (!is_word(text[i - 2]) && text[i - 2] != ')'));
    std::string digits;
    bool has_point = false;
    for (; i < text.size(); ++i) {
      const bool digit_follows = i + 1 < text.size() && is_digit(text[i + 1]);
      if (is_digit(text[i])) {
        digits += text[i];
      } else if (text[i] == '.' && digit_follows && !has_point) {
        digits += '.';
        has_point = true;
      } else if (text[i] != ',' || !digit_follows || has_point) {
        break;
      }
    }
    numbers.push_back(one_spelling(std::move(digits), is_negative));
  }
  return numbers;
}

// The first line of a file may describe the task: {"task": NAME, ...}.
struct Header {
  std::string prefix;
  std::string suffix;
};

Result<Header> parse_header(const Json& json, const std::string& where, EvalTask& task) {
  MemberReader reader(json, where);
  Header header;
  const auto optional_text = [&](const char* key, std::string& text) {
    if (const Json* value = reader.find(key, &Json::is_string, "a string"))
      text = value->get<std::string>();
  };
  task.name = reader.text("task");
  optional_text("description", task.description);
  optional_text("prefix", header.prefix);
  optional_text("suffix", header.suffix);
  task.max_new_tokens = reader.count("max_new_tokens").value_or(task.max_new_tokens);
  if (task.max_new_tokens < 1) reader.refuse("at least one new token", task.max_new_tokens);
  QUENCH_TRY_VOID(reader.finish());
  return header;
}

Result<EvalQuestion> parse_question(const Json& json, const std::string& where,
                                    const Header& header) {
  MemberReader reader(json, where);
  EvalQuestion question;
  const char* prompt_key = json.is_object() && json.contains("question") ? "question" : "prompt";
  question.prompt = reader.text(prompt_key);
  if (question.prompt.empty()) reader.refuse("some text for \"prompt\"", json);
  question.prompt = header.prefix + question.prompt + header.suffix;
  if (const Json* domain = reader.find("domain", &Json::is_string, "a string"))
    question.domain = domain->get<std::string>();
  if (json.is_object() && json.contains("choices")) {
    question.choices = reader.texts("choices");
    for (const std::string& choice : question.choices) {
      if (choice.empty()) reader.refuse("some text in each of \"choices\"", json["choices"]);
    }
    if (question.choices.size() < 2) reader.refuse("at least two \"choices\"", json["choices"]);
    const int64_t answer = reader.count("answer").value_or(-1);
    question.answer = static_cast<size_t>(answer);
    if (answer < 0 || question.answer >= question.choices.size())
      reader.refuse("the index of one of \"choices\", from 0, for \"answer\"", answer);
  } else if (json.is_object() && json.contains("answer") && json["answer"].is_number()) {
    question.number = last_number(json["answer"].dump());
  } else {
    question.number = last_number(reader.text("answer"));
    if (question.number.empty()) reader.refuse("a number in \"answer\"", json);
  }
  QUENCH_TRY_VOID(reader.finish());
  return question;
}

}  // namespace

std::string last_number(const std::string& text) {
  constexpr std::string_view kMark = "####";
  if (const size_t mark = text.rfind(kMark); mark != std::string::npos) {
    const auto numbers = numbers_of(text.substr(mark + kMark.size()));
    if (!numbers.empty()) return numbers.front();
  }
  const auto numbers = numbers_of(text);
  return numbers.empty() ? std::string() : numbers.back();
}

int64_t EvalTask::tokens_guess() const {
  size_t longest = 0;
  for (const EvalQuestion& question : questions) {
    size_t choice = 0;
    for (const std::string& text : question.choices) choice = std::max(choice, text.size());
    longest = std::max(longest, question.prompt.size() + choice);
  }
  // Few texts have more than one token for two bytes.
  return static_cast<int64_t>(longest) / 2 + (is_written() ? max_new_tokens : 0) + kTemplateTokens;
}

Result<EvalTask> parse_eval_task(const std::string& text, const std::string& path) {
  EvalTask task;
  task.path = path;
  task.name = std::filesystem::path(path).stem().string();
  task.sha256 = sha256_hex(std::as_bytes(std::span(text)));
  Header header;
  bool is_first = true;
  QUENCH_TRY_VOID(for_each_line(text, [&](int64_t number, const std::string& line) -> Result<void> {
    if (line.find_first_not_of(" \t") == std::string::npos) return {};
    const std::string where = fmt::format("{}:{}", path, number);
    QUENCH_TRY(const Json json, parse_json(line, where));
    if (std::exchange(is_first, false) && json.is_object() && json.contains("task")) {
      QUENCH_TRY(header, parse_header(json, where, task));
      return {};
    }
    QUENCH_TRY(EvalQuestion question, parse_question(json, where, header));
    task.questions.push_back(std::move(question));
    if (task.questions.back().choices.empty() == task.is_written()) return {};
    return fail(ErrorCode::kInvalidFile,
                "{}: questions with \"choices\" and questions without them are in one file; put "
                "them into two.",
                where);
  }));
  if (!task.questions.empty()) return task;
  return fail(ErrorCode::kInvalidFile,
              "{}: no question; expected one per line, such as {{\"prompt\": \"The sky is\", "
              "\"choices\": [\" blue\", \" loud\"], \"answer\": 0}}.",
              path);
}

Result<EvalTask> load_eval_task(const std::string& name_or_path) {
  std::string path = name_or_path;
  const bool is_name = path.find('/') == std::string::npos && !path.ends_with(".jsonl");
  if (is_name && !file_exists(path)) {
    auto shipped = data_path(fmt::format("tasks/eval/{}.jsonl", name_or_path));
    if (!shipped) {
      return fail(ErrorCode::kNotFound,
                  "There is no task \"{}\"; quench list tasks names those that ship, and a file of "
                  "your own is given by its path.",
                  name_or_path);
    }
    path = *shipped;
  }
  QUENCH_TRY(const std::string text, read_file(path));
  return parse_eval_task(text, path);
}

}  // namespace quench
