// The cases of the ops, but for those that read and write keys and values.
#include <fmt/format.h>

#include "devices/conformance_cases.h"
#include "devices/tolerance.h"
#include "formats/hadamard.h"
#include "formats/input_transform.h"

namespace quench {
namespace {

using namespace conformance;

std::vector<float> as_floats(const std::vector<int32_t>& values) {
  return {values.begin(), values.end()};  // small numbers: exact
}

OpCase rms_norm_case(int64_t rows, int64_t cols, bool in_place) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> x(device, awkward_rows(11, rows, cols, 1.0f));
    const DeviceArray<float> weight(device, normal_values(12, cols, 1.0f));
    const DeviceArray<float> other(device, rows * cols);
    const DeviceArray<float>& y = in_place ? x : other;
    in_steps(rows, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.rms_norm(context, {x.data() + first * cols, weight.data(), y.data() + first * cols,
                               count, cols, 1e-6f});
      });
    });
    *intact &= y.guards_intact();
    return y.values();
  };
  return {"rms_norm",
          fmt::format("[{}, {}]{}", rows, cols, in_place ? " in place" : ""),
          rows,
          cols,
          kRmsNormTolerance,
          true,
          run};
}

OpCase rope_table_case(int64_t tokens, int64_t rotary_dim) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const int64_t half = rotary_dim / 2;
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    std::vector<int32_t> tables(positions.size());
    for (int64_t t = 0; t < tokens; ++t) {
      // From 0 to the end of the longest context: t = 12 is beyond 131071.
      positions[static_cast<size_t>(t)] = static_cast<int32_t>(std::pow(2.7, t % 13) - 1.0);
      tables[static_cast<size_t>(t)] = static_cast<int32_t>(t % 2);
    }
    std::vector<float> inv_freq;
    for (const double base : {10000.0, 1000000.0}) {
      for (int64_t i = 0; i < half; ++i) {
        inv_freq.push_back(static_cast<float>(
            std::pow(base, -static_cast<double>(i) / static_cast<double>(half))));
      }
    }
    const DeviceArray<int32_t> at(device, positions);
    const DeviceArray<int32_t> table(device, tables);
    const DeviceArray<float> frequencies(device, inv_freq);
    const DeviceArray<float> scales(device, {1.0f, 1.2079f});
    const DeviceArray<float> y(device, tokens * rotary_dim);
    in_steps(tokens, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.rope_table(context, {at.data() + first, table.data() + first, frequencies.data(),
                                 scales.data(), y.data() + first * rotary_dim, count, rotary_dim});
      });
    });
    *intact &= y.guards_intact();
    return y.values();
  };
  return {"rope_table",
          fmt::format("[{}, {}]", tokens, rotary_dim),
          tokens,
          rotary_dim,
          kRopeTableTolerance,
          true,
          run};
}

OpCase rope_case(int64_t tokens, int64_t heads, int64_t head_dim, int64_t rotary_dim) {
  const int64_t cols = heads * head_dim;
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> x(device, awkward_rows(21, tokens, cols, 1.0f));
    std::vector<float> angles = normal_values(22, tokens * rotary_dim, 10.0f);
    for (int64_t i = 0; i < tokens * rotary_dim; ++i) {
      float& angle = angles[static_cast<size_t>(i)];
      angle = i % rotary_dim < rotary_dim / 2 ? std::cos(angle) : std::sin(angle);
    }
    const DeviceArray<float> cos_sin(device, angles);
    in_steps(tokens, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.rope(context, {x.data() + first * cols, cos_sin.data() + first * rotary_dim, count,
                           heads, head_dim, rotary_dim});
      });
    });
    *intact &= x.guards_intact();
    return x.values();
  };
  return {"rope",
          fmt::format("[{}, {}, {}], {} turn", tokens, heads, head_dim, rotary_dim),
          tokens,
          cols,
          kRopeTolerance,
          true,
          run};
}

