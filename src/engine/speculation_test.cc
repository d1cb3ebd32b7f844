#include "engine/speculation.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

using Ids = std::vector<int32_t>;

TEST(Speculation, TheDraftIsWhatFollowedTheLastOccurrence) {
  EXPECT_EQ(look_up_draft(Ids{1, 2, 3, 7, 8, 9, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3}, 2), (Ids{4, 5}));
  EXPECT_EQ(look_up_draft(Ids{1, 2, 3, 7, 1, 2, 3}, 3), (Ids{7, 1, 2}));
  EXPECT_EQ(look_up_draft(Ids{1, 2, 3, 4, 5, 6, 7}, 4), Ids{});
  EXPECT_EQ(look_up_draft(Ids{2, 3, 9, 1, 2, 3}, 4), Ids{});  // two of three
  EXPECT_EQ(look_up_draft(Ids{1, 2, 3, 7, 1, 2, 3}, 0), Ids{});
  EXPECT_EQ(look_up_draft(Ids{1, 2, 3}, 4), Ids{});
  EXPECT_EQ(look_up_draft(Ids{}, 4), Ids{});
}

TEST(Speculation, ADraftGoesOnWithItself) {
  EXPECT_EQ(look_up_draft(Ids{5, 5, 5, 5}, 4), (Ids{5, 5, 5, 5}));
  EXPECT_EQ(look_up_draft(Ids{9, 1, 2, 1, 2, 1}, 5), (Ids{2, 1, 2, 1, 2}));
}

TEST(Speculation, DraftsGrowWhileTheyAreRight) {
  DraftLength length;
  EXPECT_EQ(length.next(8), 2);
  length.verified(2, 2);
  EXPECT_EQ(length.next(8), 4);
  length.verified(4, 4);
  EXPECT_EQ(length.next(5), 5);
  length.verified(5, 3);
  EXPECT_EQ(length.next(8), 3);
}

TEST(Speculation, PausesGrowWhileDraftsAreWrong) {
  DraftLength length;
  Ids pauses;
  for (int round = 0; round < 9; ++round) {
    int pause = 0;
    while (length.next(4) == 0) ++pause;
    pauses.push_back(pause);
    length.verified(2, 0);
  }
  EXPECT_EQ(pauses, (Ids{0, 1, 2, 4, 8, 16, 32, 64, 64}));
  while (length.next(4) == 0) {
  }
  length.verified(2, 1);
  EXPECT_EQ(length.next(4), 1);
  length.verified(1, 0);
  EXPECT_EQ(length.next(4), 0);
  EXPECT_EQ(length.next(4), 2);
}

}  // namespace
}  // namespace quench
