#include "io/tensor_slots.h"

#include "io/message.h"

namespace quench {

Result<void> TensorSlots::append(AtomicFile& file, std::string_view name,
                                 std::span<const std::byte> piece) {
  const auto it = slots_.find(name);
  if (it == slots_.end()) {
    return fail(ErrorCode::kInternal, "{}: tensor {} was not declared.", file.path(),
                in_quotes(name));
  }
  Slot& slot = it->second;
  const auto piece_bytes = static_cast<int64_t>(piece.size());
  if (piece_bytes > slot.size_bytes - slot.written_bytes) {
    return fail(ErrorCode::kInternal, "{}: tensor {} got {} bytes, expected {}.", file.path(),
                in_quotes(name), slot.written_bytes + piece_bytes, slot.size_bytes);
  }
  QUENCH_TRY_VOID(file.write_at(data_begin_bytes_ + slot.begin_bytes + slot.written_bytes, piece));
  slot.written_bytes += piece_bytes;
  return {};
}

Result<void> TensorSlots::check_full(const AtomicFile& file) const {
  for (const auto& [name, slot] : slots_) {
    if (slot.written_bytes != slot.size_bytes) {
      return fail(ErrorCode::kInternal, "{}: tensor {} got {} bytes, expected {}.", file.path(),
                  in_quotes(name), slot.written_bytes, slot.size_bytes);
    }
  }
  return {};
}

}  // namespace quench
