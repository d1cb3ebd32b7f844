// The engine on the tiny models: whatever is shared, taken away, guessed or cancelled, every
// request gets the tokens that it would have had alone.
#include "quench/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>

#include "engine/session.h"
#include "test_paths.h"

namespace quench {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

struct Options {
  std::string model = "qwen2";
  int64_t batch = 1;
  int64_t kv_tokens = 0;
  int64_t step_tokens = 512;
  int64_t drafts = 0;
  int threads = 1;
  bool reuse = true;
};

// A tiny model without a tokenizer, and an engine on it.
struct Tiny {
  std::unique_ptr<Session> session;
  std::unique_ptr<Engine> engine;
};

Tiny open_tiny(const Options& options) {
  SessionOptions session;
  session.model = source_path("tests/tiny_model/" + options.model);
  session.needs_tokenizer = false;
  session.device_options.num_threads = options.threads;
  session.goal.max_seq_len = 256;
  session.goal.max_batch_size = options.batch;
  session.goal.kv_tokens = options.kv_tokens;
  session.goal.max_step_tokens = options.step_tokens;
  session.goal.max_draft_tokens = options.drafts;
  auto opened = Session::open(session);
  EXPECT_TRUE(opened) << opened.error().message;
  Tiny tiny;
  tiny.session = std::move(*opened);
  tiny.engine = make_engine(tiny.session->plan(), tiny.session->model(), tiny.session->device(),
                            1 << 20, options.reuse)
                    .value();
  return tiny;
}

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(source_path("tests/tiny_model")))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// All vocabularies have at least 47 ids.
Ids random_prompt(std::mt19937& random, int64_t length) {
  Ids ids(static_cast<size_t>(length));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 47);
  return ids;
}

// Some greedy, some sampled with penalties; prompts up to five times Qwen1's trained length.
std::vector<Request> random_requests(uint32_t seed, int count, int max_new_tokens) {
  std::mt19937 random(seed);
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request;
    request.prompt = random_prompt(random, 1 + static_cast<int64_t>(random() % 160));
    request.sampling.greedy = i % 3 == 0;
    request.sampling.temperature = 0.8;
    request.sampling.top_p = 0.9;
    request.sampling.repetition_penalty = i % 2 == 0 ? 1.1 : 1.0;
    request.sampling.frequency_penalty = i % 5 == 0 ? 0.2 : 0.0;
    request.sampling.seed = seed + static_cast<uint32_t>(i);
    request.sampling.max_new_tokens =
        1 + static_cast<int>(random() % static_cast<uint32_t>(max_new_tokens));
    if (i % 4 == 0) request.sampling.stop_token_ids = {5, 17};
    requests.push_back(std::move(request));
  }
  return requests;
}

struct Answer {
  Ids ids;
  bool finished = false;
  FinishReason reason = FinishReason::kStop;
  bool operator==(const Answer&) const = default;
};

void take_events(std::span<const Event> events, std::map<RequestId, Answer>& answers) {
  for (const Event& event : events) {
    Answer& answer = answers[event.id];
    EXPECT_FALSE(answer.finished) << "an event after the last of request " << event.id;
    if (event.token >= 0) answer.ids.push_back(event.token);
    answer.finished = event.finished;
    answer.reason = event.reason;
  }
}

// In order of submission.
std::vector<Answer> answer_all(Engine& engine, const std::vector<Request>& requests) {
  std::vector<RequestId> ids;
  for (const Request& request : requests) {
    const auto id = engine.submit(request);
    EXPECT_TRUE(id) << id.error().message;
    ids.push_back(*id);
  }
  std::map<RequestId, Answer> answers;
  while (!engine.idle()) take_events(engine.step(), answers);
  EXPECT_EQ(engine.status().pages_free, engine.status().pages_total);
  std::vector<Answer> result;
  for (const RequestId id : ids) {
    EXPECT_TRUE(answers[id].finished);
    result.push_back(answers[id]);
  }
  return result;
}

std::vector<Answer> answer_each_alone(const std::string& model,
                                      const std::vector<Request>& requests) {
  Tiny tiny = open_tiny({.model = model, .reuse = false});
  std::vector<Answer> answers;
  for (const Request& request : requests)
    answers.push_back(answer_all(*tiny.engine, {request}).front());
  return answers;
}

