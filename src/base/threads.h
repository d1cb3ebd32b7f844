// A persistent team of threads that runs one function at a time on every member, with barriers
// inside it. The caller is member 0 and owns the team; nobody else may call run().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace quench {

// A number that threads wait on until it changes. They spin at first, because the others of a busy
// team are a moment away, and then sleep in the kernel (futex(2)), because a sleeping thread costs
// neither the neighbour on its core nor the quota of its control group anything. A change costs no
// system call while nobody sleeps.
class WaitWord {
 public:
  uint32_t load() const { return value_.load(std::memory_order_acquire); }
  // Returns once the value is not `seen`: at most `spins` looks with a PAUSE between them, or for 0
  // a few that hand the core to whoever wants it (sched_yield(2)), then sleeps.
  void wait_while(uint32_t seen, int spins);
  void advance();  // to the next value, and wakes everybody

 private:
  std::atomic<uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
};

class Barrier {
 public:
  Barrier(int num_threads, int spins) : num_threads_(num_threads), spins_(spins) {}
  void wait();

 private:
  const int num_threads_;
  const int spins_;
  std::atomic<int> arrived_{0};
  WaitWord generation_;
};

// What a kernel knows of its place in the team.
struct Worker {
  int index = 0;
  int count = 1;
  Barrier* barrier = nullptr;  // null when the team has one member

  // All members meet here. Not inline: kernel folders must not emit shared copies of it.
  void wait() const;
};

// The part of [0, total) that one worker does: contiguous, in units of `grain`, empty for surplus
// workers.
struct Range {
  int64_t begin;
  int64_t end;
};
Range worker_range(const Worker& worker, int64_t total, int64_t grain = 1);

class ThreadTeam {
 public:
  // `cpus`: one for each member to be pinned to (base/topology.h), or empty. Member 0 is the
  // caller's own thread; it is pinned while it is inside run() and nowhere else.
  explicit ThreadTeam(int num_threads, std::vector<int> cpus = {});
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }
  // Runs `body` once on every member and returns when all are done.
  void run(const std::function<void(const Worker&)>& body);

 private:
  void member_loop(int index);
  void dismiss();  // and waits for the members to end

  const int num_threads_;
  const int spins_;
  const std::vector<int> cpus_;
  Barrier barrier_;
  WaitWord epoch_;
  std::atomic<bool> stop_{false};
  const std::function<void(const Worker&)>* body_ = nullptr;
  std::vector<std::thread> members_;
};

}  // namespace quench
