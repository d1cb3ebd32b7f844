// Packing into strips (strip_inl.h) and looking rows up in them: plain C++, the same for every ISA
// level. No state; any thread.
#pragma once

#include "devices/matmul.h"

namespace quench {

// Formats with a Grid of 2, 3, 4, 5, 6 or 8 bits, groups of 32, 64, 128 or the row, or small scales
// for 16 to 128; and trellis formats. k is a multiple of 32.
bool grid_strips_accept(const Format& format, int64_t n, int64_t k);
int64_t grid_strips_bytes(const Format& format, int64_t n, int64_t k);
void pack_grid_strips(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed);
void gather_grid_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                        int64_t num_ids, float* y);

// k even.
bool bf16_strips_accept(const Format& format, int64_t n, int64_t k);
bool f16_strips_accept(const Format& format, int64_t n, int64_t k);
bool f32_strips_accept(const Format& format, int64_t n, int64_t k);
int64_t float_strips_bytes(const Format& format, int64_t n, int64_t k);
void pack_float_strips(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed);
void gather_float_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                         int64_t num_ids, float* y);

// bf16 as a file holds it (float_rows_inl.h), k a multiple of 32.
bool bf16_rows_accept(const Format& format, int64_t n, int64_t k);
int64_t float_rows_bytes(const Format& format, int64_t n, int64_t k);
void copy_rows(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed);
void gather_bf16_rows(const OpContext& context, const Weight& weight, const int32_t* ids,
                      int64_t num_ids, float* y);

// e4m3 weights (fp8_strip_inl.h): fp8 and fp8_b128; k even.
bool fp8_strips_accept(const Format& format, int64_t n, int64_t k);
int64_t fp8_strips_bytes(const Format& format, int64_t n, int64_t k);
void pack_fp8_strips(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed);
void gather_fp8_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                       int64_t num_ids, float* y);

}  // namespace quench
