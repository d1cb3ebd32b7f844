#include "measure/http_client.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <charconv>
#include <chrono>
#include <limits>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/result.h"

namespace quench {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using ErrorOf = beast::error_code;
using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

std::chrono::nanoseconds to_duration(double seconds) {
  return std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
}

PlainStream& lowest(PlainStream& stream) { return stream; }
PlainStream& lowest(TlsStream& stream) { return stream.next_layer(); }

class ExchangeBase {
 public:
  virtual ~ExchangeBase() = default;
  virtual void start() = 0;
  virtual void abort() = 0;
};

}  // namespace

class HttpClient::Impl {
 public:
  Impl(Url to, double connect_timeout_s, double stall_timeout_s)
      : url(std::move(to)),
        connect_timeout(to_duration(connect_timeout_s)),
        stall_timeout(to_duration(stall_timeout_s)),
        tls(asio::ssl::context::tls_client) {
    tls.set_default_verify_paths();
    tls.set_verify_mode(asio::ssl::verify_peer);
  }

  template <class Stream>
  std::vector<std::unique_ptr<Stream>>& idle();
  template <class Stream>
  std::unique_ptr<Stream> make_stream();

  asio::io_context io;  // first: streams and timers use it
  const Url url;
  const std::chrono::nanoseconds connect_timeout;
  const std::chrono::nanoseconds stall_timeout;
  asio::ssl::context tls;
  std::vector<std::unique_ptr<PlainStream>> idle_plain;
  std::vector<std::unique_ptr<TlsStream>> idle_tls;
  std::map<int64_t, std::shared_ptr<ExchangeBase>> exchanges;
  int64_t last_id = 0;
  bool is_running = false;  // a sink may start an exchange
};

template <>
std::vector<std::unique_ptr<PlainStream>>& HttpClient::Impl::idle<PlainStream>() {
  return idle_plain;
}
template <>
std::vector<std::unique_ptr<TlsStream>>& HttpClient::Impl::idle<TlsStream>() {
  return idle_tls;
}
template <>
std::unique_ptr<PlainStream> HttpClient::Impl::make_stream<PlainStream>() {
  return std::make_unique<PlainStream>(io);
}
template <>
std::unique_ptr<TlsStream> HttpClient::Impl::make_stream<TlsStream>() {
  auto stream = std::make_unique<TlsStream>(io, tls);
  stream->set_verify_callback(asio::ssl::host_name_verification(url.host));
  // Server name indication: one address may stand for many hosts.
  SSL_set_tlsext_host_name(stream->native_handle(), url.host.c_str());
  return stream;
}

namespace {

// One request and its answer. Handlers hold a shared pointer; after abort() they do nothing.
template <class Client, class Stream>
class Exchange : public ExchangeBase,
                 public std::enable_shared_from_this<Exchange<Client, Stream>> {
 public:
  Exchange(Client& client, int64_t id, HttpRequest request, HttpSink* sink)
      : client_(client), id_(id), sink_(sink), resolver_(client.io) {
    request_.version(11);
    request_.method_string(request.method);
    request_.target(request.target);
    request_.set(http::field::host, client.url.authority());
    request_.set(http::field::user_agent, "quench");
    for (const auto& [name, value] : request.headers) request_.set(name, value);
    request_.body() = std::move(request.body);
    request_.prepare_payload();
  }

  void start() override {
    auto& idle = client_.template idle<Stream>();
    if (!idle.empty()) {
      stream_ = std::move(idle.back());
      idle.pop_back();
      is_reused_ = true;
      return write();
    }
    connect();
  }

  void abort() override {
    sink_ = nullptr;
    resolver_.cancel();
    if (stream_) lowest(*stream_).close();
  }

 private:
  // A handler that keeps this object alive and does nothing once it was aborted.
  template <class Member>
  auto then(Member member) {
    return [self = this->shared_from_this(), member](ErrorOf error, auto&&... rest) {
      if (self->sink_ != nullptr) (self.get()->*member)(error, rest...);
    };
  }

  void connect() {
    is_reused_ = false;
    stream_ = client_.template make_stream<Stream>();
    resolver_.async_resolve(client_.url.host, client_.url.port,
                            [self = this->shared_from_this()](
                                ErrorOf error, asio::ip::tcp::resolver::results_type found) {
                              if (self->sink_ != nullptr) self->on_resolved(error, found);
                            });
  }

  void on_resolved(ErrorOf error, const asio::ip::tcp::resolver::results_type& found) {
    if (error) return fail_at("cannot find the host", error);
    lowest(*stream_).expires_after(client_.connect_timeout);
    lowest(*stream_).async_connect(
        found, [self = this->shared_from_this()](ErrorOf failed, const asio::ip::tcp::endpoint&) {
          if (self->sink_ != nullptr) self->on_connected(failed);
        });
  }

  void on_connected(ErrorOf error) {
    if (error) return fail_at("cannot connect", error);
    ErrorOf ignored;
    lowest(*stream_).socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_->async_handshake(asio::ssl::stream_base::client, then(&Exchange::on_handshake));
    } else {
      write();
    }
  }

