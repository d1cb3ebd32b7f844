// The chat templates of Qwen1 to Qwen3, written out in C++: there is no Jinja engine here. A
// checkpoint's own template is recognised by a digest of its text; one that is none of the known
// ones is an error that lists the names to choose from, never a silent guess.
//
// Immutable values: any thread may call.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/chat_message.h"
#include "text/tokenizer.h"

namespace quench {

struct ChatOptions {
  bool add_generation_prompt = true;  // end with the opening of the assistant's turn
  std::optional<bool> enable_thinking =
      std::nullopt;            // for templates that ask; unset: their default
  Json tools = Json::array();  // function descriptions, as in OpenAI's API
};

// A rendered conversation. A control segment is one control token that the template wrote; all else
// is text, whose ids are those of the whole stretch between two segments.
struct ChatSegment {
  std::string text;
  bool is_control;
};
struct RenderedChat {
  std::vector<ChatSegment> segments;
  std::string text() const;
};

struct ChatTemplateRules;

class ChatTemplate {
 public:
  static Result<ChatTemplate> by_name(std::string_view name);
  // From the Jinja source of a checkpoint. Line ends, indentation and empty lines do not count.
  static Result<ChatTemplate> recognise(std::string_view jinja, std::string_view where);
  // chat_template.jinja, chat_template.json or tokenizer_config.json of a model directory; Qwen1,
  // which has none of them, by its *.tiktoken file. kNotFound where the model has no template (a
  // base model), kUnsupported where it is an unknown one.
  static Result<ChatTemplate> find(const std::string& model_dir);
  // The Jinja source of a model directory; nothing where it has none.
  static Result<std::optional<std::string>> source(const std::string& model_dir);
  // The names that by_name() takes, in the order of the model generations.
  static std::vector<std::string_view> names();

  std::string_view name() const;
  std::string_view description() const;
  bool reads_enable_thinking() const;

  // What the template's Jinja source renders; an error where that raises one.
  Result<RenderedChat> render_segments(const std::vector<Message>& messages,
                                       const ChatOptions& options) const;
  Result<std::string> render(const std::vector<Message>& messages,
                             const ChatOptions& options = {}) const;

 private:
  explicit ChatTemplate(const ChatTemplateRules* rules) : rules_(rules) {}
  const ChatTemplateRules* rules_;  // one of the constant table
};

// The digest by which a template is known: FNV-1a over its lines without white space at both ends,
// empty lines left out.
uint64_t chat_template_digest(std::string_view jinja);

// The ids of a rendered conversation. Control segments are looked up in the tokenizer (an error
// where it lacks one); text is encoded with Special::kAsText, so that nothing inside a message can
// forge a control token.
Result<std::vector<TokenId>> encode_chat(const Tokenizer& tokenizer, const RenderedChat& chat);
Result<std::vector<TokenId>> encode_chat(const Tokenizer& tokenizer,
                                         const ChatTemplate& chat_template,
                                         const std::vector<Message>& messages,
                                         const ChatOptions& options = {});

}  // namespace quench
