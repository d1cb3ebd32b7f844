// A model made by a recipe that chooses its format by measurement (measure/choose_format.h): the
// candidates are measured, the preferred one is made and judged on text that calibration has not
// seen, and while it is over the recipe's loss budget the next with more bits is made instead.
#pragma once

#include "measure/choose_format.h"
#include "quantize/quantize.h"

namespace quench {

struct ChosenModel {
  FormatChoice choice;
  QuantizeJob job;  // of the model that was kept
  QuantizeReport report;
};

// options: of the quantization, whose profile is the recipe; its model directory gets a file
// choice.json besides. With options.resume, an interrupted job goes on with the format it had.
Result<ChosenModel> make_chosen(const QuantizeOptions& options, const ChoiceRule& rule,
                                const ChoiceOptions& measuring);

// Of a model made so; null: of another.
Json kept_choice(const std::string& dir);

}  // namespace quench
