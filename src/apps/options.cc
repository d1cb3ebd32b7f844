#include "apps/options.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "devices/kv.h"
#include "engine/generation_config.h"

namespace quench {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

int wake_fd = -1;  // an eventfd: readable after the signal

extern "C" void on_interrupt(int) {
  const int saved = errno;
  interrupted.store(true, std::memory_order_relaxed);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_fd, &one, sizeof(one));
  errno = saved;
}

Result<void> parse_bias(const std::string& text, SamplingSettings& settings) {
  int32_t id = 0;
  double bias = 0.0;
  const char* end = text.data() + text.size();
  const auto [colon, id_error] = std::from_chars(text.data(), end, id);
  if (id_error == std::errc() && colon != end && *colon == ':') {
    const auto [rest, bias_error] = std::from_chars(colon + 1, end, bias);
    if (bias_error == std::errc() && rest == end) {
      settings.logit_bias[id] = bias;
      return {};
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "--logit_bias expects ID:BIAS such as 42:-100, found \"{}\".", text);
}

}  // namespace

void add_device_options(CLI::App& verb, std::string& device, DeviceOptions& options) {
  verb.add_option("--device", device, "Device (quench list devices)")->capture_default_str();
  add_team_options(verb, options);
}

void add_team_options(CLI::App& verb, DeviceOptions& options) {
  verb.add_option("--isa", options.isa, "Force a CPU instruction-set level")->envname("QUENCH_ISA");
  verb.add_option("--threads", options.num_threads, "Threads; 0: the CPUs this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb.add_flag("!--no-pin", options.pin,
                "Leave the threads to the scheduler, also where there is one for each core");
}

void print_json(const Json& json) {
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void add_model_options(CLI::App& verb, SessionOptions& options) {
  add_weights_options(verb, options);
  add_device_options(verb, options.device, options.device_options);
}

void add_weights_options(CLI::App& verb, SessionOptions& options) {
  verb.add_option("MODEL", options.model, "Model directory; \"demo\" is the model that ships")
      ->capture_default_str();
  verb.add_flag("--random-weights", options.random_weights,
                "Seeded random weights; MODEL may then be an official name such as Qwen2.5-7B");
  verb.add_option("--weights-seed", options.weights_seed, "Seed of --random-weights")
      ->capture_default_str();
  verb.add_option("--format", options.format,
                  "Store the weights in this format (quench list formats)");
  verb.add_option("--recipe", options.recipe_path,
                  "One format per role: a recipe (quench list recipes) or a recipe file");
}

void add_memory_options(CLI::App& verb, SessionOptions& options) {
  verb.add_option("--max-seq-len", options.goal.max_seq_len,
                  "Longest prompt plus answer in tokens; 0: the model's limit, at most 4096")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  auto set_kv_type = [&options](const std::string& name) {
    if (const auto type = kv_type_by_name(name)) options.goal.kv_type = *type;
  };
  std::vector<std::string> names;
  for (const KvTypeRow& row : kKvTypes) names.emplace_back(row.name);
  verb.add_option_function<std::string>("--kv-format", set_kv_type, "Format of keys and values")
      ->check(CLI::IsMember(names));
}

void add_engine_options(CLI::App& verb, SessionOptions& options) {
  verb.add_option("--max-batch-size", options.goal.max_batch_size, "Sequences at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb.add_option("--kv-tokens", options.goal.kv_tokens,
                  "Room for keys and values of this many tokens, all sequences together; 0: of "
                  "--max-batch-size times --max-seq-len, or what fits into memory")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 36))
      ->capture_default_str();
  options.goal.max_draft_tokens = EngineOptions{}.speculation;
  auto* drafts = verb.add_option("--speculation", options.goal.max_draft_tokens,
                                 "Tokens drafted at most per step, from earlier text; the answer "
                                 "stays the same; 0: off")
                     ->check(CLI::Range(0, 16))
                     ->capture_default_str();
  verb.add_flag_callback(
          "--no-speculation", [&options] { options.goal.max_draft_tokens = 0; },
          "The same as --speculation 0")
      ->excludes(drafts);
}

