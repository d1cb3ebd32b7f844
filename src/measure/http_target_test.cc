#include "measure/http_target.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "http/scripted_server.h"
#include "measure/bench_run.h"
#include "measure/http_client.h"
#include "measure/openai.h"
#include "measure/protocol.h"

namespace quench {
namespace {

// Answers GET /models, and everything else by the script.
ScriptedServer::Script with_models(const ScriptedServer::Script& script) {
  return [script](const ScriptedRequest& request) {
    return request.method == "GET" ? models_reply() : script(request);
  };
}

ScriptedServer::Script always(const ScriptedReply& reply) {
  return with_models([reply](const ScriptedRequest&) { return reply; });
}

BenchRequest hello() {
  BenchRequest request;
  request.prompt = "Hello";
  request.sampling.temperature = 0.7;
  request.sampling.repetition_penalty = 1.1;
  request.sampling.max_new_tokens = 32;
  request.sampling.seed = 5;
  return request;
}

// One request to a server with this script.
BenchRun run_against(const ScriptedServer& server, HttpOptions options = {}) {
  options.url = server.url();
  auto target = open_http_target(options);
  EXPECT_TRUE(target) << target.error().message;
  if (!target) return {};
  const auto run = measure_run(**target, hello(), nullptr);
  EXPECT_TRUE(run) << run.error().message;
  return run ? *run : BenchRun();
}

void expect_failure(const BenchRun& run, const std::vector<std::string>& words) {
  EXPECT_EQ(run.finish_reason, FinishReason::kError);
  for (const std::string& word : words)
    EXPECT_NE(run.error.find(word), std::string::npos) << run.error << " | " << word;
  EXPECT_EQ(run.error.back(), '.') << run.error;
}

TEST(HttpTarget, StreamsAnAnswer) {
  StreamScript script;
  script.reported = 9;  // the stop token too
  script.wait_ms = 2;
  const ScriptedServer server(always(stream_reply(script)));
  const BenchRun run = run_against(server);
  EXPECT_EQ(run.error, "");
  EXPECT_EQ(run.finish_reason, FinishReason::kStop);
  EXPECT_EQ(run.text, "w0 w1 w2 w3 w4 w5 w6 w7 ");
  EXPECT_EQ(run.prompt_tokens, 17);
  EXPECT_EQ(run.reported_tokens, 9);
  EXPECT_EQ(run.generated_tokens, 9);
  EXPECT_FALSE(run.counts_differ());
  ASSERT_EQ(run.token_s.size(), 8u);
  EXPECT_TRUE(std::is_sorted(run.token_s.begin(), run.token_s.end()));
  EXPECT_GE(run.e2e_s, run.token_s.back());
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].target, "/v1/models");
  EXPECT_EQ(requests[1].target, "/v1/chat/completions");
  const Json body = *parse_json(requests[1].body, "body");
  EXPECT_EQ(body["model"], "scripted-7B");
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["seed"], 5);
  EXPECT_EQ(body["max_tokens"], 32);
  EXPECT_EQ(body["repetition_penalty"], 1.1);
  EXPECT_TRUE(body["messages"][0]["content"].get<std::string>().ends_with(") Hello"));
}

TEST(HttpTarget, SendsKeyModelAndPlainPrompt) {
  const ScriptedServer server(always(stream_reply({})));
  HttpOptions options;
  options.api_key = "secret";
  options.model_name = "mine";
  options.plain = true;
  options.nonce = false;
  run_against(server, options);
  const ScriptedRequest request = server.requests().back();
  EXPECT_EQ(request.target, "/v1/completions");
  EXPECT_NE(request.headers.find("authorization: bearer secret"), std::string::npos);
  const Json body = *parse_json(request.body, "body");
  EXPECT_EQ(body["model"], "mine");
  EXPECT_EQ(body["prompt"], "Hello");
  EXPECT_FALSE(body.contains("messages"));
}

TEST(HttpTarget, SeveralAtOnceAndConnectionsAgain) {
  StreamScript script;
  script.wait_ms = 1;
  const ScriptedServer server(always(stream_reply(script)));
  HttpOptions options;
  options.url = server.url();
  const auto target = *open_http_target(options);
  for (int round = 0; round < 2; ++round) {
    InFlight in_flight(*target);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(in_flight.submit(hello(), {}));
    size_t ended = 0;
    while (in_flight.count() > 0) {
      const auto runs = in_flight.poll(now_s() + 1.0);
      ASSERT_TRUE(runs);
      for (const BenchRun& run : *runs) EXPECT_EQ(run.token_s.size(), 8u) << run.error;
      ended += runs->size();
    }
    EXPECT_EQ(ended, 4u);
  }
  EXPECT_EQ(server.requests().size(), 9u);
}

