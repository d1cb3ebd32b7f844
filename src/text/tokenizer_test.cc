#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "test_paths.h"
#include "text/detokenizer.h"
#include "text/random_text.h"

namespace quench {
namespace {

using Ids = std::vector<TokenId>;
const std::string kSmall = source_path("tests/text/small_tokenizer");

std::string text_of(const std::string& path) {
  auto text = read_file(path);
  EXPECT_TRUE(text) << text.error().message;
  return text.value_or("");
}

// The directory of third-party vocabularies, which are not part of this repository; "" without it.
std::string data_dir() {
  const char* set = std::getenv("QUENCH_TEST_DATA");
  const std::string dir = set != nullptr ? set : source_path("../shared/data");
  return is_directory(dir + "/tokenizer") ? dir : "";
}
#define SKIP_WITHOUT_DATA()                                                                \
  if (data_dir().empty())                                                                  \
  GTEST_SKIP() << "no third-party vocabularies: set QUENCH_TEST_DATA to a directory with " \
                  "tokenizer/ in it"

const Tokenizer& small() {
  static const Tokenizer tokenizer = Tokenizer::load(kSmall).value();
  return tokenizer;
}

// Qwen2's vocabulary with the added tokens of Qwen3.
Result<Tokenizer> load_qwen3() {
  const std::string dir = data_dir() + "/tokenizer/";
  const std::string vocab = text_of(dir + "qwen2/vocab.json");
  const std::string merges = text_of(dir + "qwen2/merges.txt");
  const std::string config = text_of(dir + "qwen3/tokenizer_config.json");
  return Tokenizer::from_vocab_and_merges({vocab, merges, config, "", ""}, "qwen3");
}

// Compares with the digests that tools/check_tokenizer.py made from the Python package: per 100
// strings one FNV-1a over the ids, each list ended by -1. Strings with an odd index parse specials.
void expect_digests(const Tokenizer& tokenizer, const std::string& path) {
  std::istringstream rows(text_of(path));
  uint64_t seed = 0;
  ASSERT_TRUE(rows >> seed);
  RandomText random(seed);
  std::string row;
  uint64_t index = 0;
  while (rows >> row) {
    uint64_t digest = 0xcbf29ce484222325;
    const auto add = [&](TokenId id) {
      for (int shift = 0; shift < 32; shift += 8)
        digest = (digest ^ (static_cast<uint32_t>(id) >> shift & 0xff)) * 0x100000001b3;
    };
    for (int i = 0; i < 100; ++i, ++index) {
      const auto special =
          index % 2 == 0 ? Tokenizer::Special::kAsText : Tokenizer::Special::kParse;
      for (const TokenId id : tokenizer.encode(random.make(index), special)) add(id);
      add(-1);
    }
    ASSERT_EQ(fmt::format("{:016x}", digest), row) << "strings before " << index;
  }
  EXPECT_EQ(index, 20000u);
}

TEST(Tokenizer, TwentyThousandRandomStringsAsThePythonPackage) {
  expect_digests(small(), std::string(kSmall) + "/random_ids.txt");
}

TEST(Tokenizer, TwentyThousandRandomStringsWithTheRealVocabulary) {
  SKIP_WITHOUT_DATA();
  const auto tokenizer = load_qwen3();
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_digests(*tokenizer, source_path("tests/text/random_ids_qwen3.txt"));
}

TEST(Tokenizer, SpecialTokensInTextStayText) {
  const TokenId start = *small().find("<|im_start|>");
  const TokenId think = *small().find("<think>");
  const auto count = [](const Ids& ids, TokenId id) {
    return std::count(ids.begin(), ids.end(), id);
  };
  const std::string text = "a<|im_start|>b<think>c";
  const Ids as_text = small().encode(text);
  EXPECT_EQ(count(as_text, start), 0);
  EXPECT_EQ(count(as_text, think), 1);  // not special: always recognised
  const Ids parsed = small().encode(text, Tokenizer::Special::kParse);
  EXPECT_EQ(count(parsed, start), 1);
  EXPECT_EQ(count(parsed, think), 1);
  EXPECT_EQ(small().decode(as_text), text);
  EXPECT_EQ(small().decode(parsed), text);
  EXPECT_EQ(small().decode(parsed, /*skip_special=*/true), "ab<think>c");
}

TEST(Tokenizer, NormalizedAddedTokensAreMatchedAfterNfc) {
  Json root = Json::parse(text_of(std::string(kSmall) + "/tokenizer.json"));
  for (const bool normalized : {false, true}) {
    root["added_tokens"].push_back({{"id", normalized ? 1010 : 1009},
                                    {"content", normalized ? "e\u0301" : "o\u0301"},
                                    {"special", false},
                                    {"normalized", normalized}});
  }
  const auto tokenizer = Tokenizer::from_tokenizer_json(root.dump(), "normalized");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->encode("o\u0301"), (Ids{1009}));
  EXPECT_NE(tokenizer->encode("\u00f3"), (Ids{1009}));
  EXPECT_EQ(tokenizer->encode("e\u0301"), (Ids{1010}));
  EXPECT_EQ(tokenizer->encode("\u00e9"), (Ids{1010}));
}

TEST(Tokenizer, DescribesItsTokens) {
  EXPECT_EQ(small().vocab_size(), 1009);
  const TokenId end = *small().find("<|im_end|>");
  EXPECT_TRUE(small().is_special(end));
  EXPECT_FALSE(small().is_special(*small().find("</think>")));
  EXPECT_EQ(small().token_text(end), "<|im_end|>");
  const Ids the = small().encode(" the");
  ASSERT_EQ(the.size(), 1u);
  EXPECT_EQ(small().token_bytes(the[0]), " the");
  EXPECT_EQ(small().token_text(the[0]), "\u0120the");
  EXPECT_FALSE(small().is_known(-1));
  EXPECT_FALSE(small().is_known(1009));
  EXPECT_EQ(small().token_bytes(5000), "");
  EXPECT_EQ(small().decode(Ids{-5, 5000}), "");
  EXPECT_FALSE(small().find("no such token"));
}

TEST(Tokenizer, DetokenizerGivesTheDecodedText) {
  RandomText random(9);
  std::string storage;
  for (uint64_t i = 0; i < 3000; ++i) {
    const Ids ids = small().encode(random.make(i));
    Detokenizer detokenizer(small());
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = detokenizer.push(id);
      ASSERT_EQ(replace_invalid_utf8(part, storage).data(), part.data());  // well-formed
      text += part;
    }
    text += detokenizer.flush();
    ASSERT_EQ(text, small().decode(ids));
  }
}

