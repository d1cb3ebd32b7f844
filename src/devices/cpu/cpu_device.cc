#include "devices/cpu/cpu_device.h"

#include <fmt/ranges.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cpuinfo.h"
#include "base/topology.h"
#include "devices/cpu/isa.h"

namespace quench {
namespace {

bool always() { return true; }
bool has_avx2() { return cpu_features().avx2; }
bool has_avxvnni() { return cpu_features().avx_vnni; }
bool has_avx512() { return cpu_features().avx512; }
bool has_amx() { return cpu_features().amx; }

constexpr IsaLevel kLevels[] = {
    {"ref", always, apply_ref},
    {"avx2", has_avx2, apply_avx2},
    {"avxvnni", has_avxvnni, apply_avxvnni},
    {"avx512", has_avx512, apply_avx512},
    {"amx", has_amx, apply_amx},
};

Result<const IsaLevel*> choose_level(const DeviceOptions& options) {
  std::string wanted = options.isa;
  if (const char* env = std::getenv("QUENCH_ISA"); wanted.empty() && env != nullptr) wanted = env;
  const IsaLevel* best = nullptr;
  std::vector<std::string> names;
  for (const IsaLevel& level : kLevels) {
    if (level.supported()) {
      names.emplace_back(level.name);
      best = &level;
    }
    if (wanted == level.name) {
      if (level.supported()) return &level;
      return fail(ErrorCode::kDeviceUnavailable, "This CPU has no {}; it has {}.", wanted,
                  fmt::join(names, ", "));
    }
  }
  if (wanted.empty()) return best;
  return fail(ErrorCode::kInvalidArgument, "Unknown ISA level \"{}\"; this CPU has {}.", wanted,
              fmt::join(names, ", "));
}

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

int64_t mapped_bytes(int64_t size_bytes) {
  return std::max(round_up(size_bytes, kPageBytes), kPageBytes);
}

// Large mappings begin at a multiple of 2 MB and ask for huge pages. On a Zen 5 under a hypervisor
// two threads read memory 10 to 20 % faster with them: a page walk there is two-dimensional, and
// the hardware prefetcher stops at the end of a page.
void* map_anonymous(int64_t mapped) {
  const bool is_large = mapped >= kHugePageBytes;
  const int64_t reserved = is_large ? mapped + kHugePageBytes : mapped;
  void* data = ::mmap(nullptr, static_cast<size_t>(reserved), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  if (!is_large) return data;
  auto* begin = static_cast<std::byte*>(data);
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data));
  const int64_t before = round_up(address, kHugePageBytes) - address;
  const int64_t after = reserved - before - mapped;
  if (before > 0) ::munmap(begin, static_cast<size_t>(before));
  if (after > 0) ::munmap(begin + before + mapped, static_cast<size_t>(after));
  // Refused where the kernel has no huge pages; then small ones do.
  ::madvise(begin + before, static_cast<size_t>(mapped), MADV_HUGEPAGE);
  return begin + before;
}

class CpuDevice : public Device {
 public:
  CpuDevice(const IsaLevel& level, int num_threads, bool pin)
      : level_(level), team_(num_threads, pin ? pin_cpus(num_threads) : std::vector<int>()) {
    // A level that this CPU lacks may lie below one that it has (AVX-512 machines without
    // AVX-VNNI).
    for (const IsaLevel& candidate : kLevels) {
      if (candidate.supported()) candidate.apply(table_);
      if (&candidate == &level) break;
    }
  }

  std::string name() const override { return "cpu"; }
  std::string isa() const override { return level_.name; }
  int num_workers() const override { return team_.num_threads(); }

  Result<Buffer> allocate(int64_t size_bytes) override {
    // Anonymous pages come zeroed and cost nothing until touched, so planned address space is not
    // resident early.
    void* data = map_anonymous(mapped_bytes(size_bytes));
    if (data == nullptr) {
      return fail(ErrorCode::kOutOfMemory,
                  "Cannot allocate {} bytes on the CPU; `quench inspect` shows what a model takes.",
                  size_bytes);
    }
    allocated_bytes_ += size_bytes;
    return Buffer(this, static_cast<std::byte*>(data), size_bytes);
  }
  int64_t allocated_bytes() const override { return allocated_bytes_; }
  void upload(std::byte* to, const std::byte* from, int64_t size_bytes) override {
    if (size_bytes > 0) std::memcpy(to, from, static_cast<size_t>(size_bytes));  // may be null
  }
  void download(std::byte* to, const std::byte* from, int64_t size_bytes) override {
    if (size_bytes > 0) std::memcpy(to, from, static_cast<size_t>(size_bytes));
  }
  void run(const std::function<void(const OpContext&)>& body) override {
    team_.run([&](const Worker& worker) {
      body(OpContext{worker, nullptr, nullptr, nullptr, trace()});
    });
  }
  const Ops& ops() const override { return table_.ops; }
  const Phases& phases() const override { return table_.phases; }
  std::span<const MatmulKernel* const> matmul_kernels() const override {
    return {table_.matmul_kernels, static_cast<size_t>(table_.num_matmul_kernels)};
  }
  const Probes& probes() const override { return table_.probes; }

 private:
  void release(std::byte* data, int64_t size_bytes) override {
    ::munmap(data, static_cast<size_t>(mapped_bytes(size_bytes)));
    allocated_bytes_ -= size_bytes;
  }

  const IsaLevel& level_;
  ThreadTeam team_;
  CpuTable table_{};
  int64_t allocated_bytes_ = 0;
};

}  // namespace

void prefer_kernel(CpuTable& table, const MatmulKernel& kernel) {
  QUENCH_CHECK(table.num_matmul_kernels < kMaxKernels, "more than {} matmul kernels", kMaxKernels);
  const MatmulKernel** const first = table.matmul_kernels;
  std::copy_backward(first, first + table.num_matmul_kernels, first + table.num_matmul_kernels + 1);
  *first = &kernel;
  ++table.num_matmul_kernels;
}

Result<std::unique_ptr<Device>> open_cpu_device(const DeviceOptions& options) {
  QUENCH_TRY(const IsaLevel* level, choose_level(options));
  if (options.num_threads < 0 || options.num_threads > 1024) {
    return fail(ErrorCode::kInvalidArgument, "--threads must be between 1 and 1024, found {}.",
                options.num_threads);
  }
  const int num_threads = options.num_threads > 0 ? options.num_threads : available_cpus();
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(*level, num_threads, options.pin));
}

std::string describe_cpu() {
  const std::string model = cpu_model().empty() ? "unknown CPU" : cpu_model();
  const auto level = choose_level(DeviceOptions{});
  return fmt::format("{}, {} CPUs, ISA level {}", model, available_cpus(),
                     level ? (*level)->name : "none");
}

std::vector<std::string> cpu_levels() {
  std::vector<std::string> names;
  for (const IsaLevel& level : kLevels) {
    if (level.supported()) names.emplace_back(level.name);
  }
  return names;
}

}  // namespace quench
