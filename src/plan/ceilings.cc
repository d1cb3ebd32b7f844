#include "plan/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <functional>

#include "base/bytes.h"
#include "base/cgroup.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/cpu_times.h"
#include "base/cpuinfo.h"
#include "base/topology.h"

namespace quench {
namespace {

// A second or two on a quiet machine; on one so busy that it would take much longer, fewer rounds.
constexpr int64_t kFewestRounds = 3;
constexpr double kPatience_s = 4.0;
constexpr int64_t kStreams[] = {1, 2, 4, 8, 16};
constexpr int64_t kPrefetch[] = {0, 2048};
constexpr int64_t kPeakRounds = 300000;      // about a millisecond
constexpr int64_t kUnit = 16 * kProbeGrain;  // what every number of streams divides
// What others may take, and how far the median may be under the best, before the figures are those
// of the minute and not of the machine. Quiet machines show 1 to 3 % of others and a median within
// 10 %.
constexpr double kOthersShare = 0.1;
constexpr double kSteadyShare = 0.8;
constexpr int64_t kQuietAge_s = 24 * 3600;
constexpr int64_t kDisturbedAge_s = 5 * 60;
// Where the machine does not say.
constexpr int64_t kDefaultL2Bytes = int64_t{512} << 10;
constexpr int64_t kDefaultL3Bytes = int64_t{16} << 20;

// One thing that is measured again and again, a millisecond or a few each time: long against a
// barrier, short enough that some repetitions fall between the disturbances of a busy machine.
struct Slot {
  std::function<uint64_t(const Worker& worker, int64_t turn)> work;
  double amount;              // bytes or operations of the whole team
  std::vector<double> rates;  // per second, one per round
};

class Meter {
 public:
  Meter(Device& device, int64_t rounds)
      : device_(device), probes_(device.probes()), rounds_(rounds) {}

  Result<Ceilings> measure() {
    const double start_s = now_s();
    const CpuTimes before = read_cpu_times();
    QUENCH_TRY_VOID(prepare());
    std::vector<std::vector<Slot>> reads;
    for (const Level& level : levels_) reads.push_back(read_slots(level));
    Slot f32 = peak_slot(probes_.f32);
    Slot bf16 = peak_slot(probes_.bf16);
    Slot int8 = peak_slot(probes_.int8);
    Slot narrow = peak_slot(probes_.int8_narrow);
    for (int64_t round = 0; round < rounds_; ++round) {
      if (round >= kFewestRounds && now_s() - start_s > kPatience_s) break;
      for (std::vector<Slot>& slots : reads) {
        for (Slot& slot : slots) run(slot);
      }
      for (Slot* slot : {&f32, &bf16, &int8, &narrow}) run(*slot);
    }
    Ceilings result;
    result.cpu_model = cpu_model();
    result.isa = device_.isa();
    result.threads = device_.num_workers();
    result.quota_cpus = cgroup_cpu_quota();
    result.unix_time_s = static_cast<int64_t>(std::time(nullptr));
    for (size_t i = 0; i < levels_.size(); ++i)
      result.read.push_back(best_read(levels_[i], reads[i]));
    result.f32_gflop_s = rate(f32);
    result.bf16_gflop_s = better(rate(bf16), result.f32_gflop_s);
    result.int8_gop_s = better(better(rate(int8), rate(narrow)), result.f32_gflop_s);
    result.measure_s = now_s() - start_s;
    result.others_share = others_share(before, read_cpu_times());
    return result;
  }

 private:
  // A part of the buffer for each worker, of which it reads one slice per round, `times` over.
  struct Level {
    const char* name;
    int64_t up_to_bytes;  // of the team
    int64_t part_bytes;   // of one worker
    int64_t slice_bytes;
    int64_t times;
    int64_t begin_bytes;  // in the worker's part of the buffer
  };

