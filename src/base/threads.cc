#include "base/threads.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/topology.h"

namespace quench {
namespace {

// About 40 us on a Zen 5: longer than what the members of a busy team are apart, far shorter than a
// time slice.
constexpr int kSpins = 2000;

constexpr int kYields = 50;

// A team of more threads than can run at once must not spin: the time is another member's.
int spins_for(int num_threads) {
  return num_threads > 1 && num_threads > available_cpus() ? 0 : kSpins;
}

long futex(const std::atomic<uint32_t>& word, int operation, uint32_t value) {
  static_assert(sizeof(word) == sizeof(uint32_t), "the kernel looks at the value itself");
  return ::syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

cpu_set_t one_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  return set;
}

// Pins the calling thread for the time of a scope. A CPU that went away since is no reason to stop.
class PinnedScope {
 public:
  explicit PinnedScope(const std::vector<int>& cpus) {
    if (cpus.empty() || ::sched_getaffinity(0, sizeof(before_), &before_) != 0) return;
    const cpu_set_t only = one_cpu(cpus.front());
    is_pinned_ = ::sched_setaffinity(0, sizeof(only), &only) == 0;
  }
  ~PinnedScope() {
    if (is_pinned_) ::sched_setaffinity(0, sizeof(before_), &before_);
  }
  PinnedScope(const PinnedScope&) = delete;
  PinnedScope& operator=(const PinnedScope&) = delete;

 private:
  cpu_set_t before_;
  bool is_pinned_ = false;
};

}  // namespace

void WaitWord::wait_while(uint32_t seen, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (load() != seen) return;
    __builtin_ia32_pause();
  }
  // A team that must not spin hands its core to the member it waits for, which is quicker than to
  // sleep and be woken; where nobody wants the core this ends soon.
  for (int i = 0; spins == 0 && i < kYields; ++i) {
    if (load() != seen) return;
    ::sched_yield();
  }
  // The kernel compares once more before it lets the thread sleep, so an advance() in between is
  // not missed; the order of sleepers_ and value_ here and in advance() is what the two rely on.
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == seen) futex(value_, FUTEX_WAIT, seen);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void WaitWord::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(value_, FUTEX_WAKE, INT_MAX);
}

void Barrier::wait() {
  const uint32_t generation = generation_.load();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.advance();
    return;
  }
  generation_.wait_while(generation, spins_);
}

void Worker::wait() const {
  if (barrier != nullptr) barrier->wait();
}

Range worker_range(const Worker& worker, int64_t total, int64_t grain) {
  const int64_t units = ceil_div(total, grain);
  const int64_t begin = units * worker.index / worker.count * grain;
  const int64_t end = units * (worker.index + 1) / worker.count * grain;
  return {std::min(begin, total), std::min(end, total)};
}

ThreadTeam::ThreadTeam(int num_threads, std::vector<int> cpus)
    : num_threads_(num_threads),
      spins_(spins_for(num_threads)),
      cpus_(std::move(cpus)),
      barrier_(num_threads, spins_) {
  QUENCH_CHECK(num_threads >= 1, "a team needs a member, asked for {}", num_threads);
  QUENCH_CHECK(cpus_.empty() || cpus_.size() == static_cast<size_t>(num_threads),
               "{} CPUs for a team of {}", cpus_.size(), num_threads);
  members_.reserve(static_cast<size_t>(num_threads - 1));
  try {
    for (int i = 1; i < num_threads; ++i) members_.emplace_back([this, i] { member_loop(i); });
  } catch (const std::system_error&) {  // the system has no more; those that run must end first
    dismiss();
    throw;
  }
}

ThreadTeam::~ThreadTeam() { dismiss(); }

void ThreadTeam::dismiss() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.advance();
  for (std::thread& member : members_) member.join();
}

void ThreadTeam::run(const std::function<void(const Worker&)>& body) {
  if (num_threads_ == 1) {
    body(Worker{});
    return;
  }
  const PinnedScope pinned(cpus_);
  body_ = &body;
  epoch_.advance();
  body(Worker{0, num_threads_, &barrier_});
  barrier_.wait();  // nobody reads `body` after this
}

void ThreadTeam::member_loop(int index) {
  if (!cpus_.empty()) {
    const cpu_set_t only = one_cpu(cpus_[static_cast<size_t>(index)]);
    ::sched_setaffinity(0, sizeof(only), &only);
  }
  for (uint32_t seen = 0;; ++seen) {
    epoch_.wait_while(seen, spins_);
    if (stop_.load(std::memory_order_relaxed)) return;
    (*body_)(Worker{index, num_threads_, &barrier_});
    barrier_.wait();
  }
}

}  // namespace quench
