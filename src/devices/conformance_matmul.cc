// The cases of the matmul kernels: every format a kernel accepts, shapes that divide into nothing,
// lists of weights, routed experts, the embedding look-up.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <span>

#include "base/bytes.h"
#include "base/float16.h"
#include "base/random.h"
#include "devices/conformance_data.h"
#include "devices/tolerance.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

using namespace conformance;

constexpr int64_t kTokenCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 33, 64, 100};
constexpr int64_t kQuickTokenCounts[] = {1, 4, 5, 17, 49};
constexpr int64_t kFeatures[] = {16, 48, 100, 128, 272};
// Multiples of 32; all but the last are awkward for blocks of 64, 128, 256 or 512.
constexpr int64_t kInputs[] = {32, 96, 160, 896, 1408, 1024};
struct Shape {
  int64_t n;
  int64_t k;
};
constexpr Shape kQuickShapes[] = {{48, 32}, {48, 96}, {100, 160}, {272, 1408}, {128, 768}};
constexpr int64_t kLongInput = 18944;  // the widest row of the Qwen2.5 family (7B, down)

// A stack of [n, k] matrices encoded in a format. In f32 per column: what an error of an input
// column of 1 makes of the outputs, over all n.
struct HostWeight {
  const Format* format;
  int64_t n;
  int64_t k;
  std::vector<QuantizedTensor> experts;
  std::vector<float> bias;                   // [n], or empty
  std::vector<std::vector<double>> squares;  // of each expert: [k], sum over rows of w^2
  // The same of what integer kernels change about w.
  std::vector<std::vector<double>> changes;
};

// Of a format with a table of levels; else zeros.
std::vector<double> change_squares(const Format& format, const QuantizedTensor& encoded, int64_t n,
                                   int64_t k) {
  std::vector<double> squares(static_cast<size_t>(k));
  const float* levels = format.grid.levels;
  if (levels == nullptr) return squares;
  const int64_t num_levels = int64_t{1} << format.bits;
  double largest = 0.0;
  for (int64_t i = 0; i < num_levels; ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(levels[i])));
  const int64_t width = format.tile_width(k);
  std::vector<uint8_t> codes(static_cast<size_t>(width));
  for (int64_t r = 0; r < n; ++r) {
    ConstPlanes tile = format.row_planes(encoded.planes(), r, k);
    for (int64_t column = 0; column < k; column += width) {
      GridScales scales;
      format.grid.read(format, tile, width, codes.data(), &scales);
      for (int64_t c = 0; c < width; ++c) {
        const double level = levels[codes[static_cast<size_t>(c)]];
        const double change = scales.scale * (rounded_level(level, largest) - level);
        squares[static_cast<size_t>(column + c)] += change * change;
      }
      for (size_t p = 0; p < format.planes.size(); ++p)
        tile[p] += format.plane_bytes(static_cast<int>(p), 1, width);
    }
  }
  return squares;
}

HostWeight make_weight(const Format& format, int64_t n, int64_t k, int64_t num_experts, bool bias) {
  HostWeight weight{&format, n, k, {}, {}, {}, {}};
  const auto seed = static_cast<uint64_t>(n * 100000 + k);
  if (bias) weight.bias = normal_values(seed + 7, n, 0.1f);
  std::vector<float> decoded(static_cast<size_t>(n * k));
  for (int64_t e = 0; e < num_experts; ++e) {
    const std::vector<float> values = awkward_rows(seed + static_cast<uint64_t>(e), n, k, 0.02f);
    QuantizedTensor& encoded = weight.experts.emplace_back(format, n, k);
    if (format.trellis != nullptr) {  // any bytes are codes, and finding good ones takes long
      fill_random_trellis(seed + static_cast<uint64_t>(e), encoded);
    } else {
      format.encode_rows(values.data(), n, k, encoded.planes());
    }
    format.decode_rows(std::as_const(encoded).planes(), n, k, decoded.data());
    weight.changes.push_back(change_squares(format, encoded, n, k));
    std::vector<double>& squares = weight.squares.emplace_back(static_cast<size_t>(k));
    for (int64_t i = 0; i < n * k; ++i) {
      const double w = decoded[static_cast<size_t>(i)];
      squares[static_cast<size_t>(i % k)] += w * w;
    }
  }
  return weight;
}

