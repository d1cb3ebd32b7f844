#include "engine/stop.h"

#include <gtest/gtest.h>

#include <random>

namespace quench {
namespace {

SamplingSettings with_stops(std::vector<std::string> strings) {
  SamplingSettings settings;
  settings.stop_strings = std::move(strings);
  settings.max_new_tokens = 1000000;
  return settings;
}

struct Shown {
  std::string text;
  std::optional<FinishReason> reason;
  std::string matched;
};

// What a reader sees of `pieces`; text still held back at the end is not part of it.
Shown show(const SamplingSettings& settings, const std::vector<std::string>& pieces) {
  StopChecker checker(settings);
  Shown shown;
  for (const std::string& piece : pieces) {
    StopChecker::Step step = checker.feed(1, piece);
    shown.text += step.text;
    if (step.finish_reason) break;
  }
  shown.reason = checker.finish_reason();
  shown.matched = checker.matched_string();
  return shown;
}

struct PieceAndShown {
  const char* piece;
  const char* shown;
};

void expect_shown(StopChecker& checker, std::initializer_list<PieceAndShown> steps) {
  for (const auto& [piece, shown] : steps) EXPECT_EQ(checker.feed(1, piece).text, shown) << piece;
}

TEST(Stop, NamesOfReasons) {
  EXPECT_STREQ(finish_reason_name(FinishReason::kStop), "stop");
  EXPECT_STREQ(finish_reason_name(FinishReason::kLength), "length");
  EXPECT_STREQ(finish_reason_name(FinishReason::kCancelled), "cancelled");
  EXPECT_STREQ(finish_reason_name(FinishReason::kError), "error");
}

TEST(Stop, TextWithoutStopsPassesAtOnce) {
  StopChecker checker(SamplingSettings{});
  EXPECT_EQ(checker.feed(5, "Hello").text, "Hello");
  EXPECT_EQ(checker.feed(5, "").text, "");
  EXPECT_EQ(checker.feed(5, " 世界").text, " 世界");
  EXPECT_FALSE(checker.finish_reason());
  EXPECT_EQ(checker.num_tokens(), 3);
}

TEST(Stop, StopTokenHidesItsPieceAndReleasesHeldText) {
  SamplingSettings settings = with_stops({"###"});
  settings.stop_token_ids = {7, 9};
  StopChecker checker(settings);
  EXPECT_EQ(checker.feed(1, "a##").text, "a");
  const StopChecker::Step step = checker.feed(9, "<|im_end|>");
  EXPECT_EQ(step.text, "##");
  EXPECT_EQ(step.finish_reason, FinishReason::kStop);
  EXPECT_EQ(checker.matched_string(), "");
}

TEST(Stop, LengthCountsTheLastTokenAndReleasesHeldText) {
  SamplingSettings settings = with_stops({"xyz"});
  settings.max_new_tokens = 3;
  StopChecker checker(settings);
  EXPECT_EQ(checker.feed(1, "a").text, "a");
  EXPECT_EQ(checker.feed(1, "bx").text, "b");
  const StopChecker::Step step = checker.feed(1, "y");
  EXPECT_EQ(step.text, "xy");
  EXPECT_EQ(step.finish_reason, FinishReason::kLength);
}

TEST(Stop, StopWinsOverLengthOnTheSameToken) {
  SamplingSettings settings = with_stops({"b"});
  settings.max_new_tokens = 1;
  settings.stop_token_ids = {7};
  StopChecker by_token(settings);
  EXPECT_EQ(by_token.feed(7, "").finish_reason, FinishReason::kStop);
  StopChecker by_string(settings);
  EXPECT_EQ(by_string.feed(1, "ab").finish_reason, FinishReason::kStop);
}

TEST(Stop, StringAcrossTokenBorders) {
  StopChecker checker(with_stops({"\nUser:"}));
  expect_shown(checker, {{"Fine.\n", "Fine."},      // the line end may open the stop string
                         {"Us", ""},                //
                         {"e the", "\nUse the"},    // it did not
                         {" tool\nUser", " tool"},  //
                         {": and more", ""}});
  EXPECT_EQ(checker.finish_reason(), FinishReason::kStop);
  EXPECT_EQ(checker.matched_string(), "\nUser:");
}

TEST(Stop, HeldTextShrinksToTheLongestOpenPrefix) {
  StopChecker checker(with_stops({"aab"}));
  // From the third on "aa" may still begin the stop string.
  expect_shown(checker, {{"a", ""}, {"a", ""}, {"a", "a"}, {"a", "a"}, {"b", ""}});
  EXPECT_EQ(checker.finish_reason(), FinishReason::kStop);
}

TEST(Stop, OverlappingStringsTheFirstCompleteOneCounts) {
  const Shown inner = show(with_stops({"abcd", "bc"}), {"xab", "cd"});
  EXPECT_EQ(inner.text, "xa");
  EXPECT_EQ(inner.matched, "bc");
  // Complete at the same byte: the longest, in whatever order they were given.
  for (const auto& stops : {std::vector<std::string>{"c", "abc", "bc"}, {"abc", "c"}}) {
    const Shown longest = show(with_stops(stops), {"xa", "b", "c"});
    EXPECT_EQ(longest.text, "x");
    EXPECT_EQ(longest.matched, "abc");
  }
  const Shown twice = show(with_stops({"ab", "ab"}), {"xab"});
  EXPECT_EQ(twice.text, "x");
  // A longer one fails after a shorter one had begun inside it.
  const Shown late = show(with_stops({"aaab", "ac"}), {"aa", "ac", "z"});
  EXPECT_EQ(late.text, "aa");
  EXPECT_EQ(late.matched, "ac");
}

TEST(Stop, MultiByteCharacters) {
  StopChecker checker(with_stops({"。结束", "🙂🙂"}));
  expect_shown(checker, {{"你好。", "你好"},
                         {"结", ""},
                         {"果🙂", "。结果"},
                         {"🙃", "🙂🙃"},  // three bytes in common with the stop string
                         {"好。结", "好"},
                         {"束!", ""}});
  EXPECT_EQ(checker.finish_reason(), FinishReason::kStop);
}

TEST(Stop, FinishFromOutsideReleasesHeldText) {
  StopChecker checker(with_stops({"STOP"}));
  EXPECT_EQ(checker.feed(1, "so ST").text, "so ");
  EXPECT_EQ(checker.finish(FinishReason::kCancelled), "ST");
  EXPECT_EQ(checker.finish_reason(), FinishReason::kCancelled);
}

// The plain definition: cut before the stop string that is complete first, the longest of those.
Shown show_whole(const SamplingSettings& settings, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : settings.stop_strings) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0 &&
          stop.size() > best.size())
        best = stop;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), FinishReason::kStop, best};
  }
  return {text, std::nullopt, ""};
}

TEST(Stop, AnyCutIntoPiecesGivesTheSameText) {
  std::mt19937 random(5);
  const auto letters = [&](int length) {
    std::string text;
    for (int i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    SamplingSettings settings = with_stops({letters(3 + random() % 4), letters(4 + random() % 6)});
    const std::string text = letters(random() % 24);
    StopChecker checker(settings);
    std::string shown;
    for (size_t at = 0; at < text.size() && !checker.finish_reason();) {
      const std::string piece = text.substr(at, random() % 5);
      at += piece.size();
      shown += checker.feed(1, piece).text;
      // Held back is only what could still become a stop string.
      ASSERT_LT(std::min(at, text.size()) - shown.size(),
                checker.finish_reason() ? 100u : settings.stop_strings[1].size() + 3);
    }
    const Shown expected = show_whole(settings, text);
    ASSERT_EQ(checker.finish_reason(), expected.reason);
    ASSERT_EQ(checker.matched_string(), expected.matched);
    if (!checker.finish_reason()) shown += checker.finish(FinishReason::kLength);
    ASSERT_EQ(shown, expected.text);
    stopped += expected.reason.has_value();
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 2900);
}

}  // namespace
}  // namespace quench
