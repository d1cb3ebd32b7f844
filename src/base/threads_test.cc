#include "base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>

#include "base/cgroup.h"
#include "base/topology.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

int cpus_of_this_thread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
}

TEST(Threads, EveryMemberRunsOnceAndBarriersHold) {
  for (int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> before{0};
      std::atomic<int> wrong{0};
      team.run([&](const Worker& worker) {
        before.fetch_add(1);
        worker.wait();
        if (before.load() != worker.count) wrong.fetch_add(1);
      });
      EXPECT_EQ(before.load(), threads);
      EXPECT_EQ(wrong.load(), 0);
    }
  }
}

// Both ways of waiting, with members that come early, late and in turn.
TEST(Threads, BarriersHoldWhetherMembersSpinOrSleep) {
  for (int spins : {0, 1, 1000}) {
    constexpr int kMembers = 3;
    constexpr int kRounds = 300;
    Barrier barrier(kMembers, spins);
    int counts[kMembers] = {};  // each written by its member only
    std::atomic<int> wrong{0};
    ThreadTeam team(kMembers);
    team.run([&](const Worker& worker) {
      for (int round = 0; round < kRounds; ++round) {
        ++counts[worker.index];
        barrier.wait();
        for (int count : counts) wrong.fetch_add(count == round + 1 ? 0 : 1);
        barrier.wait();
      }
    });
    EXPECT_EQ(wrong.load(), 0) << spins;
  }
}

TEST(Threads, RangesCoverEverythingOnce) {
  for (int64_t total : {0, 1, 7, 64, 1000}) {
    for (int count : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int i = 0; i < count; ++i) {
        const Range range = worker_range(Worker{i, count, nullptr}, total, 16);
        EXPECT_EQ(range.begin, next);
        next = range.end;
      }
      EXPECT_EQ(next, total);
    }
  }
}

TEST(Threads, PinsMembersAndGivesTheCallerItsCpusBack) {
  if (topology().core_cpus.empty()) GTEST_SKIP() << "nobody knows the cores here";
  const int before = cpus_of_this_thread();
  const int cpu = topology().core_cpus.back();
  ThreadTeam team(2, {cpu, cpu});
  std::atomic<int> pinned{0};
  team.run([&](const Worker&) {
    if (cpus_of_this_thread() == 1 && ::sched_getcpu() == cpu) pinned.fetch_add(1);
  });
  EXPECT_EQ(pinned.load(), 2);
  EXPECT_EQ(cpus_of_this_thread(), before);
}

TEST(Threads, OnlyATeamThatFillsTheMachineIsPinned) {
  const std::vector<int>& cpus = topology().core_cpus;
  const auto cores = static_cast<int>(cpus.size());
  EXPECT_GE(available_cpus(), 1);
  EXPECT_LE(available_cpus(), std::max(cores, 1));
  if (cores < 2 || topology().mask_is_narrowed) {
    EXPECT_TRUE(pin_cpus(cores).empty());
    return;
  }
  EXPECT_EQ(pin_cpus(cores), cpus);
  EXPECT_TRUE(pin_cpus(cores - 1).empty());
  std::vector<int> twice = cpus;
  twice.insert(twice.end(), cpus.begin(), cpus.end());
  EXPECT_EQ(pin_cpus(2 * cores), twice);
}

// A small file system with what cgroup_cpu_quota() reads.
class Cgroup : public testing::Test {
 protected:
  void mountinfo(const std::string& text) { scratch_.write("proc/self/mountinfo", text); }
  void groups(const std::string& text) { scratch_.write("proc/self/cgroup", text); }
  void v1(const std::string& group, const char* quota, const char* period = "100000\n") {
    scratch_.write(group + "/cpu.cfs_quota_us", quota);
    scratch_.write(group + "/cpu.cfs_period_us", period);
  }
  std::optional<double> quota() const { return cgroup_cpu_quota(scratch_.path()); }
  std::optional<double> memory() const { return cgroup_memory_bytes(scratch_.path()); }

  ScratchDir scratch_;
};

constexpr const char* kV2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
constexpr const char* kV1 =
    "31 23 0:28 / /sys/fs/cgroup rw shared:4 - tmpfs tmpfs rw,mode=755\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n";

TEST_F(Cgroup, NoFilesMeanNoQuota) { EXPECT_EQ(quota(), std::nullopt); }

TEST_F(Cgroup, V2TakesTheLeastOfTheGroupsAround) {
  mountinfo(kV2);
  groups("0::/user.slice/job.scope\n");
  scratch_.write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  scratch_.write("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  scratch_.write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 0.5);
  groups("0::/other\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(Cgroup, V1FollowsTheCpuControllerOnly) {
  mountinfo(kV1);
  groups("5:cpuacct:/deep\n4:cpu:/a/b\n0::/\n");
  v1("sys/fs/cgroup/cpuacct/deep", "1000\n");
  v1("sys/fs/cgroup/cpu", "-1\n");
  v1("sys/fs/cgroup/cpu/a", "200000\n");
  EXPECT_EQ(quota(), 2.0);
  v1("sys/fs/cgroup/cpu/a/b", "25000\n", "50000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(Cgroup, MemoryIsTheLeastOfTheGroupsAround) {
  EXPECT_EQ(memory(), std::nullopt);
  mountinfo(kV2);
  groups("0::/user.slice/job.scope\n");
  scratch_.write("sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n");
  EXPECT_EQ(memory(), std::nullopt);
  scratch_.write("sys/fs/cgroup/user.slice/memory.max", "2147483648\n");
  EXPECT_EQ(memory(), 2147483648.0);
  mountinfo("32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  groups("4:memory:/a\n");
  scratch_.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(memory(), 1073741824.0);
  EXPECT_EQ(quota(), std::nullopt);
}

// A container without a cgroup namespace: its own group is mounted, and the paths it sees are those
// of the host.
TEST_F(Cgroup, AContainersGroupIsWhereItIsMounted) {
  mountinfo(
      "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n");
  groups("4:cpu,cpuacct:/docker/abc\n");
  v1("sys/fs/cgroup/cpu,cpuacct", "300000\n");
  EXPECT_EQ(quota(), 3.0);
  groups("4:cpu,cpuacct:/../elsewhere\n");
  EXPECT_EQ(quota(), 3.0);
}

TEST_F(Cgroup, GarbageIsNoQuota) {
  mountinfo(std::string(kV2) + "\nnonsense - -\n - cgroup\n");
  groups("no colon\n0::/x\n");
  scratch_.write("sys/fs/cgroup/x/cpu.max", "0 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  scratch_.write("sys/fs/cgroup/x/cpu.max", "50000 zero\n");
  EXPECT_EQ(quota(), std::nullopt);
  scratch_.write("sys/fs/cgroup/x/cpu.max", "");
  EXPECT_EQ(quota(), std::nullopt);
}

}  // namespace
}  // namespace quench
