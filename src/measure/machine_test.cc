#include "measure/machine.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

TEST(Machine, FindsKilobytes) {
  const std::string text = "VmRSS:\t  12 kB\nRssAnon:\t    7 kB\nRssFile:\tx\n";
  EXPECT_EQ(find_kilobytes(text, "VmRSS"), 12 * 1024);
  EXPECT_EQ(find_kilobytes(text, "RssAnon"), 7 * 1024);
  EXPECT_FALSE(find_kilobytes(text, "Anon"));
  EXPECT_FALSE(find_kilobytes(text, "RssFile"));
}

TEST(Machine, KnowsThisOne) {
  EXPECT_GE(this_machine().cpus, 1);
  EXPECT_GT(this_machine().memory_bytes.value_or(0), 0);
  EXPECT_GT(available_memory_bytes().value_or(0), 0);
  EXPECT_GT(anonymous_memory_bytes().value_or(0), 0);
}

}  // namespace
}  // namespace quench
