#include "text/chat_render.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "text/python_text.h"

namespace quench {
namespace {

constexpr std::string_view kThinkEnd = "</think>";

// Collects text and control tokens in order.
class ChatWriter {
 public:
  void text(std::string_view text) {
    if (text.empty()) return;
    if (chat_.segments.empty() || chat_.segments.back().is_control || cut_)
      chat_.segments.push_back({"", false});
    chat_.segments.back().text += text;
    cut_ = false;
  }
  void cut() { cut_ = true; }  // what follows is tokenized apart from what was written so far
  void begin_turn() { control("<|im_start|>"); }
  void end_turn() { control("<|im_end|>"); }
  RenderedChat take() { return std::move(chat_); }

 private:
  void control(const char* token) { chat_.segments.push_back({token, true}); }

  RenderedChat chat_;
  bool cut_ = false;
};

// text.split(separator)[-1] and [0].
std::string_view behind_last(std::string_view text, std::string_view separator) {
  const size_t at = text.rfind(separator);
  return at == std::string_view::npos ? text : text.substr(at + separator.size());
}
std::string_view before_first(std::string_view text, std::string_view separator) {
  return text.substr(0, text.find(separator));
}

// Jinja's `value.key`: null where it is missing or value is no object.
const Json* find_member(const Json& value, const char* key) {
  if (!value.is_object()) return nullptr;
  const auto it = value.find(key);
  return it == value.end() ? nullptr : &*it;
}

class Renderer {
 public:
  Renderer(const ChatTemplateRules& rules, const std::vector<Message>& messages,
           const ChatOptions& options)
      : rules_(rules), messages_(messages), options_(options) {}

  Result<RenderedChat> render() {
    if (messages_.empty() && rules_.style != ChatStyle::kPlain) {
      return fail(ErrorCode::kInvalidArgument,
                  "chat template {}: expected at least one message, found none.", rules_.name);
    }
    if (!options_.tools.is_array() && !options_.tools.is_null()) {
      return fail(ErrorCode::kInvalidArgument,
                  "chat template {}: expected a list of tools, found {}.", rules_.name,
                  options_.tools.type_name());
    }
    has_tools_ = options_.tools.is_array() && !options_.tools.empty();
    first_is_system_ = !messages_.empty() && messages_[0].role == "system";
    switch (rules_.style) {
      case ChatStyle::kPlain:
        plain();
        break;
      case ChatStyle::kHermes:
      case ChatStyle::kThink:
        json_tools();
        break;
      case ChatStyle::kXmlTools:
        QUENCH_TRY_VOID(xml_tools());
        break;
    }
    if (options_.add_generation_prompt && !(rules_.blank_line_between && messages_.empty()))
      generation_prompt();
    return writer_.take();
  }

 private:
  void turn(std::string_view role, std::string_view content) {
    writer_.begin_turn();
    writer_.text(role);
    if (rules_.encodes_parts_alone) writer_.cut();
    writer_.text("\n");
    if (rules_.encodes_parts_alone) writer_.cut();
    writer_.text(content);
    end_turn();
  }
  void end_turn() {
    writer_.end_turn();
    writer_.text("\n");
  }

  void generation_prompt() {
    writer_.begin_turn();
    writer_.text("assistant");
    if (rules_.encodes_parts_alone) writer_.cut();
    writer_.text("\n");
    switch (rules_.generation_think) {
      case GenerationThink::kNone:
        break;
      case GenerationThink::kOpen:
        writer_.text("<think>\n");
        break;
      case GenerationThink::kEmpty:
        writer_.text("<think>\n\n</think>\n\n");
        break;
      case GenerationThink::kEmptyIfDisabled:
        if (options_.enable_thinking == false) writer_.text("<think>\n\n</think>\n\n");
        break;
      case GenerationThink::kClosedUnlessSet:
        writer_.text("<think>\n");
        if (options_.enable_thinking != true) writer_.text(kThinkEnd);
        break;
    }
  }

  void plain() {
    if (!messages_.empty() && !first_is_system_) turn("system", rules_.default_system);
    for (const Message& message : messages_) {
      turn(message.role, message.content);
      if (rules_.blank_line_between) writer_.text("\n");
    }
  }

  // Qwen2.5, QwQ, Qwen3.
  void json_tools() {
    system_turn();
    if (rules_.style == ChatStyle::kThink) find_last_query();
    for (size_t i = 0; i < messages_.size(); ++i) {
      const Message& message = messages_[i];
      if (message.role == "user" || (message.role == "system" && i > 0)) {
        turn(message.role, message.content);
      } else if (message.role == "assistant" && rules_.style == ChatStyle::kThink) {
        thinking_assistant(i);
      } else if (message.role == "assistant") {
        hermes_assistant(i);
      } else if (message.role == "tool") {
        tool_response(i);
      }
    }
  }

