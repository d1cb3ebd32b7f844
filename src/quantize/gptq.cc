// gptq: error feedback. A column is rounded after the errors of the columns before it were carried
// over to it, as far as the inputs are correlated. With the second moment H = U D U^T of the inputs
// (U upper triangular with ones on the diagonal), column j is rounded from
//   w_j + sum over i < j of (w_i - q_i) U_ij
// which minimises the output's squared error column by column. This form, LDLQ (Chee, Cai, Kuleshov
// and De Sa 2023, QuIP, section 3), gives what GPTQ (Frantar et al. 2022) gives and needs no
// inverse.
//
// Grid formats are rounded column by column, their scales chosen when a tile begins (GGUF's blocks
// with minimums or small scales by their own encoder); other formats tile by tile, with feedback
// between the tiles; trellis formats in their blocks of 32 columns.
//
// Where columns B are rounded at once, an answer f to earlier errors is itself one that the later
// columns of B see: they are rounded from w + g with g U_BB = f. What rounding then adds, s, costs
// s A s^T with A = U_BB D_BB U_BB^T, of which a trellis weighs the diagonal.
//
// The errors of finished columns reach the next 128 as one matrix product, in bf16 where the device
// multiplies that: a feedback that is off by 0.4 % of itself costs the square of that.
#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/float16.h"
#include "base/log.h"
#include "formats/trellis_code.h"
#include "quantize/dense_parts.h"
#include "quantize/grid_parts.h"

namespace quench {
namespace {

constexpr int64_t kPanel = 128;  // columns between two products with all errors so far
// Columns whose errors lie together as one factor of such products; those after the panel are zero.
constexpr int64_t kErrorCols = 1024;
// Added to the diagonal, as a share of its mean: what calibration did not see must not cost
// everything (the value that GPTQ uses), and more of it while the factorization fails.
constexpr float kDamping = 0.01f;
constexpr float kMaxDamping = 1.0f;

class GptqEncoder : public Encoder {
 public:
  GptqEncoder(const Format& format, int64_t cols, const Device& device)
      : format_(format), cols_(cols), levels_(format), trellis_step_(device.ops().trellis_step) {
    panel_ = std::max(kPanel, format.tile_cols);
    step_ = format.grid.write != nullptr ? 1
            : format.trellis != nullptr  ? kTrellisCols
                                         : format.tile_width(cols);
    group_ = format.grid.small_scales > 0 ? format.grid.small_scales : format.tile_width(cols);
  }

  // The second moment is freed as soon as it is factored: the widest are gigabytes.
  Result<void> factor(InputStats& stats, Device& device) {
    SymmetricMatrix u;
    d_.resize(static_cast<size_t>(cols_));
    double mean = 0.0;
    for (int64_t i = 0; i < cols_; ++i) mean += stats.second_moment.at(i, i);
    mean /= static_cast<double>(cols_);
    if (mean <= 0.0) mean = 1.0;
    for (float damping = kDamping;; damping *= 10.0f) {
      u = stats.second_moment;
      for (int64_t i = 0; i < cols_; ++i) u.row(i)[i] += damping * static_cast<float>(mean);
      if (factor_udu(device, u, d_)) break;
      if (damping >= kMaxDamping) {
        return fail(ErrorCode::kInternal,
                    "The second moment of {} inputs is not positive definite, even with {} of its "
                    "mean added; more calibration text may help.",
                    cols_, damping);
      }
      spdlog::info("second moment of {} inputs: damping {} does not suffice", cols_, damping);
    }
    stats.second_moment = {};
    // Per panel: the feedback from all columns before it, and that inside it.
    const int64_t num_panels = ceil_div(cols_, panel_);
    inside_.resize(static_cast<size_t>(num_panels));
    before_.resize(static_cast<size_t>(num_panels));
    importance_ = d_;
    run_tasks(device, num_panels, [&] { return [&](int64_t p) { pack_panel(device, u, p); }; });
    return {};
  }

  void encode(const float* rows, int64_t num_rows, const Planes& first) const override {
    for (int64_t r = 0; r < num_rows; r += kPackRows) {
      const int64_t count = std::min(kPackRows, num_rows - r);
      encode_block(rows + r * cols_, count, format_.row_planes(first, r, cols_));
    }
  }

  double feedback_s() const override { return static_cast<double>(feedback_ns_.load()) * 1e-9; }

