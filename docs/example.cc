// The library from outside: only headers of include/quench. Opens a model, runs several prompts of
// token ids at once and prints the ids as they come. Built with the tests.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "quench/engine.h"

int main(int argc, char** argv) {
  quench::EngineOptions options;
  if (argc > 1) options.model = argv[1];
  options.max_seq_len = 256;
  auto engine = quench::Engine::open(options);
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message.c_str());
    return EXIT_FAILURE;
  }
  for (int i = 0; i < 3; ++i) {
    quench::Request request;
    request.prompt = {10 + i, 20, 30};
    request.sampling.max_new_tokens = 8;
    request.sampling.seed = 1;
    const auto id = (*engine)->submit(std::move(request));
    if (!id) {
      std::fprintf(stderr, "%s\n", id.error().message.c_str());
      return EXIT_FAILURE;
    }
  }
  while (!(*engine)->idle()) {
    for (const quench::Event& event : (*engine)->step()) {
      std::printf("request %d: token %d%s%s\n", static_cast<int>(event.id), event.token,
                  event.finished ? ", finished: " : "",
                  event.finished ? quench::finish_reason_name(event.reason) : "");
    }
  }
  return EXIT_SUCCESS;
}