  void on_handshake(ErrorOf error) {
    if (error) return fail_at("no TLS connection", error);
    write();
  }

  void write() {
    lowest(*stream_).expires_after(client_.stall_timeout);
    parser_.emplace();
    // Not boost::none: in 1.74 every length is above that.
    parser_->body_limit(std::numeric_limits<uint64_t>::max());
    http::async_write(*stream_, request_, then(&Exchange::on_written));
  }

  void on_written(ErrorOf error, size_t) {
    if (error) return on_early_failure("cannot send", error);
    http::async_read_header(*stream_, buffer_, *parser_, then(&Exchange::on_header));
  }

  void on_header(ErrorOf error, size_t) {
    if (error) return on_early_failure("no answer", error);
    const auto& header = parser_->get();
    sink_->on_header(header.result_int(), std::string(header[http::field::content_type]),
                     std::string(header[http::field::server]));
    arrived_s_ = now_s();
    read_some();
  }

  void read_some() {
    if (parser_->is_done()) return end("");
    lowest(*stream_).expires_after(client_.stall_timeout);
    parser_->get().body().data = chunk_;
    parser_->get().body().size = sizeof(chunk_);
    buffered_ = buffer_.size();
    http::async_read_some(*stream_, buffer_, *parser_, then(&Exchange::on_body));
  }

  // Several chunks may come with one read of the socket: all of them arrived then.
  void on_body(ErrorOf error, size_t parsed) {
    if (buffered_ == 0 || parsed > buffered_) arrived_s_ = now_s();
    const size_t got = sizeof(chunk_) - parser_->get().body().size;
    if (got > 0) sink_->on_bytes({chunk_, got}, arrived_s_);
    if (sink_ == nullptr) return;  // it has aborted
    if (error && error != http::error::need_buffer) return fail_at("the stream broke", error);
    read_some();
  }

  // A connection that was left open may have been closed by the server in the meantime; then a new
  // one is tried.
  void on_early_failure(const char* what, ErrorOf error) {
    if (!is_reused_ || error == beast::error::timeout) return fail_at(what, error);
    buffer_.clear();
    connect();
  }

  void fail_at(const char* what, ErrorOf error) {
    const bool closed = error == http::error::end_of_stream ||
                        error == http::error::partial_message || error == asio::error::eof;
    const std::string why = error == beast::error::timeout ? std::string("nothing came in time")
                            : closed ? std::string("the server closed the connection")
                                     : error.message();
    end(fmt::format("{}: {}", what, why));
  }

  void end(const std::string& error) {
    HttpSink* sink = std::exchange(sink_, nullptr);
    if (error.empty() && parser_->keep_alive()) {
      lowest(*stream_).expires_never();
      client_.template idle<Stream>().push_back(std::move(stream_));
    } else if (stream_) {
      lowest(*stream_).close();
    }
    const auto self = this->shared_from_this();  // beyond the map's
    client_.exchanges.erase(id_);
    sink->on_end(error, now_s());
  }

