// HttpClient: HTTP/1.1 exchanges with one host, many at a time, over plain or TLS connections that
// are used again where the server allows it. Owns its connections; one thread: handlers run inside
// start() and run() only, so the time a sink is told is the time at which its bytes were read.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quench/result.h"

namespace quench {

// "http://host:port/v1".
struct Url {
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address
  std::string port;
  std::string path;  // begins with "/", or is empty; never ends with one

  std::string authority() const;  // as in a Host header
  bool is_loopback() const;
};
Result<Url> parse_url(const std::string& text);

struct HttpRequest {
  std::string method = "GET";
  std::string target;  // path and query
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// What comes back. on_end() is the last call; error is empty, or one sentence without a full stop.
class HttpSink {
 public:
  virtual ~HttpSink() = default;
  virtual void on_header(int status, const std::string& content_type,
                         const std::string& server) = 0;
  virtual void on_bytes(std::string_view bytes, double time_s) = 0;
  virtual void on_end(const std::string& error, double time_s) = 0;
};

class HttpClient {
 public:
  HttpClient(Url url, double connect_timeout_s, double stall_timeout_s);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  const Url& url() const;
  // Sends as much as goes without waiting. The sink must live until on_end() or abort().
  int64_t start(HttpRequest request, HttpSink* sink);
  // Closes the connection; the sink hears nothing more.
  void abort(int64_t exchange);
  // Waits for something to happen, at most until then (steady clock); false: nothing did.
  bool run(double until_s);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quench