TEST(HttpTarget, AServerThatDiesInMidStreamLosesNothing) {
  StreamScript script;
  script.break_after = 3;
  for (const auto end : {ScriptedReply::End::kClose, ScriptedReply::End::kReset}) {
    script.end = end;
    const ScriptedServer server(always(stream_reply(script)));
    const BenchRun run = run_against(server);
    expect_failure(run, {"127.0.0.1:", "the stream broke", "before its end"});
    if (end == ScriptedReply::End::kClose) {
      expect_failure(run, {"after 3 pieces"});
      EXPECT_EQ(run.token_s.size(), 3u);
      EXPECT_EQ(run.text, "w0 w1 w2 ");
    }
  }
}

TEST(HttpTarget, AStalledStreamTimesOut) {
  StreamScript script;
  script.break_after = 2;
  script.end = ScriptedReply::End::kStall;
  const ScriptedServer server(always(stream_reply(script)));
  HttpOptions options;
  options.stall_timeout_s = 1.0;
  const BenchRun run = run_against(server, options);
  expect_failure(run, {"nothing came in time", "after 2 pieces"});
  EXPECT_EQ(run.token_s.size(), 2u);
}

TEST(HttpTarget, WrongCountsAreSeen) {
  StreamScript script;
  script.reported = 40;  // five in a piece
  const ScriptedServer more(always(stream_reply(script)));
  const BenchRun coalesced = run_against(more);
  EXPECT_TRUE(coalesced.counts_differ());
  EXPECT_EQ(coalesced.generated_tokens, 40);
  EXPECT_NEAR(*coalesced.decode_tok_s(),
              39.0 / (coalesced.token_s.back() - coalesced.token_s.front()), 1e-6);
  script.reported = 5;
  const ScriptedServer fewer(always(stream_reply(script)));
  const BenchRun impossible = run_against(fewer);
  EXPECT_TRUE(impossible.counts_differ());
  EXPECT_EQ(impossible.generated_tokens, 8);
}

TEST(HttpTarget, AStreamWithoutAnEndIsNoAnswer) {
  StreamScript script;
  script.finish = nullptr;
  script.done = false;
  const ScriptedServer server(always(stream_reply(script)));
  expect_failure(run_against(server), {"without saying that the answer is complete", "8 pieces"});
  // What says it is complete is, whatever the connection does afterwards.
  script.finish = "length";
  script.end = ScriptedReply::End::kReset;
  const ScriptedServer rude(always(stream_reply(script)));
  const BenchRun run = run_against(rude);
  EXPECT_EQ(run.error, "");
  EXPECT_EQ(run.finish_reason, FinishReason::kLength);
}

TEST(HttpTarget, HttpErrorsAreQuoted) {
  const ScriptedServer busy(
      always(whole_reply(503, "application/json", R"({"error": {"message": "No free slot."}})")));
  expect_failure(run_against(busy), {"503", "No free slot", "/v1/chat/completions"});
  const ScriptedServer page(always(whole_reply(404, "text/html", "<h1>Not here</h1>")));
  expect_failure(run_against(page), {"404", "Not here"});
}

TEST(HttpTarget, AnswersThatAreNoStream) {
  const ScriptedServer whole(always(
      whole_reply(200, "application/json",
                  R"({"choices": [{"message": {"content": "Paris."}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 9, "completion_tokens": 3}})")));
  const BenchRun run = run_against(whole);
  EXPECT_EQ(run.error, "");
  EXPECT_EQ(run.text, "Paris.");
  EXPECT_EQ(run.generated_tokens, 3);
  EXPECT_TRUE(run.token_s.empty());
  EXPECT_FALSE(run.decode_tok_s());
  const ScriptedServer html(always(whole_reply(200, "text/html", "<html>Welcome</html>")));
  expect_failure(run_against(html), {"text/html", "no stream", "Welcome"});
}

TEST(HttpTarget, ErrorsInsideAStream) {
  ScriptedReply reply = stream_reply({2});
  reply.steps.resize(4);
  reply.steps.push_back({chunk("data: {\"error\": {\"message\": \"Out of memory\"}}\n\n"), 0});
  const ScriptedServer server(always(reply));
  const BenchRun run = run_against(server);
  expect_failure(run, {"Out of memory", "after 2 pieces"});
  EXPECT_EQ(run.token_s.size(), 2u);
  reply.steps.back().bytes = chunk("data: {\"choices\": [{\"del\n\n");
  const ScriptedServer broken(always(reply));
  expect_failure(run_against(broken), {"Expected JSON", "after 2 pieces"});
}

