// Helpers for tests that use the program as a stranger does: they run the real binary and look at
// its exit status, stdout and stderr. Environment variables that steer it are removed.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/raw_safetensors.h"
#include "test_paths.h"

namespace quench {

struct Output {
  int status = -1;  // exit status; minus the signal's number when one ended it
  std::string out;
  std::string err;
};

// Runs quench to its end. stdout goes to `out_path` where one is given.
Output quench(const std::vector<std::string>& arguments, std::string_view input = {},
              const char* out_path = nullptr);

// The process is started, its arguments are those of quench(); for tests that send signals.
// stdin is /dev/null, or with `terminal` stdin and stdout are a pseudo terminal whose other side
// is `fd`; otherwise `fd` reads its stdout. stderr goes where stdout goes.
struct Child {
  int pid = -1;
  int fd = -1;
};
Child start_quench(const std::vector<std::string>& arguments, bool terminal);
// Reads until `text` was seen (true), or the output ended or a minute passed (false).
bool read_until(const Child& child, std::string_view text, std::string& seen);
// As Output::status.
int wait_for(const Child& child);

// The status is 1 and stderr is one line, a sentence, that has each of the words.
void expect_error(const Output& output, const std::vector<std::string>& words);

std::string demo_dir();
bool has_demo();

// A copy of tests/tiny_model/`name` in `scratch`/model; its config.json changed by `merge` (a JSON
// merge patch: null removes a key).
std::string copy_tiny_model(const ScratchDir& scratch, const std::string& name = "qwen2",
                            const char* merge = "{}");
// A model whose embedding fits the small tokenizer, which lies beside it. Its weights do not fit:
// for --random-weights.
std::string tiny_model_with_tokenizer(const ScratchDir& scratch);

}  // namespace quench
