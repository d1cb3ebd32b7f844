// A history in a directory of its own, for the tests of what is kept in it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "measure/history.h"
#include "own_cache.h"

namespace quench {

class HistoryFixture : public testing::Test {
 protected:
  std::string path() const { return data_.scratch().file("quench/history.db"); }
  std::unique_ptr<History> open() const {
    auto history = History::open(path());
    EXPECT_TRUE(history) << history.error().message;
    return std::move(*history);
  }
  const OwnData data_;
};

}  // namespace quench
