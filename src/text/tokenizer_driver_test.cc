// The C++ side of tools/check_tokenizer.py. Disabled: the script runs these with its work in the
// environment.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>

#include "base/file.h"
#include "text/detokenizer.h"
#include "text/random_text.h"
#include "text/tokenizer.h"

namespace quench {
namespace {

// CPU time of this thread: other work on the machine must not look like a slow tokenizer.
double cpu_s() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// QUENCH_TOKENIZER: a tokenizer.json, a .tiktoken file or a model directory.
Result<Tokenizer> tokenizer_from_environment() {
  const std::string path = environment("QUENCH_TOKENIZER");
  if (is_directory(path)) return Tokenizer::load(path);
  QUENCH_TRY(const std::string text, read_file(path));
  return path.ends_with(".tiktoken") ? Tokenizer::from_tiktoken(text, path)
                                     : Tokenizer::from_tokenizer_json(text, path);
}

void put_u32(std::ofstream& out, size_t value) {
  const auto v = static_cast<uint32_t>(value);
  out.write(reinterpret_cast<const char*>(&v), sizeof v);
}

// Writes, for each string: number of ids, bytes of text (u32), the ids (i32), the text that the
// incremental detokenizer gives back.
TEST(TokenizerDriver, DISABLED_EncodeRandom) {
  const auto tokenizer = tokenizer_from_environment();
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  RandomText random(std::stoull(environment("QUENCH_SEED")));
  const uint64_t first = std::stoull(environment("QUENCH_FIRST"));
  const uint64_t count = std::stoull(environment("QUENCH_COUNT"));
  std::ofstream out(environment("QUENCH_OUT"), std::ios::binary);
  for (uint64_t i = first; i < first + count; ++i) {
    const auto ids = tokenizer->encode(
        random.make(i), i % 2 == 0 ? Tokenizer::Special::kAsText : Tokenizer::Special::kParse);
    Detokenizer detokenizer(*tokenizer);
    std::string text;
    for (const TokenId id : ids) text += detokenizer.push(id);
    text += detokenizer.flush();
    put_u32(out, ids.size());
    put_u32(out, text.size());
    out.write(reinterpret_cast<const char*>(ids.data()),
              static_cast<std::streamsize>(ids.size() * sizeof(TokenId)));
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
  }
  ASSERT_TRUE(out.flush());
}

TEST(TokenizerDriver, DISABLED_Speed) {
  const double load_begin_s = cpu_s();
  const auto tokenizer = tokenizer_from_environment();
  const double load_s = cpu_s() - load_begin_s;
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto text = read_file(environment("QUENCH_TEXT"));
  ASSERT_TRUE(text) << text.error().message;
  size_t num_tokens = tokenizer->encode(*text).size();  // warm-up
  double best_s = 1e9;
  for (int run = 0; run < 5; ++run) {
    const double begin_s = cpu_s();
    num_tokens = tokenizer->encode(*text).size();
    best_s = std::min(best_s, cpu_s() - begin_s);
  }
  std::cout << fmt::format("speed {:.2f} MB/s ({:.1f} MB, {} tokens), load {:.3f} s\n",
                           static_cast<double>(text->size()) / best_s / 1e6,
                           static_cast<double>(text->size()) / 1e6, num_tokens, load_s);
}

}  // namespace
}  // namespace quench