  void system_turn() {
    const std::string_view own = first_is_system_ ? std::string_view(messages_[0].content)
                                 : rules_.default_system != nullptr ? rules_.default_system
                                                                    : std::string_view();
    const bool has_system = first_is_system_ || rules_.default_system != nullptr;
    if (!has_tools_) {
      if (has_system) turn("system", own);
      return;
    }
    writer_.begin_turn();
    writer_.text("system\n");
    writer_.text(own);
    // Qwen3 leaves the blank line out where there is nothing above it.
    if (rules_.style == ChatStyle::kHermes || first_is_system_) writer_.text("\n\n");
    writer_.text(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are "
        "provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (const Json& tool : options_.tools) {
      writer_.text("\n");
      writer_.text(python_json(tool));
    }
    writer_.text(
        "\n</tools>\n\nFor each function call, return a json object with function name and "
        "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": "
        "<function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
    end_turn();
  }

  void hermes_assistant(size_t i) {
    const Message& message = messages_[i];
    std::string_view content = message.content;
    if (rules_.strips_thoughts && i + 1 < messages_.size())
      content = strip_left(behind_last(content, kThinkEnd), '\n');
    if (message.tool_calls.empty()) {
      turn(message.role, content);
      return;
    }
    writer_.begin_turn();
    writer_.text(message.role);
    if (!message.content.empty()) {
      writer_.text("\n");
      writer_.text(content);
    }
    for (const ToolCall& call : message.tool_calls) {
      writer_.text("\n");
      json_call(call, python_json(call.arguments));
    }
    end_turn();
  }

  void json_call(const ToolCall& call, std::string_view arguments) {
    writer_.text("<tool_call>\n{\"name\": \"");
    writer_.text(call.name);
    writer_.text("\", \"arguments\": ");
    writer_.text(arguments);
    writer_.text("}\n</tool_call>");
  }

  // The last turn in which the user asked something: tool responses sent as a user do not count.
  // Reasoning before it leaves the history.
  void find_last_query() {
    last_query_ = messages_.size() - 1;
    for (size_t i = messages_.size(); i-- > 0;) {
      const std::string_view content = messages_[i].content;
      if (messages_[i].role != "user" ||
          (content.starts_with("<tool_response>") && content.ends_with("</tool_response>")))
        continue;
      last_query_ = i;
      break;
    }
  }

  void thinking_assistant(size_t i) {
    const Message& message = messages_[i];
    std::string_view content = message.content;
    std::string_view reasoning;
    if (rules_.keeps_no_reasoning) {
      // The content stands as it is.
    } else if (message.reasoning_content) {
      reasoning = *message.reasoning_content;
    } else if (content.find(kThinkEnd) != std::string_view::npos) {
      reasoning = strip_right(before_first(content, kThinkEnd), '\n');
      reasoning = strip_left(behind_last(reasoning, "<think>"), '\n');
      content = strip_left(behind_last(content, kThinkEnd), '\n');
    }
    writer_.begin_turn();
    writer_.text(message.role);
    writer_.text("\n");
    const bool is_last = i + 1 == messages_.size();
    if (!rules_.keeps_no_reasoning && i > last_query_ && (is_last || !reasoning.empty())) {
      writer_.text("<think>\n");
      writer_.text(strip_left(strip_right(reasoning, '\n'), '\n'));
      writer_.text("\n</think>\n\n");
      writer_.text(strip_left(content, '\n'));
    } else {
      writer_.text(content);
    }
    for (const ToolCall& call : message.tool_calls) {
      if (&call != &message.tool_calls.front() || !content.empty()) writer_.text("\n");
      json_call(call, call.arguments.is_string() ? call.arguments.get<std::string>()
                                                 : python_json(call.arguments));
    }
    end_turn();
  }

  void tool_response(size_t i) {
    if (i == 0 || messages_[i - 1].role != "tool") {
      writer_.begin_turn();
      writer_.text("user");
    }
    writer_.text("\n<tool_response>\n");
    writer_.text(messages_[i].content);
    writer_.text("\n</tool_response>");
    if (i + 1 == messages_.size() || messages_[i + 1].role != "tool") end_turn();
  }

  // Qwen3-Coder.
  Result<void> xml_tools() {
    if (first_is_system_ || has_tools_) {
      writer_.begin_turn();
      writer_.text("system\n");
      writer_.text(first_is_system_ ? std::string_view(messages_[0].content)
                                    : rules_.default_system);
      if (has_tools_) xml_tool_list();
      end_turn();
    }
    const size_t begin = first_is_system_ ? 1 : 0;
    for (size_t i = begin; i < messages_.size(); ++i) {
      const Message& message = messages_[i];
      if (message.role == "assistant" && !message.tool_calls.empty()) {
        QUENCH_TRY_VOID(xml_assistant(message));
      } else if (message.role == "tool") {
        if (i > begin && messages_[i - 1].role != "tool") {
          writer_.begin_turn();
          writer_.text("user\n");
        }
        writer_.text("<tool_response>\n");
        writer_.text(message.content);
        writer_.text("\n</tool_response>\n");
        if (i + 1 == messages_.size() || messages_[i + 1].role != "tool") end_turn();
      } else {
        turn(message.role, message.content);
      }
    }
    return {};
  }

  void xml_element(std::string_view name, std::string_view value) {
    writer_.text(fmt::format("\n<{}>{}</{}>", name, value, name));
  }

  // Members that the template does not name: containers as JSON, the rest as Python's str().
  void xml_other_members(const Json* object, std::initializer_list<std::string_view> handled) {
    if (object == nullptr || !object->is_object()) return;
    for (const auto& [key, value] : object->items()) {
      if (std::find(handled.begin(), handled.end(), key) != handled.end()) continue;
      xml_element(key, value.is_structured() ? python_json(value) : python_str(value));
    }
  }

  void xml_tool_list() {
    writer_.text("\n\n# Tools\n\nYou have access to the following tools:\n\n<tools>");
    for (const Json& entry : options_.tools) {
      const Json* function = find_member(entry, "function");
      const Json& tool = function != nullptr ? *function : entry;
      const Json* name = find_member(tool, "name");
      writer_.text("\n<function>\n<name>");
      if (name != nullptr) writer_.text(python_str(*name));
      writer_.text("</name>");
      if (const Json* description = find_member(tool, "description"))
        xml_element("description", python_strip(python_str(*description)));
      writer_.text("\n<parameters>");
      const Json* parameters = find_member(tool, "parameters");
      const Json* properties =
          parameters != nullptr ? find_member(*parameters, "properties") : nullptr;
      if (properties != nullptr && properties->is_object()) {
        for (const auto& [key, fields] : properties->items()) {
          writer_.text("\n<parameter>");
          xml_element("name", key);
          if (const Json* type = find_member(fields, "type"))
            xml_element("type", python_str(*type));
          if (const Json* description = find_member(fields, "description"))
            xml_element("description", python_strip(python_str(*description)));
          xml_other_members(&fields, {"name", "type", "description"});
          writer_.text("\n</parameter>");
        }
      }
      xml_other_members(parameters, {"type", "properties"});
      writer_.text("\n</parameters>");
      xml_other_members(&tool, {"type", "name", "description", "parameters"});
      writer_.text("\n</function>");
    }
    writer_.text(
        "\n</tools>\n\nIf you choose to call a tool ONLY reply in the following format with NO "
        "suffix:\n\n<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>"
        "\nvalue_1\n</parameter>\n<parameter=example_parameter_2>\nvalue_2\n</parameter>\n"
        "</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the "
        "specified format: the tool calling block MUST begin with an opening <tool_call> tag and "
        "end with a closing </tool_call> tag.\n- Required parameters MUST be specified\n- You may "
        "provide optional reasoning for your function call in natural language BEFORE the function "
        "call, but NOT after\n- If there is no function call available, answer the question like "
        "normal with your current knowledge and do not tell the user about function calls\n"
        "</IMPORTANT>");
  }

  Result<void> xml_assistant(const Message& message) {
    writer_.begin_turn();
    writer_.text(message.role);
    const std::string_view content = python_strip(message.content);
    if (!content.empty()) writer_.text(fmt::format("\n{}\n", content));
    for (const ToolCall& call : message.tool_calls) {
      if (!call.arguments.is_object()) {
        return fail(ErrorCode::kInvalidArgument,
                    "chat template {}: expected an object as the arguments of the call of \"{}\", "
                    "found {}.",
                    rules_.name, call.name, call.arguments.type_name());
      }
      writer_.text(fmt::format("\n<tool_call>\n<function={}>\n", call.name));
      for (const auto& [key, value] : call.arguments.items()) {
        writer_.text(fmt::format("<parameter={}>\n{}\n</parameter>\n", key,
                                 value.is_structured() ? python_json(value) : python_str(value)));
      }
      writer_.text("</function>\n</tool_call>");
    }
    end_turn();
    return {};
  }

  const ChatTemplateRules& rules_;
  const std::vector<Message>& messages_;
  const ChatOptions& options_;
  ChatWriter writer_;
  bool has_tools_ = false;
  bool first_is_system_ = false;
  size_t last_query_ = 0;
};

}  // namespace

Result<RenderedChat> render_chat(const ChatTemplateRules& rules,
                                 const std::vector<Message>& messages, const ChatOptions& options) {
  return Renderer(rules, messages, options).render();
}

}  // namespace quench
