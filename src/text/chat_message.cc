#include "text/chat_message.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace quench {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};

// The member `key`, or null where it is missing.
const Json& member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

Result<std::string> read_content(const Json& content, size_t index) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    return fail(ErrorCode::kInvalidArgument,
                "messages[{}].content: expected a string or a list of parts, found {}.", index,
                content.type_name());
  }
  std::string text;
  for (const Json& part : content) {
    const Json& part_text = member(part, "text");
    if (member(part, "type") != "text" || !part_text.is_string()) {
      return fail(
          ErrorCode::kUnsupported,
          "messages[{}].content: expected parts of type \"text\", found type {}; quench runs "
          "text models only.",
          index, member(part, "type").dump(-1, ' ', false, Json::error_handler_t::replace));
    }
    if (&part != &content.front()) text += '\n';
    text += part_text.get<std::string>();
  }
  return text;
}

Result<ToolCall> read_tool_call(const Json& call, size_t index, ToolArguments mode) {
  const Json& function = member(call, "function").is_object() ? member(call, "function") : call;
  const Json& name = member(function, "name");
  Json arguments = member(function, "arguments");
  if (!name.is_string() || !(arguments.is_object() || arguments.is_string())) {
    return fail(
        ErrorCode::kInvalidArgument,
        "messages[{}].tool_calls: expected a function with a \"name\" and \"arguments\" that "
        "are an object or a string.",
        index);
  }
  if (arguments.is_string() && mode == ToolArguments::kParseStrings) {
    auto parsed = parse_json(arguments.get_ref<const std::string&>(), "arguments");
    if (parsed && parsed->is_object()) arguments = std::move(*parsed);
  }
  return ToolCall{name.get<std::string>(), std::move(arguments)};
}

Result<Message> read_message(const Json& json, size_t index, ToolArguments mode) {
  Message message;
  const Json& role = member(json, "role");
  if (role.is_string()) message.role = role.get<std::string>();
  if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end()) {
    return fail(ErrorCode::kInvalidArgument, "messages[{}].role: expected {}, found {}.", index,
                fmt::join(kRoles, ", "), role.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  QUENCH_TRY(message.content, read_content(member(json, "content"), index));
  const Json& reasoning = member(json, "reasoning_content");
  if (reasoning.is_string()) message.reasoning_content = reasoning.get<std::string>();
  const Json& calls = member(json, "tool_calls");
  if (!calls.is_null() && !calls.is_array()) {
    return fail(ErrorCode::kInvalidArgument, "messages[{}].tool_calls: expected a list, found {}.",
                index, calls.type_name());
  }
  if (message.role == "assistant") {
    for (const Json& call : calls) {
      QUENCH_TRY(ToolCall tool_call, read_tool_call(call, index, mode));
      message.tool_calls.push_back(std::move(tool_call));
    }
  }
  if (member(json, "content").is_null() && message.tool_calls.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "messages[{}]: expected \"content\", or \"tool_calls\" of an assistant.", index);
  }
  return message;
}

}  // namespace

Result<std::vector<Message>> messages_from_json(const Json& messages, ToolArguments arguments) {
  if (!messages.is_array()) {
    return fail(ErrorCode::kInvalidArgument, "messages: expected a list, found {}.",
                messages.type_name());
  }
  std::vector<Message> result;
  for (size_t i = 0; i < messages.size(); ++i) {
    QUENCH_TRY(Message message, read_message(messages[i], i, arguments));
    result.push_back(std::move(message));
  }
  return result;
}

}  // namespace quench
