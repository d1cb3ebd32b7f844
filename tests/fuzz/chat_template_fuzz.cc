// Renders foreign messages and tools, read as JSON, with every chat template; and hands the bytes
// to the recognition of templates.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t num_bytes) {
  using quench::ChatTemplate;
  const std::string_view text(reinterpret_cast<const char*>(data), num_bytes);
  (void)ChatTemplate::recognise(text, "fuzz");
  const auto request = quench::parse_json(text, "fuzz");
  if (!request || !request->is_object()) return 0;
  const auto field = [&](const char* key) {
    const auto it = request->find(key);
    return it == request->end() ? quench::Json() : *it;
  };
  const auto messages =
      quench::messages_from_json(field("messages"), quench::ToolArguments::kParseStrings);
  if (!messages) return 0;
  quench::ChatOptions options;
  options.tools = field("tools");
  if (field("enable_thinking").is_boolean()) options.enable_thinking = field("enable_thinking");
  for (const std::string_view name : ChatTemplate::names()) {
    const auto chat = ChatTemplate::by_name(name)->render_segments(*messages, options);
    if (!chat) continue;
    for (const quench::ChatSegment& segment : chat->segments) {
      QUENCH_CHECK(!segment.text.empty(), "an empty segment from {}", name);
      QUENCH_CHECK(!segment.is_control || segment.text.starts_with("<|im_"), "{}", segment.text);
    }
  }
  return 0;
}
