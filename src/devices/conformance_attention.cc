// The cases of kv_store and attention.
#include <fmt/format.h>

#include "devices/conformance_cases.h"
#include "devices/kv.h"
#include "devices/tolerance.h"

namespace quench::conformance {
namespace {

// Three sequences whose tokens end at awkward places of their 64-token pages; pages in no order.
struct Context {
  static constexpr int64_t kSequences = 3;
  std::vector<int32_t> positions;
  std::vector<int32_t> sequence;
  std::vector<int32_t> page_table;
  int64_t max_pages;
  int64_t num_tokens() const { return static_cast<int64_t>(positions.size()); }
  int64_t num_pages() const { return static_cast<int64_t>(page_table.size()); }
};

// lengths[s] tokens of sequence s, of which the last `queries` are in the batch.
Context make_context(const int64_t (&lengths)[Context::kSequences], int64_t queries) {
  Context context;
  for (int64_t s = 0; s < Context::kSequences; ++s) {
    for (int64_t p = std::max<int64_t>(0, lengths[s] - queries); p < lengths[s]; ++p) {
      context.positions.push_back(static_cast<int32_t>(p));
      context.sequence.push_back(static_cast<int32_t>(s));
    }
  }
  context.max_pages =
      ceil_div(*std::max_element(lengths, lengths + Context::kSequences), kPageTokens);
  context.page_table.resize(static_cast<size_t>(Context::kSequences * context.max_pages));
  for (size_t i = 0; i < context.page_table.size(); ++i) {
    context.page_table[i] = static_cast<int32_t>(context.page_table.size() - 1 - i);
  }
  return context;
}

struct DeviceContext {
  DeviceContext(Device& device, const Context& context)
      : positions(device, context.positions),
        sequence(device, context.sequence),
        page_table(device, context.page_table),
        max_pages(context.max_pages) {}
  BatchView view(int64_t first, int64_t count) const {
    return {count,
            Context::kSequences,
            positions.data() + first,
            sequence.data() + first,
            page_table.data(),
            max_pages};
  }
  DeviceArray<int32_t> positions;
  DeviceArray<int32_t> sequence;
  DeviceArray<int32_t> page_table;
  int64_t max_pages;
};

const char* kv_name(KvType type) { return kKvTypes[static_cast<size_t>(type)].name; }

double tolerance(KvType type) {
  return type == KvType::kF32 ? kAttentionTolerance : kRoundedAttentionTolerance;
}

struct AttentionShape {
  KvType type;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t window;
  bool scaled;
};

// kv_store and attention together: the layout of a page is the level's own. `lengths` tokens of
// each sequence are stored, the last `queries` of each attend.
OpCase attention_case(const AttentionShape& s, const int64_t (&lengths)[Context::kSequences],
                      int64_t queries) {
  const Context stored = make_context(lengths, *std::max_element(lengths, lengths + 3));
  const Context tokens = make_context(lengths, queries);
  const int64_t cols = s.heads * s.head_dim;
  const int64_t kv_cols = s.kv_heads * s.head_dim;
  const int64_t bytes = kv_page_bytes(s.type, s.kv_heads, s.head_dim);
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const int64_t count = tokens.num_tokens();
    // Scores have a standard deviation of 3 (of 12 for every seventh token): some are flat, some
    // nearly one-hot.
    std::vector<float> query_values = normal_values(41, count * cols, 3.0f);
    for (int64_t i = 0; i < count * cols; ++i) {
      if (i / cols % 7 == 6) query_values[static_cast<size_t>(i)] *= 4.0f;
    }
    const DeviceArray<float> k(device, normal_values(42, stored.num_tokens() * kv_cols, 1.0f));
    const DeviceArray<float> v(device, normal_values(43, stored.num_tokens() * kv_cols, 1.0f));
    const DeviceContext all(device, stored);
    // What was never written must not matter: NaN in all types.
    const std::vector<std::byte> nans(static_cast<size_t>(bytes * stored.num_pages()),
                                      std::byte{0xff});
    const DeviceArray<std::byte> pages(device, nans);
    const int64_t store_step = stored.num_tokens() < 512 ? step : 512;
    in_steps(stored.num_tokens(), store_step, [&](int64_t first, int64_t some) {
      device.run([&](const OpContext& context) {
        ops.kv_store(context, {k.data() + first * kv_cols,
                               v.data() + first * kv_cols,
                               {pages.data(), bytes, s.type},
                               all.view(first, some),
                               s.kv_heads,
                               s.head_dim});
      });
    });
    *intact &= pages.guards_intact();
    const DeviceArray<float> q(device, query_values);
    std::vector<float> scales(static_cast<size_t>(count));
    for (size_t t = 0; t < scales.size(); ++t) scales[t] = 1.0f + 0.01f * static_cast<float>(t % 9);
    const DeviceArray<float> query_scale(device, scales);
    const DeviceContext batch(device, tokens);
    const DeviceArray<float> out(device, count * cols);
    in_steps(count, step, [&](int64_t first, int64_t some) {
      device.run([&](const OpContext& context) {
        ops.attention(context, {q.data() + first * cols,
                                s.scaled ? query_scale.data() + first : nullptr,
                                out.data() + first * cols,
                                {pages.data(), bytes, s.type},
                                batch.view(first, some),
                                s.heads,
                                s.kv_heads,
                                s.head_dim,
                                s.window,
                                1.0f / std::sqrt(static_cast<float>(s.head_dim))});
      });
    });
    *intact &= out.guards_intact();
    return out.values();
  };
  return {"attention",
          fmt::format("{} {}/{} heads of {}, {} tokens{}{}", kv_name(s.type), s.heads, s.kv_heads,
                      s.head_dim, tokens.num_tokens(),
                      s.window > 0 ? fmt::format(", window {}", s.window) : "",
                      s.scaled ? ", scaled" : ""),
          tokens.num_tokens(),
          cols,
          tolerance(s.type),
          true,
          run};
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& cases, Effort effort) {
  const int64_t brief[] = {70, 1, 130};
  const int64_t lengthy[] = {777, 64, 1500};
  const int64_t many = effort == Effort::kFull ? 65 : 3;
  for (const KvTypeRow& row : kKvTypes) {
    for (const int64_t head_dim : {128, 64, 80}) {
      if (effort == Effort::kQuick && head_dim != 128) break;
      cases.push_back(attention_case({row.type, 4, 4, head_dim, 0, false}, brief, 9));
      cases.push_back(attention_case({row.type, 14, 2, head_dim, 0, true}, brief, 9));
      cases.push_back(attention_case({row.type, 7, 1, head_dim, 50, false}, brief, 9));
      cases.push_back(attention_case({row.type, 8, 2, head_dim, 0, false}, lengthy, many));
      cases.push_back(attention_case({row.type, 5, 1, head_dim, 200, true}, lengthy, many));
    }
  }
}

}  // namespace quench::conformance
