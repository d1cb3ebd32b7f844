#include "base/paths.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace quench {

Result<std::string> data_path(const std::string& relative) {
  namespace fs = std::filesystem;
  std::vector<fs::path> roots;
  if (const char* env = std::getenv("QUENCH_DATA"); env != nullptr && *env != '\0') {
    roots.emplace_back(env);
  } else {
    std::error_code error;
    const fs::path executable = fs::read_symlink("/proc/self/exe", error);
    const fs::path folder = executable.parent_path();
    roots = {folder / ".." / "share" / "quench", folder / "..", folder};
  }
  for (const fs::path& root : roots) {
    std::error_code error;
    const fs::path candidate = fs::weakly_canonical(root / relative, error);
    if (!error && fs::exists(candidate, error)) return candidate.string();
  }
  return fail(ErrorCode::kNotFound,
              "The shipped file \"{}\" is not where quench looks ({}); reinstall it, or name its "
              "folder in QUENCH_DATA.",
              relative, roots.front().lexically_normal().string());
}

Result<std::string> user_data_path(const std::string& relative) {
  namespace fs = std::filesystem;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/')
    return (fs::path(data) / "quench" / relative).string();
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return (fs::path(home) / ".local/share/quench" / relative).string();
  return fail(ErrorCode::kNotFound,
              "There is no place for {}: neither XDG_DATA_HOME nor HOME names a directory.",
              relative);
}

std::string user_cache_path(const std::string& relative) {
  namespace fs = std::filesystem;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return (fs::path(cache) / "quench" / relative).string();
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return (fs::path(home) / ".cache/quench" / relative).string();
  return "";
}

}  // namespace quench
