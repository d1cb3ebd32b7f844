// Directories of their own for one test, so that none reads or writes what belongs to the user: an
// environment variable is set while the object lives.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "io/raw_safetensors.h"

namespace quench {

class OwnDirectory {
 public:
  explicit OwnDirectory(const char* variable)
      : variable_(variable), scratch_(std::string("_") + variable) {
    if (const char* before = std::getenv(variable)) before_ = before;
    ::setenv(variable, scratch_.path().c_str(), 1);
  }
  ~OwnDirectory() {
    if (before_) {
      ::setenv(variable_, before_->c_str(), 1);
    } else {
      ::unsetenv(variable_);
    }
  }
  OwnDirectory(const OwnDirectory&) = delete;
  OwnDirectory& operator=(const OwnDirectory&) = delete;

  const ScratchDir& scratch() const { return scratch_; }

 private:
  const char* variable_;
  ScratchDir scratch_;
  std::optional<std::string> before_;
};

// Of the measured ceilings.
struct OwnCache : OwnDirectory {
  OwnCache() : OwnDirectory("XDG_CACHE_HOME") {}
};
// Of the history.
struct OwnData : OwnDirectory {
  OwnData() : OwnDirectory("XDG_DATA_HOME") {}
};

}  // namespace quench