// Gates of every size: the exponential overflows for the large ones.
std::vector<float> gates(uint64_t seed, int64_t count) {
  std::vector<float> values = normal_values(seed, count, 3.0f);
  for (int64_t i = 0; i < count; i += 5)
    values[static_cast<size_t>(i)] *= i % 2 == 0 ? 40.0f : 1e-4f;
  return values;
}

OpCase silu_mul_case(int64_t rows, int64_t cols, bool in_place) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> gate(device, gates(51, rows * cols));
    const DeviceArray<float> up(device, awkward_rows(52, rows, cols, 1.0f));
    const DeviceArray<float> other(device, rows * cols);
    const DeviceArray<float>& y = in_place ? gate : other;
    in_steps(rows, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.silu_mul(context, {gate.data() + first * cols, up.data() + first * cols,
                               y.data() + first * cols, count * cols});
      });
    });
    *intact &= y.guards_intact();
    return y.values();
  };
  return {"silu_mul",
          fmt::format("[{}, {}]{}", rows, cols, in_place ? " in place" : ""),
          rows,
          cols,
          kSiluTolerance,
          true,
          run};
}

OpCase add_case(int64_t rows, int64_t cols, bool gated) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> x(device, awkward_rows(61, rows, cols, 1.0f));
    const DeviceArray<float> y(device, normal_values(62, rows * cols, 1.0f));
    const DeviceArray<float> gate(device, gates(63, rows));
    in_steps(rows, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.add(context, {x.data() + first * cols, y.data() + first * cols,
                          gated ? gate.data() + first : nullptr, count, cols});
      });
    });
    *intact &= x.guards_intact();
    return x.values();
  };
  return {"add",
          fmt::format("[{}, {}]{}", rows, cols, gated ? " gated" : ""),
          rows,
          cols,
          gated ? kAddGatedTolerance : kExact,
          true,
          run};
}

// Logits with ties, so that the lowest index must win.
std::vector<float> router_logits(int64_t tokens, int64_t experts) {
  std::vector<float> logits = normal_values(71, tokens * experts, 2.0f);
  for (int64_t i = 0; i < tokens * experts; ++i) {
    if (i / experts % 3 == 1)
      logits[static_cast<size_t>(i)] = std::round(logits[static_cast<size_t>(i)]);
  }
  return logits;
}

struct RouteShape {
  int64_t tokens;
  int64_t experts;
  int64_t choices;
  bool renormalise;
};

// The order (all integers of the result, exact), or the weights of the choices.
OpCase moe_route_case(const RouteShape& s, bool order) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> logits(device, router_logits(s.tokens, s.experts));
    const DeviceArray<int32_t> begin(device, s.experts + 1);
    const DeviceArray<int32_t> token(device, s.tokens * s.choices);
    const DeviceArray<int32_t> row(device, s.tokens * s.choices);
    const DeviceArray<float> weights(device, s.tokens * s.choices);
    in_steps(s.tokens, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.moe_route(context, {logits.data() + first * s.experts, begin.data(), token.data(),
                                row.data(), weights.data() + first * s.choices, count, s.experts,
                                s.choices, s.renormalise});
      });
    });
    *intact &= begin.guards_intact() && token.guards_intact() && row.guards_intact() &&
               weights.guards_intact();
    if (!order) return weights.values();
    std::vector<float> all = as_floats(begin.values());
    for (const DeviceArray<int32_t>* more : {&token, &row}) {
      const std::vector<float> values = as_floats(more->values());
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const std::string shape =
      fmt::format("{} of {} experts, {} tokens{}{}", s.choices, s.experts, s.tokens,
                  s.renormalise ? ", sum 1" : "", order ? ", order" : ", weights");
  if (order) {
    return {"moe_route", shape, 1, s.experts + 1 + 2 * s.tokens * s.choices, kExact, false, run};
  }
  return {"moe_route", shape, s.tokens, s.choices, kRouteTolerance, true, run};
}

