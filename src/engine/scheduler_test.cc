// The scheduler without a model: tokens are drawn from nowhere, the decisions are real.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "devices/ops.h"

namespace quench {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  void start(SchedulerLimits limits, int64_t num_pages) {
    pool_ = std::make_unique<PagePool>(num_pages);
    scheduler_ = std::make_unique<Scheduler>(limits, *pool_);
  }

  // Prompts of different requests have nothing in common unless `text` is the same.
  RequestId submit(int64_t prompt, int max_new_tokens, int32_t text = -1) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = next_id_++;
    sequence->num_prompt = prompt;
    sequence->sampling.max_new_tokens = max_new_tokens;
    for (int64_t i = 0; i < prompt; ++i) {
      const int64_t who = text >= 0 ? text : 100 + sequence->id;
      sequence->tokens.push_back(static_cast<int32_t>(who * 10000 + i));
    }
    scheduler_->add(std::move(sequence));
    return next_id_ - 1;
  }

  // One step; returns how many tokens each sequence was fed.
  std::map<RequestId, int64_t> step() {
    std::map<RequestId, int64_t> fed;
    std::vector<const Sequence*> finished;
    for (Sequence* sequence : scheduler_->schedule()) {
      const auto count = static_cast<int64_t>(sequence->input.size());
      fed[sequence->id] = count;
      EXPECT_LE(sequence->state.num_cached + count,
                static_cast<int64_t>(sequence->state.pages.size()) * kPageTokens);
      for (const int32_t page : sequence->state.pages) EXPECT_GE(pool_->num_holders(page), 1);
      const bool draws = sequence->draws();
      sequence->state.num_cached += count;
      if (draws) {
        sequence->tokens.push_back(static_cast<int32_t>(sequence->id * 1000 + 7));
        sequence->state.num_cached = sequence->num_tokens() - 1;
        if (sequence->num_generated() == sequence->sampling.max_new_tokens)
          finished.push_back(sequence);
      }
      scheduler_->keep_pages(*sequence);
    }
    for (const Sequence* sequence : finished) {
      done_.push_back(sequence->id);
      scheduler_->remove(sequence);
    }
    return fed;
  }

  using Fed = std::map<RequestId, int64_t>;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<Scheduler> scheduler_;
  RequestId next_id_ = 1;
  std::vector<RequestId> done_;
};

TEST_F(SchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  start({128, 8, 0, true}, 100);
  submit(1000, 4);
  submit(20, 4);
  submit(30, 4);
  EXPECT_EQ(step(), (Fed{{1, 78}, {2, 20}, {3, 30}}));
  EXPECT_EQ(step(), (Fed{{1, 126}, {2, 1}, {3, 1}}));
}

TEST_F(SchedulerTest, EqualPromptsAreServedInOrder) {
  start({128, 8, 0, true}, 100);
  for (int i = 0; i < 3; ++i) submit(100, 4);
  EXPECT_EQ(step(), (Fed{{1, 100}, {2, 28}}));
  EXPECT_EQ(step(), (Fed{{1, 1}, {2, 72}, {3, 55}}));
}

// Whatever comes behind it, the oldest prompt has half of every step, so that its wait is bounded.
TEST_F(SchedulerTest, AStreamOfShortPromptsDoesNotStarveALongOne) {
  start({64, 8, 0, true}, 100);
  submit(640, 1);
  int steps = 0;
  while (std::count(done_.begin(), done_.end(), 1) == 0) {
    submit(40, 1);
    submit(40, 1);
    step();
    ASSERT_LT(++steps, 22);
  }
  EXPECT_GE(steps, 20);  // half, not more: the short ones had theirs
  EXPECT_GT(done_.size(), 10u);
}

TEST_F(SchedulerTest, ASequenceStartsWhenItsChunkFitsNotItsWorstCase) {
  start({64, 8, 0, true}, 6);
  submit(10, 300);  // 5 pages in the end
  submit(10, 300);
  EXPECT_EQ(step(), (Fed{{1, 10}, {2, 10}}));
}

