#include "measure/analyze/model_process.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "measure/measured_model.h"

namespace quench {
namespace {

// Both ends are the same program, so lists of numbers do.
Json numbers_of(const PassTime& time) {
  return {time.weights_s, time.attention_s, time.layers_s,
          time.waiting_s, time.host_s,      time.sampler_s};
}
PassTime time_of(const Json& json) {
  return {json[0], json[1], json[2], json[3], json[4], json[5]};
}

Json numbers_of(const PassLimit& limit) {
  return {limit.read_bytes, limit.f32_flop, limit.bf16_flop,
          limit.int8_op,    limit.memory_s, limit.compute_s};
}
PassLimit limit_of(const Json& json) {
  return {json[0], json[1], json[2], json[3], json[4], json[5]};
}

bool write_line(std::FILE* to, const Json& json) {
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return std::fwrite(line.data(), 1, line.size(), to) == line.size() && std::fflush(to) == 0;
}

// False: the other end is gone.
bool read_line(std::FILE* from, std::string& line) {
  line.clear();
  char part[4096];
  while (std::fgets(part, sizeof(part), from) != nullptr) {
    line += part;
    if (line.back() == '\n') return true;
  }
  return false;
}

Json error_json(const Error& error) {
  return {{"error", error.message}, {"code", static_cast<int>(error.code)}};
}

void use_cpus(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<size_t>(cpu), &set);
  ::sched_setaffinity(0, sizeof(set), &set);
}

// The child's side: does what it is told until nobody tells it any more.
class ModelServer {
 public:
  ModelServer(const ModelProcessOptions& options, std::FILE* from, std::FILE* to)
      : options_(options), from_(from), to_(to) {}

  void serve() {
    auto model = LiveModel::open(options_.session, options_.lengths, options_.seed);
    if (!model) {
      write_line(to_, error_json(model.error()));
      return;
    }
    model_ = std::move(*model);
    rows_ = warm_up(*model_, options_.lengths, options_.lengths.batch, options_.run_s);
    const Session& session = model_->session();
    const MeasuredModel facts = measured_model(session.files().name, session.plan(), "");
    write_line(to_, {{"name", facts.name},
                     {"format", facts.format},
                     {"isa", session.device().isa()},
                     {"threads", session.device().num_workers()},
                     {"planned_bytes", session.plan().total_bytes()}});
    std::string line;
    while (read_line(from_, line)) {
      const auto question = parse_json(line, "a question");
      if (!question || !write_line(to_, reply(*question))) return;
    }
  }

 private:
  Json reply(const Json& question) {
    if (question.contains("profile")) return profile();
    return {{"tok_s", work(question.at("prefill").get<bool>() ? rows_.prefill : rows_.decode,
                           question.at("begin_s"), question.at("end_s"))}};
  }

  Json profile() {
    const auto ceilings = measure_ceilings(model_->session().device());
    if (!ceilings) return error_json(ceilings.error());
    return {{"ceilings", ceilings_json(*ceilings)},
            {"prefill_time", numbers_of(model_->traced(rows_.prefill))},
            {"decode_time", numbers_of(model_->traced(rows_.decode))},
            {"prefill_limit", numbers_of(model_->pass_limit(rows_.prefill, *ceilings))},
            {"decode_limit", numbers_of(model_->pass_limit(rows_.decode, *ceilings))}};
  }

  // The run that is under way at the end keeps the machine busy for the other one and counts for
  // nothing here.
  double work(const GridRow& row, double begin_s, double end_s) {
    while (now_s() < begin_s) {
      std::this_thread::sleep_for(std::chrono::duration<double>(begin_s - now_s()));
    }
    double runs = 0.0;
    double time_s = 0.0;
    while (runs == 0.0 || now_s() < end_s) {
      const double run_s = model_->runner().run(row);
      if (runs > 0.0 && now_s() > end_s) break;
      runs += 1.0;
      time_s += run_s;
    }
    return runs * static_cast<double>(row.tokens * row.batch) / std::max(time_s, 1e-9);
  }

