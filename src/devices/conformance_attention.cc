// The cases of kv_store and attention.
#include <fmt/format.h>

#include "base/float16.h"
#include "devices/conformance_cases.h"
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

int64_t page_bytes(KvType type, int64_t kv_heads, int64_t head_dim) {
  return 2 * kv_heads * kPageTokens * head_dim * (type == KvType::kF32 ? 4 : 2);
}
const char* kv_name(KvType type) { return type == KvType::kF32 ? "f32" : "bf16"; }

OpCase kv_store_case(KvType type, int64_t kv_heads, int64_t head_dim) {
  const Context tokens = make_context({65, 1, 130}, 67);
  const int64_t cols = kv_heads * head_dim;
  const int64_t bytes = page_bytes(type, kv_heads, head_dim);
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const int64_t count = tokens.num_tokens();
    // Large and small, but no denormals: a level may flush them when it rounds.
    const DeviceArray<float> k(device, normal_values(31, count * cols, 30.0f));
    const DeviceArray<float> v(device, normal_values(32, count * cols, 0.01f));
    const DeviceContext batch(device, tokens);
    const std::vector<std::byte> empty(static_cast<size_t>(bytes * tokens.num_pages()));
    const DeviceArray<std::byte> pages(device, empty);
    in_steps(count, step, [&](int64_t first, int64_t some) {
      device.run([&](const OpContext& context) {
        ops.kv_store(context, {k.data() + first * cols,
                               v.data() + first * cols,
                               {pages.data(), bytes, type},
                               batch.view(first, some),
                               kv_heads,
                               head_dim});
      });
    });
    *intact &= pages.guards_intact();
    // Each pair of bytes as a number: exact.
    const std::vector<std::byte> stored = pages.values();
    std::vector<float> values;
    for (size_t i = 0; i < stored.size(); i += 2)
      values.push_back(static_cast<float>(load<uint16_t>(stored.data() + i)));
    return values;
  };
  return {"kv_store", fmt::format("{} [{}, {}]", kv_name(type), kv_heads, head_dim),
          1,          bytes / 2 * tokens.num_pages(),
          kExact,     true,
          run};
}

struct AttentionShape {
  KvType type;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t window;
  bool scaled;
};

OpCase attention_case(const AttentionShape& s, const Context& tokens) {
  const int64_t cols = s.heads * s.head_dim;
  const int64_t bytes = page_bytes(s.type, s.kv_heads, s.head_dim);
  auto run = [=](Device& device, const Ops& ops, int64_t step, bool* intact) {
    const int64_t count = tokens.num_tokens();
    // Scores have a standard deviation of 3 (of 12 for every seventh token): some are flat, some
    // nearly one-hot.
    std::vector<float> queries = normal_values(41, count * cols, 3.0f);
    for (int64_t i = 0; i < count * cols; ++i) {
      if (i / cols % 7 == 6) queries[static_cast<size_t>(i)] *= 4.0f;
    }
    const int64_t num_values = tokens.num_pages() * bytes / 2;
    const std::vector<float> drawn = normal_values(42, num_values, 1.0f);
    std::vector<std::byte> stored(static_cast<size_t>(bytes * tokens.num_pages()));
    for (int64_t i = 0; i < static_cast<int64_t>(stored.size());
         i += s.type == KvType::kF32 ? 4 : 2) {
      const float value = drawn[static_cast<size_t>(i / 2)];
      if (s.type == KvType::kF32) {
        store<float>(stored.data() + i, value);
      } else {
        store<uint16_t>(stored.data() + i, f32_to_bf16(value));
      }
    }
    const DeviceArray<float> q(device, queries);
    std::vector<float> scales(static_cast<size_t>(count));
    for (size_t t = 0; t < scales.size(); ++t) scales[t] = 1.0f + 0.01f * static_cast<float>(t % 9);
    const DeviceArray<float> query_scale(device, scales);
    const DeviceContext batch(device, tokens);
    const DeviceArray<std::byte> pages(device, stored);
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
          kAttentionTolerance,
          true,
          run};
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& cases, Effort effort) {
  const Context short_context = make_context({70, 1, 130}, 9);
  const Context long_context = make_context({777, 64, 1500}, effort == Effort::kFull ? 65 : 3);
  for (const KvType type : {KvType::kF32, KvType::kBf16}) {
    for (const int64_t head_dim : {128, 64, 80}) {
      if (effort == Effort::kQuick && head_dim != 128) break;
      cases.push_back(kv_store_case(type, head_dim == 64 ? 1 : 3, head_dim));
      cases.push_back(attention_case({type, 4, 4, head_dim, 0, false}, short_context));
      cases.push_back(attention_case({type, 14, 2, head_dim, 0, true}, short_context));
      cases.push_back(attention_case({type, 7, 1, head_dim, 50, false}, short_context));
      cases.push_back(attention_case({type, 8, 2, head_dim, 0, false}, long_context));
      cases.push_back(attention_case({type, 5, 1, head_dim, 200, true}, long_context));
    }
  }
}

}  // namespace quench::conformance
