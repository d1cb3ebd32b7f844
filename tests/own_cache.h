// A cache directory that only one test sees: XDG_CACHE_HOME is set while the object lives.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "io/raw_safetensors.h"

namespace quench {

class OwnCache {
 public:
  OwnCache() {
    if (const char* before = std::getenv("XDG_CACHE_HOME")) before_ = before;
    ::setenv("XDG_CACHE_HOME", scratch_.path().c_str(), 1);
  }
  ~OwnCache() {
    if (before_) {
      ::setenv("XDG_CACHE_HOME", before_->c_str(), 1);
    } else {
      ::unsetenv("XDG_CACHE_HOME");
    }
  }
  OwnCache(const OwnCache&) = delete;
  OwnCache& operator=(const OwnCache&) = delete;

  const ScratchDir& scratch() const { return scratch_; }

 private:
  ScratchDir scratch_;
  std::optional<std::string> before_;
};

}  // namespace quench
