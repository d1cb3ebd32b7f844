// ScriptedServer: an HTTP server on a loopback port that does what a test says, misbehaviour
// included: it writes bytes as they are given, waits, breaks off, resets, or never answers. It has
// a thread of its own and one for each connection; the script runs on those.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace quench {

struct ScriptedRequest {
  std::string method;
  std::string target;
  std::string headers;  // as they came, lower case
  std::string body;
};

struct ScriptedReply {
  enum class End { kKeepAlive, kClose, kReset, kStall };
  struct Step {
    std::string bytes;
    int wait_ms = 0;  // before them
  };
  std::vector<Step> steps;
  End end = End::kKeepAlive;
};

class ScriptedServer {
 public:
  using Script = std::function<ScriptedReply(const ScriptedRequest&)>;
  explicit ScriptedServer(Script script);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const;  // "http://127.0.0.1:PORT/v1"
  std::vector<ScriptedRequest> requests() const;

 private:
  void accept_loop();
  void serve(int fd);
  bool answer(int fd, const ScriptedRequest& request);

  const Script script_;
  int listener_ = -1;
  int port_ = 0;
  int wake_[2] = {-1, -1};  // a pipe; readable: end
  mutable std::mutex mutex_;
  std::vector<ScriptedRequest> requests_;  // guarded by mutex_, as connections_
  std::vector<std::thread> connections_;
  std::thread acceptor_;
};

// A whole answer with a Content-Length.
ScriptedReply whole_reply(int status, const std::string& content_type, const std::string& body);
// The list of models, with one of them.
ScriptedReply models_reply();
// One chunk of a chunked body; empty: the last.
std::string chunk(const std::string& bytes);
// "data: {...}\n\n" with a piece of a chat answer; finish: null or a reason.
std::string chat_piece(const std::string& text, const char* finish = nullptr);
std::string usage_piece(int prompt_tokens, int completion_tokens);

struct StreamScript {
  int pieces = 8;
  int wait_ms = 0;    // before each
  int reported = -1;  // tokens in the usage; -1: no usage
  const char* finish = "stop";
  bool done = true;      // "[DONE]"
  int break_after = -1;  // pieces; -1: not
  ScriptedReply::End end = ScriptedReply::End::kKeepAlive;
};
ScriptedReply stream_reply(const StreamScript& script);

}  // namespace quench
