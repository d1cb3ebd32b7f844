#include "devices/device.h"

#include <utility>

#include "base/check.h"
#include "devices/cpu/cpu_device.h"
#include "devices/trace.h"

namespace quench {

Buffer::Buffer(Device* device, std::byte* data, int64_t size_bytes)
    : device_(device), data_(data), size_bytes_(size_bytes) {}
Buffer::Buffer(Buffer&& other) noexcept { *this = std::move(other); }
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}
Buffer::~Buffer() {
  if (data_ != nullptr) device_->release(data_, size_bytes_);
}

void Device::set_trace(Trace* trace) {
  trace_ = trace;
  if (trace == nullptr) return;
  QUENCH_CHECK(trace->num_workers() == num_workers(), "a trace of {} tracks for {} workers",
               trace->num_workers(), num_workers());
  trace->wrap(ops(), phases());
}

const MatmulKernel& choose_kernel(const Device& device, const Format& format, int64_t n,
                                  int64_t k) {
  for (const MatmulKernel* kernel : device.matmul_kernels()) {
    if (kernel->accepts(format, n, k)) return *kernel;
  }
  QUENCH_CHECK(false, "no matmul kernel of {} accepts {} [{}, {}]", device.name(), format.name, n,
               k);
}

Result<std::unique_ptr<Device>> open_device(const std::string& name, const DeviceOptions& options) {
  if (name == "cpu") return open_cpu_device(options);
  return fail(ErrorCode::kInvalidArgument, "Unknown device \"{}\"; known is cpu.", name);
}

std::vector<DeviceRow> list_devices() { return {{"cpu", describe_cpu(), true, cpu_levels()}}; }

}  // namespace quench
