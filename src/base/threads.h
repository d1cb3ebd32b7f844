// A persistent team of threads that runs one function at a time on every member, with barriers
// inside it. The caller is member 0 and owns the team; nobody else may call run().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace quench {

// A barrier that spins briefly and then blocks, so that more threads than cores do not collapse the
// speed.
class Barrier {
 public:
  explicit Barrier(int num_threads) : num_threads_(num_threads) {}
  void wait();

 private:
  const int num_threads_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> generation_{0};
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
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }
  // Runs `body` once on every member and returns when all are done.
  void run(const std::function<void(const Worker&)>& body);

 private:
  void member_loop(int index);

  const int num_threads_;
  Barrier barrier_;
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(const Worker&)>* body_ = nullptr;
  std::vector<std::thread> members_;
};

// The CPUs this process may really use: the affinity mask, cut down by the cgroup quota (v1 or v2).
// At least 1.
int available_cpus();

}  // namespace quench
