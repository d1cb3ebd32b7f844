// Converting a model into the file form of other programs, without a device: matrices are read,
// encoded and written a few rows at a time. Each form is a ConvertTarget, one file in this folder.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/loader.h"
#include "engine/model_files.h"
#include "engine/weight_source.h"
#include "plan/plan.h"

namespace quench {

// Everything must outlive the call.
struct ConvertJob {
  const ModelFiles& files;
  const WeightSource& source;
  Recipe recipe;  // which format each role's matrices get; empty: as stored
  std::string out;
  int num_threads = 1;
  LoadProgress progress;
};

// The matrices that got the same format.
struct ConvertedFormat {
  int64_t num_matrices = 0;
  int64_t num_exact = 0;  // of which every number is as it was
  int64_t bytes = 0;
  double squared = 0.0;        // sum of the squares of their numbers
  double squared_error = 0.0;  // and of what was lost
};

struct ConvertReport {
  int64_t out_bytes = 0;
  std::map<std::string, ConvertedFormat> formats;
  std::vector<std::string> fallbacks;  // matrices that could not have the format asked for
  std::vector<std::string> notes;      // what a reader of the output should know
};

struct ConvertTarget {
  const char* name;         // `quench convert --to NAME`
  const char* description;  // one line
  Result<ConvertReport> (*write)(const ConvertJob& job);
};

// Every target, generated from quantize/convert/*.cc by the build.
std::span<const ConvertTarget* const> all_convert_targets();

}  // namespace quench