void SamplingFlags::add_to(CLI::App& verb) {
  const std::string group = "Sampling (defaults: the model's generation_config.json)";
  auto option = [&](const char* names, auto& value, const char* help) {
    return verb.add_option(names, value, help)->group(group);
  };
  option("--temperature", temperature, "0: greedy");
  option("--top_k,--top-k", top_k, "Keep the k most probable; 0: all");
  option("--top_p,--top-p", top_p, "Keep the most probable up to this sum");
  option("--min_p,--min-p", min_p,
         "Drop what is less probable than this share of the most probable");
  option("--repetition_penalty,--repetition-penalty", repetition_penalty, "1: off");
  option("--presence_penalty,--presence-penalty", presence_penalty, "0: off");
  option("--frequency_penalty,--frequency-penalty", frequency_penalty, "0: off");
  option("--logit_bias,--logit-bias", logit_bias, "ID:BIAS, may be repeated")
      ->allow_extra_args(false);
  option("--max_new_tokens,-n,--max-new-tokens,--max-tokens", max_new_tokens,
         "Longest answer in tokens");
  option("--stop", stop_strings, "End the answer before this text; may be repeated")
      ->allow_extra_args(false);
  option("--seed", seed, "Same prompt, settings and seed: same tokens")
      ->check(CLI::NonNegativeNumber);
  verb.add_flag("--greedy", greedy, "The most probable token each time")->group(group);
}

Result<void> SamplingFlags::apply(SamplingSettings& settings) const {
  auto set = [](auto& to, const auto& from) {
    if (from) to = *from;
  };
  set(settings.temperature, temperature);
  if (temperature) settings.greedy = false;
  set(settings.top_k, top_k);
  set(settings.top_p, top_p);
  set(settings.min_p, min_p);
  set(settings.repetition_penalty, repetition_penalty);
  set(settings.presence_penalty, presence_penalty);
  set(settings.frequency_penalty, frequency_penalty);
  set(settings.max_new_tokens, max_new_tokens);
  set(settings.seed, seed);
  settings.greedy |= greedy;
  settings.stop_strings.insert(settings.stop_strings.end(), stop_strings.begin(),
                               stop_strings.end());
  for (const std::string& bias : logit_bias) QUENCH_TRY_VOID(parse_bias(bias, settings));
  return validate(settings);
}

Result<SamplingSettings> SamplingFlags::resolve(const ModelFiles& files,
                                                const Tokenizer& tokenizer) const {
  QUENCH_TRY(SamplingSettings settings,
             merge_generation_config(files.generation_json, files.dir + "/generation_config.json"));
  QUENCH_TRY_VOID(apply(settings));
  for (const auto& [id, bias] : settings.logit_bias) {
    if (id < tokenizer.vocab_size()) continue;
    return fail(ErrorCode::kInvalidArgument,
                "logit_bias names token id {}, but the tokenizer has ids 0 to {}.", id,
                tokenizer.vocab_size() - 1);
  }
  // Files without an eos (Qwen1, shapes without files) still end where ChatML ends.
  for (const char* token : {"<|im_end|>", "<|endoftext|>"}) {
    if (const auto id = tokenizer.find(token)) settings.stop_token_ids.push_back(*id);
  }
  return settings;
}

