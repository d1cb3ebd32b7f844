#include <algorithm>
#include <iterator>

#include "io/gguf.h"

namespace quench {
namespace {

constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4, Dtype::kF32, "f32"},     {1, "F16", 1, 2, Dtype::kF16, "f16"},
    {2, "Q4_0", 32, 18, {}, "q4_0"},          {3, "Q4_1", 32, 20, {}, "q4_1"},
    {6, "Q5_0", 32, 22, {}, "q5_0"},          {7, "Q5_1", 32, 24, {}, "q5_1"},
    {8, "Q8_0", 32, 34, {}, "q8_0"},          {9, "Q8_1", 32, 36, {}, nullptr},
    {10, "Q2_K", 256, 84, {}, "q2_k"},        {11, "Q3_K", 256, 110, {}, "q3_k"},
    {12, "Q4_K", 256, 144, {}, "q4_k"},       {13, "Q5_K", 256, 176, {}, "q5_k"},
    {14, "Q6_K", 256, 210, {}, "q6_k"},       {15, "Q8_K", 256, 292, {}, nullptr},
    {16, "IQ2_XXS", 256, 66, {}, "iq2_xxs"},  {17, "IQ2_XS", 256, 74, {}, "iq2_xs"},
    {18, "IQ3_XXS", 256, 98, {}, "iq3_xxs"},  {19, "IQ1_S", 256, 50, {}, nullptr},
    {20, "IQ4_NL", 32, 18, {}, "iq4_nl"},     {21, "IQ3_S", 256, 110, {}, "iq3_s"},
    {22, "IQ2_S", 256, 82, {}, "iq2_s"},      {23, "IQ4_XS", 256, 136, {}, "iq4_xs"},
    {24, "I8", 1, 1, Dtype::kI8, nullptr},    {25, "I16", 1, 2, Dtype::kI16, nullptr},
    {26, "I32", 1, 4, Dtype::kI32, nullptr},  {27, "I64", 1, 8, Dtype::kI64, nullptr},
    {28, "F64", 1, 8, Dtype::kF64, nullptr},  {29, "IQ1_M", 256, 56, {}, nullptr},
    {30, "BF16", 1, 2, Dtype::kBF16, "bf16"}, {34, "TQ1_0", 256, 54, {}, nullptr},
    {35, "TQ2_0", 256, 66, {}, nullptr},      {39, "MXFP4", 32, 17, {}, nullptr},
    {40, "NVFP4", 64, 36, {}, nullptr},
};

}  // namespace

const GgmlType* find_ggml_type(uint32_t id) {
  const auto it =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.id == id; });
  return it == std::end(kTypes) ? nullptr : it;
}

const GgmlType* ggml_type_of_format(std::string_view format) {
  const auto it = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) {
    return t.format != nullptr && t.format == format;
  });
  return it == std::end(kTypes) ? nullptr : it;
}

}  // namespace quench