// The norm of the error that the arithmetic is expected to make of one token's outputs.
double expected_error(const ArithmeticError& arithmetic, const HostWeight& weight, int64_t expert,
                      const float* x, const float* y) {
  const std::vector<double>& squares = weight.squares[static_cast<size_t>(expert)];
  const std::vector<double>& changes = weight.changes[static_cast<size_t>(expert)];
  const int64_t block = arithmetic.block > 0 ? arithmetic.block : weight.k;
  double rounded = 0.0;  // squared error from rounding
  double products = 0.0;
  for (int64_t begin = 0; begin < weight.k; begin += block) {
    const int64_t end = std::min(begin + block, weight.k);
    double largest = 0.0;
    double sum = 0.0;
    double mean = 0.0;
    for (int64_t i = begin; i < end; ++i)
      mean += std::fabs(static_cast<double>(x[i])) / static_cast<double>(end - begin);
    for (int64_t i = begin; i < end; ++i) {
      const double magnitude = std::fabs(static_cast<double>(x[i]));
      if (magnitude <= arithmetic.spike * mean) largest = std::max(largest, magnitude);
      sum += squares[static_cast<size_t>(i)];
      products += static_cast<double>(x[i]) * x[i] * squares[static_cast<size_t>(i)];
    }
    if (arithmetic.block == 0) continue;
    for (int64_t i = begin; i < end; ++i)
      rounded += static_cast<double>(x[i]) * x[i] * changes[static_cast<size_t>(i)];
    const double step = largest / arithmetic.levels;
    rounded += step * step / 12.0 * sum;
  }
  const double relative = std::hypot(arithmetic.relative, summation_rounding(weight.k));
  const double bias = 0x1p-24 * norm(y, weight.n);
  return std::sqrt(rounded + relative * relative * products + bias * bias);
}

// A HostWeight packed for a kernel of a device.
class PackedWeight {
 public:
  PackedWeight(Device& device, const MatmulKernel& kernel, const HostWeight& host)
      : bytes_(device, static_cast<int64_t>(host.experts.size()) *
                           kernel.packed_bytes(*host.format, host.n, host.k)),
        bias_(device, host.bias) {
    const auto num_experts = static_cast<int64_t>(host.experts.size());
    weight_ = {&kernel,
               host.format,
               num_experts,
               host.n,
               host.k,
               bytes_.data(),
               kernel.packed_bytes(*host.format, host.n, host.k),
               host.bias.empty() ? nullptr : bias_.data()};
    const int64_t last_block = (host.n - 1) / kPackRows * kPackRows;
    for (int64_t e = 0; e < num_experts; ++e) {
      const ConstPlanes planes = host.experts[static_cast<size_t>(e)].planes();
      // From the last block to the first: the order must not matter.
      for (int64_t row = last_block; row >= 0; row -= kPackRows) {
        kernel.pack({host.format, std::min(kPackRows, host.n - row), host.k,
                     host.format->row_planes(planes, row, host.k)},
                    host.n, row, bytes_.data() + e * weight_.packed_bytes);
      }
    }
  }
  const Weight& weight() const { return weight_; }
  bool guards_intact() const { return bytes_.guards_intact(); }

 private:
  DeviceArray<std::byte> bytes_;
  DeviceArray<float> bias_;
  Weight weight_;
};

struct Routing {
  std::vector<int32_t> begin;  // [num_experts + 1]
  std::vector<int32_t> rows;   // [m], or empty for the rows as they come
};

struct Output {
  std::vector<std::vector<float>> y;  // of each weight: [m, n]
  bool guards_intact;
};

// One call: m rows of x [x_rows, k] against the weights of a list.
Output multiply(Device& device, const std::vector<const PackedWeight*>& list,
                const std::vector<float>& x, int64_t m, const Routing* routing = nullptr) {
  const MatmulKernel& kernel = *list[0]->weight().kernel;
  const int64_t k = list[0]->weight().k;
  const int64_t x_rows = static_cast<int64_t>(x.size()) / k;
  const DeviceArray<float> inputs(device, x);
  const DeviceArray<std::byte> scratch(device, kernel.scratch_bytes(x_rows, k));
  const DeviceArray<int32_t> begin(device, routing ? routing->begin : std::vector<int32_t>());
  const DeviceArray<int32_t> rows(device, routing ? routing->rows : std::vector<int32_t>());
  std::vector<DeviceArray<float>> outputs;
  std::vector<const Weight*> weights;
  std::vector<float*> y;
  for (const PackedWeight* packed : list) {
    weights.push_back(&packed->weight());
    outputs.emplace_back(device, m * packed->weight().n);
  }
  for (const DeviceArray<float>& output : outputs) y.push_back(output.data());
  const MatmulArgs args = {inputs.data(),
                           weights.data(),
                           y.data(),
                           static_cast<int64_t>(list.size()),
                           m,
                           x_rows,
                           routing ? begin.data() : nullptr,
                           routing && !routing->rows.empty() ? rows.data() : nullptr};
  device.run([&](OpContext context) {
    context.scratch = scratch.data();
    kernel.run(context, args);
  });
  Output result{{}, scratch.guards_intact()};
  for (const DeviceArray<float>& output : outputs) {
    result.y.push_back(output.values());
    result.guards_intact &= output.guards_intact();
  }
  return result;
}