class EveryTinyModel : public testing::TestWithParam<std::string> {};

TEST_P(EveryTinyModel, ReusedPagesGiveTheSameBits) {
  std::mt19937 random(5);
  const Ids prompt = random_prompt(random, 150);
  const auto all = std::span<const int32_t>(prompt);
  std::vector<float> first;
  for (const int threads : {1, 2}) {
    for (const size_t chunk : {size_t{150}, size_t{9}}) {
      const Tiny tiny = open_tiny({.model = GetParam(), .batch = 2, .threads = threads});
      Plan plan = tiny.session->plan();
      plan.limits.max_logit_rows = 150;
      plan.workspace_bytes = workspace_bytes(plan.config, plan.limits);
      auto runner = Runner::create(plan, tiny.session->model(), tiny.session->device()).value();
      SequenceState state;
      const auto run_to_end = [&](size_t step) {
        EXPECT_TRUE(runner->reserve(state, 150));
        std::vector<float> logits;
        for (auto at = static_cast<size_t>(state.num_cached); at < all.size(); at += step) {
          const auto tokens = all.subspan(at, std::min(step, all.size() - at));
          const BatchEntry entry = {&state, tokens, static_cast<int64_t>(tokens.size())};
          const auto rows = runner->run({&entry, 1});
          logits.insert(logits.end(), rows.begin(), rows.end());
        }
        return logits;
      };
      state.rope_table = rope_table_for(plan.config, 150);
      std::vector<float> computed = run_to_end(chunk);
      if (first.empty()) first = computed;
      EXPECT_EQ(computed, first);
      // The same prompt again on the first two pages.
      SequenceState again;
      again.rope_table = state.rope_table;
      again.pages = {state.pages[0], state.pages[1]};
      again.num_cached = 2 * kPageTokens;
      runner->pages().keep(state.pages[0], "a");
      runner->pages().keep(state.pages[1], "b");
      for (const int32_t page : again.pages) runner->pages().hold(page);
      runner->release(state);
      state = again;
      const std::vector<float> rest = run_to_end(chunk == 9 ? 22 : 5);
      computed.erase(computed.begin(), computed.end() - static_cast<int64_t>(rest.size()));
      EXPECT_EQ(rest.size(), static_cast<size_t>(22 * plan.config.vocab_size));
      EXPECT_EQ(rest, computed) << threads << " threads, chunk " << chunk;
      runner->release(state);
    }
  }
}

// Four pages for six sequences that want up to three each.
TEST_P(EveryTinyModel, APoolThatIsTooSmallGivesTheSameTokens) {
  const std::vector<Request> requests = random_requests(11, 14, 60);
  const std::vector<Answer> alone = answer_each_alone(GetParam(), requests);
  for (const int64_t drafts : {0, 4}) {
    Tiny tiny = open_tiny(
        {.model = GetParam(), .batch = 6, .kv_tokens = 256, .step_tokens = 48, .drafts = drafts});
    EXPECT_EQ(answer_all(*tiny.engine, requests), alone);
    EXPECT_GT(tiny.engine->status().preemptions, 0);
  }
}

