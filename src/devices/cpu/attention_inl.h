// Paged attention for the vector levels. All query heads of a KV head and all tokens of a chunk are
// the rows of small matrix products with one 64-key block; the softmax between them keeps a running
// maximum (Milakov and Gimelshein 2018).
//
// Bits: a row's numbers come from its own keys in one order only: 64-key blocks ascending inside
// segments of kAttentionSegmentTokens, segments ascending. Rows, chunks, batches and workers only
// decide who computes when; a block that a row may not see leaves the row's state as it is.
//
// K is the kernel of an ISA level for one KvType: V (vector class), M (multiply policy), kPairs (a
// unit of the product is two bf16), load_queries(), store_weights(), panel().
#pragma once

#include "devices/cpu/exp_inl.h"
#include "devices/cpu/gemm_inl.h"
#include "devices/cpu/kv_inl.h"

namespace quench {
namespace {

constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kMaxRows = 96;            // query rows that share a loaded block
constexpr int64_t kMaxElements = 96 * 128;  // rows x padded head_dim, fits L2 beside a block
constexpr int64_t kSegmentBlocks = kAttentionSegmentTokens / kPageTokens;
constexpr float kNoKey = -1e30f;  // the running maximum before the first key: finite, so that
                                  // differences are never NaN

inline int64_t padded_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Query rows of one KV head that walk over the keys together. Row r is token first_token +
// (first_row
// + r) / group and query head kv_head * group + (first_row + r) % group.
struct Item {
  int64_t first_token;  // of the run
  int64_t first_row;
  int64_t rows;
  int64_t kv_head;
  int64_t first_block;
  int64_t end_block;
};

// Softmax state of the rows of an item over some keys.
struct RowState {
  float maximum[kMaxRows];  // in base 2: scale * log2(e) * score
  float sum[kMaxRows];
  alignas(64) float out[kMaxElements];  // [rows, padded_dim]
};

// What one worker needs, on its stack.
struct AttentionWork {
  alignas(64) uint32_t queries[kMaxElements];  // [rows, units]
  alignas(64) uint32_t panel[kPageTokens * kMaxHeadDim];
  alignas(64) float scores[kMaxRows * kPageTokens];  // then the weights, in place
  float keep[kMaxRows];
  RowState segment;
  RowState total;
};

inline int64_t token_of(const AttentionArgs& a, const Item& item, int64_t row) {
  return item.first_token + (item.first_row + row) / (a.heads / a.kv_heads);
}

// The row's place in [tokens * heads].
inline int64_t head_row(const AttentionArgs& a, const Item& item, int64_t row) {
  const int64_t group = a.heads / a.kv_heads;
  return token_of(a, item, row) * a.heads + item.kv_head * group + (item.first_row + row) % group;
}

inline int64_t first_key(const AttentionArgs& a, int64_t position) {
  return a.window > 0 ? max64(0, position - a.window + 1) : 0;
}

// Panels that are stored as the multiply wants them: used in place unless their rows are no whole
// vectors. `rows` x `lanes` elements, lanes padded with zeros to a multiple of 16 in `buffer`.
inline const uint32_t* padded_panel(const std::byte* stored, int64_t units, int64_t lanes,
                                    uint32_t* buffer) {
  const auto* from = reinterpret_cast<const uint32_t*>(stored);
  if (lanes % 16 == 0) return from;
  const int64_t padded = padded_dim(lanes);
  for (int64_t u = 0; u < units; ++u) {
    for (int64_t i = 0; i < padded; ++i) {
      buffer[u * padded + i] = i < lanes ? from[u * lanes + i] : 0;
    }
  }
  return buffer;
}

// Calls visit(item) for all items in an order that all workers share.
template <class Visit>
inline void for_each_item(const AttentionArgs& a, int64_t block_rows, Visit visit) {
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t t = 0; t < a.batch.num_tokens;) {
    const KvRun run = kv_run_at(a.batch, t);
    const int64_t rows = run.count * group;
    for (int64_t head = 0; head < a.kv_heads; ++head) {
      for (int64_t row = 0; row < rows; row += block_rows) {
        const int64_t count = min64(block_rows, rows - row);
        const int64_t first = a.batch.positions[t + row / group];
        const int64_t last = a.batch.positions[t + (row + count - 1) / group];
        visit(Item{t, row, count, head, first_key(a, first) / kPageTokens, last / kPageTokens + 1});
      }
    }
    t += run.count;
  }
}

// How a call is cut. Cost unit: one block of one row tile.
struct Schedule {
  int64_t block_rows;
  int64_t total_cost;
  int64_t max_segments;
  bool split;  // an item's segments may go to several workers
};

inline int64_t block_cost(const Item& item) { return (item.rows + kTileRows - 1) / kTileRows; }
inline int64_t segment_cost(const Item& item, int64_t segment) {
  const int64_t begin = max64(item.first_block, segment * kSegmentBlocks);
  const int64_t end = min64(item.end_block, (segment + 1) * kSegmentBlocks);
  return (end - begin) * block_cost(item);
}
inline int64_t first_segment(const Item& item) { return item.first_block / kSegmentBlocks; }
inline int64_t end_segment(const Item& item) { return (item.end_block - 1) / kSegmentBlocks + 1; }

inline Schedule make_schedule(const OpContext& context, const AttentionArgs& a) {
  const int64_t rows = a.batch.num_tokens * a.heads;
  Schedule s{};
  // Small enough that every worker gets a few items, large enough to share the loaded blocks.
  const int64_t fair = rows / (4 * context.worker.count) / kTileRows * kTileRows;
  const int64_t most = min64(kMaxRows, kMaxElements / padded_dim(a.head_dim));
  s.block_rows = min64(most, max64(fair, 2 * kTileRows));
  s.split = context.worker.count > 1 && context.scratch != nullptr && rows <= kAttentionSplitRows;
  for_each_item(a, s.block_rows, [&](const Item& item) {
    s.total_cost += (item.end_block - item.first_block) * block_cost(item);
    s.max_segments = max64(s.max_segments, end_segment(item));
  });
  s.total_cost = max64(s.total_cost, 1);
  return s;
}

// The worker that owns the cost unit `at`.
inline int64_t owner(const OpContext& context, const Schedule& s, int64_t at) {
  return at * context.worker.count / s.total_cost;
}

// Turns the scores of a row into weights and moves its running maximum. `begin`, `end`: the keys of
// the block it sees, not empty.
template <class K>
inline void softmax_row(AttentionWork& work, int64_t row, int64_t begin, int64_t end, float scale,
                        const float* key_scales) {
  using V = typename K::V;
  constexpr int kVectors = kPageTokens / V::kWidth;
  float* scores = work.scores + row * kPageTokens;
  RowState& state = work.segment;
  typename V::F s[kVectors];
  typename V::F largest = V::set1(-__builtin_inff());
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    s[i] = V::load(scores + i * V::kWidth);
    if (key_scales != nullptr) s[i] = V::mul(s[i], V::load(key_scales + i * V::kWidth));
    if (begin > 0 || end < kPageTokens) {
      s[i] = V::keep_lanes(s[i], begin - i * V::kWidth, end - i * V::kWidth,
                           V::set1(-__builtin_inff()));
    }
    largest = V::max(largest, s[i]);
  }
  const float block_maximum = V::reduce_max(largest) * scale;
  const float before = state.maximum[row];
  const float maximum = block_maximum > before ? block_maximum : before;
  const typename V::F shift = V::set1(maximum);
  typename V::F sum = V::zero();
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    s[i] = exp2<V>(V::sub(V::mul(s[i], V::set1(scale)), shift));
    sum = V::add(sum, s[i]);
    if (key_scales != nullptr) {
      s[i] = V::mul(s[i], V::load(key_scales + kPageTokens + i * V::kWidth));
    }
  }
  K::store_weights(s, reinterpret_cast<uint32_t*>(scores));
  float keep[V::kWidth];
  V::store(keep, exp2<V>(V::set1(before - maximum)));
  work.keep[row] = keep[0];
  state.maximum[row] = maximum;
  state.sum[row] = state.sum[row] * keep[0] + V::reduce_add(sum);
}