  Result<void> prepare() {
    const int64_t workers = device_.num_workers();
    const Topology& machine = topology();
    const int64_t l2 = machine.l2_bytes > 0 ? machine.l2_bytes : kDefaultL2Bytes;
    const int64_t l3 = machine.l3_bytes > 0 ? machine.l3_bytes : kDefaultL3Bytes;
    auto part = [&](int64_t bytes) { return std::max(bytes / workers / kUnit * kUnit, kUnit); };
    // Half of a cache, so that what else is in it has room; of the L3 at least what no L2 holds.
    const int64_t in_l2 = part(l2 / 2 * workers);
    const int64_t in_l3 = std::max(part(l3 / 2), 2 * in_l2);
    // Memory: several times the L3, read in turn, so that a slice is gone before its next turn.
    const int64_t in_memory =
        part(std::clamp(4 * l3, int64_t{256} << 20, int64_t{1} << 30)) / kSlices * kSlices;
    levels_ = {
        {"L2", l2 * workers, in_l2, in_l2, 64, 0},
        {"L3", l3, in_l3, in_l3, 2, 0},
        {"memory", 0, in_memory, std::max(in_memory / kSlices / kUnit * kUnit, kUnit), 1, in_l3}};
    QUENCH_TRY(buffer_, device_.allocate((in_l3 + in_memory) * workers));
    // What the L3 slots have just read is no part of what is read from memory.
    stride_bytes_ = in_l3 + in_memory;
    // Written by who will read it, for the sake of machines whose memory is not equally near, and
    // not with zeros, for which one page would do for all.
    device_.run([&](const OpContext& context) {
      std::memset(buffer_.data() + context.worker.index * stride_bytes_, 1,
                  static_cast<size_t>(stride_bytes_));
    });
    return {};
  }

  std::vector<Slot> read_slots(const Level& level) const {
    std::vector<Slot> slots;
    for (const int64_t streams : kStreams) {
      for (const int64_t prefetch_bytes : kPrefetch) {
        auto work = [this, level, streams, prefetch_bytes](const Worker& worker, int64_t turn) {
          const int64_t slices = level.part_bytes / level.slice_bytes;
          const int64_t slice = turn % slices;
          const std::byte* data = buffer_.data() + worker.index * stride_bytes_ +
                                  level.begin_bytes + slice * level.slice_bytes;
          uint64_t sum = 0;
          for (int64_t i = 0; i < level.times; ++i)
            sum += probes_.read(data, level.slice_bytes, streams, prefetch_bytes);
          return sum;
        };
        const int64_t bytes = level.slice_bytes * level.times * device_.num_workers();
        slots.push_back({work, static_cast<double>(bytes), {}});
      }
    }
    return slots;
  }

  Slot peak_slot(const PeakProbe& probe) const {
    auto work = [probe](const Worker&, int64_t) {
      return probe.run == nullptr ? 0 : static_cast<uint64_t>(probe.run(kPeakRounds));
    };
    return {
        work, static_cast<double>(probe.ops_per_round * kPeakRounds * device_.num_workers()), {}};
  }

  void run(Slot& slot) {
    ++turn_;  // another slice for every slot
    // From the first that begins to the last that ends: one worker's clock would leave out what the
    // others did while it was kept from running.
    struct alignas(64) Times {
      double begin_s;
      double end_s;
    };
    std::vector<Times> times(static_cast<size_t>(device_.num_workers()));
    device_.run([&](const OpContext& context) {
      Times& own = times[static_cast<size_t>(context.worker.index)];
      context.worker.wait();
      own.begin_s = now_s();
      const uint64_t sum = slot.work(context.worker, turn_);
      own.end_s = now_s();
      sink_.fetch_add(sum, std::memory_order_relaxed);
    });
    Times whole = times.front();
    for (const Times& one : times) {
      whole.begin_s = std::min(whole.begin_s, one.begin_s);
      whole.end_s = std::max(whole.end_s, one.end_s);
    }
    slot.rates.push_back(slot.amount / std::max(whole.end_s - whole.begin_s, 1e-9));
  }