  const ModelProcessOptions& options_;
  std::FILE* from_;
  std::FILE* to_;
  std::unique_ptr<LiveModel> model_;
  LiveRows rows_;
};

[[noreturn]] void run_child(const ModelProcessOptions& options, int fd, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);  // it died before the line above
  ::signal(SIGINT, SIG_IGN);              // Ctrl-C is the parent's, which ends this process
  ::signal(SIGPIPE, SIG_IGN);
  use_cpus(options.cpus);
  std::FILE* from = ::fdopen(fd, "r");
  std::FILE* to = ::fdopen(::dup(fd), "w");
  if (from != nullptr && to != nullptr) ModelServer(options, from, to).serve();
  // Nothing of the parent's is to be flushed or destroyed here.
  ::_exit(0);
}

}  // namespace

Result<ModelProcess> ModelProcess::start(const ModelProcessOptions& options) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return fail(ErrorCode::kIo, "Cannot start a process for a model: {}.", std::strerror(errno));
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(fds[0]);
    run_child(options, fds[1], parent);
  }
  const int error = errno;
  ::close(fds[1]);
  if (child < 0) {
    ::close(fds[0]);
    return fail(ErrorCode::kIo, "Cannot start a process for a model: {}.", std::strerror(error));
  }
  ModelProcess process;
  process.name_ = options.session.model;
  process.child_ = child;
  process.from_ = ::fdopen(fds[0], "r");
  process.to_ = ::fdopen(::dup(fds[0]), "w");
  if (process.from_ == nullptr || process.to_ == nullptr)
    return fail(ErrorCode::kIo, "Cannot talk to the process of a model: {}.", std::strerror(errno));
  return process;
}

ModelProcess::ModelProcess(ModelProcess&& other) noexcept
    : name_(std::move(other.name_)),
      child_(std::exchange(other.child_, -1)),
      to_(std::exchange(other.to_, nullptr)),
      from_(std::exchange(other.from_, nullptr)) {}

ModelProcess::~ModelProcess() {
  if (to_ != nullptr) std::fclose(to_);
  if (from_ != nullptr) std::fclose(from_);
  if (child_ < 0) return;
  ::kill(child_, SIGKILL);
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
}

Result<ModelFacts> ModelProcess::ready() {
  QUENCH_TRY(const Json json, answer());
  return ModelFacts{json.at("name"), json.at("format"), json.at("isa"), json.at("threads"),
                    json.at("planned_bytes")};
}

Result<ModelProfile> ModelProcess::profile() {
  QUENCH_TRY_VOID(ask({{"profile", true}}));
  QUENCH_TRY(const Json json, answer());
  ModelProfile profile;
  QUENCH_TRY(profile.ceilings, parse_ceilings(json.at("ceilings"), "the process of " + name_));
  profile.prefill_time = time_of(json.at("prefill_time"));
  profile.decode_time = time_of(json.at("decode_time"));
  profile.prefill_limit = limit_of(json.at("prefill_limit"));
  profile.decode_limit = limit_of(json.at("decode_limit"));
  return profile;
}

Result<void> ModelProcess::begin(bool is_prefill, double begin_s, double end_s) {
  return ask({{"prefill", is_prefill}, {"begin_s", begin_s}, {"end_s", end_s}});
}

Result<double> ModelProcess::finish() {
  QUENCH_TRY(const Json json, answer());
  return json.at("tok_s").get<double>();
}

Result<void> ModelProcess::ask(const Json& question) {
  // MSG_NOSIGNAL is not to be had through a FILE: a child that is gone is seen in answer().
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction before {};
  ::sigaction(SIGPIPE, &ignore, &before);
  write_line(to_, question);
  ::sigaction(SIGPIPE, &before, nullptr);
  return {};
}

Result<Json> ModelProcess::answer() {
  std::string line;
  if (!read_line(from_, line))
    return fail(ErrorCode::kInternal, "The process that ran {} has ended.", name_);
  QUENCH_TRY(Json json, parse_json(line, "the process of " + name_));
  if (json.contains("error")) {
    return tl::unexpected(Error{static_cast<ErrorCode>(json.at("code").get<int>()),
                                json.at("error").get<std::string>()});
  }
  return json;
}

}  // namespace quench