TEST(HttpTarget, RefusedParametersAreLeftOut) {
  const ScriptedServer server(with_models([](const ScriptedRequest& request) {
    if (request.body.find("repetition_penalty") != std::string::npos) {
      return whole_reply(400, "application/json",
                         R"({"error": {"message": "Unrecognized argument: repetition_penalty"}})");
    }
    return stream_reply({});
  }));
  HttpOptions options;
  options.url = server.url();
  const auto target = *open_http_target(options);
  const auto run = measure_run(*target, hello(), nullptr);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->error, "");
  EXPECT_EQ(target->describe()["refused"], Json::array({"repetition_penalty"}));
  const Json body = *parse_json(server.requests().back().body, "body");
  EXPECT_FALSE(body.contains("repetition_penalty"));
  EXPECT_EQ(body["repeat_penalty"], 1.1);
}

TEST(HttpTarget, CancelsARequest) {
  StreamScript script;
  script.break_after = 1;
  script.end = ScriptedReply::End::kStall;
  const ScriptedServer server(always(stream_reply(script)));
  HttpOptions options;
  options.url = server.url();
  const auto target = *open_http_target(options);
  const std::atomic<bool> stop{true};
  const auto run = measure_run(*target, hello(), &stop);
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, ErrorCode::kCancelled);
}

TEST(HttpTarget, NoServerIsSaidWithItsAddress) {
  HttpOptions options;
  {
    const ScriptedServer gone(always({}));
    options.url = gone.url();
  }
  const auto target = open_http_target(options);
  ASSERT_FALSE(target);
  EXPECT_NE(target.error().message.find("127.0.0.1:"), std::string::npos);
  EXPECT_NE(target.error().message.find("cannot connect"), std::string::npos);
  const ScriptedServer empty(
      [](const ScriptedRequest&) { return whole_reply(404, "text/plain", "no"); });
  options.url = empty.url();
  const auto nameless = open_http_target(options);
  ASSERT_FALSE(nameless);
  EXPECT_NE(nameless.error().message.find("--model-name"), std::string::npos);
}

TEST(HttpClient, ParsesAddresses) {
  const Url plain = *parse_url("http://localhost:8000/v1/");
  EXPECT_EQ(plain.authority(), "localhost:8000");
  EXPECT_EQ(plain.path, "/v1");
  EXPECT_TRUE(plain.is_loopback());
  const Url tls = *parse_url("https://[2001:db8::1]/api");
  EXPECT_TRUE(tls.tls);
  EXPECT_EQ(tls.host, "2001:db8::1");
  EXPECT_EQ(tls.authority(), "[2001:db8::1]:443");
  EXPECT_FALSE(tls.is_loopback());
  for (const char* bad : {"", "localhost:8000", "ftp://x", "http://", "http://x:0", "http://x:1y",
                          "http://user@x/", "http://x y/", "http://x:70000", "http://:80"})
    EXPECT_FALSE(parse_url(bad)) << bad;
}

TEST(SseParser, CutsAnywhere) {
  const std::string stream =
      ": a comment\r\n\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: three\n\n\ndata: [DONE]\r\r";
  for (size_t step = 1; step <= stream.size(); ++step) {
    SseParser parser;
    std::vector<std::string> events;
    for (size_t at = 0; at < stream.size(); at += step) {
      for (std::string& event : parser.feed(std::string_view(stream).substr(at, step)))
        events.push_back(std::move(event));
    }
    EXPECT_EQ(events, (std::vector<std::string>{"one", "two\nthree", "[DONE]"})) << step;
  }
}

TEST(OpenAi, ReadsPieces) {
  const auto thinking =
      parse_piece(R"({"choices": [{"delta": {"reasoning_content": "hm", "content": null}}]})");
  ASSERT_TRUE(thinking);
  EXPECT_EQ(thinking->text, "hm");
  const auto plain = parse_piece(R"({"choices": [{"text": "x", "finish_reason": "length"}]})");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->text, "x");
  EXPECT_EQ(plain->finish, FinishReason::kLength);
  EXPECT_FALSE(parse_piece("[1]"));
  EXPECT_FALSE(parse_piece(R"({"choices": 3})"));
  EXPECT_FALSE(parse_piece(R"({"error": "no"})"));
  EXPECT_TRUE(parse_piece(R"({"choices": [], "usage": {"completion_tokens": -4}})"));
  EXPECT_EQ(refused_extensions("nothing known"), extension_names());
}

}  // namespace
}  // namespace quench