std::vector<float> rows_of(const std::vector<float>& x, int64_t k, int64_t begin, int64_t count) {
  return {x.begin() + begin * k, x.begin() + (begin + count) * k};
}

class MatmulJudge {
 public:
  MatmulJudge(TestBench& bench, const MatmulKernel& kernel, const ArithmeticError& arithmetic,
              Effort effort)
      : bench_(bench), kernel_(kernel), arithmetic_(arithmetic), effort_(effort) {
    if (effort == Effort::kQuick) {
      token_counts_ = kQuickTokenCounts;
    } else {
      token_counts_ = kTokenCounts;
    }
  }

  void judge(const Format& format) {
    if (effort_ == Effort::kQuick) {
      for (const Shape& shape : kQuickShapes) plain(format, shape, token_counts_);
    } else {
      for (const int64_t k : kInputs) {
        for (const int64_t n : kFeatures) plain(format, {n, k}, token_counts_);
      }
      const int64_t few[] = {1, 5};
      plain(format, {16, kLongInput}, few);
    }
    list(format, 160);
    list(format, 1024);
    experts(format, {48, 160});
    experts(format, {100, 1408});
  }
  std::vector<ConformanceResult> take() { return std::move(results_); }

 private:
  bool accepts(const Format& format, const Shape& shape) const {
    return format.fits(shape.n, shape.k) && kernel_.accepts(format, shape.n, shape.k);
  }
  Device& team(int64_t i) { return *bench_.teams[static_cast<size_t>(i % num_teams())]; }
  int64_t num_teams() const { return static_cast<int64_t>(bench_.teams.size()); }
  const MatmulKernel& reference_kernel() const { return *bench_.reference->matmul_kernels()[0]; }

  // Tokens one by one: what every other call must repeat bit by bit.
  std::vector<float> one_by_one(const PackedWeight& weight, const std::vector<float>& x,
                                int64_t m) {
    std::vector<float> y;
    for (int64_t t = 0; t < m; ++t) {
      const Output one = multiply(team(0), {&weight}, rows_of(x, weight.weight().k, t, 1), 1);
      y.insert(y.end(), one.y[0].begin(), one.y[0].end());
    }
    return y;
  }

  void compare_rows(Verdict& verdict, const float* y, const float* wanted, int64_t m, int64_t n,
                    const std::string& what) const {
    for (int64_t t = 0; t < m; ++t) {
      if (same_bits(y + t * n, wanted + t * n, n)) continue;
      verdict.require(false, fmt::format("row {} {} has other bits than the token alone", t, what));
      return;
    }
  }

  void plain(const Format& format, const Shape& shape, std::span<const int64_t> token_counts) {
    if (!accepts(format, shape)) return;
    const auto [n, k] = shape;
    const bool bias = n % 32 == 16;  // half of the widths
    Verdict verdict(kernel_.name, fmt::format("{} [{}, {}]", format.name, n, k));
    const HostWeight host = make_weight(format, n, k, 1, bias);
    const PackedWeight packed(team(0), kernel_, host);
    const PackedWeight reference(*bench_.reference, reference_kernel(), host);
    verdict.require(packed.guards_intact(), "pack() wrote outside packed_bytes()");

    const int64_t m = token_counts.back();
    const std::vector<float> x = awkward_rows(static_cast<uint64_t>(k), m, k, 1.0f);
    const std::vector<float> wanted = multiply(*bench_.reference, {&reference}, x, m).y[0];
    const std::vector<float> alone = one_by_one(packed, x, m);
    for (int64_t t = 0; t < m; ++t) {
      const double expected =
          expected_error(arithmetic_, host, 0, x.data() + t * k, wanted.data() + t * n);
      verdict.compare(alone.data() + t * n, wanted.data() + t * n, n,
                      kHeadroom * expected + kNothing, fmt::format("token {}", t));
    }
    for (const int64_t count : token_counts) {
      // The last tokens, so that a token is not always in the same row.
      const int64_t begin = m - count;
      for (int64_t i = 0; i < num_teams(); ++i) {
        const Output output = multiply(team(i), {&packed}, rows_of(x, k, begin, count), count);
        const std::string what = fmt::format("of m = {} on {} workers", count, i + 1);
        compare_rows(verdict, output.y[0].data(), alone.data() + begin * n, count, n, what);
        verdict.require(output.guards_intact,
                        fmt::format("a call {} wrote outside y or scratch", what));
      }
    }
    if (kernel_.in_file != nullptr && kernel_.in_file->accepts(format, n, k)) {
      const PackedWeight in_file(team(0), *kernel_.in_file, host);
      compare_rows(verdict, one_by_one(in_file, x, m).data(), alone.data(), m, n,
                   fmt::format("by {}", kernel_.in_file->name));
    }
    no_number(verdict, packed, x, alone);
    gather(verdict, packed, reference);
    results_.push_back(verdict.take());
  }

