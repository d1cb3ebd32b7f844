#include "measure/http_target.h"

#include <fmt/ranges.h>

#include <chrono>
#include <map>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "measure/http_client.h"
#include "measure/openai.h"

namespace quench {
namespace {

// Bodies that are no stream end here; nothing that a server has to say is longer.
constexpr size_t kMaxBodyBytes = size_t{1} << 20;

std::vector<std::pair<std::string, std::string>> headers_for(const HttpOptions& options) {
  std::vector<std::pair<std::string, std::string>> headers = {
      {"Content-Type", "application/json"}, {"Accept", "text/event-stream, application/json"}};
  if (!options.api_key.empty()) headers.emplace_back("Authorization", "Bearer " + options.api_key);
  return headers;
}

// A whole answer, for requests that measure nothing.
class BodySink : public HttpSink {
 public:
  void on_header(int status_in, const std::string&, const std::string& server_in) override {
    status = status_in;
    server = server_in;
  }
  void on_bytes(std::string_view bytes, double) override {
    if (body.size() < kMaxBodyBytes) body.append(bytes);
  }
  void on_end(const std::string& error_in, double) override {
    error = error_in;
    ended = true;
  }

  int status = 0;
  std::string server, body, error;
  bool ended = false;
};

class HttpTarget : public BenchTarget {
 public:
  HttpTarget(const HttpOptions& options, const Url& url)
      : options_(options),
        client_(url, options.connect_timeout_s, options.stall_timeout_s),
        salt_(random_bits(static_cast<uint64_t>(
                              std::chrono::system_clock::now().time_since_epoch().count()),
                          0) &
              0xffffff) {}

  // What stands behind the address, and the model's name.
  Result<void> look() {
    BodySink answer;
    client_.start({"GET", client_.url().path + "/models", "", headers_for(options_)}, &answer);
    while (!answer.ended) client_.run(now_s() + 1.0);
    if (!answer.error.empty()) {
      return fail(ErrorCode::kIo, "{}: {}; is a server running there?", client_.url().authority(),
                  answer.error);
    }
    server_ = answer.server;
    shape_.model = options_.model_name;
    shape_.plain = options_.plain;
    if (!shape_.model.empty()) return {};
    if (answer.status == 200) shape_.model = first_model(answer.body);
    if (shape_.model.empty()) {
      return fail(ErrorCode::kNotFound,
                  "{}{}/models answers with status {} and names no model; give one with "
                  "--model-name.",
                  client_.url().authority(), client_.url().path, answer.status);
    }
    return {};
  }

  Json describe() const override {
    return {{"target", "http"},
            {"url", options_.url},
            {"host", client_.url().authority()},
            {"endpoint", endpoint()},
            {"model", shape_.model},
            {"server", server_.empty() ? Json() : Json(server_)},
            {"nonce", options_.nonce},
            {"refused", shape_.without}};
  }

  Result<int64_t> submit(const BenchRequest& request) override {
    const int64_t id = ++last_id_;
    auto answer = std::make_unique<Answer>(*this, id, request);
    if (options_.nonce)
      answer->request.prompt = fmt::format("({:06x}-{}) {}", salt_, id, request.prompt);
    Answer& started = *(answers_[id] = std::move(answer));
    send(started);
    return id;
  }

  Result<std::span<const BenchEvent>> poll(double until_s) override {
    finished_.clear();
    while (pending_.empty() && client_.run(until_s)) continue;
    events_ = std::move(pending_);
    pending_.clear();
    return std::span<const BenchEvent>(events_);
  }

  void cancel(int64_t request) override {
    const auto it = answers_.find(request);
    if (it == answers_.end()) return;
    client_.abort(it->second->exchange);
    finish(*it->second, FinishReason::kCancelled, "", now_s());
  }

 private:
  // One request under way.
  struct Answer : HttpSink {
    Answer(HttpTarget& target_in, int64_t id_in, BenchRequest request_in)
        : target(target_in), id(id_in), request(std::move(request_in)) {}
    void on_header(int status_in, const std::string& type, const std::string& server) override {
      status = status_in;
      content_type = type;
      is_stream = status == 200 && type.starts_with("text/event-stream");
      if (!server.empty()) target.server_ = server;
    }
    void on_bytes(std::string_view bytes, double time_s) override {
      target.take(*this, bytes, time_s);
    }
    void on_end(const std::string& error, double time_s) override {
      target.end(*this, error, time_s);
    }

    HttpTarget& target;
    const int64_t id;
    BenchRequest request;
    int64_t exchange = 0;
    int status = 0;
    std::string content_type;
    bool is_stream = false;
    bool is_done = false;  // "[DONE]" has come
    SseParser events;
    std::string body;  // of what is no stream
    int64_t pieces = 0;
    std::optional<FinishReason> finish;
    std::optional<int64_t> prompt_tokens, generated_tokens;
  };

  std::string endpoint() const {
    return client_.url().path + (shape_.plain ? "/completions" : "/chat/completions");
  }

  void send(Answer& answer) {
    const Json body = completion_body(shape_, answer.request);
    answer.status = 0;
    answer.body.clear();
    answer.exchange = client_.start(
        {"POST", endpoint(), body.dump(-1, ' ', false, Json::error_handler_t::replace),
         headers_for(options_)},
        &answer);
  }

