// The kernels of this folder with tile registers in memory, under a name of their own: what
// devices/cpu/amx_test.cc judges on machines without the real ones.
#define QUENCH_EMULATED_TILES
#define amx emulated_amx  // NOLINT(readability-identifier-naming): the name of what it replaces
#include "devices/cpu/amx/matmul_bf16.cc"
#include "devices/cpu/amx/matmul_grid.cc"
#include "devices/cpu/amx/probes.cc"
