// How each chat template differs from the others, and the renderer. Used by chat_template.cc only.
#pragma once

#include <string_view>
#include <vector>

#include "text/chat_template.h"

namespace quench {

enum class ChatStyle {
  kPlain,    // turns, no tools
  kHermes,   // tools as JSON in the system turn, calls as <tool_call>{json}</tool_call>
  kThink,    // the same, and reasoning in <think> blocks that leave the history
  kXmlTools  // tools and calls as XML
};

enum class GenerationThink {
  kNone,
  kOpen,             // "<think>\n"
  kEmpty,            // an empty block
  kEmptyIfDisabled,  // an empty block if enable_thinking is false
  kClosedUnlessSet   // "<think>\n", and "</think>" unless enable_thinking is true
};

struct ChatTemplateRules {
  std::string_view name;
  std::string_view description;
  ChatStyle style;
  // Of a conversation that does not begin with a system turn. null: no system turn.
  const char* default_system;
  GenerationThink generation_think = GenerationThink::kNone;
  bool strips_thoughts = false;      // kHermes: "...</think>" leaves all turns but the last
  bool keeps_no_reasoning = false;   // kThink without <think> blocks at all
  bool blank_line_between = false;   // kPlain: an empty line behind every message
  bool encodes_parts_alone = false;  // role, line end and content are not tokenized together
};

Result<RenderedChat> render_chat(const ChatTemplateRules& rules,
                                 const std::vector<Message>& messages, const ChatOptions& options);

}  // namespace quench