  Client& client_;
  const int64_t id_;
  HttpSink* sink_;          // null: over
  double arrived_s_ = 0.0;  // what is parsed next, when it lay in the buffer before
  size_t buffered_ = 0;     // bytes, before a read
  asio::ip::tcp::resolver resolver_;
  std::unique_ptr<Stream> stream_;
  bool is_reused_ = false;
  http::request<http::string_body> request_;
  beast::flat_buffer buffer_;
  std::optional<http::response_parser<http::buffer_body>> parser_;
  char chunk_[16384];
};

}  // namespace

std::string Url::authority() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}:{}", is_v6 ? "[" + host + "]" : host, port);
}

bool Url::is_loopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<Url> parse_url(const std::string& text) {
  auto refuse = [&](const char* what) {
    return fail(ErrorCode::kInvalidArgument,
                "\"{}\" {}; a server's address looks like http://127.0.0.1:8000/v1.", text, what);
  };
  Url url;
  std::string rest;
  if (text.starts_with("http://")) {
    rest = text.substr(7);
  } else if (text.starts_with("https://")) {
    url.tls = true;
    rest = text.substr(8);
  } else {
    return refuse("begins with neither http:// nor https://");
  }
  if (std::any_of(rest.begin(), rest.end(), [](char c) {
        return static_cast<unsigned char>(c) <= ' ' || c == '@' || c == '#' || c == '?';
      }))
    return refuse("has a character that no address here may have");
  const size_t slash = std::min(rest.find('/'), rest.size());
  url.path = rest.substr(slash);
  while (!url.path.empty() && url.path.back() == '/') url.path.pop_back();
  std::string authority = rest.substr(0, slash);
  url.port = url.tls ? "443" : "80";
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket)) {
    url.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.size() > 2 && authority.front() == '[' && authority.back() == ']')
    authority = authority.substr(1, authority.size() - 2);
  url.host = authority;
  if (url.host.empty()) return refuse("names no host");
  int number = 0;
  const char* end = url.port.data() + url.port.size();
  const auto [stop, error] = std::from_chars(url.port.data(), end, number);
  if (error != std::errc() || stop != end || number < 1 || number > 65535)
    return refuse("has no port from 1 to 65535");
  return url;
}

HttpClient::HttpClient(Url url, double connect_timeout_s, double stall_timeout_s)
    : impl_(std::make_unique<Impl>(std::move(url), connect_timeout_s, stall_timeout_s)) {}

HttpClient::~HttpClient() {
  for (const auto& [id, exchange] : impl_->exchanges) exchange->abort();
}

const Url& HttpClient::url() const { return impl_->url; }

int64_t HttpClient::start(HttpRequest request, HttpSink* sink) {
  const int64_t id = ++impl_->last_id;
  std::shared_ptr<ExchangeBase> exchange;
  if (impl_->url.tls) {
    exchange = std::make_shared<Exchange<Impl, TlsStream>>(*impl_, id, std::move(request), sink);
  } else {
    exchange = std::make_shared<Exchange<Impl, PlainStream>>(*impl_, id, std::move(request), sink);
  }
  impl_->exchanges[id] = exchange;
  exchange->start();
  if (!impl_->is_running) {
    impl_->io.restart();
    impl_->io.poll();
  }
  return id;
}

void HttpClient::abort(int64_t exchange) {
  const auto it = impl_->exchanges.find(exchange);
  if (it == impl_->exchanges.end()) return;
  it->second->abort();
  impl_->exchanges.erase(it);
}

bool HttpClient::run(double until_s) {
  impl_->io.restart();
  const double wait_s = std::clamp(until_s - now_s(), 0.0, 3600.0);
  impl_->is_running = true;
  const bool happened = impl_->io.run_one_for(to_duration(wait_s)) > 0;
  if (happened) impl_->io.poll();  // whatever else has already happened
  impl_->is_running = false;
  return happened;
}

}  // namespace quench
