// The texts an evaluation reads: documents in domains. A directory holds one file per domain,
// named after it: NAME.txt, documents parted by a line "<|endoftext|>"; or NAME.jsonl, one
// conversation {"messages": [...]} per line, rendered by the chat template.
#pragma once

#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace quench {

struct EvalDomain {
  std::string name;
  std::vector<std::vector<TokenId>> documents;  // each of at least two tokens
};

struct EvalTexts {
  std::string path;    // as the user gave it, or "texts/eval"
  std::string sha256;  // of the files' bytes, one after the other in the order of their names
  std::vector<EvalDomain> domains;

  int64_t num_tokens() const;
};

// Documents of a .txt file, without the parting lines and without empty ones.
std::vector<std::string> split_documents(const std::string& text);

// Reads one file, or all .txt and .jsonl files of a directory.
Result<EvalTexts> load_eval_texts(const std::string& path, const Tokenizer& tokenizer,
                                  const ChatTemplate& chat_template);

// Cuts every domain to at most about `max_tokens` tokens (0: not at all): the first tokens of as
// many documents, evenly spaced, as can have 128 tokens each. Many documents say more than one long
// one, but the beginnings alone say little.
void limit_tokens(EvalTexts& texts, int64_t max_tokens);

}  // namespace quench
