// The models of a shootout's profiles. A recipe that only rounds is applied while its model loads;
// one that calibrates, rotates or searches codes is quantized to a directory first, and one that
// names candidates gets the format that measuring them chooses.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "engine/session.h"

namespace quench {

struct MadeProfile {
  SessionOptions session;  // what to open
  double make_s = 0.0;     // of writing it; 0 when it is made while it loads
  Json choice;             // of its format by measurement (choice_json); null: the recipe's own
};

using MakeProgress = std::function<void(const std::string& stage, int64_t done, int64_t total)>;

// session: the reference's, with the profile's recipe or format (session_for_profile). A directory
// dir/PROFILE that an earlier run made by the same recipe is used as it is.
Result<MadeProfile> make_profile(const SessionOptions& session, const std::string& profile,
                                 const std::string& dir, const std::atomic<bool>* stop,
                                 const MakeProgress& progress);

}  // namespace quench
