// What this CPU can do: the bits that choose an ISA level.
#pragma once

#include <string>

namespace quench {

struct CpuFeatures {
  bool avx2 = false;      // AVX2, FMA, F16C, BMI2
  bool avx_vnni = false;  // 256-bit byte dot products
  bool avx512 =
      false;         // F, BW, DQ, VL, VNNI, VBMI, BF16 and GFNI: Sapphire Rapids, Zen 4 and later
  bool amx = false;  // avx512, and tiles of int8 and bf16 that the kernel lets this process use
};

// Asked once; what the operating system does not save on a switch counts as absent.
const CpuFeatures& cpu_features();

// The name the CPU gives itself, as /proc/cpuinfo has it; empty: unknown.
const std::string& cpu_model();

}  // namespace quench