TEST(Tokenizer, AMegabyteOfOneKindIsNotQuadratic) {
  for (const std::string_view unit :
       {"a", " ", "\n", "!", "\u4f60", "ab", "<|im_start|>", "<|im_", "<"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    EXPECT_EQ(small().decode(small().encode(text)), text);
  }
}

// The three file forms of one vocabulary.
struct Forms {
  Json root = Json::parse(text_of(std::string(kSmall) + "/tokenizer.json"));
  std::string vocab = root["model"]["vocab"].dump();
  std::string merges(const char* first_line, const char* line_end) const {
    std::string text = first_line;
    for (const Json& merge : root["model"]["merges"]) {
      text += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + line_end;
    }
    return text;
  }
};

void expect_same(const Result<Tokenizer>& tokenizer) {
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocab_size(), small().vocab_size());
  RandomText random(11);
  for (uint64_t i = 0; i < 1000; ++i) {
    const std::string text = random.make(i);
    ASSERT_EQ(tokenizer->encode(text, Tokenizer::Special::kParse),
              small().encode(text, Tokenizer::Special::kParse));
  }
}

TEST(TokenizerFiles, MergesAsStringsAndAsPairs) {
  Forms forms;
  for (Json& merge : forms.root["model"]["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  expect_same(Tokenizer::from_tokenizer_json(forms.root.dump(), "strings"));
}

TEST(TokenizerFiles, VocabAndMergesWithEveryLineEnd) {
  const Forms forms;
  Json decoder, added, map;
  for (const AddedToken& token : small().added_tokens()) {
    decoder["added_tokens_decoder"][std::to_string(token.id)] = {
        {"content", token.content}, {"special", token.special}, {"normalized", false}};
    added[token.content] = token.id;
    if (token.special) map["additional_special_tokens"].push_back(token.content);
  }
  for (const char* first : {"", "#version: 0.2\n", "#version: 0.2\r\n"}) {
    for (const char* end : {"\n", "\r\n"}) {
      const std::string merges = forms.merges(first, end);
      expect_same(Tokenizer::from_vocab_and_merges({forms.vocab, merges, decoder.dump(), "", ""},
                                                   "with tokenizer_config"));
      expect_same(Tokenizer::from_vocab_and_merges(
          {forms.vocab, merges, "", added.dump(), map.dump()}, "with added_tokens"));
    }
  }
}

TEST(TokenizerFiles, Lists) {
  const Forms forms;
  std::vector<std::string> tokens(1009, "[PAD]"), merges;
  for (const auto& [surface, id] : forms.root["model"]["vocab"].items()) tokens[id] = surface;
  for (const Json& merge : forms.root["model"]["merges"])
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  expect_same(Tokenizer::from_lists(tokens, merges, small().added_tokens(), {}, "lists"));
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j)
      word = word << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      text.push_back(i + j <= bytes.size() ? kDigits[word >> (18 - 6 * j) & 63] : '=');
  }
  return text;
}

