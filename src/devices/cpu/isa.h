// The ISA levels of the CPU device: an ordered array, lowest first. Each level starts from the
// table of the level below and overwrites what it does better. Adding a level is a folder and a row
// here.
#pragma once

#include "devices/matmul.h"
#include "devices/ops.h"
#include "devices/phases.h"
#include "devices/probes.h"

namespace quench {

constexpr int kMaxKernels = 32;

// Plain arrays: ISA folders must not emit copies of library code.
struct CpuTable {
  Ops ops;
  Phases phases;
  const MatmulKernel* matmul_kernels[kMaxKernels];  // in order of preference
  int num_matmul_kernels;
  Probes probes;
};

// Puts a kernel before all others.
void prefer_kernel(CpuTable& table, const MatmulKernel& kernel);

struct IsaLevel {
  const char* name;
  bool (*supported)();             // the required CPU bits, all of them
  void (*apply)(CpuTable& table);  // overrides rows of the level below
};

// devices/cpu/<isa>
void apply_ref(CpuTable& table);
void apply_avx2(CpuTable& table);
void apply_avxvnni(CpuTable& table);
void apply_avx512(CpuTable& table);
void apply_amx(CpuTable& table);

}  // namespace quench
