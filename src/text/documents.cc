#include "text/documents.h"

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/sha256.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr size_t kMinDocumentTokens = 2;  // the first token has nothing before it to be scored by

// A limit leaves at least so many tokens of a document, if it has them: the first ones of a
// conversation are the same in all.
constexpr size_t kMinShareTokens = 128;

Result<std::vector<Message>> parse_conversation(const std::string& line, const std::string& where) {
  QUENCH_TRY(const Json json, parse_json(line, where));
  if (!json.is_object() || !json.contains("messages") || json["messages"].empty()) {
    return fail(ErrorCode::kInvalidFile,
                "{}: expected {{\"messages\": [{{\"role\": ..., \"content\": ...}}, ...]}}.",
                where);
  }
  auto messages = messages_from_json(json["messages"], ToolArguments::kParseStrings);
  if (!messages) return fail(messages.error().code, "{}: {}", where, messages.error().message);
  return messages;
}

Result<EvalDomain> load_domain(const fs::path& path, const std::string& text,
                               const Tokenizer& tokenizer, const ChatTemplate& chat_template) {
  EvalDomain domain;
  domain.name = path.stem().string();
  auto add = [&](std::vector<TokenId> ids) {
    if (ids.size() >= kMinDocumentTokens) domain.documents.push_back(std::move(ids));
  };
  if (path.extension() == ".jsonl") {
    ChatOptions options;
    options.add_generation_prompt = false;
    QUENCH_TRY_VOID(
        for_each_line(text, [&](int64_t number, const std::string& line) -> Result<void> {
          if (line.empty()) return {};
          QUENCH_TRY(const std::vector<Message> messages,
                     parse_conversation(line, fmt::format("{}:{}", path.string(), number)));
          QUENCH_TRY(std::vector<TokenId> ids,
                     encode_chat(tokenizer, chat_template, messages, options));
          add(std::move(ids));
          return {};
        }));
  } else {
    for (const std::string& document : split_documents(text)) add(tokenizer.encode(document));
  }
  if (domain.documents.empty()) {
    return fail(ErrorCode::kInvalidFile, "{}: no document of at least {} tokens.", path.string(),
                kMinDocumentTokens);
  }
  return domain;
}

}  // namespace

int64_t EvalTexts::num_tokens() const {
  size_t total = 0;
  for (const EvalDomain& domain : domains) {
    for (const auto& document : domain.documents) total += document.size();
  }
  return static_cast<int64_t>(total);
}

std::vector<std::string> split_documents(const std::string& text) {
  std::vector<std::string> documents;
  auto add = [&](size_t begin, size_t end) {
    std::string document = text.substr(begin, end - begin);
    if (document.find_first_not_of(" \t\r\n") != std::string::npos)
      documents.push_back(std::move(document));
  };
  size_t begin = 0;
  for (size_t line = 0, next; line < text.size(); line = next) {
    const size_t end = std::min(text.find('\n', line), text.size());
    next = std::min(end + 1, text.size());
    std::string_view content = std::string_view(text).substr(line, end - line);
    if (content.ends_with('\r')) content.remove_suffix(1);
    if (content != kSeparator) continue;
    add(begin, line);
    begin = next;
  }
  add(begin, text.size());
  return documents;
}

Result<EvalTexts> load_eval_texts(const std::string& path, const Tokenizer& tokenizer,
                                  const ChatTemplate& chat_template) {
  std::vector<fs::path> files;
  if (is_directory(path)) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const std::string extension = entry.path().extension().string();
      if (extension == ".txt" || extension == ".jsonl") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.emplace_back(path);
  }
  if (files.empty()) {
    return fail(ErrorCode::kNotFound, "{}: no .txt and no .jsonl file in this directory.", path);
  }
  EvalTexts texts;
  texts.path = path;
  Sha256 digest;
  for (const fs::path& file : files) {
    QUENCH_TRY(const std::string text, read_file(file.string()));
    digest.update(std::as_bytes(std::span(text)));
    QUENCH_TRY(EvalDomain domain, load_domain(file, text, tokenizer, chat_template));
    texts.domains.push_back(std::move(domain));
  }
  texts.sha256 = digest.hex_digest();
  return texts;
}

void limit_tokens(EvalTexts& texts, int64_t max_tokens) {
  if (max_tokens <= 0) return;
  for (EvalDomain& domain : texts.domains) {
    auto& documents = domain.documents;
    auto left = static_cast<size_t>(max_tokens);
    const size_t count = std::clamp<size_t>(left / kMinShareTokens, 1, documents.size());
    std::vector<std::vector<TokenId>> kept;
    for (size_t i = 0; i < count; ++i)
      kept.push_back(std::move(documents[i * documents.size() / count]));
    documents = std::move(kept);
    // Shortest first: what a short document leaves over goes to the longer ones.
    std::vector<std::vector<TokenId>*> order;
    for (auto& document : documents) order.push_back(&document);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto* a, const auto* b) { return a->size() < b->size(); });
    for (size_t i = 0; i < count; ++i) {
      const size_t share = std::max(left / (count - i), kMinDocumentTokens);
      order[i]->resize(std::min(order[i]->size(), share));
      left -= std::min(left, order[i]->size());
    }
  }
}

}  // namespace quench
