#include "engine/page_pool.h"

#include <numeric>

#include "base/bytes.h"
#include "base/check.h"
#include "base/sha256.h"
#include "devices/ops.h"

namespace quench {

PageKey root_key(int32_t rope_table) {
  return sha256_hex(std::as_bytes(std::span(&rope_table, 1)));
}

PageKey page_key(const PageKey& parent, std::span<const int32_t> page_tokens) {
  QUENCH_CHECK(page_tokens.size() == kPageTokens, "a page of {} tokens", page_tokens.size());
  Sha256 hash;
  hash.update(std::as_bytes(std::span(parent)));
  hash.update(std::as_bytes(page_tokens));
  return hash.hex_digest();
}

PagePool::PagePool(int64_t num_pages)
    : pages_(static_cast<size_t>(num_pages)), blank_(static_cast<size_t>(num_pages)) {
  std::iota(blank_.rbegin(), blank_.rend(), 0);  // page 0 is handed out first
}

int32_t PagePool::take() {
  QUENCH_CHECK(num_free() > 0, "no free page of {}", num_pages());
  int32_t page = 0;
  if (!blank_.empty()) {
    page = blank_.back();
    blank_.pop_back();
  } else {
    page = unused_.front();
    unused_.pop_front();
    registered_.erase(at(page).key);
    at(page).key.clear();
  }
  at(page).holders = 1;
  return page;
}

void PagePool::give_back(int32_t page) {
  Page& entry = at(page);
  QUENCH_CHECK(entry.holders > 0, "page {} has no holder", page);
  if (--entry.holders > 0) return;
  if (entry.key.empty()) {
    blank_.push_back(page);
  } else {
    entry.position = unused_.insert(unused_.end(), page);
  }
}

void PagePool::keep(int32_t page, const PageKey& key) {
  QUENCH_CHECK(at(page).holders > 0, "page {} has no holder", page);
  if (at(page).key.empty() && registered_.try_emplace(key, page).second) at(page).key = key;
}

std::optional<int32_t> PagePool::find(const PageKey& key) const {
  const auto it = registered_.find(key);
  return it == registered_.end() ? std::nullopt : std::optional(it->second);
}

void PagePool::hold(int32_t page) {
  Page& entry = at(page);
  QUENCH_CHECK(!entry.key.empty(), "page {} has no key", page);
  if (entry.holders++ == 0) unused_.erase(entry.position);
}

bool PagePool::reserve(SequenceState& state, int64_t num_tokens) {
  const int64_t needed =
      ceil_div(num_tokens, kPageTokens) - static_cast<int64_t>(state.pages.size());
  if (needed > num_free()) return false;
  for (int64_t i = 0; i < needed; ++i) state.pages.push_back(take());
  return true;
}

void PagePool::release(SequenceState& state) {
  for (auto page = state.pages.rbegin(); page != state.pages.rend(); ++page) give_back(*page);
  state.pages.clear();
  state.num_cached = 0;
}

}  // namespace quench
