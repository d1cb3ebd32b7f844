// Hardware: what a device is said to reach, from hardware/*.json (each value with its source and
// date), or what this machine was measured to reach. Peaks are dense rates of data sheets, which no
// program reaches: what share of them one does is the predictor's business (measure/analyze).
// Plain values; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "plan/ceilings.h"

namespace quench {

// The name of what this_hardware describes.
inline constexpr const char* kThisMachine = "this machine";

struct HardwareValue {
  double value = 0.0;
  std::string source;
  std::string date;
};

struct Hardware {
  std::string name;  // "A100-SXM4-80GB"
  std::vector<std::string> aliases;
  std::string vendor;
  std::string kind;  // "gpu", "cpu", "npu", "soc"
  std::string architecture;
  std::string notes;
  // bf16_tflops (also fp16, summed in f32), fp16_acc16_tflops, int8_tops, fp8_tflops, memory_gb,
  // memory_gb_s, tdp_w, link_gb_s and pcie_gb_s (each direction). bf16_tflops, memory_gb,
  // memory_gb_s and tdp_w are always there.
  std::map<std::string, HardwareValue> values;

  double at(const std::string& key) const { return values.at(key).value; }
  std::optional<double> find(const std::string& key) const;
  // Memory of accelerators counts in GiB, as their drivers do: an "80 GB" card has 80 x 2^30.
  double memory_bytes() const;
  // Behind a link, unlike a processor, or a chip whose parts share one memory.
  bool has_own_memory() const { return kind == "gpu" || kind == "npu"; }
  // Whether one device of each is equally fast: an A800 is an A100 with a slower NVLink.
  bool same_silicon(const Hardware& other) const;
  double read_bytes_per_s() const { return at("memory_gb_s") * 1e9; }
};

// All that ship, in alphabetical order. A file that is none of a device's (prices.json) is skipped.
Result<std::vector<Hardware>> all_hardware();
Result<Hardware> parse_hardware(const Json& json, const std::string& where);
// By name or alias, without regard to case, blanks and dashes; an unknown one lists similar names.
Result<Hardware> find_hardware(const std::string& name);

// The measured ceilings as a device. Reading is that of `working_set_bytes`. tdp_w is unknown and
// set to `power_w`.
Hardware this_hardware(const Ceilings& ceilings, double memory_bytes, int64_t working_set_bytes,
                       double power_w);

// Letters and digits only, in lower case: how names given by people are compared.
std::string plain_name(const std::string& name);

}  // namespace quench
