// The predictor with the published rows that ship, loaded once for all tests.
#pragma once

#include "measure/analyze/predict.h"

namespace quench {

inline const Predictor& shipped_predictor() {
  static const Predictor loaded = Predictor::load().value();
  return loaded;
}

}  // namespace quench
