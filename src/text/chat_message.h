// One turn of a conversation, and the reading of turns from the JSON that OpenAI's chat API has
// made common. Values, no shared state: any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace quench {

struct ToolCall {
  std::string name;
  Json arguments;  // an object, or a string that the caller wants to be written as it is
};

struct Message {
  std::string role;  // "system", "user", "assistant" or "tool"
  std::string content;
  std::optional<std::string> reasoning_content = std::nullopt;
  std::vector<ToolCall> tool_calls = {};
};

// OpenAI's API sends the arguments of a call as a string that holds JSON; the templates want the
// object. kAsGiven leaves strings alone (transformers does), kParseStrings replaces a string that
// holds a JSON object by the object (servers do).
enum class ToolArguments { kAsGiven, kParseStrings };

// [{"role": ..., "content": string, null or a list of {"type": "text", "text": ...}, joined by line
// ends, "reasoning_content": string, "tool_calls": [{"function": {"name", "arguments"}} or
// {"name", "arguments"}]}, ...]. Keys that no template reads are ignored. The error names the
// message by its number, from 0.
Result<std::vector<Message>> messages_from_json(const Json& messages,
                                                ToolArguments arguments = ToolArguments::kAsGiven);

}  // namespace quench