  // A token with an input that is no number gets outputs that are none, so that nobody takes them
  // for an answer; the tokens beside it are as they were.
  void no_number(Verdict& verdict, const PackedWeight& packed, const std::vector<float>& x,
                 const std::vector<float>& alone) {
    const int64_t n = packed.weight().n;
    const int64_t k = packed.weight().k;
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(x.size()) / k, 5);
    const int64_t hurt = count / 2;
    std::vector<float> inputs = rows_of(x, k, 0, count);
    inputs[static_cast<size_t>(hurt * k + k / 2)] = std::numeric_limits<float>::quiet_NaN();
    const Output output = multiply(team(0), {&packed}, inputs, count);
    for (int64_t t = 0; t < count; ++t) {
      const float* y = output.y[0].data() + t * n;
      const bool is_right =
          t == hurt ? std::all_of(y, y + n, [](float value) { return std::isnan(value); })
                    : same_bits(y, alone.data() + t * n, n);
      verdict.require(is_right, t == hurt ? "an input that is no number gives a number"
                                          : "an input that is no number changes another token");
    }
  }

  // The embedding look-up decodes; the format defines the value of every code.
  void gather(Verdict& verdict, const PackedWeight& packed, const PackedWeight& reference) {
    const int64_t n = packed.weight().n;
    const int64_t k = packed.weight().k;
    const std::vector<int32_t> ids = {0,
                                      static_cast<int32_t>(n - 1),
                                      static_cast<int32_t>(n / 2),
                                      1,
                                      1,
                                      static_cast<int32_t>(n / 3),
                                      7};
    const auto count = static_cast<int64_t>(ids.size());
    auto look_up = [&](Device& device, const PackedWeight& weight) {
      const DeviceArray<int32_t> on_device(device, ids);
      const DeviceArray<float> y(device, count * k);
      device.run([&](const OpContext& context) {
        weight.weight().kernel->gather(context, weight.weight(), on_device.data(), count, y.data());
      });
      verdict.require(y.guards_intact(), "gather() wrote outside y");
      return y.values();
    };
    const std::vector<float> wanted = look_up(*bench_.reference, reference);
    for (int64_t i = 0; i < num_teams(); ++i) {
      const std::vector<float> y = look_up(team(i), packed);
      for (int64_t r = 0; r < count; ++r) {
        verdict.compare(y.data() + r * k, wanted.data() + r * k, k, kExact,
                        fmt::format("gather of row {}", ids[static_cast<size_t>(r)]));
      }
    }
  }

  // Weights that share an input: the same bits as each alone.
  void list(const Format& format, int64_t k) {
    constexpr int64_t kWidths[] = {48, 16, 272};
    for (const int64_t n : kWidths) {
      if (!accepts(format, {n, k})) return;
    }
    Verdict verdict(kernel_.name, fmt::format("{} list of [48+16+272, {}]", format.name, k));
    const std::vector<float> x = awkward_rows(static_cast<uint64_t>(k), 33, k, 1.0f);
    std::vector<std::unique_ptr<PackedWeight>> owned;
    std::vector<const PackedWeight*> weights;
    std::vector<std::vector<float>> alone;
    for (const int64_t n : kWidths) {
      const HostWeight host = make_weight(format, n, k, 1, n == 48);
      owned.push_back(std::make_unique<PackedWeight>(team(0), kernel_, host));
      weights.push_back(owned.back().get());
      alone.push_back(one_by_one(*owned.back(), x, 33));
    }
    for (const int64_t m : {1, 5, 33}) {
      for (int64_t i = 0; i < num_teams(); ++i) {
        const Output output = multiply(team(i), weights, rows_of(x, k, 0, m), m);
        for (size_t w = 0; w < weights.size(); ++w) {
          const std::string what =
              fmt::format("of weight {} in a list, m = {} on {} workers", w, m, i + 1);
          compare_rows(verdict, output.y[w].data(), alone[w].data(), m, kWidths[w], what);
          verdict.require(output.guards_intact,
                          fmt::format("a call {} wrote outside y or scratch", what));
        }
      }
    }
    results_.push_back(verdict.take());
  }

  void experts(const Format& format, const Shape& shape) {
    if (!accepts(format, shape)) return;
    constexpr int64_t kExperts = 5;
    constexpr int64_t kTokens = 24;
    const auto [n, k] = shape;
    Verdict verdict(kernel_.name,
                    fmt::format("{} {} experts [{}, {}]", format.name, kExperts, n, k));
    const HostWeight host = make_weight(format, n, k, kExperts, false);
    const PackedWeight packed(team(0), kernel_, host);
    const PackedWeight reference(*bench_.reference, reference_kernel(), host);
    const std::vector<float> x = awkward_rows(static_cast<uint64_t>(k + 1), kTokens, k, 1.0f);
    std::vector<int32_t> turned(kTokens);  // no token where it was
    for (int64_t t = 0; t < kTokens; ++t) {
      turned[static_cast<size_t>(t)] = static_cast<int32_t>((t * 7 + 3) % kTokens);
    }
    const Routing routings[] = {
        {{0, 0, 3, 3, 8, 24}, turned},             // experts without a row
        {{0, 0, 0, 24, 24, 24}, turned},           // one expert has all
        {{0, 1, 2, 3, 4, 5}, {20, 20, 3, 0, 11}},  // one row each, a token twice
        {{0, 4, 9, 14, 19, 24}, {}},               // the rows as they come
        {{0, 0, 0, 0, 0, 0}, {}},                  // nothing
    };
    for (const Routing& routing : routings) {
      const int64_t m = routing.begin.back();
      const std::vector<float> wanted =
          multiply(*bench_.reference, {&reference}, x, m, &routing).y[0];
      for (int64_t i = 0; i < num_teams(); ++i) {
        const Output output = multiply(team(i), {&packed}, x, m, &routing);
        verdict.require(output.guards_intact, "a call with experts wrote outside y or scratch");
        judge_rows(verdict, host, packed, routing, x, wanted, output.y[0], i == 0);
      }
    }
    results_.push_back(verdict.take());
  }

  // Sorted rows against ref, and (once) against the call that holds only this row.
  void judge_rows(Verdict& verdict, const HostWeight& host, const PackedWeight& packed,
                  const Routing& routing, const std::vector<float>& x,
                  const std::vector<float>& wanted, const std::vector<float>& y, bool alone) {
    const int64_t n = host.n;
    for (int64_t e = 0; e + 1 < static_cast<int64_t>(routing.begin.size()); ++e) {
      for (int64_t r = routing.begin[static_cast<size_t>(e)];
           r < routing.begin[static_cast<size_t>(e) + 1]; ++r) {
        const int64_t token = routing.rows.empty() ? r : routing.rows[static_cast<size_t>(r)];
        const float* row = y.data() + r * n;
        const double expected =
            expected_error(arithmetic_, host, e, x.data() + token * host.k, wanted.data() + r * n);
        const std::string where = fmt::format("row {} of expert {}", r, e);
        verdict.compare(row, wanted.data() + r * n, n, kHeadroom * expected + kNothing, where);
        if (!alone) continue;
        Routing only{std::vector<int32_t>(routing.begin.size(), 0), {0}};
        std::fill(only.begin.begin() + e + 1, only.begin.end(), 1);
        const Output one = multiply(team(0), {&packed}, rows_of(x, host.k, token, 1), 1, &only);
        verdict.require(same_bits(one.y[0].data(), row, n),
                        fmt::format("{} has other bits than alone", where));
      }
    }
  }

  TestBench& bench_;
  const MatmulKernel& kernel_;
  const ArithmeticError& arithmetic_;
  const Effort effort_;
  std::span<const int64_t> token_counts_;
  std::vector<ConformanceResult> results_;
};

}  // namespace

std::vector<ConformanceResult> judge_matmul(TestBench& bench, const MatmulKernel& kernel,
                                            Effort effort) {
  MatmulJudge judge(bench, kernel, error_of(kernel.arithmetic), effort);
  for (const Format& format : all_formats()) {
    if (format.encode != nullptr) judge.judge(format);
  }
  std::vector<ConformanceResult> results = judge.take();
  if (kernel.in_file == nullptr) return results;
  const std::vector<ConformanceResult> in_file = judge_matmul(bench, *kernel.in_file, effort);
  results.insert(results.end(), in_file.begin(), in_file.end());
  return results;
}

}  // namespace quench