TEST_F(SchedulerTest, TheYoungestGivesItsPagesBackAndNothingIsLost) {
  start({64, 8, 0, true}, 6);
  for (int i = 0; i < 4; ++i) submit(10 + i, 250);
  int steps = 0;
  while (scheduler_->num_running() + scheduler_->num_waiting() > 0) {
    const auto fed = step();
    ASSERT_FALSE(fed.empty());
    ASSERT_LT(++steps, 3000);
  }
  EXPECT_GT(scheduler_->counters().preemptions, 0);
  EXPECT_EQ(done_, (std::vector<RequestId>{1, 2, 3, 4}));
  EXPECT_EQ(pool_->num_free(), 6);
}

TEST_F(SchedulerTest, OneThatNeedsEveryPageGetsThem) {
  start({64, 4, 0, true}, 4);
  submit(200, 57);  // 256 tokens are stored: 4 pages
  submit(250, 6);
  int steps = 0;
  while (scheduler_->num_running() + scheduler_->num_waiting() > 0) {
    step();
    ASSERT_LT(++steps, 500);
  }
  EXPECT_EQ(done_, (std::vector<RequestId>{1, 2}));
}

TEST_F(SchedulerTest, EqualBeginningsAreComputedOnce) {
  start({128, 8, 0, true}, 100);
  submit(200, 2, 3);
  submit(200, 2, 3);
  submit(180, 2, 3);
  // All three start together. The first computes and the others take what it has made.
  Fed total;
  while (done_.size() < 3) {
    for (const auto& [id, count] : step()) total[id] += count;
  }
  EXPECT_EQ(total[1], 201);
  EXPECT_GE(scheduler_->counters().reused_tokens, 4 * kPageTokens);
  EXPECT_EQ(scheduler_->counters().reused_tokens + total[2] + total[3], 201 + 181);
  submit(129, 2, 3);  // later: two full pages, one token to compute
  EXPECT_EQ(step(), (Fed{{4, 1}}));
  submit(128, 1, 3);  // never the whole prompt
  EXPECT_EQ(step().at(5), kPageTokens);
  EXPECT_EQ(pool_->num_free(), 100);
}

TEST_F(SchedulerTest, PagesOfOthersAreNotTakenWithReuseOff) {
  start({512, 8, 0, false}, 100);
  submit(200, 1, 3);
  step();
  submit(200, 1, 3);
  EXPECT_EQ(step(), (Fed{{2, 200}}));
  EXPECT_EQ(pool_->num_kept(), 0);
}

TEST_F(SchedulerTest, DraftsOnlyInSmallStepsWithoutAPrompt) {
  start({64, 8, 4, true}, 100);
  const auto repeat = [&](RequestId id) {
    Sequence& sequence = *scheduler_->find(id);
    for (size_t i = 0; i < sequence.tokens.size(); ++i)
      sequence.tokens[i] = static_cast<int32_t>(i % 5);
  };
  repeat(submit(20, 50));
  EXPECT_EQ(step().at(1), 20);
  repeat(1);
  EXPECT_EQ(step().at(1), 3);  // one token and a draft of two
  repeat(1);
  submit(300, 2);
  EXPECT_EQ(step().at(1), 1);
  for (int i = 0; i < 8; ++i) step();
  for (int i = 0; i < 4; ++i) submit(1, 50);
  step();
  repeat(1);
  EXPECT_EQ(step().at(1), 1);  // five sequences
}

TEST_F(SchedulerTest, ADraftStaysWithinTheAnswer) {
  start({64, 8, 4, true}, 1);
  submit(20, 3);
  Sequence& sequence = *scheduler_->find(1);
  std::fill(sequence.tokens.begin(), sequence.tokens.end(), 7);
  step();
  std::fill(sequence.tokens.begin(), sequence.tokens.end(), 7);
  EXPECT_EQ(step().at(1), 2);  // two tokens are wanted: one draft
}

}  // namespace
}  // namespace quench