TEST_P(EveryTinyModel, SpeculationGivesTheSameTokens) {
  std::vector<Request> requests = random_requests(3, 8, 70);
  for (Request& request : requests) {  // say things twice
    const size_t half = request.prompt.size() / 2;
    for (size_t i = half; i < request.prompt.size(); ++i)
      request.prompt[i] = request.prompt[i - half];
    request.sampling.temperature = 0.3;
  }
  const std::vector<Answer> alone = answer_each_alone(GetParam(), requests);
  for (const int64_t batch : {1, 4}) {
    Tiny tiny = open_tiny({.model = GetParam(), .batch = batch, .drafts = 4});
    EXPECT_EQ(answer_all(*tiny.engine, requests), alone) << "batch " << batch;
    const EngineStatus status = tiny.engine->status();
    EXPECT_GT(status.drafted_tokens, 0);
    EXPECT_LE(status.accepted_tokens, status.drafted_tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EveryTinyModel, testing::ValuesIn(tiny_models()),
                         [](const auto& test) { return test.param; });

TEST(Engine, AConversationReusesWhatWasComputed) {
  std::mt19937 random(9);
  const Ids opening = random_prompt(random, 100);
  const Ids reply = random_prompt(random, 30);
  const auto talk = [&](const Options& options, EngineStatus& status) {
    Tiny tiny = open_tiny(options);
    std::vector<Answer> answers;
    Ids text = opening;
    for (int turn = 0; turn < 2; ++turn) {
      Request request;
      request.prompt = text;
      request.sampling.seed = 4;
      request.sampling.max_new_tokens = 40;
      answers.push_back(answer_all(*tiny.engine, {request}).front());
      text.insert(text.end(), answers.back().ids.begin(), answers.back().ids.end());
      text.insert(text.end(), reply.begin(), reply.end());
    }
    status = tiny.engine->status();
    return answers;
  };
  for (const char* model : {"qwen2", "qwen1_ntk_logn"}) {
    EngineStatus without;
    const auto expected = talk({.model = model, .reuse = false}, without);
    EXPECT_EQ(without.reused_tokens, 0);
    EXPECT_EQ(without.cached_tokens, 0);
    for (const int threads : {1, 2}) {
      for (const int64_t step_tokens : {7, 512}) {
        EngineStatus with;
        EXPECT_EQ(talk({.model = model, .step_tokens = step_tokens, .threads = threads}, with),
                  expected);
        // Of the 139 stored tokens two pages are full. Qwen1's second prompt has another rotary
        // table: 100 tokens have alpha 7, 170 have 15.
        EXPECT_EQ(with.reused_tokens, std::string(model) == "qwen2" ? 128 : 0);
        EXPECT_EQ(with.computed_tokens + with.reused_tokens, without.computed_tokens);
        EXPECT_GT(with.cached_tokens, 128);
      }
    }
  }
}

TEST(Engine, SpeculationSavesStepsWhereTextRepeats) {
  Request request;
  for (int i = 0; i < 60; ++i) request.prompt.push_back(i % 6);
  request.sampling.greedy = true;
  request.sampling.max_new_tokens = 120;
  const auto count_steps = [&](int64_t drafts, EngineStatus& status) {
    Tiny tiny = open_tiny({.drafts = drafts});
    EXPECT_TRUE(tiny.engine->submit(request));
    int64_t steps = 0;
    for (; !tiny.engine->idle(); ++steps) tiny.engine->step();
    status = tiny.engine->status();
    return steps;
  };
  EngineStatus status;
  EXPECT_EQ(count_steps(0, status), 120);
  EXPECT_EQ(status.drafted_tokens, 0);
  const int64_t steps = count_steps(4, status);
  EXPECT_EQ(steps, 120 - status.accepted_tokens);
  EXPECT_GT(status.accepted_tokens, 20);
}

// A stop token inside a draft ends the answer there, and nothing comes after it.
TEST(Engine, AStopTokenInADraftIsTheLast) {
  Request request;
  for (int i = 0; i < 60; ++i) request.prompt.push_back(i % 6);
  request.sampling.greedy = true;
  request.sampling.max_new_tokens = 100;
  const Answer whole = answer_each_alone("qwen2", {request}).front();
  for (size_t at = 0; at < whole.ids.size(); at += 3) {
    request.sampling.stop_token_ids = {whole.ids[at]};
    const auto end = std::find(whole.ids.begin(), whole.ids.end(), whole.ids[at]) + 1;
    Tiny tiny = open_tiny({.drafts = 8});
    const Answer answer = answer_all(*tiny.engine, {request}).front();
    EXPECT_EQ(answer.ids, Ids(whole.ids.begin(), end));
    EXPECT_EQ(answer.reason, FinishReason::kStop);
  }
}

// Requests come and are cancelled at random moments on a pool that is far too small.
TEST(Engine, CancelsAtRandomMomentsLeaveTheOthersAlone) {
  for (const char* model : {"qwen1_ntk_logn", "qwen3_moe"}) {
    const std::vector<Request> requests = random_requests(23, 24, 50);
    const std::vector<Answer> alone = answer_each_alone(model, requests);
    int64_t preemptions = 0;
    for (uint32_t seed = 0; seed < 6; ++seed) {
      std::mt19937 random(seed);
      Tiny tiny = open_tiny({.model = model,
                             .batch = 5,
                             .kv_tokens = 256,
                             .step_tokens = 40,
                             .drafts = seed % 2 == 0 ? 3 : 0});
      std::map<RequestId, size_t> index;
      std::map<RequestId, Answer> answers;
      size_t next = 0;
      while (next < requests.size() || !tiny.engine->idle()) {
        for (; next < requests.size() && random() % 2 == 0; ++next)
          index[tiny.engine->submit(requests[next]).value()] = next;
        if (random() % 12 == 0)
          tiny.engine->cancel(1 + static_cast<RequestId>(random() % requests.size()));
        take_events(tiny.engine->step(), answers);
      }
      EXPECT_EQ(tiny.engine->status().pages_free, tiny.engine->status().pages_total);
      EXPECT_EQ(tiny.engine->status().waiting + tiny.engine->status().running, 0);
      preemptions += tiny.engine->status().preemptions;
      int cancelled = 0;
      for (const auto& [id, i] : index) {
        const Answer& answer = answers[id];
        ASSERT_TRUE(answer.finished);
        if (answer.reason == FinishReason::kCancelled) {
          ++cancelled;
          ASSERT_LE(answer.ids.size(), alone[i].ids.size());
          EXPECT_TRUE(std::equal(answer.ids.begin(), answer.ids.end(), alone[i].ids.begin()));
        } else {
          EXPECT_EQ(answer, alone[i]) << model << " seed " << seed << " request " << i;
        }
      }
      EXPECT_GT(cancelled, 0);
      EXPECT_LT(cancelled, 24);
    }
    EXPECT_GT(preemptions, 0);
  }
}

TEST(Engine, ARequestCanBeCancelledWhereverItStands) {
  std::mt19937 random(2);
  const auto request = [&](int64_t prompt, int max_new_tokens) {
    Request result;
    result.prompt = random_prompt(random, prompt);
    result.sampling.max_new_tokens = max_new_tokens;
    return result;
  };
  const auto expect_cancelled = [](Tiny& tiny, RequestId id) {
    tiny.engine->cancel(id);
    tiny.engine->cancel(id);  // twice is once
    int events = 0;
    for (const Event& event : tiny.engine->step()) {
      if (event.id != id) continue;
      ++events;
      EXPECT_TRUE(event.finished);
      EXPECT_EQ(event.token, -1);
      EXPECT_EQ(event.reason, FinishReason::kCancelled);
    }
    EXPECT_EQ(events, 1);
    tiny.engine->cancel(id);  // it has ended
    for (const Event& event : tiny.engine->step()) EXPECT_NE(event.id, id);
  };
  {  // waiting
    Tiny tiny = open_tiny({});
    const RequestId first = tiny.engine->submit(request(5, 100)).value();
    const RequestId second = tiny.engine->submit(request(5, 100)).value();
    tiny.engine->step();
    EXPECT_EQ(tiny.engine->status().waiting, 1);
    expect_cancelled(tiny, second);
    EXPECT_EQ(tiny.engine->status().running, 1);
    expect_cancelled(tiny, first);  // generating
    EXPECT_TRUE(tiny.engine->idle());
    EXPECT_EQ(tiny.engine->status().pages_free, tiny.engine->status().pages_total);
  }
  {  // in the middle of its prompt
    Tiny tiny = open_tiny({.step_tokens = 8});
    const RequestId id = tiny.engine->submit(request(100, 10)).value();
    EXPECT_TRUE(tiny.engine->step().empty());
    EXPECT_EQ(tiny.engine->status().running, 1);
    expect_cancelled(tiny, id);
    EXPECT_EQ(tiny.engine->status().pages_free, tiny.engine->status().pages_total);
  }
  {  // preempted
    Tiny tiny = open_tiny({.batch = 2, .kv_tokens = 192});
    const RequestId older = tiny.engine->submit(request(60, 120)).value();
    const RequestId younger = tiny.engine->submit(request(60, 120)).value();
    while (tiny.engine->status().preemptions == 0) tiny.engine->step();
    EXPECT_EQ(tiny.engine->status().waiting, 1);
    expect_cancelled(tiny, younger);
    std::map<RequestId, Answer> answers;
    while (!tiny.engine->idle()) take_events(tiny.engine->step(), answers);
    EXPECT_EQ(answers[older].reason, FinishReason::kLength);
    EXPECT_EQ(tiny.engine->status().pages_free, tiny.engine->status().pages_total);
  }
}

TEST(Engine, WhatCanNeverFitIsRefusedAtOnce) {
  Tiny tiny = open_tiny({.batch = 2, .kv_tokens = 128});
  const auto refused = [&](Ids prompt, int max_new_tokens) {
    Request request;
    request.prompt = std::move(prompt);
    request.sampling.max_new_tokens = max_new_tokens;
    const auto id = tiny.engine->submit(request);
    return id ? std::string() : id.error().message;
  };
  EXPECT_EQ(refused(Ids(100, 1), 30),
            "The prompt has 100 tokens and max_new_tokens is 30; keys and values have room for 128 "
            "tokens in all. Raise --kv-tokens or ask for less.");
  EXPECT_EQ(refused(Ids(100, 1), 29), "");
  EXPECT_NE(refused(Ids(256, 1), 1).find("--max-seq-len"), std::string::npos);
  EXPECT_NE(refused({}, 1), "");
  EXPECT_NE(refused({83}, 1), "");
  EXPECT_EQ(refused({82}, 1), "");
  while (!tiny.engine->idle()) tiny.engine->step();
}

TEST(Engine, OpensByItsPublicOptions) {
  EngineOptions options;
  options.max_seq_len = 256;
  options.threads = 1;
  options.kv_format = "bf16";
  options.kv_tokens = 1000;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ((*engine)->status().pages_total, 16);
  Request request;
  request.prompt = {1, 2, 3};
  request.sampling.max_new_tokens = 3;
  EXPECT_EQ(answer_all(**engine, {request}).front().ids.size(), 3u);
  options.kv_format = "f16";
  const auto wrong = Engine::open(options);
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("\"f16\""), std::string::npos);
  options.kv_format = "f32";
  options.speculation = 100;
  EXPECT_FALSE(Engine::open(options));
}

// The model that ships holds bf16: every level packs it while the engine runs, and nothing that a
// user sees depends on how far it is.
TEST(Engine, WeightsInTheirFileGiveTheSameTokensAsPackedOnes) {
  for (const DeviceRow& device : list_devices()) {
    for (const std::string& level : device.levels) {
      SessionOptions options;
      options.goal.max_seq_len = 128;
      options.device = device.name;
      options.device_options.isa = level;
      options.device_options.num_threads = 2;
      std::vector<Ids> answers;
      for (const bool late : {false, true}) {
        options.pack_late = late;
        const auto session = Session::open(options).value();
        const auto engine = session->make_engine().value();
        const auto in_file = [&] {
          int64_t count = 0;
          for (const PlannedMatrix& matrix : session->plan().matrices) {
            const Weight& weight = session->model().layer(matrix.layer).weight(matrix.role);
            if (weight.kernel == matrix.kernel->in_file && weight.kernel != nullptr) ++count;
          }
          return count;
        };
        const bool can = session->plan().matrices.front().kernel->in_file != nullptr;
        EXPECT_EQ(can, level != "ref") << level;
        const auto all = static_cast<int64_t>(session->plan().matrices.size());
        EXPECT_EQ(in_file(), late && can ? all : 0) << level;
        Request request;
        request.prompt = {5, 17, 300, 42, 9, 1000, 77};
        request.sampling.greedy = true;
        request.sampling.max_new_tokens = 40;
        request.sampling.stop_token_ids.clear();
        answers.push_back(answer_all(*engine, {request}).front().ids);
        EXPECT_EQ(answers.back().size(), 40u);
        // An answer later the rest is packed, the head of the tied embedding with it.
        EXPECT_FALSE(session->pack_more(1e9));
        EXPECT_EQ(in_file(), 0) << level;
        EXPECT_EQ(session->model().globals.weight(Role::kHead).packed,
                  session->model().globals.weight(Role::kEmbedding).packed);
        answers.push_back(answer_all(*engine, {request}).front().ids);
      }
      for (const Ids& answer : answers) EXPECT_EQ(answer, answers.front()) << level;
    }
  }
}

}  // namespace
}  // namespace quench
