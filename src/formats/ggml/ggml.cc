#include "formats/ggml.h"

#include <type_traits>
#include <utility>

#include "formats/ggml/encoder.h"
#include "formats/ggml/point_types.h"

namespace quench::ggml_format {
namespace {

using namespace ggml;

template <int kIndex, class L>
using Encoder = std::conditional_t<(kLayouts[kIndex].groups() > 1), BlockEncoder<kIndex, L>,
                                   SingleEncoder<kIndex, L>>;

template <int kIndex>
void decode(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  uint8_t codes[kLayout.weights];
  get_codes<kIndex>(tile[0], codes);
  const BlockScales scales = get_scales(kLayout, tile[0]);
  for (int g = 0; g < kLayout.groups(); ++g) {
    const float scale = scales.d * static_cast<float>(scales.scale[g]);
    const float min = scales.dmin * static_cast<float>(scales.min[g]);
    for (int i = g * kLayout.group; i < (g + 1) * kLayout.group; ++i)
      x[i] = scale * GroupKind<kIndex, Lanes<4>>::level(codes[i]) - min;
  }
}

template <int kIndex>
void read_grid(const Format&, const ConstPlanes& tile, int64_t, uint8_t* codes,
               GridScales* scales) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  get_codes<kIndex>(tile[0], codes);
  const BlockScales stored = get_scales(kLayout, tile[0]);
  scales->scale = stored.d;
  scales->zero = static_cast<uint8_t>(kLayout.middle());
  // A minimum alone in its block is added, one with small numbers subtracted.
  scales->min = kLayout.scales == Scales::kOneAndMin ? -stored.dmin : stored.dmin;
  for (int g = 0; g < kLayout.groups(); ++g) {
    scales->group_scale[g] = static_cast<int8_t>(stored.scale[g]);
    scales->group_min[g] = static_cast<uint8_t>(stored.min[g]);
  }
}

template <int kIndex>
void write_grid(const Format&, const uint8_t* codes, int64_t, const GridScales& scales,
                const Planes& tile) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  BlockScales stored;
  stored.d = scales.scale;
  stored.dmin = kLayout.scales == Scales::kOneAndMin ? -scales.min : scales.min;
  for (int g = 0; g < kLayout.groups(); ++g) {
    stored.scale[g] = scales.group_scale[g];
    stored.min[g] = scales.group_min[g];
  }
  put_codes<kIndex>(codes, tile[0]);
  put_scales(kLayout, stored, tile[0]);
}

template <int kIndex>
Format make() {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  Format format;
  format.name = kLayout.name;
  format.description = kLayout.description;
  format.tile_cols = kLayout.weights;
  format.planes = {{"blocks", 0, kLayout.bytes}};
  format.bits = kLayout.bits;
  using Narrow = Encoder<kIndex, Lanes<4>>;
  using Wide = Encoder<kIndex, Lanes<8>>;
  format.encode = with_avx2<Narrow::encode, Wide::encode>();
  format.encode_run = with_avx2<Narrow::encode_run, Wide::encode_run>();
  format.decode = decode<kIndex>;
  format.grid.read = read_grid<kIndex>;
  format.grid.write = write_grid<kIndex>;
  format.grid.levels = kLayout.table ? table_format::kIq4 : nullptr;
  format.grid.has_min = kLayout.has_min();
  format.grid.small_scales = kLayout.groups() > 1 ? kLayout.group : 0;
  return format;
}

template <int... kIndices>
std::vector<Format> make_all(std::integer_sequence<int, kIndices...>) {
  return {make<kIndices>()...};
}

}  // namespace

std::vector<Format> formats() {
  std::vector<Format> table = make_all(std::make_integer_sequence<int, kNumLayouts>());
  for (Format& format : point_formats()) table.push_back(std::move(format));
  return table;
}

}  // namespace quench::ggml_format
