#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace quench {
namespace {

struct Model {
  Vocabulary vocabulary;
  std::vector<BytePairEncoder::Merge> merges;
};

// 256 bytes and random merges over the letters a to d, so that merges compete everywhere.
Model random_model(uint32_t seed, int num_merges) {
  Model model;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    EXPECT_TRUE(model.vocabulary.add(b, {&byte, 1}, "test"));
  }
  std::mt19937 random(seed);
  std::vector<TokenId> symbols = {'a', 'b', 'c', 'd'};
  while (static_cast<int>(model.merges.size()) < num_merges) {
    const TokenId left = symbols[random() % symbols.size()];
    const TokenId right = symbols[random() % symbols.size()];
    const auto bytes =
        std::string(model.vocabulary.bytes(left)) + std::string(model.vocabulary.bytes(right));
    if (bytes.size() > 40 || model.vocabulary.find(bytes)) continue;
    const auto id = static_cast<TokenId>(256 + model.merges.size());
    EXPECT_TRUE(model.vocabulary.add(id, bytes, "test"));
    model.merges.push_back({left, right, id, static_cast<uint32_t>(model.merges.size())});
    symbols.push_back(id);
  }
  return model;
}

// The definition, word for word.
std::vector<TokenId> naive(const Model& model, std::string_view piece) {
  std::map<std::pair<TokenId, TokenId>, BytePairEncoder::Merge> table;
  for (const auto& merge : model.merges) table[{merge.left, merge.right}] = merge;
  std::vector<TokenId> ids;
  for (const char c : piece) ids.push_back(static_cast<uint8_t>(c));
  for (;;) {
    const BytePairEncoder::Merge* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = table.find({ids[i], ids[i + 1]});
      if (it == table.end() || (best != nullptr && it->second.rank >= best->rank)) continue;
      best = &it->second;
      at = i;
    }
    if (best == nullptr) return ids;
    ids[at] = best->merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(BytePairEncoder, EqualsTheDefinitionOnShortAndLongPieces) {
  std::mt19937 random(7);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Model model = random_model(seed, 60);
    const auto encoder = BytePairEncoder::make(model.vocabulary, model.merges, "test");
    ASSERT_TRUE(encoder) << encoder.error().message;
    for (const size_t length : {1, 2, 3, 20, 127, 128, 129, 130, 400}) {
      std::string piece;
      const uint32_t letters = 1 + random() % 4;
      while (piece.size() < length) piece.push_back(static_cast<char>('a' + random() % letters));
      std::vector<TokenId> ids;
      encoder->encode(piece, ids);
      ASSERT_EQ(ids, naive(model, piece)) << piece;
    }
  }
}

TEST(BytePairEncoder, RefusesAPairTwiceAndMissingBytes) {
  Model model = random_model(1, 5);
  model.merges.push_back(model.merges.front());
  const auto twice = BytePairEncoder::make(model.vocabulary, model.merges, "x.json");
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().message.find("twice"), std::string::npos);

  Vocabulary empty;
  const auto bytes = BytePairEncoder::make(empty, {}, "x.json");
  ASSERT_FALSE(bytes);
  EXPECT_NE(bytes.error().message.find("256 bytes"), std::string::npos);
}

}  // namespace
}  // namespace quench
