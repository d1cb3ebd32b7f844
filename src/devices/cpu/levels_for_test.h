// For tests: the op tables of the levels this CPU has, ref first. A level whose ops are those of
// the level below is left out.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/cpuinfo.h"
#include "devices/cpu/isa.h"

namespace quench {

struct TestLevel {
  std::string name;
  CpuTable table;
};

inline std::vector<TestLevel> test_levels() {
  std::vector<TestLevel> found(1);
  found[0].name = "ref";
  apply_ref(found[0].table);
  auto add = [&](const char* name, bool supported, void (*apply)(CpuTable&)) {
    if (!supported) return;
    TestLevel level{name, found.back().table};
    apply(level.table);
    const Ops& below = found.back().table.ops;
    if (std::memcmp(&level.table.ops, &below, sizeof(Ops)) != 0) found.push_back(std::move(level));
  };
  add("avx2", cpu_features().avx2, apply_avx2);
  add("avxvnni", cpu_features().avx_vnni, apply_avxvnni);
  add("avx512", cpu_features().avx512, apply_avx512);
  return found;
}

}  // namespace quench