TEST(TokenizerFiles, TiktokenWithEveryLineEnd) {
  for (const char* end : {"\n", "\r\n"}) {
    std::string text;
    for (int b = 0; b < 256; ++b) {
      const char byte = static_cast<char>(b);
      text += base64({&byte, 1}) + " " + std::to_string(b) + end;
    }
    text += base64("ab") + " 256" + end + base64("abc") + " 257" + end + base64("\u4f60") + " 258" +
            end;
    const auto tokenizer = Tokenizer::from_tiktoken(text, "x.tiktoken");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    EXPECT_EQ(tokenizer->encode("abcab\u4f60"), (Ids{257, 256, 0xe4, 0xbd, 0xa0}));
    EXPECT_EQ(tokenizer->encode("\u4f60"), (Ids{258}));  // a whole piece needs no merges
    EXPECT_EQ(tokenizer->find("<|endoftext|>"), 259);
    EXPECT_EQ(tokenizer->find("<|extra_204|>"), 259 + 3 + 204);
    EXPECT_EQ(tokenizer->vocab_size(), 259 + 3 + 205);
  }
}

TEST(TokenizerFiles, RefusesWhatItDoesNotDo) {
  const auto message = [](auto change) {
    Forms forms;
    change(forms.root);
    const auto tokenizer = Tokenizer::from_tokenizer_json(forms.root.dump(), "t.json");
    return tokenizer ? "" : tokenizer.error().message;
  };
  const auto contains = [](const std::string& text, const char* part) {
    return text.starts_with("t.json: ") && text.ends_with('.') &&
           text.find(part) != std::string::npos;
  };
  EXPECT_PRED2(contains, message([](Json& j) { j["normalizer"]["type"] = "NFKC"; }), "NFKC");
  EXPECT_PRED2(contains, message([](Json& j) {
                 j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+";
               }),
               "\\\\w+");
  EXPECT_PRED2(contains, message([](Json& j) { j["pre_tokenizer"] = nullptr; }), "Sequence");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["type"] = "Unigram"; }), "Unigram");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["byte_fallback"] = true; }),
               "byte_fallback");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["dropout"] = 0.1; }), "dropout");
  EXPECT_PRED2(contains, message([](Json& j) { j["added_tokens"][0]["lstrip"] = true; }), "lstrip");
  EXPECT_PRED2(contains, message([](Json& j) { j["added_tokens"][0]["id"] = 5; }), "id 5");
  EXPECT_PRED2(contains, message([](Json& j) { j["added_tokens"][0]["id"] = 1 << 30; }), "outside");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["vocab"]["x y"] = 2000; }), "alphabet");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["vocab"]["zzzz"] = 3; }), "the id 3");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["vocab"]["zzzz"] = -3; }), "outside");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["vocab"].erase("a"); }), "merge");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["merges"].push_back("a b c"); }),
               "two tokens");
  EXPECT_PRED2(contains, message([](Json& j) { j["model"]["merges"].push_back(7); }), "found 7");
  EXPECT_PRED2(contains, message([](Json& j) { j = Json::array(); }), "JSON object");
  EXPECT_FALSE(Tokenizer::from_tokenizer_json("{", "t.json"));
  EXPECT_FALSE(Tokenizer::from_tiktoken("!!!! 0\n", "t"));
  EXPECT_FALSE(Tokenizer::from_tiktoken("YQ== x\n", "t"));
  EXPECT_FALSE(Tokenizer::load("/nonexistent"));
}