 private:
  void pack_panel(const Device& device, const SymmetricMatrix& u, int64_t p) {
    const int64_t begin = p * panel_;
    const int64_t width = std::min(panel_, cols_ - begin);
    std::vector<float>& inside = inside_[static_cast<size_t>(p)];
    inside.resize(static_cast<size_t>(width * width));
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = i + 1; j < width; ++j) {
        inside[static_cast<size_t>(i * width + j)] = u.row(begin + i)[begin + j];
      }
    }
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = i + 1; j < std::min(i / step_ * step_ + step_, width); ++j) {
        const float factor = inside[static_cast<size_t>(i * width + j)];
        importance_[static_cast<size_t>(begin + i)] +=
            factor * factor * d_[static_cast<size_t>(begin + j)];
      }
    }
    for (int64_t first = 0; first < begin; first += kErrorCols) {
      const int64_t depth = error_cols(first);
      const int64_t last = std::min(begin, first + depth);
      std::vector<float> before(static_cast<size_t>(width * depth));
      for (int64_t i = first; i < last; ++i) {
        for (int64_t j = 0; j < width; ++j)
          before[static_cast<size_t>(j * depth + i - first)] = u.row(i)[begin + j];
      }
      before_[static_cast<size_t>(p)].emplace_back(device, "bf16", before.data(), width, depth,
                                                   depth);
    }
  }

  // Of the errors' columns from `first` on, which lie together; even, as kernels want it.
  int64_t error_cols(int64_t first) const {
    return std::min(kErrorCols, round_up(cols_ - first, 64));
  }

  // A panel of a block of rows, column-major: value of row r in column j at [j * num_rows + r].
  struct Panel {
    int64_t begin;
    int64_t width;
    int64_t num_rows;
    std::vector<float> target;  // the weights plus what the errors before them ask for
    std::vector<float> error;   // weight - stored value
  };

  // The tile of each row that is being rounded.
  struct GridRows {
    GridRows(int64_t num_rows, int64_t cols)
        : scales(static_cast<size_t>(num_rows)),
          choices(static_cast<size_t>(num_rows)),
          codes(static_cast<size_t>(num_rows * cols)) {}
    std::vector<GridScales> scales;
    std::vector<GridChoice> choices;  // of the group that is being rounded
    std::vector<uint8_t> codes;       // [num_rows, cols]
  };

  // What a worker needs for a block of rows.
  struct Buffers {
    std::vector<float> errors;    // per kErrorCols columns [num_rows, error_cols]
    std::vector<float> feedback;  // [num_rows, panel]
    std::vector<float> product;   // the same, a part of it
    LineBuffer scratch;           // of the kernel
  };

  void encode_block(const float* rows, int64_t num_rows, const Planes& first) const {
    Buffers buffers;
    buffers.errors.resize(static_cast<size_t>(num_rows * round_up(cols_, 64)));
    buffers.feedback.resize(static_cast<size_t>(num_rows * panel_));
    buffers.product.resize(buffers.feedback.size());
    if (const auto& last = before_.back(); !last.empty())
      buffers.scratch = LineBuffer(last.front().scratch_bytes(num_rows));
    GridRows grid(num_rows, cols_);
    std::vector<float> scales;
    if (format_.trellis != nullptr) scales = put_trellis_scales(rows, num_rows, first);
    for (int64_t p = 0, begin = 0; begin < cols_; ++p, begin += panel_) {
      Panel panel = {begin, std::min(panel_, cols_ - begin), num_rows, {}, {}};
      feed_back(p, num_rows, buffers);
      const auto size = static_cast<size_t>(panel.width * num_rows);
      panel.target.resize(size);
      panel.error.resize(size);
      for (int64_t r = 0; r < num_rows; ++r) {
        for (int64_t j = 0; j < panel.width; ++j) {
          panel.target[static_cast<size_t>(j * num_rows + r)] =
              rows[r * cols_ + begin + j] +
              buffers.feedback[static_cast<size_t>(r * panel.width + j)];
        }
      }
      for (int64_t j = 0; j < panel.width; j += step_) {
        const int64_t width = std::min(step_, panel.width - j);
        answer_together(rows, panel, j, width, inside_[static_cast<size_t>(p)]);
        if (format_.grid.write != nullptr) {
          round_column(rows, panel, j, grid, first);
        } else if (format_.trellis != nullptr) {
          round_trellis(rows, panel, j, scales, first);
        } else {
          round_tile(rows, panel, j, width, first);
        }
        carry(panel, j, width, inside_[static_cast<size_t>(p)]);
      }
      keep_errors(panel, buffers.errors);
    }
  }

  // From w + f to w + g in columns that are rounded at once; -g passes through `error`.
  void answer_together(const float* rows, Panel& panel, int64_t j, int64_t width,
                       const std::vector<float>& inside) const {
    const int64_t n = panel.num_rows;
    for (int64_t to = j; to < j + width && width > 1; ++to) {
      float* const target = panel.target.data() + to * n;
      for (int64_t i = j; i < to; ++i) {
        const float factor = inside[static_cast<size_t>(i * panel.width + to)];
        const float* error = panel.error.data() + i * n;
        for (int64_t r = 0; r < n; ++r) target[r] += factor * error[r];
      }
      float* const error = panel.error.data() + to * n;
      for (int64_t r = 0; r < n; ++r) error[r] = rows[r * cols_ + panel.begin + to] - target[r];
    }
  }

  void keep_errors(const Panel& panel, std::vector<float>& errors) const {
    for (int64_t j = 0; j < panel.width; ++j) {
      const int64_t column = panel.begin + j;
      const int64_t group = column / kErrorCols * kErrorCols;
      const int64_t stride = error_cols(group);
      float* to = errors.data() + panel.num_rows * group + column - group;
      for (int64_t r = 0; r < panel.num_rows; ++r)
        to[r * stride] = panel.error[static_cast<size_t>(j * panel.num_rows + r)];
    }
  }

  // What the errors of all columns before panel p ask of its columns.
  void feed_back(int64_t p, int64_t num_rows, Buffers& buffers) const {
    const double start_s = now_s();
    OpContext context;
    context.scratch = buffers.scratch.data();
    std::fill(buffers.feedback.begin(), buffers.feedback.end(), 0.0f);
    const float* errors = buffers.errors.data();
    for (const PackedMatrix& part : before_[static_cast<size_t>(p)]) {
      part.multiply(context, errors, num_rows, buffers.product.data());
      const auto count = static_cast<size_t>(num_rows * part.n());
      for (size_t i = 0; i < count; ++i) buffers.feedback[i] += buffers.product[i];
      errors += num_rows * part.k();
    }
    feedback_ns_ += static_cast<int64_t>((now_s() - start_s) * 1e9);
  }

  // Scales where a tile begins, then the codes of one column.
  void round_column(const float* rows, Panel& panel, int64_t j, GridRows& grid,
                    const Planes& first) const {
    const int64_t n = panel.num_rows;
    const int64_t column = panel.begin + j;
    const int64_t width = format_.tile_width(cols_);
    if (column % width == 0) choose_scales(rows, panel, j, grid, first);
    if (column % group_ == 0) {
      const int64_t group = column % width / group_;
      for (size_t r = 0; r < grid.scales.size(); ++r)
        grid.choices[r] = group_choice(format_, grid.scales[r], group);
    }
    for (int64_t r = 0; r < n; ++r) {
      const GridChoice& choice = grid.choices[static_cast<size_t>(r)];
      const auto at = static_cast<size_t>(j * n + r);
      const uint8_t code = levels_.nearest(choice, panel.target[at]);
      grid.codes[static_cast<size_t>(r * cols_ + column)] = code;
      panel.error[at] = rows[r * cols_ + column] - levels_.value(choice, code);
    }
    if ((column + 1) % width != 0) return;
    for (int64_t r = 0; r < n; ++r) {
      const int64_t begin = column + 1 - width;
      format_.grid.write(format_, grid.codes.data() + r * cols_ + begin, width,
                         grid.scales[static_cast<size_t>(r)], tile_planes(first, r, begin));
    }
  }

  // Of the tiles that begin at column j of the panel.
  void choose_scales(const float* rows, const Panel& panel, int64_t j, GridRows& grid,
                     const Planes& first) const {
    const int64_t n = panel.num_rows;
    const int64_t column = panel.begin + j;
    const int64_t width = format_.tile_width(cols_);
    std::vector<float> tile(static_cast<size_t>(width));
    for (int64_t r = 0; r < n; ++r) {
      // A tile that is wider than a panel is judged by its weights alone.
      for (int64_t i = 0; i < width; ++i) {
        tile[static_cast<size_t>(i)] = j + i < panel.width
                                           ? panel.target[static_cast<size_t>((j + i) * n + r)]
                                           : rows[r * cols_ + column + i];
      }
      GridScales& scales = grid.scales[static_cast<size_t>(r)];
      if (is_writable_grid(format_)) {
        scales = as_stored(levels_.choose(tile.data(), d_.data() + column, width));
        continue;
      }
      const Planes to = tile_planes(first, r, column);
      format_.encode(format_, tile.data(), width, width, to);
      ConstPlanes from{};
      std::copy(to.begin(), to.end(), from.begin());
      format_.grid.read(format_, from, width, grid.codes.data() + r * cols_ + column, &scales);
    }
  }

  std::vector<float> put_trellis_scales(const float* rows, int64_t num_rows,
                                        const Planes& first) const {
    std::vector<float> scales;
    for (int64_t r = 0; r < num_rows; ++r) {
      scales.push_back(trellis_row_scale(*format_.trellis, rows + r * cols_, cols_));
      store<uint16_t>(first[1] + 2 * r, f32_to_f16(scales.back()));
    }
    return scales;
  }

  // Blocks of 16 rows in the same 32 columns.
  void round_trellis(const float* rows, Panel& panel, int64_t j, const std::vector<float>& scales,
                     const Planes& first) const {
    const TrellisCode& code = *format_.trellis;
    const int64_t n = panel.num_rows;
    const int64_t column = panel.begin + j;
    float targets[kTrellisRows * kTrellisCols];
    int8_t levels[kTrellisRows * kTrellisCols];
    for (int64_t row = 0; row < n; row += kTrellisRows) {
      for (int64_t i = 0; i < kTrellisRows * kTrellisCols; ++i) {
        const int64_t r = row + i / kTrellisCols;
        const float scale = scales[static_cast<size_t>(r)];
        const float target = panel.target[static_cast<size_t>((j + i % kTrellisCols) * n + r)];
        targets[i] = scale > 0.0f ? target / scale : 0.0f;
      }
      std::byte* tile = first[0] + row / kTrellisRows * code.tile_bytes(cols_);
      const int64_t block = column / kTrellisCols;
      encode_trellis_block(code, targets, importance_.data() + column, tile, block, trellis_step_);
      decode_trellis_block(code, tile, block, levels);
      for (int64_t i = 0; i < kTrellisRows * kTrellisCols; ++i) {
        const int64_t r = row + i / kTrellisCols;
        const int64_t c = i % kTrellisCols;
        panel.error[static_cast<size_t>((j + c) * n + r)] =
            rows[r * cols_ + column + c] -
            scales[static_cast<size_t>(r)] * static_cast<float>(levels[i]);
      }
    }
  }

  void round_tile(const float* rows, Panel& panel, int64_t j, int64_t width,
                  const Planes& first) const {
    const int64_t n = panel.num_rows;
    std::vector<float> tile(static_cast<size_t>(width));
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t i = 0; i < width; ++i)
        tile[static_cast<size_t>(i)] = panel.target[static_cast<size_t>((j + i) * n + r)];
      const Planes to = tile_planes(first, r, panel.begin + j);
      format_.encode(format_, tile.data(), width, width, to);
      ConstPlanes from{};
      std::copy(to.begin(), to.end(), from.begin());
      format_.decode(format_, from, width, tile.data(), width);
      for (int64_t i = 0; i < width; ++i) {
        panel.error[static_cast<size_t>((j + i) * n + r)] =
            rows[r * cols_ + panel.begin + j + i] - tile[static_cast<size_t>(i)];
      }
    }
  }

  // The errors of columns [j, j + width) of the panel, on to the columns after them.
  static void carry(Panel& panel, int64_t j, int64_t width, const std::vector<float>& inside) {
    const int64_t n = panel.num_rows;
    for (int64_t i = j; i < j + width; ++i) {
      const float* error = panel.error.data() + i * n;
      for (int64_t to = j + width; to < panel.width; ++to) {
        const float factor = inside[static_cast<size_t>(i * panel.width + to)];
        float* target = panel.target.data() + to * n;
        for (int64_t r = 0; r < n; ++r) target[r] += factor * error[r];
      }
    }
  }

  Planes tile_planes(const Planes& first, int64_t row, int64_t column) const {
    Planes tile = format_.row_planes(first, row, cols_);
    const int64_t width = format_.tile_width(cols_);
    for (size_t p = 0; p < format_.planes.size(); ++p)
      tile[p] += format_.plane_bytes(static_cast<int>(p), 1, width) * (column / width);
    return tile;
  }

  const Format& format_;
  int64_t cols_;
  GridLevels levels_;
  TrellisStep trellis_step_;
  int64_t panel_ = kPanel;
  int64_t step_ = 1;
  int64_t group_ = 1;                       // columns under one scale
  std::vector<float> d_;                    // [cols]
  std::vector<float> importance_;           // [cols] the diagonal of A
  std::vector<std::vector<float>> inside_;  // per panel [width, width], rows before columns
  // Per panel, for all columns before it: [width, error_cols] each.
  std::vector<std::vector<PackedMatrix>> before_;
  mutable std::atomic<int64_t> feedback_ns_{0};
};

bool accepts(const Format& format) {
  return format.grid.write != nullptr || format.trellis != nullptr ||
         (format.encode != nullptr && format.tile_rows == 1 && format.tile_cols > 0);
}

Result<std::unique_ptr<Encoder>> prepare(const Format& format, int64_t cols, InputStats* stats,
                                         Device& device) {
  auto encoder = std::make_unique<GptqEncoder>(format, cols, device);
  QUENCH_TRY_VOID(encoder->factor(*stats, device));
  return encoder;
}

}  // namespace

extern const Algorithm gptq_algorithm;
const Algorithm gptq_algorithm = {"gptq", "error feedback between columns (GPTQ, LDLQ)",
                                  Needs::kSecondMoment, accepts, prepare};

}  // namespace quench