OpCase moe_combine_case(int64_t tokens, int64_t choices, int64_t cols) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const int64_t rows = tokens * choices;
    const DeviceArray<float> x(device, awkward_rows(81, tokens, cols, 1.0f));
    const DeviceArray<float> y(device, awkward_rows(82, rows, cols, 1.0f));
    std::vector<int32_t> turned(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i)
      turned[static_cast<size_t>(i)] = static_cast<int32_t>(rows - 1 - i);
    const DeviceArray<int32_t> sorted(device, turned);
    const DeviceArray<float> weights(device, normal_values(83, rows, 0.5f));
    in_steps(tokens, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.moe_combine(context,
                        {x.data() + first * cols, y.data(), sorted.data() + first * choices,
                         weights.data() + first * choices, count, choices, cols});
      });
    });
    *intact &= x.guards_intact();
    return x.values();
  };
  return {"moe_combine",
          fmt::format("{} choices, [{}, {}]", choices, tokens, cols),
          tokens,
          cols,
          kCombineTolerance,
          true,
          run};
}

// Costs after one encoder's step, exactly.
OpCase trellis_step_case(const TrellisCode& code, int at) {
  const int bits = code.bits_at(at);
  const int next = code.bits_at(at + 1);
  const int64_t states = 4096 >> next;
  auto run = [=, &code](Device& device, const Ops& ops, int64_t, bool* intact) {
    const std::vector<float> metric = normal_values(91, 64, 1.0f);
    const DeviceArray<float> cost_in(device, normal_values(92, (4096 >> bits) + 16, 1.0f));
    std::vector<uint8_t> index(4096);
    for (uint32_t w = 0; w < 4096; ++w) index[w] = static_cast<uint8_t>(code.index(w));
    const DeviceArray<float> cost_out(device, states);
    ops.trellis_step({bits, next, index.data(), metric.data(), cost_in.data(), cost_out.data()});
    *intact &= cost_out.guards_intact();
    return cost_out.values();
  };
  return {"trellis_step", fmt::format("{} to {} bits", bits, next), 1, states, kExact, false, run};
}

OpCase transform_case(int64_t rows, int64_t cols, bool is_permutation, bool inverse) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    std::vector<int32_t> order(static_cast<size_t>(cols));
    for (int64_t i = 0; i < cols; ++i)
      order[static_cast<size_t>(i)] = static_cast<int32_t>(cols - 1 - i);
    for (int64_t i = 0; i + 3 < cols; i += 4) std::swap(order[i], order[i + 3]);
    const InputTransform rotation = InputTransform::hadamard(cols, 5);
    const DeviceArray<float> x(device, awkward_rows(81, rows, cols, 1.0f));
    const DeviceArray<int32_t> permutation(device, order);
    const DeviceArray<float> signs(device, rotation.signs);
    const DeviceArray<float> hartley(device, rotation.hartley);
    const DeviceArray<float> y(device, rows * cols);
    in_steps(rows, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.transform(context, {x.data() + first * cols, y.data() + first * cols, count, cols,
                                is_permutation ? permutation.data() : nullptr, signs.data(),
                                hartley.data(), odd_part(cols), inverse});
      });
    });
    *intact &= y.guards_intact();
    return y.values();
  };
  return {"transform",
          fmt::format("[{}, {}] {}{}", rows, cols, is_permutation ? "permuted" : "rotated",
                      inverse ? " back" : ""),
          rows,
          cols,
          is_permutation ? kExact : kTransformTolerance,
          true,
          run};
}

OpCase gather_rows_case(int64_t rows, int64_t cols) {
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const DeviceArray<float> x(device, awkward_rows(91, 14, cols, 1.0f));
    std::vector<int32_t> picked(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i)
      picked[static_cast<size_t>(i)] = static_cast<int32_t>(i * 5 % 14);
    const DeviceArray<int32_t> on_device(device, picked);
    const DeviceArray<float> y(device, rows * cols);
    in_steps(rows, step, [&](int64_t first, int64_t count) {
      device.run([&](const OpContext& context) {
        ops.gather_rows(context,
                        {x.data(), on_device.data() + first, y.data() + first * cols, count, cols});
      });
    });
    *intact &= y.guards_intact();
    return y.values();
  };
  return {"gather_rows", fmt::format("[{}, {}]", rows, cols), rows, cols, kExact, true, run};
}

