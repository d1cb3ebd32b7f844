// PagePool: the pages of the KV cache, counted by reference, and the prefixes that are in them. A
// full page is registered under a key that covers everything its keys and values depend on; a new
// sequence with the same beginning takes such pages instead of computing them. Pages that nobody
// holds keep what is in them until their space is wanted, the least recently used first. The pool
// knows numbers of pages, not their memory. One thread drives it.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace quench {

// SHA-256 over a page's tokens and the key of the page before it; the first page's parent is a key
// of what else changes keys and values. Model, format of keys and values, and arithmetic are fixed
// per engine and therefore not in it.
using PageKey = std::string;  // 64 hexadecimal digits

// The parent of a sequence's first page. The rotary table stands for Qwen1's NTK alpha; LogN
// factors depend on the position alone, so that equal prefixes have equal ones.
PageKey root_key(int32_t rope_table);
PageKey page_key(const PageKey& parent, std::span<const int32_t> page_tokens);

// What the engine knows of one sequence's memory.
struct SequenceState {
  std::vector<int32_t> pages;  // page of each 64-token block
  int64_t num_cached = 0;      // tokens whose keys and values are stored
  int32_t rope_table = 0;      // chosen by the prompt's length, kept for life
};

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  int64_t num_pages() const { return static_cast<int64_t>(pages_.size()); }
  // Held by no sequence: blank ones, and those that keep a prefix as long as they may.
  int64_t num_free() const { return static_cast<int64_t>(blank_.size() + unused_.size()); }
  int64_t num_kept() const { return static_cast<int64_t>(unused_.size()); }
  // How many holders a page has.
  int64_t num_holders(int32_t page) const { return at(page).holders; }

  // A page to write to, held once. The caller checked num_free().
  int32_t take();
  // One holder less.
  void give_back(int32_t page);
  // Names a full page that the caller holds. Where the key has a page already, nothing changes.
  void keep(int32_t page, const PageKey& key);
  // The page of a key, not held by this call.
  std::optional<int32_t> find(const PageKey& key) const;
  // One holder more, of a page that find() returned.
  void hold(int32_t page);

  // Takes pages so that `state` can hold num_tokens; false when too few are free (then nothing is
  // taken).
  bool reserve(SequenceState& state, int64_t num_tokens);
  // Gives all pages back, the last one first: the end of a prefix goes before its beginning.
  void release(SequenceState& state);

 private:
  struct Page {
    int64_t holders = 0;
    PageKey key;                            // empty: not registered
    std::list<int32_t>::iterator position;  // in unused_, when registered and not held
  };
  Page& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }
  const Page& at(int32_t page) const { return pages_[static_cast<size_t>(page)]; }

  std::vector<Page> pages_;
  std::vector<int32_t> blank_;
  std::list<int32_t> unused_;  // registered pages without a holder, least recently used first
  std::map<PageKey, int32_t> registered_;
};

}  // namespace quench
