#include "http/scripted_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.h"

namespace quench {
namespace {

// Waits until the socket can be read; false when the server ends or after ten seconds.
bool wait_readable(int fd, int wake, int timeout_ms = 10000) {
  pollfd fds[] = {{fd, POLLIN, 0}, {wake, POLLIN, 0}};
  return ::poll(fds, 2, timeout_ms) > 0 && fds[1].revents == 0;
}

void send_all(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return;
    sent += static_cast<size_t>(count);
  }
}

// One request; false when the connection ended before.
bool read_request(int fd, int wake, std::string& buffer, ScriptedRequest& request) {
  char bytes[65536];
  size_t end = std::string::npos;
  size_t length = 0;
  for (;;) {
    if (end == std::string::npos) {
      end = buffer.find("\r\n\r\n");
      if (end != std::string::npos) {
        request.headers = buffer.substr(0, end);
        std::transform(request.headers.begin(), request.headers.end(), request.headers.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const size_t at = request.headers.find("content-length:");
        if (at != std::string::npos) length = std::stoul(request.headers.substr(at + 15));
      }
    }
    if (end != std::string::npos && buffer.size() >= end + 4 + length) break;
    if (!wait_readable(fd, wake)) return false;
    const ssize_t count = ::recv(fd, bytes, sizeof(bytes), 0);
    if (count <= 0) return false;
    buffer.append(bytes, static_cast<size_t>(count));
  }
  const size_t space = buffer.find(' ');
  request.method = buffer.substr(0, space);
  request.target = buffer.substr(space + 1, buffer.find(' ', space + 1) - space - 1);
  request.body = buffer.substr(end + 4, length);
  buffer.erase(0, end + 4 + length);
  return true;
}

}  // namespace

ScriptedServer::ScriptedServer(Script script) : script_(std::move(script)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::listen(listener_, 64), 0);
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
  port_ = ntohs(address.sin_port);
  EXPECT_EQ(::pipe(wake_), 0);
  acceptor_ = std::thread([this] { accept_loop(); });
}

ScriptedServer::~ScriptedServer() {
  ::close(wake_[1]);  // the other end becomes readable for all
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(wake_[0]);
  ::close(listener_);
}

std::string ScriptedServer::url() const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
}

std::vector<ScriptedRequest> ScriptedServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void ScriptedServer::accept_loop() {
  while (wait_readable(listener_, wake_[0], -1)) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const std::lock_guard lock(mutex_);
    connections_.emplace_back([this, fd] {
      serve(fd);
      ::close(fd);
    });
  }
}

void ScriptedServer::serve(int fd) {
  std::string buffer;
  ScriptedRequest request;
  while (read_request(fd, wake_[0], buffer, request)) {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    if (!answer(fd, request)) return;
  }
}

bool ScriptedServer::answer(int fd, const ScriptedRequest& request) {
  const ScriptedReply reply = script_(request);
  for (const ScriptedReply::Step& step : reply.steps) {
    pollfd wake = {wake_[0], POLLIN, 0};
    if (step.wait_ms > 0 && ::poll(&wake, 1, step.wait_ms) > 0) return false;
    send_all(fd, step.bytes);
  }
  if (reply.end == ScriptedReply::End::kStall) wait_readable(wake_[0], wake_[0], -1);
  if (reply.end == ScriptedReply::End::kReset) {
    const linger at_once = {1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  }
  return reply.end == ScriptedReply::End::kKeepAlive;
}

ScriptedReply whole_reply(int status, const std::string& content_type, const std::string& body) {
  return {{{"HTTP/1.1 " + std::to_string(status) +
                " Scripted\r\nServer: scripted\r\nContent-Type: " + content_type +
                "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body,
            0}},
          ScriptedReply::End::kKeepAlive};
}

ScriptedReply models_reply() {
  return whole_reply(200, "application/json",
                     R"({"object": "list", "data": [{"id": "scripted-7B", "object": "model"}]})");
}

std::string chunk(const std::string& bytes) {
  char length[32];
  std::snprintf(length, sizeof(length), "%zx\r\n", bytes.size());
  return length + bytes + "\r\n";
}

std::string chat_piece(const std::string& text, const char* finish) {
  Json choice = {{"index", 0}, {"delta", {{"content", text}}}};
  choice["finish_reason"] = finish == nullptr ? Json() : Json(finish);
  const Json json = {{"object", "chat.completion.chunk"}, {"choices", Json::array({choice})}};
  return "data: " + json.dump() + "\n\n";
}

std::string usage_piece(int prompt_tokens, int completion_tokens) {
  const Json json = {
      {"choices", Json::array()},
      {"usage", {{"prompt_tokens", prompt_tokens}, {"completion_tokens", completion_tokens}}}};
  return "data: " + json.dump() + "\n\n";
}

ScriptedReply stream_reply(const StreamScript& script) {
  ScriptedReply reply;
  reply.end = script.end;
  reply.steps.push_back(
      {"HTTP/1.1 200 OK\r\nServer: scripted\r\nContent-Type: text/event-stream; "
       "charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
       0});
  // As servers do: first the role, without text.
  reply.steps.push_back(
      {chunk("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"), 0});
  for (int i = 0; i < script.pieces; ++i) {
    if (i == script.break_after) return reply;
    reply.steps.push_back({chunk(chat_piece("w" + std::to_string(i) + " ")), script.wait_ms});
  }
  std::string rest;
  if (script.finish != nullptr) rest += chat_piece("", script.finish);
  if (script.reported >= 0) rest += usage_piece(17, script.reported);
  if (script.done) rest += "data: [DONE]\n\n";
  if (!rest.empty()) reply.steps.push_back({chunk(rest), 0});
  reply.steps.push_back({"0\r\n\r\n", 0});
  return reply;
}

}  // namespace quench
