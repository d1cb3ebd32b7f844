#include "base/cpuinfo.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

namespace quench {
namespace {

// For bits that __builtin_cpu_supports() of GCC 12 or of clang 14 has no name for. `index`: 0 EAX,
// 1 EBX, 2 ECX, 3 EDX.
bool has_cpuid_bit(unsigned leaf, unsigned subleaf, size_t index, unsigned bit) {
  unsigned words[4] = {};
  return __get_cpuid_count(leaf, subleaf, &words[0], &words[1], &words[2], &words[3]) != 0 &&
         (words[index] >> bit & 1) != 0;
}

// Linux keeps the 8 KiB of tile registers from a process until it asks (ARCH_REQ_XCOMP_PERM, since
// 5.16); one call serves all threads.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

CpuFeatures detect() {
  CpuFeatures features;
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  has_cpuid_bit(1, 0, 2, 29 /* F16C */) && __builtin_cpu_supports("bmi2");
  features.avx_vnni = features.avx2 && has_cpuid_bit(7, 1, 0, 4 /* AVX-VNNI */);
  features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                    __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16") &&
                    has_cpuid_bit(7, 0, 2, 8 /* GFNI */);
  features.amx = features.avx512 && has_cpuid_bit(7, 0, 3, 24 /* AMX-TILE */) &&
                 has_cpuid_bit(7, 0, 3, 25 /* AMX-INT8 */) &&
                 has_cpuid_bit(7, 0, 3, 22 /* AMX-BF16 */) && may_use_tiles();
  return features;
}

std::string read_cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

const std::string& cpu_model() {
  static const std::string model = read_cpu_model();
  return model;
}

}  // namespace quench
