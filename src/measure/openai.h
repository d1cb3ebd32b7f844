// The OpenAI API on the wire, as far as a benchmark needs it: bodies of requests, server-sent
// events, pieces of a streamed answer. Nothing here knows a network. SseParser: one thread.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "measure/target.h"

namespace quench {

// Parameters that are not in every server's API; one that refuses them gets requests without.
//   stream_options      the server's own count of tokens at the end
//   repetition_penalty  vLLM's, SGLang's and transformers' name of it
//   repeat_penalty      llama.cpp's name of the same
//   ignore_eos          for answers of a fixed length
const std::set<std::string>& extension_names();
// Those that an error's text names; all of them when it names none.
std::set<std::string> refused_extensions(const std::string& error_text);

struct CompletionShape {
  std::string model;
  bool plain = false;  // "prompt" instead of "messages"
  std::set<std::string> without;
};
Json completion_body(const CompletionShape& shape, const BenchRequest& request);

// Splits the bytes of a stream into events (WHATWG HTML, "Server-sent events").
class SseParser {
 public:
  // The data of every event that these bytes complete.
  std::vector<std::string> feed(std::string_view bytes);
  // Whether the stream ended inside an event.
  bool has_rest() const { return !line_.empty() || has_data_; }

 private:
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

// One piece of a streamed answer, or a whole answer that was not streamed.
struct Piece {
  std::string text;  // reasoning included
  std::optional<FinishReason> finish;
  std::optional<int64_t> prompt_tokens;
  std::optional<int64_t> generated_tokens;
};
// kInvalidFile when it is not JSON of that API; kInternal with the server's message when it is an
// error.
Result<Piece> parse_piece(const std::string& data);

// The message inside an error's body, or its beginning.
std::string error_text(const std::string& body);

}  // namespace quench