std::vector<OpCase> op_cases(Effort effort) {
  std::vector<OpCase> cases;
  for (const TrellisCode& code : trellis_codes()) {
    for (const int at : {0, 1}) cases.push_back(trellis_step_case(code, at));
  }
  const bool full = effort == Effort::kFull;
  for (const int64_t cols : {100, 896, 1, 5120}) {
    if (!full && cols != 100 && cols != 896) break;
    for (const int64_t rows : {1, 17}) {
      cases.push_back(rms_norm_case(rows, cols, rows == 17 && cols == 100));
      cases.push_back(silu_mul_case(rows, cols, rows == 17 && cols == 100));
      cases.push_back(add_case(rows, cols, false));
      cases.push_back(add_case(rows, cols, true));
      cases.push_back(gather_rows_case(rows, cols));
      for (const bool inverse : {false, true}) {
        cases.push_back(transform_case(rows, cols, true, inverse));
        cases.push_back(transform_case(rows, cols, false, inverse));
      }
    }
    cases.push_back(moe_combine_case(9, 1, cols));
    cases.push_back(moe_combine_case(17, 4, cols));
    cases.push_back(moe_combine_case(2, 8, cols));
  }
  for (const int64_t rotary_dim : {26, 128, 2, 64}) {
    if (!full && rotary_dim != 26 && rotary_dim != 128) break;
    cases.push_back(rope_table_case(29, rotary_dim));
    cases.push_back(rope_case(13, 1, rotary_dim, rotary_dim));
    cases.push_back(rope_case(9, 14, rotary_dim, rotary_dim));
    cases.push_back(rope_case(5, 3, rotary_dim + 32, rotary_dim));
  }
  for (const RouteShape& shape : {RouteShape{1, 4, 2, false}, RouteShape{33, 60, 4, false},
                                  RouteShape{17, 128, 8, true}, RouteShape{7, 5, 5, true}}) {
    cases.push_back(moe_route_case(shape, true));
    cases.push_back(moe_route_case(shape, false));
  }
  add_attention_cases(cases, effort);
  return cases;
}

ConformanceResult judge_case(TestBench& bench, const Ops& ops, const OpCase& c, Effort effort) {
  Verdict verdict(c.name, c.shape);
  bool intact = true;
  // As many as there can be: one call.
  const int64_t whole = std::numeric_limits<int32_t>::max();
  const std::vector<float> wanted = c.run(*bench.reference, bench.reference->ops(), whole, &intact);
  const std::vector<float> y = c.run(*bench.teams[0], ops, whole, &intact);
  for (int64_t r = 0; r < c.rows; ++r) {
    const float* row = wanted.data() + r * c.cols;
    verdict.compare(y.data() + r * c.cols, row, c.cols,
                    c.tolerance * norm(row, c.cols) + (c.tolerance > 0.0 ? kNothing : 0.0),
                    fmt::format("row {}", r));
  }
  auto require_same = [&](size_t team, int64_t step, const std::string& what) {
    const std::vector<float> other = c.run(*bench.teams[team], ops, step, &intact);
    verdict.require(same_bits(other.data(), y.data(), c.rows * c.cols),
                    fmt::format("{} changes bits", what));
  };
  require_same(1, whole, "a second worker");
  require_same(2, whole, "a third worker");
  if (c.can_split) {
    require_same(0, 1, "one row per call");
    if (effort == Effort::kFull) require_same(2, 1, "one row per call on 3 workers");
    require_same(1, 5, "five rows per call on 2 workers");
  }
  verdict.require(intact, "it wrote outside its output");
  return verdict.take();
}

}  // namespace

std::vector<ConformanceResult> judge_ops(TestBench& bench, const Ops& ops, Effort effort) {
  std::vector<ConformanceResult> results;
  for (const OpCase& c : op_cases(effort)) results.push_back(judge_case(bench, ops, c, effort));
  return results;
}

}  // namespace quench