// One 64-key block for all rows of the item.
template <class K>
inline void attend_block(const AttentionArgs& a, const Item& item, int64_t block,
                         AttentionWork& work) {
  const KvLayout layout = kv_layout(K::kType, a.head_dim);
  const int64_t token = item.first_token;
  const std::byte* keys = kv_head(a.pages, a.batch, token, block, item.kv_head, layout);
  const std::byte* values = keys + layout.panel_bytes;
  const std::byte* next_keys = values;  // at the last block: something harmless
  if (block + 1 < item.end_block) {
    next_keys = kv_head(a.pages, a.batch, token, block + 1, item.kv_head, layout);
  }
  const float* key_scales = K::kType == KvType::kInt8
                                ? reinterpret_cast<const float*>(values + layout.panel_bytes)
                                : nullptr;
  const int64_t dim = padded_dim(a.head_dim);
  const int64_t units = K::kPairs ? a.head_dim / 2 : a.head_dim;
  const int64_t value_units = K::kPairs ? kPageTokens / 2 : kPageTokens;

  constexpr int kStored = static_cast<int>(kv_element_bytes(K::kType)) * (K::kPairs ? 2 : 1);

  const uint32_t* panel = K::panel(keys, a.head_dim, kPageTokens, work.panel);
  gemm<typename K::M, kStored>({work.queries, panel, work.scores, nullptr, values, units,
                                kPageTokens, kPageTokens, item.rows, units, kPageTokens});
  for (int64_t row = 0; row < item.rows; ++row) {
    const int64_t t = token_of(a, item, row);
    const int64_t position = a.batch.positions[t];
    const int64_t begin = max64(first_key(a, position) - block * kPageTokens, 0);
    const int64_t end = min64(position - block * kPageTokens + 1, kPageTokens);
    if (begin >= end) {  // before the row's window, or after the row itself
      __builtin_memset(work.scores + row * kPageTokens, 0, kPageTokens * sizeof(float));
      work.keep[row] = 1.0f;
      continue;
    }
    const float scale = a.scale * (a.query_scale != nullptr ? a.query_scale[t] : 1.0f);
    softmax_row<K>(work, row, begin, end, scale * 1.44269504f, key_scales);
  }
  panel = K::panel(values, kPageTokens, a.head_dim, work.panel);
  gemm<typename K::M, kStored>({reinterpret_cast<const uint32_t*>(work.scores), panel,
                                work.segment.out, work.keep, next_keys, kPageTokens, dim, dim,
                                item.rows, value_units, dim});
}

