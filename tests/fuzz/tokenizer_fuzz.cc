// Feeds foreign bytes to every reader of tokenizer files, and text to the encoder. The first byte
// chooses which.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace quench {
namespace {

Tokenizer text_tokenizer() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    tokens.push_back(byte_level_text({&byte, 1}));
  }
  const std::vector<std::string> merges = {"t h",           "a a",       "aa a",
                                           "\u00e4 \u00bd", "\u0120 th", "\u0120 \u0120"};
  for (const std::string& merge : merges) {
    const size_t space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  const std::vector<AddedToken> added = {{262, "<|im_end|>", true, false},
                                         {263, "<think>", false, false},
                                         {264, "<caf\u00e9>", false, true}};
  return Tokenizer::from_lists(tokens, merges, added, {}, "fuzz").value();
}

void encode(std::string_view text) {
  static const Tokenizer tokenizer = text_tokenizer();
  std::string valid_storage, nfc_storage;
  const std::string_view valid = replace_invalid_utf8(text, valid_storage);
  for (const auto special : {Tokenizer::Special::kAsText, Tokenizer::Special::kParse}) {
    const auto ids = tokenizer.encode(text, special);
    const std::string decoded = tokenizer.decode(ids);
    Detokenizer detokenizer(tokenizer);
    std::string streamed;
    for (const TokenId id : ids) streamed += detokenizer.push(id);
    streamed += detokenizer.flush();
    QUENCH_CHECK(streamed == decoded, "{} streamed bytes, {} decoded", streamed.size(),
                 decoded.size());
    if (valid.find('<') == std::string_view::npos) {
      QUENCH_CHECK(decoded == normalize_nfc(valid, NfcVersion::kTokenizers, nfc_storage),
                   "a text of {} bytes did not survive", text.size());
    }
  }
}

void use(const Result<Tokenizer>& tokenizer) {
  if (!tokenizer) {
    QUENCH_CHECK(tokenizer.error().message.ends_with('.'), "{}", tokenizer.error().message);
    return;
  }
  const auto ids = tokenizer->encode("Hello, world! <|im_end|> \u4f60\u597d 123\n\n");
  tokenizer->decode(ids);
  for (int64_t id = 0; id < tokenizer->vocab_size() && id < 1000; ++id)
    tokenizer->token_text(static_cast<TokenId>(id));
}

}  // namespace
}  // namespace quench

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t num_bytes) {
  using quench::Tokenizer;
  if (num_bytes == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, num_bytes - 1);
  switch (data[0] % 5) {
    case 0:
      quench::encode(text);
      break;
    case 1:
      quench::use(Tokenizer::from_tokenizer_json(text, "fuzz"));
      break;
    case 2:
      quench::use(Tokenizer::from_tiktoken(text, "fuzz"));
      break;
    default: {
      // Four files, parted by a zero byte.
      std::string_view parts[4];
      std::string_view rest = text;
      for (std::string_view& part : parts) {
        part = rest.substr(0, rest.find('\0'));
        rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : rest.size());
      }
      quench::use(
          Tokenizer::from_vocab_and_merges({parts[0], parts[1], parts[2], parts[3], ""}, "fuzz"));
    }
  }
  return 0;
}
