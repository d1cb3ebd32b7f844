#include "engine/page_pool.h"

#include <gtest/gtest.h>

#include <numeric>

#include "devices/ops.h"

namespace quench {
namespace {

std::vector<int32_t> page_of(int32_t first) {
  std::vector<int32_t> tokens(kPageTokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PagePool, AKeyCoversTheTokensTheParentAndTheRotaryTable) {
  const PageKey a = page_key(root_key(0), page_of(1));
  EXPECT_EQ(a, page_key(root_key(0), page_of(1)));
  EXPECT_NE(a, page_key(root_key(1), page_of(1)));
  EXPECT_NE(a, page_key(root_key(0), page_of(2)));
  EXPECT_NE(page_key(a, page_of(1)), a);
}

TEST(PagePool, HeldPagesAreSharedAndKeptAfterwards) {
  PagePool pool(4);
  const PageKey key = page_key(root_key(0), page_of(0));
  const int32_t page = pool.take();
  EXPECT_FALSE(pool.find(key));
  pool.keep(page, key);
  ASSERT_EQ(pool.find(key), page);
  pool.hold(page);
  EXPECT_EQ(pool.num_holders(page), 2);
  pool.give_back(page);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(pool.num_kept(), 0);
  pool.give_back(page);
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_kept(), 1);
  ASSERT_EQ(pool.find(key), page);
  pool.hold(page);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(pool.num_kept(), 0);
}

TEST(PagePool, TheFirstPageOfAKeyStays) {
  PagePool pool(2);
  const PageKey key = page_key(root_key(0), page_of(0));
  const int32_t first = pool.take();
  const int32_t second = pool.take();
  pool.keep(first, key);
  pool.keep(second, key);
  EXPECT_EQ(pool.find(key), first);
  pool.give_back(second);
  EXPECT_EQ(pool.num_kept(), 0);  // it is blank
  pool.give_back(first);
  EXPECT_EQ(pool.num_kept(), 1);
}

TEST(PagePool, TheLeastRecentlyUsedGoesFirstAndTheEndOfAPrefixBeforeItsBeginning) {
  PagePool pool(4);
  std::vector<PageKey> keys = {page_key(root_key(0), page_of(0))};
  keys.push_back(page_key(keys[0], page_of(1)));
  keys.push_back(page_key(root_key(0), page_of(9)));
  SequenceState early;
  SequenceState late;
  ASSERT_TRUE(pool.reserve(early, 2 * kPageTokens));
  ASSERT_TRUE(pool.reserve(late, kPageTokens));
  pool.keep(early.pages[0], keys[0]);
  pool.keep(early.pages[1], keys[1]);
  pool.keep(late.pages[0], keys[2]);
  pool.release(early);
  pool.release(late);
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_kept(), 3);
  const auto kept = [&] {
    std::string result;
    for (const PageKey& key : keys) result += pool.find(key) ? '1' : '0';
    return result;
  };
  pool.take();  // the blank one
  EXPECT_EQ(kept(), "111");
  pool.take();
  EXPECT_EQ(kept(), "101");
  pool.hold(*pool.find(keys[0]));  // used again
  pool.give_back(*pool.find(keys[0]));
  pool.take();
  EXPECT_EQ(kept(), "100");
}

TEST(PagePool, ReservingTakesAllOrNothing) {
  PagePool pool(3);
  SequenceState state;
  EXPECT_TRUE(pool.reserve(state, 1));
  EXPECT_TRUE(pool.reserve(state, kPageTokens));
  EXPECT_EQ(state.pages.size(), 1u);
  EXPECT_FALSE(pool.reserve(state, 3 * kPageTokens + 1));
  EXPECT_EQ(state.pages.size(), 1u);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_TRUE(pool.reserve(state, 3 * kPageTokens));
  EXPECT_EQ(pool.num_free(), 0);
  state.num_cached = 100;
  state.rope_table = 2;
  pool.release(state);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(state.num_cached, 0);
  EXPECT_EQ(state.rope_table, 2);
}

}  // namespace
}  // namespace quench