  ReadCeiling best_read(const Level& level, const std::vector<Slot>& slots) const {
    ReadCeiling best;
    best.level = level.name;
    best.up_to_bytes = level.up_to_bytes;
    best.working_set_bytes = level.part_bytes * device_.num_workers();
    for (size_t i = 0; i < slots.size(); ++i) {
      const Rate candidate = rate(slots[i]);
      if (candidate.best <= best.read_gb_s.best) continue;
      best.read_gb_s = candidate;
      best.streams = kStreams[i / std::size(kPrefetch)];
      best.prefetch_bytes = kPrefetch[i % std::size(kPrefetch)];
    }
    return best;
  }

  // In units of 1e9 per second.
  Rate rate(const Slot& slot) const {
    std::vector<double> sorted = slot.rates;
    std::sort(sorted.begin(), sorted.end());
    const double scale = granted_share() / 1e9;
    return {sorted.back() * scale, sorted[(sorted.size() - 1) / 2] * scale};
  }

  // A slot ends long before a quota stops the team, so what it reached is more than what can be
  // kept up.
  double granted_share() const {
    const auto workers = static_cast<double>(device_.num_workers());
    return std::min(1.0, cgroup_cpu_quota().value_or(workers) / workers);
  }

  static Rate better(const Rate& a, const Rate& b) { return a.best >= b.best ? a : b; }

  static constexpr int64_t kSlices = 16;

  Device& device_;
  const Probes& probes_;
  const int64_t rounds_;
  std::vector<Level> levels_;
  Buffer buffer_;
  int64_t stride_bytes_ = 0;
  int64_t turn_ = 0;
  std::atomic<uint64_t> sink_{0};  // so that no compiler drops the work
};

template <class Use>
void for_each_rate(Ceilings& ceilings, Use use) {
  for (ReadCeiling& level : ceilings.read) use(level.read_gb_s);
  use(ceilings.f32_gflop_s);
  use(ceilings.bf16_gflop_s);
  use(ceilings.int8_gop_s);
}

}  // namespace

const ReadCeiling& Ceilings::for_working_set(int64_t bytes) const {
  for (const ReadCeiling& one : read) {
    if (bytes <= one.up_to_bytes) return one;
  }
  return read.back();
}

const Rate& Ceilings::peak(Arithmetic arithmetic) const {
  switch (arithmetic) {
    case Arithmetic::kF32:
      return f32_gflop_s;
    case Arithmetic::kBf16:
      return bf16_gflop_s;
    case Arithmetic::kInt8:
      return int8_gop_s;
  }
  QUENCH_CHECK(false, "no such arithmetic: {}", static_cast<int>(arithmetic));
}

Ceilings Ceilings::usual() const {
  Ceilings result = *this;
  for_each_rate(result, [](Rate& rate) { rate.best = rate.median; });
  return result;
}

Disturbance Ceilings::disturbance() const {
  if (others_share && *others_share > kOthersShare) return Disturbance::kOthers;
  const Rate& memory = read.back().read_gb_s;
  return memory.median < kSteadyShare * memory.best ? Disturbance::kMemory : Disturbance::kNone;
}

int64_t Ceilings::keep_s() const {
  return disturbance() == Disturbance::kNone ? kQuietAge_s : kDisturbedAge_s;
}

Ceilings combined(std::span<const Ceilings> turns) {
  QUENCH_CHECK(!turns.empty(), "no measurement to combine");
  std::vector<std::vector<Rate>> rates;  // [rate, turn]
  for (Ceilings turn : turns) {
    size_t i = 0;
    for_each_rate(turn, [&](Rate& rate) {
      if (i == rates.size()) rates.emplace_back();
      rates[i++].push_back(rate);
    });
  }
  Ceilings result = turns.front();
  size_t i = 0;
  for_each_rate(result, [&](Rate& rate) {
    std::vector<Rate>& all = rates[i++];
    for (const Rate& one : all) rate.best = std::max(rate.best, one.best);
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>((all.size() - 1) / 2);
    std::nth_element(all.begin(), middle, all.end(),
                     [](const Rate& a, const Rate& b) { return a.median < b.median; });
    rate.median = middle->median;
  });
  return result;
}

Result<Ceilings> measure_ceilings(Device& device, int64_t rounds) {
  return Meter(device, rounds).measure();
}

}  // namespace quench