  static std::string first_model(const std::string& body) {
    const auto json = parse_json(body, "the models");
    if (!json || !json->is_object() || !json->contains("data") || !(*json)["data"].is_array() ||
        (*json)["data"].empty() || !(*json)["data"].front().is_object())
      return "";
    const Json id = (*json)["data"].front().value("id", Json());
    return id.is_string() ? id.get<std::string>() : "";
  }

  void take(Answer& answer, std::string_view bytes, double time_s) {
    if (!answer.is_stream) {
      if (answer.body.size() < kMaxBodyBytes) answer.body.append(bytes);
      return;
    }
    for (const std::string& data : answer.events.feed(bytes)) {
      if (data == "[DONE]") {
        answer.is_done = true;
        continue;
      }
      const auto piece = parse_piece(data);
      if (!piece) {
        client_.abort(answer.exchange);
        return finish(answer, FinishReason::kError,
                      fmt::format("{}: after {} pieces of the answer: {}",
                                  client_.url().authority(), answer.pieces, piece.error().message),
                      time_s);
      }
      keep(answer, *piece);
      if (piece->text.empty()) continue;
      ++answer.pieces;
      BenchEvent& event = pending_.emplace_back();
      event.request = answer.id;
      event.is_token = true;
      event.text = piece->text;
      event.time_s = time_s;
    }
  }

  static void keep(Answer& answer, const Piece& piece) {
    if (piece.finish) answer.finish = piece.finish;
    if (piece.prompt_tokens) answer.prompt_tokens = piece.prompt_tokens;
    if (piece.generated_tokens) answer.generated_tokens = piece.generated_tokens;
  }

  void end(Answer& answer, const std::string& error, double time_s) {
    const std::string host = client_.url().authority();
    auto give_up = [&](const std::string& message) {
      finish(answer, FinishReason::kError, message, time_s);
    };
    // What follows the end of the answer is no part of it.
    const bool is_whole = answer.is_done || answer.finish.has_value();
    if (!error.empty() && !(answer.is_stream && is_whole)) {
      return give_up(answer.is_stream
                         ? fmt::format("{}: {} after {} pieces of the answer, before its end.",
                                       host, error, answer.pieces)
                         : fmt::format("{}: {}.", host, error));
    }
    if (answer.status != 200) return on_status(answer, give_up);
    if (!answer.is_stream) return on_whole(answer, time_s, give_up);
    if (!is_whole) {
      return give_up(
          fmt::format("{}: the stream ended after {} pieces without saying that the "
                      "answer is complete.",
                      host, answer.pieces));
    }
    finish(answer, answer.finish.value_or(FinishReason::kStop), "", time_s);
  }

  // A status that is no success. Parameters that the server does not know are left out from now on.
  template <class GiveUp>
  void on_status(Answer& answer, const GiveUp& give_up) {
    const std::string text = error_text(answer.body);
    if ((answer.status == 400 || answer.status == 422) && shape_.without.empty()) {
      shape_.without = refused_extensions(answer.body);
      return send(answer);
    }
    give_up(fmt::format("{} answers {} with status {}{}{}.", client_.url().authority(), endpoint(),
                        answer.status, text.empty() ? "" : ": ", text));
  }

  // The server did not stream: the answer is there, but not when its tokens came.
  template <class GiveUp>
  void on_whole(Answer& answer, double time_s, const GiveUp& give_up) {
    const auto piece = parse_piece(answer.body);
    if (!piece) {
      return give_up(
          fmt::format("{} answers with {} and no stream: {}", client_.url().authority(),
                      answer.content_type.empty() ? "no content type" : answer.content_type,
                      piece.error().message));
    }
    keep(answer, *piece);
    BenchEvent& event = pending_.emplace_back();
    event.request = answer.id;
    event.text = piece->text;
    event.time_s = time_s;
    finish(answer, answer.finish.value_or(FinishReason::kStop), "", time_s);
  }

  void finish(Answer& answer, FinishReason reason, const std::string& message, double time_s) {
    BenchEvent& event = pending_.emplace_back();
    event.request = answer.id;
    event.time_s = time_s;
    event.finished = true;
    event.reason = reason;
    event.message = message;
    event.prompt_tokens = answer.prompt_tokens;
    event.generated_tokens = answer.generated_tokens;
    // Its own member function may be running.
    const auto it = answers_.find(answer.id);
    finished_.push_back(std::move(it->second));
    answers_.erase(it);
  }

  const HttpOptions options_;
  HttpClient client_;
  const uint64_t salt_;
  CompletionShape shape_;
  std::string server_;
  int64_t last_id_ = 0;
  std::map<int64_t, std::unique_ptr<Answer>> answers_;
  std::vector<std::unique_ptr<Answer>> finished_;  // until the next poll()
  std::vector<BenchEvent> pending_;
  std::vector<BenchEvent> events_;
};

}  // namespace

Result<std::unique_ptr<BenchTarget>> open_http_target(const HttpOptions& options) {
  QUENCH_TRY(const Url url, parse_url(options.url));
  auto target = std::make_unique<HttpTarget>(options, url);
  QUENCH_TRY_VOID(target->look());
  return std::unique_ptr<BenchTarget>(std::move(target));
}

}  // namespace quench
