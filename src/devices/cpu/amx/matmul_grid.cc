// Integer and table formats at the amx level: up to four tokens as at the avx512 level, more
// through tiles. Integer sums are exact, so both give the same bits.
//
// Limit: a unit of 128 columns of 32 tokens and 32 outputs is 8 TDPBSUD, 128 cycles where the core
// is ours alone; its 64 vectors of sums are scaled in some 300. So the scaling, not the product,
// sets the pace: about 0.3 of the peak that the probe shows (computed, not measured: no such
// machine was at hand), 2.3 times VNNI's. Scales of more columns would raise it and change the
// bits.
#include "devices/cpu/amx/amx.h"
#include "devices/cpu/amx/tiles.h"
#include "devices/cpu/amx/vec.h"
#include "devices/cpu/grid_run_inl.h"

namespace quench {
namespace {

// The codes of up to 32 tokens, columns [begin, end) of a row: rows of `stride` bytes.
struct TokenCodes {
  const int8_t* first;
  int64_t stride;
};

// Where tokens do not lie one after the other, are fewer than the tiles hold, or end within a step
// of columns, they are copied, and what is missing is zero.
TokenCodes token_codes(const Token* tokens, int64_t count, int64_t begin, int64_t columns,
                       int64_t step, int8_t* copy) {
  const int64_t stride = count > 1 ? tokens[1].codes - tokens[0].codes : 0;
  bool direct = count % kTileRows16 == 0 && columns % step == 0 && stride >= columns;
  for (int64_t t = 1; direct && t < count; ++t)
    direct = tokens[t].codes - tokens[t - 1].codes == stride;
  if (direct) return {tokens[0].codes + begin, stride};
  const int64_t padded = (columns + step - 1) / step * step;
  const int64_t rows = (count + kTileRows16 - 1) / kTileRows16 * kTileRows16;
  for (int64_t t = 0; t < rows; ++t) {
    int8_t* to = copy + t * kUnpackColumns;
    int64_t done = 0;
    if (t < count) {
      __builtin_memcpy(to, tokens[t].codes + begin, static_cast<size_t>(columns));
      done = columns;
    }
    __builtin_memset(to + done, 0, static_cast<size_t>(padded - done));
  }
  return {copy, kUnpackColumns};
}

template <bool kWide, int kVectors>
struct UnpackedProduct<Vec, kWide, kVectors> {
  static constexpr int kPair = kVectors > 1 ? 2 : 1;  // strips at a time
  static constexpr int64_t kLanes = kVectors * Vec::kWidth;
  static constexpr int64_t kTokens = 2 * kTileRows16;
  static_assert(kVectors % kPair == 0);

  static void run(int64_t num_tokens, const UnpackedKind& kind, const GridLayout& layout,
                  const Unpacked<Vec>& weights, int64_t begin, int64_t end, const Token* tokens,
                  float* acc) {
    const int64_t step = layout.unit < kTileRowBytes ? layout.unit : kTileRowBytes;
    begin_tiles(step);
    alignas(64) int8_t copy[kTokens * kUnpackColumns];
    const int64_t first = begin * layout.unit;
    const int64_t wanted = end * layout.unit;
    const int64_t columns = (wanted < layout.columns ? wanted : layout.columns) - first;
    for (int64_t t = 0; t < num_tokens; t += kTokens) {
      const int64_t count = num_tokens - t < kTokens ? num_tokens - t : kTokens;
      const TokenCodes codes = token_codes(tokens + t, count, first, columns, step, copy);
      for (int64_t v = 0; v < kVectors; v += kPair) {
        const Block block = {&kind, &layout, &weights, begin, end, step, v};
        if (count > kTileRows16) {
          units<true>(block, codes, tokens + t, count, acc + t * kLanes);
        } else {
          units<false>(block, codes, tokens + t, count, acc + t * kLanes);
        }
      }
    }
    release_tiles();
  }

 private:
  struct Block {
    const UnpackedKind* kind;
    const GridLayout* layout;
    const Unpacked<Vec>* weights;
    int64_t begin;  // units
    int64_t end;
    int64_t step;    // columns of a product of tiles
    int64_t vector;  // first of the pair
  };

  template <bool kTwo>
  static void units(const Block& b, const TokenCodes& codes, const Token* tokens, int64_t count,
                    float* acc) {
    const GridLayout& layout = *b.layout;
    const int offset = sum_offset<Vec, kWide>(b.kind->has_min, b.kind->zero);
    const std::byte* weights = b.weights->codes + b.vector * kLineBytes;
    const int8_t* inputs = codes.first;
    alignas(64) int32_t sums[kTokens * 2 * Vec::kWidth];
    alignas(64) float sums_of_block[kTokens * kPair * Vec::kWidth] = {};
    for (int64_t number = b.begin; number < b.end; ++number) {
      const Unit unit = unit_at(layout, number);
      zero_sums();
      for (int64_t column = 0; column < unit.columns; column += b.step) {
        const std::byte* at = weights + column / kQuad * kVectors * kLineBytes;
        load_inputs<kTwo>(inputs + column, codes.stride);
        load_weights<kPair == 2>(at, at + kLineBytes, kVectors * kLineBytes);
        multiply_int8<kTwo, kPair == 2>();
      }
      store_sums(reinterpret_cast<std::byte*>(sums));
      weights += unit.columns / kQuad * kVectors * kLineBytes;
      inputs += unit.columns;
      const int64_t scales = (number - b.begin) * kLanes + b.vector * Vec::kWidth;
      for (int64_t t = 0; t < count; ++t) {
        const int32_t x_sum = tokens[t].sums[sum_index(number, layout.x_units)];
        const float x_scale = tokens[t].scales[unit.first / kXBlock] * b.kind->factor;
        for (int v = 0; v < kPair; ++v) {
          const int64_t lane = v * Vec::kWidth;
          float* const kept = sums_of_block + t * kPair * Vec::kWidth + lane;
          float* const to = acc + t * kLanes + b.vector * Vec::kWidth + lane;
          const Vec::I sum = Vec::add32(Vec::load_int(sums + (t * 2 + v) * Vec::kWidth),
                                        Vec::set32(offset * x_sum));
          Vec::F block = unit.begins ? Vec::zero() : Vec::load(kept);
          if (b.kind->has_min) {
            const Vec::F min = Vec::load(b.weights->mins + scales + lane);
            block = Vec::fnma(Vec::set1(static_cast<float>(x_sum)), min, block);
          }
          block = Vec::fma(Vec::to_float(sum), Vec::load(b.weights->scales + scales + lane), block);
          if (unit.ends) {
            Vec::store(to, Vec::fma(block, Vec::set1(x_scale), Vec::load(to)));
          } else {
            Vec::store(kept, block);
          }
        }
      }
    }
  }
};

}  // namespace

namespace amx {

const MatmulKernel grid_matmul = {
    "amx_int8",         grid_strips_accept, grid_strips_bytes,     pack_grid_strips,
    gather_grid_strips, grid_run<Vec>,      quantized_input_bytes, Arithmetic::kInt8};

}  // namespace amx
}  // namespace quench