// Everything below compares with vectors that other people made.

Json read_vectors(const char* name) {
  return Json::parse(text_of(data_dir() + "/tokenizer/vectors/" + name));
}

TEST(TokenizerVectors, Transformers) {
  SKIP_WITHOUT_DATA();
  const auto tokenizer = load_qwen3();
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocab_size(), 151669);
  const Json vectors = read_vectors("hf-transformers-qwen2.json");
  for (const Json& test : vectors["cases"]) {
    const std::string text = test["text"];
    EXPECT_EQ(tokenizer->encode(text, Tokenizer::Special::kParse), test["ids"].get<Ids>()) << text;
  }
}

TEST(TokenizerVectors, ToyOfTransformers) {
  SKIP_WITHOUT_DATA();
  const Json toy = read_vectors("hf-transformers-qwen2.json")["toy"];
  TokenizerParts parts;
  parts.added_tokens.push_back({270, "<|endoftext|>", true, false});
  // The 256 bytes in the order of their characters: first those that stand for themselves.
  std::vector<std::string> surfaces;
  for (int pass = 0; pass < 2; ++pass) {
    for (int b = 0; b < 256; ++b) {
      const char byte = static_cast<char>(b);
      const std::string surface = byte_level_text({&byte, 1});
      size_t position = 0;
      const bool shifted = next_code_point(surface.data(), position) >= 0x100;
      if (shifted == (pass == 1)) surfaces.push_back(surface);
    }
  }
  for (const Json& token : toy["extra_tokens"]) surfaces.push_back(token);
  const std::vector<std::string> merges = toy["merges"];
  const auto tokenizer = Tokenizer::from_lists(surfaces, merges, parts.added_tokens, {}, "toy");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  for (const Json& test : toy["cases"]) {
    EXPECT_EQ(tokenizer->encode(test["text"].get<std::string>(), Tokenizer::Special::kParse),
              test["ids"].get<Ids>());
  }
}

TEST(TokenizerVectors, Regression) {
  SKIP_WITHOUT_DATA();
  const auto tokenizer = Tokenizer::load(data_dir() + "/tokenizer/qwen2");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  std::istringstream lines(text_of(data_dir() + "/tokenizer/vectors/own-regress-qwen2.jsonl"));
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    const Json test = Json::parse(line);
    const std::string text = test["text"];
    ASSERT_EQ(tokenizer->encode(text, Tokenizer::Special::kParse), test["ids"].get<Ids>()) << text;
    count += 1;
  }
  EXPECT_EQ(count, 1500);
}

TEST(TokenizerVectors, Qwen1) {
  SKIP_WITHOUT_DATA();
  const auto qwen1 = Tokenizer::load(data_dir() + "/tokenizer/qwen1");
  ASSERT_TRUE(qwen1) << qwen1.error().message;
  EXPECT_EQ(qwen1->vocab_size(), 151851);
  const Json vectors = read_vectors("qwen1-showcase.json");
  for (const auto& [content, id] : vectors["special"].items())
    EXPECT_EQ(qwen1->find(content), id.get<TokenId>());
  int count = 0;
  for (const Json& test : vectors["cases"]) {
    const std::string text = test["text"];
    const bool all = test["allowed"] == "all";
    if (!all && !test["allowed"].empty()) continue;  // quench parses all or none
    const auto special = all ? Tokenizer::Special::kParse : Tokenizer::Special::kAsText;
    EXPECT_EQ(qwen1->encode(text, special), test["ids"].get<Ids>()) << text;
    count += 1;
  }
  EXPECT_GE(count, 4);
  // The same vocabulary, once with merges by rank and once with the list of merges.
  const auto qwen2 = Tokenizer::load(data_dir() + "/tokenizer/qwen2");
  ASSERT_TRUE(qwen2) << qwen2.error().message;
  RandomText random(4);
  std::string a, b;
  for (uint64_t i = 0; i < 20000; ++i) {
    std::string text = random.make(i);
    text = std::string(replace_invalid_utf8(text, a));
    if (normalize_nfc(text, NfcVersion::kTokenizers, a) !=
        normalize_nfc(text, NfcVersion::kUnicode15, b))
      continue;
    ASSERT_EQ(qwen1->encode(text), qwen2->encode(text)) << text;
  }
}

}  // namespace
}  // namespace quench