// The state of one segment, from nothing.
template <class K>
inline void attend_segment(const AttentionArgs& a, const Item& item, int64_t segment,
                           AttentionWork& work) {
  const int64_t dim = padded_dim(a.head_dim);
  for (int64_t row = 0; row < item.rows; ++row) {
    work.segment.maximum[row] = kNoKey;
    work.segment.sum[row] = 0.0f;
  }
  __builtin_memset(work.segment.out, 0, static_cast<size_t>(item.rows * dim) * sizeof(float));
  const int64_t begin = max64(item.first_block, segment * kSegmentBlocks);
  const int64_t end = min64(item.end_block, (segment + 1) * kSegmentBlocks);
  for (int64_t block = begin; block < end; ++block) attend_block<K>(a, item, block, work);
}

// Joins a segment's state of one row to the total of the segments before it.
template <class V>
inline void join_row(RowState& total, int64_t row, float maximum, float sum, const float* out,
                     int64_t dim) {
  const float before = total.maximum[row];
  const float joined = maximum > before ? maximum : before;
  const typename V::F keep = exp2<V>(V::set1(before - joined));
  const typename V::F take = exp2<V>(V::set1(maximum - joined));
  float* to = total.out + row * dim;
  for (int64_t i = 0; i < dim; i += V::kWidth) {
    V::store(to + i, V::fma(V::load(out + i), take, V::mul(V::load(to + i), keep)));
  }
  float lanes[V::kWidth];
  V::store(lanes, V::fma(V::set1(sum), take, V::mul(V::set1(total.sum[row]), keep)));
  total.sum[row] = lanes[0];
  total.maximum[row] = joined;
}

inline void start_row(RowState& total, int64_t row, int64_t dim) {
  total.maximum[row] = kNoKey;
  total.sum[row] = 0.0f;
  __builtin_memset(total.out + row * dim, 0, static_cast<size_t>(dim) * sizeof(float));
}

template <class V>
inline void write_row(const AttentionArgs& a, const RowState& total, int64_t row, int64_t to_row) {
  const float* from = total.out + row * padded_dim(a.head_dim);
  float* to = a.out + to_row * a.head_dim;
  const typename V::F sum = V::set1(total.sum[row]);
  for (int64_t i = 0; i < a.head_dim; i += V::kWidth) {
    V::store_n(to + i, V::div(V::load(from + i), sum), min64(V::kWidth, a.head_dim - i));
  }
}

