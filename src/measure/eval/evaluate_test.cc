#include "measure/eval/evaluate.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

TEST(EvalWindows, EveryTokenButTheFirstIsScoredOnce) {
  for (const int64_t length : {0, 1, 2, 3, 7, 8, 9, 16, 17, 100}) {
    for (const int64_t context : {2, 8, 16}) {
      for (int64_t stride = 1; stride < context; ++stride) {
        int64_t expected = 1;
        for (const EvalWindow& window : cut_windows(length, context, stride)) {
          EXPECT_EQ(window.first_scored, expected);
          EXPECT_GT(window.end, window.first_scored);
          EXPECT_LE(window.end - window.begin, context);
          // What is scored has something before it, and enough of it once the text has enough.
          EXPECT_GT(window.first_scored, window.begin);
          if (window.begin > 0) {
            EXPECT_GE(window.first_scored - window.begin, context - stride);
          }
          expected = window.end;
        }
        EXPECT_EQ(expected, std::max<int64_t>(length, 1));
      }
    }
  }
}

// llama.cpp reads the logits of positions [context / 2, context - 1): a window of 8 scores 5, 6, 7.
TEST(EvalWindows, HalvesAreThoseOfLlamaCpp) {
  const std::vector<EvalWindow> windows = cut_halves(20, 8);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[1].begin, 8);
  EXPECT_EQ(windows[1].first_scored, 13);
  EXPECT_EQ(windows[1].end, 16);
  EXPECT_EQ(cut_halves(7, 8).size(), 0u);
  ASSERT_EQ(cut_halves(2, 2).size(), 1u);
  EXPECT_EQ(cut_halves(2, 2)[0].first_scored, 1);
  EXPECT_EQ(cut_halves(3, 3)[0].first_scored, 2);
}

TEST(EvalTexts, DocumentsAreParted) {
  EXPECT_EQ(split_documents("a\nb\n<|endoftext|>\n\n<|endoftext|>\nc\r\n"),
            (std::vector<std::string>{"a\nb\n", "c\r\n"}));
  // As they are: another program reads the same bytes.
  EXPECT_EQ(split_documents("a\r\nb"), std::vector<std::string>{"a\r\nb"});
  EXPECT_EQ(split_documents("a\n<|endoftext|>\r\n\nb"), (std::vector<std::string>{"a\n", "\nb"}));
  EXPECT_EQ(split_documents("a<|endoftext|>\n"), std::vector<std::string>{"a<|endoftext|>\n"});
  EXPECT_TRUE(split_documents("").empty());
}

TEST(EvalTexts, TheBudgetIsSharedByDocuments) {
  EvalTexts texts;
  const auto documents = [](std::initializer_list<size_t> lengths) {
    EvalDomain domain{"d", {}};
    for (const size_t length : lengths) domain.documents.emplace_back(length);
    return std::vector<EvalDomain>{domain};
  };
  texts.domains = documents({1000, 10});
  limit_tokens(texts, 0);
  EXPECT_EQ(texts.num_tokens(), 1010);
  limit_tokens(texts, 300);
  EXPECT_EQ(texts.domains[0].documents[0].size(), 290u);
  EXPECT_EQ(texts.domains[0].documents[1].size(), 10u);
  // Room for two documents of 128 tokens: the first and the third of four.
  texts.domains = documents({500, 501, 130, 503});
  limit_tokens(texts, 260);
  ASSERT_EQ(texts.domains[0].documents.size(), 2u);
  EXPECT_EQ(texts.domains[0].documents[0].size(), 130u);
  EXPECT_EQ(texts.domains[0].documents[1].size(), 130u);
  limit_tokens(texts, 1);
  EXPECT_EQ(texts.num_tokens(), 2);  // two tokens are the shortest document
}

}  // namespace
}  // namespace quench
