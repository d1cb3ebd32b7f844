// What the readers of the tokenizer's file forms share. All functions append to one part of a
// tokenizer and refuse, with a sentence that begins with `where`, what is wrong or not supported.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace quench {

// The attributes of tokenizers.AddedToken.
struct AddedTokenFlags {
  bool special = false;
  bool normalized = false;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
};

Result<void> append_added_token(int64_t id, std::string_view content, const AddedTokenFlags& flags,
                                std::string_view where, std::vector<AddedToken>& added_tokens);

// `surface` is written in the byte-level alphabet. parts.added_tokens must be complete: their
// surface may be anything.
Result<void> append_vocabulary_entry(std::string_view surface, int64_t id, std::string_view where,
                                     TokenizerParts& parts);

// All entries of a vocab.json: {"surface": id}.
Result<void> read_vocab_json(std::string_view json, std::string_view where, TokenizerParts& parts);

// The next merge in order of rank; parts.vocabulary must be complete. A line is "left right".
Result<void> append_merge(std::string_view left, std::string_view right, std::string_view where,
                          TokenizerParts& parts);
Result<void> append_merge_line(std::string_view line, std::string_view where,
                               TokenizerParts& parts);

}  // namespace quench