// Scratch: [tokens * heads, max_segments] partial results of [padded_dim] sums, maximum, sum.
inline float* partial(const OpContext& context, const AttentionArgs& a, const Schedule& s,
                      int64_t row, int64_t segment) {
  return reinterpret_cast<float*>(context.scratch) +
         (row * s.max_segments + segment) * (padded_dim(a.head_dim) + 16);
}

// The segments [begin, end) of an item. Whole items are finished, parts go to scratch.
template <class K>
inline void attend_item(const OpContext& context, const AttentionArgs& a, const Schedule& s,
                        const Item& item, int64_t begin, int64_t end, AttentionWork& work) {
  const int64_t dim = padded_dim(a.head_dim);
  const int64_t units = K::kPairs ? a.head_dim / 2 : a.head_dim;
  const bool whole = begin == first_segment(item) && end == end_segment(item);
  for (int64_t row = 0; row < item.rows; ++row) {
    K::load_queries(a.q + head_row(a, item, row) * a.head_dim, a.head_dim,
                    work.queries + row * units);
    start_row(work.total, row, dim);
  }
  for (int64_t segment = begin; segment < end; ++segment) {
    attend_segment<K>(a, item, segment, work);
    const RowState& state = work.segment;
    for (int64_t row = 0; row < item.rows; ++row) {
      const float* out = state.out + row * dim;
      if (whole) {
        join_row<typename K::V>(work.total, row, state.maximum[row], state.sum[row], out, dim);
        continue;
      }
      float* to = partial(context, a, s, head_row(a, item, row), segment);
      __builtin_memcpy(to, out, static_cast<size_t>(dim) * sizeof(float));
      to[dim] = state.maximum[row];
      to[dim + 1] = state.sum[row];
    }
  }
  if (!whole) return;
  for (int64_t row = 0; row < item.rows; ++row) {
    write_row<typename K::V>(a, work.total, row, head_row(a, item, row));
  }
}

// The first and the last worker of an item that starts at cost `at`.
struct Owners {
  int64_t first;
  int64_t last;
};
inline Owners owners(const OpContext& context, const Schedule& s, const Item& item, int64_t at) {
  const int64_t first = owner(context, s, at);
  if (!s.split) return {first, first};
  const int64_t blocks = item.end_block - item.first_block;
  const int64_t last_segment = segment_cost(item, end_segment(item) - 1);
  return {first, owner(context, s, at + blocks * block_cost(item) - last_segment)};
}

template <class K>
inline void attention_of(const OpContext& context, const AttentionArgs& a) {
  const Schedule s = make_schedule(context, a);
  const int64_t self = context.worker.index;
  AttentionWork work;
  int64_t at = 0;
  bool any_parts = false;
  for_each_item(a, s.block_rows, [&](const Item& item) {
    const Owners by = owners(context, s, item, at);
    any_parts |= by.first != by.last;
    int64_t segment_at = at;
    int64_t begin = end_segment(item);
    int64_t end = begin;
    for (int64_t segment = first_segment(item); segment < end_segment(item); ++segment) {
      if (owner(context, s, s.split ? segment_at : at) == self) {
        begin = min64(begin, segment);
        end = segment + 1;
      }
      segment_at += segment_cost(item, segment);
    }
    if (begin < end) attend_item<K>(context, a, s, item, begin, end, work);
    at = segment_at;
  });
  if (!any_parts) return;
  context.worker.wait();
  at = 0;
  int64_t turn = 0;
  for_each_item(a, s.block_rows, [&](const Item& item) {
    const Owners by = owners(context, s, item, at);
    at += (item.end_block - item.first_block) * block_cost(item);
    if (by.first == by.last) return;
    for (int64_t row = 0; row < item.rows; ++row) {
      if (turn++ % context.worker.count != self) continue;
      const int64_t dim = padded_dim(a.head_dim);
      const int64_t to_row = head_row(a, item, row);
      start_row(work.total, 0, dim);
      for (int64_t segment = first_segment(item); segment < end_segment(item); ++segment) {
        const float* part = partial(context, a, s, to_row, segment);
        join_row<typename K::V>(work.total, 0, part[dim], part[dim + 1], part, dim);
      }
      write_row<typename K::V>(a, work.total, 0, to_row);
    }
  });
}

}  // namespace
}  // namespace quench
