#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <utility>

#include "base/file.h"
#include "text/chat_render.h"

namespace quench {
namespace {

constexpr char kHelpful[] = "You are a helpful assistant.";

constexpr ChatTemplateRules kRules[] = {
    {.name = "qwen1",
     .description = "Qwen1-Chat, as its own code builds it",
     .style = ChatStyle::kPlain,
     .default_system = kHelpful,
     .encodes_parts_alone = true},
    {.name = "qwen1-vllm",
     .description = "the Jinja file of Qwen1's vLLM recipe, with a blank line between turns",
     .style = ChatStyle::kPlain,
     .default_system = kHelpful,
     .blank_line_between = true},
    {.name = "qwen1.5",
     .description = "Qwen1.5, early files: the default system text has no full stop",
     .style = ChatStyle::kPlain,
     .default_system = "You are a helpful assistant"},
    {.name = "qwen2",
     .description = "Qwen2, and later files of Qwen1.5",
     .style = ChatStyle::kPlain,
     .default_system = kHelpful},
    {.name = "qwen2.5",
     .description = "Qwen2.5",
     .style = ChatStyle::kHermes,
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {.name = "qwq",
     .description = "QwQ-32B: always thinks",
     .style = ChatStyle::kHermes,
     .default_system = nullptr,
     .generation_think = GenerationThink::kOpen,
     .strips_thoughts = true},
    {.name = "qwq-switch",
     .description = "QwQ-32B with an enable_thinking switch that is off unless set",
     .style = ChatStyle::kHermes,
     .default_system = nullptr,
     .generation_think = GenerationThink::kClosedUnlessSet,
     .strips_thoughts = true},
    {.name = "qwen3",
     .description = "Qwen3: thinks unless enable_thinking is false",
     .style = ChatStyle::kThink,
     .default_system = nullptr,
     .generation_think = GenerationThink::kEmptyIfDisabled},
    {.name = "qwen3-nonthinking",
     .description = "Qwen3 with thinking always off",
     .style = ChatStyle::kThink,
     .default_system = nullptr,
     .generation_think = GenerationThink::kEmpty},
    {.name = "qwen3-2507-instruct",
     .description = "Qwen3-...-Instruct-2507: never thinks",
     .style = ChatStyle::kThink,
     .default_system = nullptr,
     .keeps_no_reasoning = true},
    {.name = "qwen3-2507-thinking",
     .description = "Qwen3-...-Thinking-2507: always thinks",
     .style = ChatStyle::kThink,
     .default_system = nullptr,
     .generation_think = GenerationThink::kOpen},
    {.name = "qwen3-coder",
     .description = "Qwen3-Coder: tools as XML",
     .style = ChatStyle::kXmlTools,
     .default_system = "You are Qwen, a helpful AI assistant that can interact with a computer to "
                       "solve tasks."},
};

// chat_template_digest() of published templates; tools/check_tokenizer.py template-hashes prints
// them.
struct KnownDigest {
  uint64_t digest;
  std::string_view name;
};
constexpr KnownDigest kDigests[] = {
#include "text/chat_template_table.inc"
};

std::string known_names() { return fmt::format("{}", fmt::join(ChatTemplate::names(), ", ")); }

// "chat_template" of tokenizer_config.json: a string, or a list of named ones of which "default"
// counts. Nothing where there is none.
std::optional<std::string> template_in(const Json& config) {
  const auto it = config.is_object() ? config.find("chat_template") : config.end();
  if (it == config.end()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  if (!it->is_array()) return std::nullopt;
  for (const Json& entry : *it) {
    if (!entry.is_object() || entry.value("name", Json()) != "default") continue;
    const Json text = entry.value("template", Json());
    if (text.is_string()) return text.get<std::string>();
  }
  return std::nullopt;
}

bool has_tiktoken_file(const std::string& model_dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(model_dir, error)) {
    if (entry.path().extension() == ".tiktoken") return true;
  }
  return false;
}

}  // namespace

std::string RenderedChat::text() const {
  std::string text;
  for (const ChatSegment& segment : segments) text += segment.text;
  return text;
}

uint64_t chat_template_digest(std::string_view jinja) {
  constexpr std::string_view kSpace = " \t\r\n";
  uint64_t digest = 0xcbf29ce484222325;
  const auto add = [&](char c) { digest = (digest ^ static_cast<uint8_t>(c)) * 0x100000001b3; };
  while (!jinja.empty()) {
    const size_t end = std::min(jinja.find('\n'), jinja.size());
    std::string_view line = jinja.substr(0, end);
    jinja.remove_prefix(std::min(end + 1, jinja.size()));
    line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
    line = line.substr(0, line.find_last_not_of(kSpace) + 1);
    if (line.empty()) continue;
    for (const char c : line) add(c);
    add('\n');
  }
  return digest;
}

Result<ChatTemplate> ChatTemplate::by_name(std::string_view name) {
  for (const ChatTemplateRules& rules : kRules) {
    if (rules.name == name) return ChatTemplate(&rules);
  }
  return fail(ErrorCode::kInvalidArgument,
              "chat template: expected one of {}, found \"{}\"; choose one with --chat-template.",
              known_names(), name);
}

Result<ChatTemplate> ChatTemplate::recognise(std::string_view jinja, std::string_view where) {
  const uint64_t digest = chat_template_digest(jinja);
  for (const KnownDigest& known : kDigests) {
    if (known.digest == digest) return by_name(known.name);
  }
  return fail(
      ErrorCode::kUnsupported,
      "{}: the chat template (digest {:016x}) is none that quench knows, so it cannot tell "
      "what the model was trained on; choose the nearest with --chat-template NAME, one of {}.",
      where, digest, known_names());
}

namespace {

// A template and the file it is from.
struct Found {
  std::string jinja;
  std::string path;
};
Result<std::optional<Found>> find_source(const std::string& model_dir) {
  const std::string jinja_path = model_dir + "/chat_template.jinja";
  if (file_exists(jinja_path)) {
    QUENCH_TRY(std::string jinja, read_file(jinja_path));
    return Found{std::move(jinja), jinja_path};
  }
  for (const char* name : {"/chat_template.json", "/tokenizer_config.json"}) {
    const std::string path = model_dir + name;
    if (!file_exists(path)) continue;
    QUENCH_TRY(const Json config, read_json_file(path));
    if (auto jinja = template_in(config)) return Found{*std::move(jinja), path};
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<std::string>> ChatTemplate::source(const std::string& model_dir) {
  QUENCH_TRY(std::optional<Found> found, find_source(model_dir));
  if (!found) return std::nullopt;
  return std::move(found->jinja);
}

Result<ChatTemplate> ChatTemplate::find(const std::string& model_dir) {
  QUENCH_TRY(const std::optional<Found> found, find_source(model_dir));
  if (found) return recognise(found->jinja, found->path);
  if (has_tiktoken_file(model_dir)) return by_name("qwen1");
  return fail(
      ErrorCode::kNotFound,
      "{}: no chat template in chat_template.jinja or tokenizer_config.json, as with base "
      "models; to chat with it all the same, choose one with --chat-template NAME, one of {}.",
      model_dir, known_names());
}

std::vector<std::string_view> ChatTemplate::names() {
  std::vector<std::string_view> names;
  for (const ChatTemplateRules& rules : kRules) names.push_back(rules.name);
  return names;
}

std::string_view ChatTemplate::name() const { return rules_->name; }
std::string_view ChatTemplate::description() const { return rules_->description; }

bool ChatTemplate::reads_enable_thinking() const {
  return rules_->generation_think == GenerationThink::kEmptyIfDisabled ||
         rules_->generation_think == GenerationThink::kClosedUnlessSet;
}

Result<RenderedChat> ChatTemplate::render_segments(const std::vector<Message>& messages,
                                                   const ChatOptions& options) const {
  return render_chat(*rules_, messages, options);
}

Result<std::string> ChatTemplate::render(const std::vector<Message>& messages,
                                         const ChatOptions& options) const {
  QUENCH_TRY(const RenderedChat chat, render_segments(messages, options));
  return chat.text();
}

Result<std::vector<TokenId>> encode_chat(const Tokenizer& tokenizer, const RenderedChat& chat) {
  std::vector<TokenId> ids;
  for (const ChatSegment& segment : chat.segments) {
    if (segment.is_control) {
      const auto id = tokenizer.find(segment.text);
      if (!id) {
        return fail(ErrorCode::kUnsupported,
                    "the chat template writes the control token {}, but the tokenizer has none; is "
                    "tokenizer_config.json or added_tokens.json missing?",
                    segment.text);
      }
      ids.push_back(*id);
      continue;
    }
    const std::vector<TokenId> text_ids = tokenizer.encode(segment.text);
    ids.insert(ids.end(), text_ids.begin(), text_ids.end());
  }
  return ids;
}

Result<std::vector<TokenId>> encode_chat(const Tokenizer& tokenizer,
                                         const ChatTemplate& chat_template,
                                         const std::vector<Message>& messages,
                                         const ChatOptions& options) {
  QUENCH_TRY(const RenderedChat chat, chat_template.render_segments(messages, options));
  return encode_chat(tokenizer, chat);
}

}  // namespace quench
