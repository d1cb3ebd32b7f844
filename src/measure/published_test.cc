#include "measure/published.h"

#include <gtest/gtest.h>

#include <fstream>

#include "own_cache.h"

namespace quench {
namespace {

TEST(Published, EnginesThatLiveAddUp) {
  const OwnDirectory runtime("XDG_RUNTIME_DIR");
  EXPECT_EQ(published_reads().engines, 0);
  Publisher one;
  {
    Publisher two;
    one.add(1000, 1);
    one.add(500, 2);
    two.add(10, 1);
    two.set_ceiling(40.0);
    const PublishedReads both = published_reads();
    EXPECT_EQ(both.engines, 2);
    EXPECT_EQ(both.read_bytes, 1510);
    EXPECT_EQ(both.tokens, 4);
    EXPECT_EQ(both.ceiling_gb_s, 40.0);
  }
  const PublishedReads rest = published_reads();
  EXPECT_EQ(rest.engines, 1);
  EXPECT_EQ(rest.read_bytes, 1500);
  EXPECT_FALSE(rest.ceiling_gb_s);
}

TEST(Published, WhatIsNoCounterIsPassedOver) {
  const OwnDirectory runtime("XDG_RUNTIME_DIR");
  const Publisher own;  // makes the directory
  for (const char* name : {"quench/notes.txt", "quench/999999999.0"})
    std::ofstream(runtime.scratch().file(name)) << "something else";
  EXPECT_EQ(published_reads().engines, 1);
  // Of a process that is gone: removed.
  EXPECT_FALSE(std::ifstream(runtime.scratch().file("quench/999999999.0")).good());
  EXPECT_TRUE(std::ifstream(runtime.scratch().file("quench/notes.txt")).good());
}

TEST(Published, WithoutAPlaceNothingHappens) {
  const OwnDirectory runtime("XDG_RUNTIME_DIR");
  std::ofstream(runtime.scratch().file("quench")) << "a file where the directory should be";
  Publisher nowhere;
  nowhere.add(1, 1);
  EXPECT_EQ(published_reads().engines, 0);
}

}  // namespace
}  // namespace quench