std::vector<CLI::Option*> add_cost_options(CLI::App& verb, CostWishes& cost) {
  std::vector<CLI::Option*> all = {
      verb.add_option("--buy", cost.buy, "Price of one device: 2500CNY, 300-370USD"),
      verb.add_option("--resale", cost.resale_share, "Share of it got back at the end")
          ->check(CLI::Range(0.0, 1.0)),
      verb.add_option("--life", cost.life_years, "Years it is used")
          ->check(CLI::Range(0.01, 100.0))
          ->capture_default_str(),
      verb.add_option("--electricity", cost.electricity, "Per kWh: 0.15USD"),
      verb.add_option("--watt", cost.busy_w, "Of one device while it works")
          ->check(CLI::Range(0.0, 1e5)),
      verb.add_option("--idle-watt", cost.idle_w, "And while it does not")
          ->check(CLI::Range(0.0, 1e5)),
      verb.add_option("--power-overhead", cost.overhead_factor, "Power at the wall over that")
          ->check(CLI::Range(1.0, 10.0)),
      verb.add_option("--busy", cost.busy, "Share of the time in which it works")
          ->check(CLI::Range(0.001, 1.0))
          ->capture_default_str(),
      verb.add_option("--rent", cost.rent, "Per device and hour: 15CNY, 1.10-2.50USD"),
      verb.add_option("--billing-step", cost.billing_step_s, "Seconds that are billed at least")
          ->check(CLI::Range(1.0, 1e7)),
      verb.add_option("--discount", cost.discounts, "From so many hours a month: 200:0.8"),
      verb.add_option("--month", cost.month, "A monthly plan instead of hours: 500CNY"),
      verb.add_option("--currency", cost.currency, "Count in this currency, such as USD or CNY"),
      verb.add_option("--exchange-rate", cost.rates, "A stated exchange rate: USD=7.1CNY")};
  for (CLI::Option* option : all) option->group("Cost");
  return all;
}

Result<void> check_output_path(const std::string& path) {
  namespace fs = std::filesystem;
  auto refuse = [&](ErrorCode code, std::string what) {
    return fail(code, "\"{}\": {}; give the path of the file to write.", path, what);
  };
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (path.empty()) return refuse(ErrorCode::kInvalidArgument, "the path is empty");
  if (fs::is_directory(status)) return refuse(ErrorCode::kInvalidArgument, "this is a directory");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return refuse(ErrorCode::kInvalidArgument, "this is not a regular file");
  }
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty() && !fs::is_directory(parent, error)) {
    return refuse(ErrorCode::kNotFound,
                  fmt::format("there is no directory \"{}\"", parent.string()));
  }
  return {};
}

LoadProgress load_progress() {
  const bool is_shown = ::isatty(STDERR_FILENO) != 0;
  const double start_s = now_s();
  return [is_shown, start_s](int64_t done_bytes, int64_t total_bytes) {
    const bool stops = interrupt_flag().load(std::memory_order_relaxed);
    const bool ends = stops || done_bytes == total_bytes;
    if (is_shown && now_s() - start_s > 0.5) {
      std::fprintf(stderr, "\rloading %3.0f %%%s",
                   100.0 * static_cast<double>(done_bytes) / static_cast<double>(total_bytes),
                   ends ? "\r             \r" : "");
    }
    return !stops;
  };
}

std::atomic<bool>& interrupt_flag() { return interrupted; }

void install_interrupt_flag() {
  if (wake_fd < 0) wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;  // output that is being written must not get lost
  ::sigaction(SIGINT, &action, nullptr);
}

bool wait_for_input() {
  while (!interrupted.load(std::memory_order_relaxed)) {
    pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) continue;  // EINTR
    if (fds[1].revents != 0) {
      uint64_t count = 0;  // also of a Ctrl-C that has stopped an answer: look at the flag again
      [[maybe_unused]] const ssize_t got = ::read(wake_fd, &count, sizeof(count));
    } else if (fds[0].revents != 0) {
      return true;
    }
  }
  return false;
}

Result<std::string> read_stdin() {
  std::string text;
  char buffer[65536];
  for (;;) {
    if (!wait_for_input()) return fail(ErrorCode::kCancelled, "Stopped by Ctrl-C.");
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (got < 0) return fail(ErrorCode::kIo, "stdin: cannot read: {}.", std::strerror(errno));
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace quench
