// bf16 at the amx level: TDPBF16PS for any number of tokens, 32 columns of 16 tokens and 16 outputs
// an instruction.
//
// Arithmetic, the same for every m, thread count and call: per 32 columns (the last ones filled up
// with zeros) the even and the odd ones are summed apart in ascending order, then added to the sum;
// y = sum + bias. The sums leave their registers every 1024 columns, as the f32 they are.
//
// Limit: one token is read at the speed of memory (16 cycles for 2 KiB of weights; two cores of
// these machines get 25 GB/s), many at the 64 cycles of the four products for four loads of 1 KiB.
#include "devices/cpu/amx/amx.h"
#include "devices/cpu/amx/tiles.h"
#include "devices/cpu/amx/vec.h"
#include "devices/cpu/bf16_input_inl.h"
#include "devices/cpu/float_rows_inl.h"

namespace quench {
namespace {

constexpr int64_t kStepColumns = kTileRowBytes / 2;  // of a product of tiles
constexpr int64_t kTokens = 2 * kTileRows16;
constexpr int64_t kOutputs = 2 * kStripRows;
// Inputs of 512 tokens and as many columns are 1 MiB: they stay in the second-level cache.
constexpr int64_t kColumns = 1024;
constexpr int64_t kAheadBytes = 4096;

// Up to 32 tokens, up to 32 outputs, all columns from `column` to `end`.
struct Part {
  const FloatJob* job;
  const std::byte* strips[2];  // at `column`; of one strip, twice the same
  int64_t first;               // output
  int64_t token;
  int64_t count;  // of tokens
  int64_t column;
  int64_t end;
};

// The columns [column, end) of the strip that begins with output `first`.
struct Packed {
  const std::byte* strip(const FloatJob& job, int64_t first, int64_t column, int64_t) {
    return job.packed + (first * job.weight->k + column * kStripRows) * 2;
  }
};

// Where a file holds the weights, in the second-level cache (float_rows_inl.h).
struct InFile {
  const std::byte* strip(const FloatJob& job, int64_t first, int64_t column, int64_t end) {
    std::byte* const to = strips + first % kOutputs * kColumns * 2;
    interleave_rows<Vec>(job, job.weight->k * 2, first, column * 2, (end - column) * 2, to);
    return to;
  }
  alignas(64) std::byte strips[kOutputs * kColumns * 2];
};

template <bool kTwoInputs, bool kTwoWeights>
void multiply_columns(const Part& p) {
  const FloatJob& job = *p.job;
  bool direct = p.count % kTileRows16 == 0 && job.args->rows == nullptr;
  const bool streamed = job.token_end - job.token_begin <= kTokens;
  // Rows that no token has stay zero.
  alignas(64) uint16_t inputs[kTokens * kStepColumns] = {};
  alignas(64) std::byte ends[2 * kTileBytes];
  for (int64_t column = p.column; column < p.end; column += kStepColumns) {
    const int64_t offset = (column - p.column) * kStripRows * 2;
    const std::byte* first = p.strips[0] + offset;
    const std::byte* second = p.strips[1] + offset;
    const int64_t rest = p.end - column;
    if (streamed) {
      for (int64_t line = 0; line < kTileBytes; line += kLineBytes) {
        Vec::prefetch(first + kAheadBytes + line);
        if (kTwoWeights) Vec::prefetch(second + kAheadBytes + line);
      }
    }
    if (rest < kStepColumns) {
      direct = false;
      __builtin_memset(inputs, 0, sizeof(inputs));
      __builtin_memset(ends, 0, sizeof(ends));
      const auto bytes = static_cast<size_t>(rest * kStripRows * 2);
      __builtin_memcpy(ends, first, bytes);
      __builtin_memcpy(ends + kTileBytes, second, bytes);
      first = ends;
      second = ends + kTileBytes;
    }
    if (direct) {
      load_inputs<kTwoInputs>(float_input<uint16_t>(job, p.token) + column, job.weight->k * 2);
    } else {
      const auto bytes = static_cast<size_t>((rest < kStepColumns ? rest : kStepColumns) * 2);
      for (int64_t t = 0; t < p.count; ++t)
        __builtin_memcpy(inputs + t * kStepColumns,
                         float_input<uint16_t>(job, p.token + t) + column, bytes);
      load_inputs<kTwoInputs>(inputs, kTileRowBytes);
    }
    load_weights<kTwoWeights>(first, second, kTileRowBytes);
    multiply_bf16<kTwoInputs, kTwoWeights>();
  }
}

void multiply_part(const Part& p) {
  const FloatJob& job = *p.job;
  const Weight& weight = *job.weight;
  // Outputs past n exist in the strip only; y has no room for them.
  const int64_t outputs = weight.n - p.first < kOutputs ? weight.n - p.first : kOutputs;
  alignas(64) float sums[kTokens * kOutputs] = {};
  if (p.column > 0) {
    for (int64_t t = 0; t < p.count; ++t) {
      const float* y = job.y + (p.token + t) * weight.n + p.first;
      for (int64_t i = 0; i < outputs; i += Vec::kWidth)
        Vec::store(sums + t * kOutputs + i, Vec::load_n(y + i, outputs - i));
    }
    load_sums(reinterpret_cast<const std::byte*>(sums));
  } else {
    zero_sums();
  }
  const bool two_weights = p.strips[1] != p.strips[0];
  if (p.count > kTileRows16) {
    two_weights ? multiply_columns<true, true>(p) : multiply_columns<true, false>(p);
  } else {
    two_weights ? multiply_columns<false, true>(p) : multiply_columns<false, false>(p);
  }
  store_sums(reinterpret_cast<std::byte*>(sums));
  const float* bias = weight.bias != nullptr && p.end == weight.k ? weight.bias + p.first : nullptr;
  for (int64_t t = 0; t < p.count; ++t) {
    float* y = job.y + (p.token + t) * weight.n + p.first;
    for (int64_t i = 0; i < outputs; i += Vec::kWidth) {
      __m512 sum = Vec::load(sums + t * kOutputs + i);
      if (bias != nullptr) sum = Vec::add(sum, Vec::load_n(bias + i, outputs - i));
      Vec::store_n(y + i, sum, outputs - i);
    }
  }
}

// One token block after the other passes the weights while these are in the cache.
template <class Place>
void run(const OpContext& context, const MatmulArgs& a) {
  const uint16_t* x = round_input(context, a);
  begin_tiles(kTileRowBytes);
  Place place;
  share_float_jobs<kOutputs>(context, a, x, [&](const FloatJob& job, int64_t first, int64_t rows) {
    const int64_t k = job.weight->k;
    for (int64_t column = 0; column < k; column += kColumns) {
      const int64_t end = column + kColumns < k ? column + kColumns : k;
      const std::byte* const one = place.strip(job, first, column, end);
      // A strip that is the last has no second one beside it.
      const std::byte* const two =
          rows > kStripRows ? place.strip(job, first + kStripRows, column, end) : one;
      for (int64_t token = job.token_begin; token < job.token_end; token += kTokens) {
        const int64_t rest = job.token_end - token;
        multiply_part(
            {&job, {one, two}, first, token, rest < kTokens ? rest : kTokens, column, end});
      }
    }
  });
  release_tiles();
}

const MatmulKernel in_file = {"amx_bf16_in_file", bf16_rows_accept, float_rows_bytes,
                              copy_rows,          gather_bf16_rows, run<InFile>,
                              bf16_input_bytes,   Arithmetic::kBf16};

}  // namespace

namespace amx {

const MatmulKernel bf16_matmul = {"amx_bf16",        bf16_strips_accept,  float_strips_bytes,
                                  pack_float_strips, gather_float_strips, run<Packed>,
                                  bf16_input_bytes,  Arithmetic::kBf16,   &in_file};

}  // namespace amx
}  // namespace quench
