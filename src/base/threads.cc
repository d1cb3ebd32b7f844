#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

#include "base/bytes.h"
#include "base/check.h"

namespace quench {
namespace {

// About 10 us on the machines seen so far: longer than a barrier of busy threads, far shorter than
// a time slice.
constexpr int kSpins = 2000;

template <class Done>
bool spin_until(Done done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    __builtin_ia32_pause();
  }
  return false;
}

// CPUs granted by a quota in `period` microseconds, or a huge number when there is none.
double quota_cpus(double quota_us, double period_us) {
  return quota_us > 0 && period_us > 0 ? quota_us / period_us : 1e9;
}

double cgroup_cpus() {
  double quota = -1;
  double period = -1;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2) {
    std::string first;
    v2 >> first >> period;
    // "max" is no number and leaves -1: no quota.
    std::from_chars(first.data(), first.data() + first.size(), quota);
    return quota_cpus(quota, period);
  }
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  return quota_cpus(quota, period);
}

}  // namespace

void Barrier::wait() {
  const uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    generation_.notify_all();
    return;
  }
  auto passed = [&] { return generation_.load(std::memory_order_acquire) != generation; };
  if (spin_until(passed)) return;
  while (!passed()) generation_.wait(generation, std::memory_order_acquire);
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

ThreadTeam::ThreadTeam(int num_threads) : num_threads_(num_threads), barrier_(num_threads) {
  QUENCH_CHECK(num_threads >= 1, "a team needs a member, asked for {}", num_threads);
  members_.reserve(static_cast<size_t>(num_threads - 1));
  for (int i = 1; i < num_threads; ++i) members_.emplace_back([this, i] { member_loop(i); });
}

ThreadTeam::~ThreadTeam() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& member : members_) member.join();
}

void ThreadTeam::run(const std::function<void(const Worker&)>& body) {
  if (num_threads_ == 1) {
    body(Worker{});
    return;
  }
  body_ = &body;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  body(Worker{0, num_threads_, &barrier_});
  barrier_.wait();  // nobody reads `body` after this
}

void ThreadTeam::member_loop(int index) {
  uint32_t seen = 0;
  for (;;) {
    auto called = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(called)) {
      while (!called()) epoch_.wait(seen, std::memory_order_acquire);
    }
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    (*body_)(Worker{index, num_threads_, &barrier_});
    barrier_.wait();
  }
}

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int affinity = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  const double quota = std::max(1.0, std::floor(cgroup_cpus() + 0.5));
  return static_cast<int>(std::clamp<double>(affinity, 1.0, quota));
}

}  // namespace quench
