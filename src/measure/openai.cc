#include "measure/openai.h"

#include "base/result.h"

namespace quench {
namespace {

constexpr size_t kShown = 200;  // bytes of an unexpected body that a message shows

std::string beginning(const std::string& text) {
  std::string shown = text.substr(0, kShown);
  while (!shown.empty() && (shown.back() == '.' || shown.back() == '\n')) shown.pop_back();
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return text.size() > kShown ? shown + "..." : shown;
}

std::optional<int64_t> count_of(const Json& usage, const char* key) {
  if (!usage.is_object() || !usage.contains(key)) return std::nullopt;
  const Json& value = usage[key];
  if (!value.is_number_unsigned() || value.get<uint64_t>() > (uint64_t{1} << 40))
    return std::nullopt;
  return value.get<int64_t>();
}

// The texts of "delta", "message" or the choice itself.
std::string text_of(const Json& choice) {
  std::string text;
  auto append = [&](const Json& from, const char* key) {
    if (from.is_object() && from.contains(key) && from[key].is_string())
      text += from[key].get<std::string>();
  };
  for (const char* part : {"delta", "message"}) {
    if (!choice.contains(part)) continue;
    // Thinking is generated too: vLLM and SGLang name it so, newer ones shorter.
    append(choice[part], "reasoning_content");
    if (text.empty()) append(choice[part], "reasoning");
    append(choice[part], "content");
  }
  append(choice, "text");
  return text;
}

std::string message_of(const Json& error) {
  if (error.is_string()) return error.get<std::string>();
  if (error.is_object() && error.contains("message") && error["message"].is_string())
    return error["message"].get<std::string>();
  return error.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

const std::set<std::string>& extension_names() {
  static const std::set<std::string> names = {"stream_options", "repetition_penalty",
                                              "repeat_penalty", "ignore_eos"};
  return names;
}

std::set<std::string> refused_extensions(const std::string& error_text) {
  std::set<std::string> named;
  for (const std::string& name : extension_names()) {
    if (error_text.find(name) != std::string::npos) named.insert(name);
  }
  return named.empty() ? extension_names() : named;
}

Json completion_body(const CompletionShape& shape, const BenchRequest& request) {
  const SamplingSettings& sampling = request.sampling;
  Json body = {{"model", shape.model}};
  if (shape.plain) {
    body["prompt"] = request.prompt;
  } else {
    body["messages"] = Json::array({{{"role", "user"}, {"content", request.prompt}}});
  }
  body["stream"] = true;
  body["max_tokens"] = sampling.max_new_tokens;
  body["temperature"] = sampling.greedy ? 0.0 : sampling.temperature;
  body["top_p"] = sampling.top_p;
  body["seed"] = sampling.seed;
  auto extend = [&](const char* name, const Json& value) {
    if (shape.without.count(name) == 0) body[name] = value;
  };
  extend("stream_options", {{"include_usage", true}});
  if (sampling.repetition_penalty != 1.0) {
    extend("repetition_penalty", sampling.repetition_penalty);
    extend("repeat_penalty", sampling.repetition_penalty);
  }
  if (request.length_locked) extend("ignore_eos", true);
  return body;
}

std::vector<std::string> SseParser::feed(std::string_view bytes) {
  std::vector<std::string> events;
  auto end_line = [&] {
    if (line_.empty()) {
      if (has_data_) events.push_back(std::move(data_));
      data_.clear();
      has_data_ = false;
    } else if (line_.starts_with("data:")) {
      std::string_view value = std::string_view(line_).substr(5);
      if (value.starts_with(' ')) value.remove_prefix(1);
      if (has_data_) data_ += '\n';
      data_ += value;
      has_data_ = true;
    }
    line_.clear();  // comments and other fields say nothing here
  };
  for (const char c : bytes) {
    // A line ends with CR, LF or CR LF.
    if (c == '\n' && after_cr_) {
      after_cr_ = false;
      continue;
    }
    after_cr_ = c == '\r';
    if (c == '\n' || c == '\r') {
      end_line();
    } else {
      line_ += c;
    }
  }
  return events;
}

Result<Piece> parse_piece(const std::string& data) {
  const auto parsed = parse_json(data, "the answer");
  if (!parsed || !parsed->is_object())
    return fail(ErrorCode::kInvalidFile, "Expected JSON of the OpenAI API, found \"{}\".",
                beginning(data));
  const Json& json = *parsed;
  if (json.contains("error") && !json["error"].is_null())
    return fail(ErrorCode::kInternal, "The server says \"{}\".",
                beginning(message_of(json["error"])));
  const Json usage = json.value("usage", Json());
  Piece piece;
  piece.prompt_tokens = count_of(usage, "prompt_tokens");
  piece.generated_tokens = count_of(usage, "completion_tokens");
  const bool has_choices = json.contains("choices") && json["choices"].is_array();
  if (!has_choices && !usage.is_object())
    return fail(ErrorCode::kInvalidFile, "Expected \"choices\" in the answer, found \"{}\".",
                beginning(data));
  if (!has_choices || json["choices"].empty()) return piece;
  const Json& choice = json["choices"].front();
  if (!choice.is_object()) return piece;
  piece.text = text_of(choice);
  if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) {
    piece.finish =
        choice["finish_reason"] == "length" ? FinishReason::kLength : FinishReason::kStop;
  }
  return piece;
}

std::string error_text(const std::string& body) {
  const auto parsed = parse_json(body, "the answer");
  if (parsed && parsed->is_object()) {
    for (const char* key : {"error", "detail", "message"}) {
      if (parsed->contains(key)) return beginning(message_of((*parsed)[key]));
    }
  }
  return beginning(body);
}

}  // namespace quench
