// HttpTarget: a server with the OpenAI API as a BenchTarget: chat or plain completions, streamed as
// server-sent events, over http or https. Times are those at which the bytes arrived here. Owns its
// connections; one thread drives it, and nothing happens outside its calls.
#pragma once

#include <memory>
#include <string>

#include "measure/target.h"

namespace quench {

struct HttpOptions {
  std::string url;         // "http://host:port/v1"
  std::string model_name;  // empty: the first that GET /models lists
  std::string api_key;     // empty: none is sent
  bool plain = false;      // POST /completions with the bare prompt instead of /chat/completions
  // A first line that is different each time keeps the server from answering out of its prefix
  // cache.
  bool nonce = true;
  double connect_timeout_s = 10.0;
  double stall_timeout_s = 120.0;  // without a byte
};

// Connects once and asks for the models; errors name the host.
Result<std::unique_ptr<BenchTarget>> open_http_target(const HttpOptions& options);

}  // namespace quench
