#include "io/check_tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "io/message.h"

namespace quench {

bool matches_glob(std::string_view name, std::string_view pattern) {
  size_t n = 0;
  size_t p = 0;
  size_t star = std::string_view::npos;  // the last '*' seen, and where its run ends so far
  size_t run_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      run_end = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++run_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

Result<void> check_tensors(const Checkpoint& checkpoint, std::span<const ExpectedTensor> expected,
                           const std::function<bool(const std::string&)>& is_known) {
  std::vector<std::string> missing;
  std::vector<std::string> surplus;
  std::vector<const ExpectedTensor*> misshapen;
  std::set<std::string_view> known;
  for (const ExpectedTensor& tensor : expected) {
    known.insert(tensor.name);
    const TensorEntry* found = checkpoint.find(tensor.name);
    if (found == nullptr) {
      missing.push_back(tensor.name);
    } else if (found->shape != tensor.shape) {
      misshapen.push_back(&tensor);
    }
  }
  for (const TensorEntry& tensor : checkpoint.tensors()) {
    if (!known.contains(tensor.name) && !is_known(tensor.name)) surplus.push_back(tensor.name);
  }
  std::vector<std::string> findings;
  if (!missing.empty()) {
    findings.push_back(fmt::format("missing {} of {} tensors ({})", missing.size(), expected.size(),
                                   first_names(missing)));
  }
  if (!misshapen.empty()) {
    std::string shown;
    constexpr size_t kMaxShown = 3;
    for (size_t i = 0; i < std::min(misshapen.size(), kMaxShown); ++i) {
      const ExpectedTensor& tensor = *misshapen[i];
      shown +=
          fmt::format("{}{}: expected {}, found {}", i == 0 ? "" : ", ", in_quotes(tensor.name),
                      shape_text(tensor.shape), shape_text(checkpoint.find(tensor.name)->shape));
    }
    if (misshapen.size() > kMaxShown) {
      shown += fmt::format(" and {} more", misshapen.size() - kMaxShown);
    }
    findings.push_back(fmt::format("wrong shape of {} ({})", misshapen.size(), shown));
  }
  if (!surplus.empty()) {
    findings.push_back(fmt::format("{} not expected ({})", surplus.size(), first_names(surplus)));
  }
  if (findings.empty()) return {};
  return fail(ErrorCode::kInvalidFile,
              "{}: the weights do not fit config.json: {}; check that both come from the same "
              "model and that the download is complete.",
              checkpoint.dir(), fmt::join(findings, "; "));
}

}  // namespace quench
