// Device: memory, ops, layer phases, matmul kernels. The concrete ones are made by name here;
// nothing above this layer includes them. A device is driven by one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/matmul.h"
#include "devices/ops.h"
#include "devices/probes.h"

namespace quench {

struct Phases;

class Device;

// Memory on a device, zeroed, freed by the destructor, aligned to 64 bytes.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, std::byte* data, int64_t size_bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  std::byte* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

struct DeviceOptions {
  std::string isa;      // CPU level to force; empty: QUENCH_ISA, else the best this machine has
  int num_threads = 0;  // 0: the CPUs this process may use
  bool pin = true;      // let a team that fills the machine stay on its cores
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;  // "cpu"
  virtual std::string isa() const = 0;   // the level in force, e.g. "ref", "avx512"
  virtual int num_workers() const = 0;

  virtual Result<Buffer> allocate(int64_t size_bytes) = 0;
  virtual int64_t allocated_bytes() const = 0;
  virtual void upload(std::byte* to, const std::byte* from, int64_t size_bytes) = 0;
  virtual void download(std::byte* to, const std::byte* from, int64_t size_bytes) = 0;

  // Runs `body` on every worker and returns when all are done.
  virtual void run(const std::function<void(const OpContext&)>& body) = 0;

  virtual const Ops& ops() const = 0;
  virtual const Phases& phases() const = 0;
  // In order of preference.
  virtual std::span<const MatmulKernel* const> matmul_kernels() const = 0;
  // For measuring what the device could reach at most.
  virtual const Probes& probes() const = 0;

  // Writes spans of everything that runs from now on to `trace`, which has a track for each worker;
  // null ends it. Not during run().
  void set_trace(Trace* trace);

 protected:
  Trace* trace() const { return trace_; }

 private:
  friend class Buffer;
  virtual void release(std::byte* data, int64_t size_bytes) = 0;

  Trace* trace_ = nullptr;
};

// The first kernel that accepts the weight. ref accepts everything that fits, so there always is
// one.
const MatmulKernel& choose_kernel(const Device& device, const Format& format, int64_t n, int64_t k);

// "cpu" with its options; an unknown name or ISA lists the known ones.
Result<std::unique_ptr<Device>> open_device(const std::string& name, const DeviceOptions& options);

struct DeviceRow {
  std::string name;
  std::string description;
  bool available;
  std::vector<std::string> levels;  // ISA levels that can be forced here, lowest first
};
std::vector<DeviceRow> list_devices();

}  // namespace quench
