#include "plan/kernel_times.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/random.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

constexpr int64_t kInputs = 4096;
constexpr int64_t kPrefillOutputs = 1024;
constexpr int64_t kPrefillTokens = 256;
constexpr int kRepetitions = 7;
// A kernel that multiplies slower than this per thread is not asked for a prefill.
constexpr double kSlowGopS = 2.0;
constexpr double kOps = 2.0 * static_cast<double>(kPrefillOutputs * kInputs);  // of one token

// A random matrix [n, kInputs], packed for a kernel.
class RandomWeight {
 public:
  static Result<RandomWeight> make(Device& device, const MatmulKernel& kernel, const Format& format,
                                   int64_t n) {
    RandomWeight made;
    made.weight_.kernel = &kernel;
    made.weight_.format = &format;
    made.weight_.n = n;
    made.weight_.k = kInputs;
    made.weight_.packed_bytes = kernel.packed_bytes(format, n, kInputs);
    QUENCH_TRY(made.buffer_, device.allocate(made.weight_.packed_bytes));
    made.weight_.packed = made.buffer_.data();
    // The same rows again and again: no kernel is the faster for it.
    QuantizedTensor rows(format, kPackRows, kInputs);
    if (format.trellis != nullptr) {
      fill_random_trellis(1, rows);
    } else {
      std::vector<float> values(static_cast<size_t>(kPackRows * kInputs));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(random_uniform(1, i)) - 0.5f;
      format.encode_rows(values.data(), kPackRows, kInputs, rows.planes());
    }
    const Tensor source = {&format, kPackRows, kInputs, std::as_const(rows).planes()};
    device.run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, n / kPackRows, 1);
      for (int64_t block = range.begin; block < range.end; ++block)
        kernel.pack(source, n, block * kPackRows, made.buffer_.data());
    });
    return made;
  }

  const Weight& weight() const { return weight_; }

 private:
  Weight weight_;
  Buffer buffer_;
};

double seconds_of(Device& device, const std::function<void(const OpContext&)>& work) {
  const double start_s = now_s();
  device.run(work);
  return std::max(now_s() - start_s, 1e-9);
}

// As much as a kernel does, done by a probe that does nothing else: a worker's part.
using Limit = std::function<void(const Worker&)>;

std::atomic<uint64_t> sink{0};  // so that no compiler drops what probes do

// Reads the packed weight, as is best for its size.
Limit read_limit(const Device& device, const Weight& weight, const ReadCeiling& how) {
  return [&device, &weight, how](const Worker& worker) {
    const int64_t grain = how.streams * kProbeGrain;
    const int64_t part = weight.packed_bytes / worker.count / grain * grain;
    sink += device.probes().read(weight.packed + worker.index * part, part, how.streams,
                                 how.prefetch_bytes);
  };
}

// `ops` operations of the fastest kind of instruction that does the arithmetic.
Limit peak_limit(Device& device, Arithmetic arithmetic, double ops) {
  const Probes& probes = device.probes();
  std::vector<const PeakProbe*> kinds = {&probes.f32};
  if (arithmetic == Arithmetic::kBf16) kinds = {&probes.f32, &probes.bf16};
  if (arithmetic == Arithmetic::kInt8) kinds = {&probes.f32, &probes.int8, &probes.int8_narrow};
  Limit fastest;
  double least_s = 0.0;
  for (const PeakProbe* kind : kinds) {
    if (kind->run == nullptr) continue;
    const Limit limit = [kind, ops](const Worker& worker) {
      const double rounds = ops / worker.count / static_cast<double>(kind->ops_per_round);
      sink += static_cast<uint64_t>(kind->run(static_cast<int64_t>(rounds)));
    };
    for (int look = 0; look < 2; ++look) {
      const double one_s = seconds_of(device, [&](const OpContext& c) { limit(c.worker); });
      if (fastest && one_s >= least_s) continue;
      fastest = limit;
      least_s = one_s;
    }
  }
  return fastest;
}

// Runs of a kernel, each beside its limit.
struct Turns {
  std::vector<double> own_s;
  std::vector<double> shares;  // the limit's time over the kernel's

  Rate rate(double amount) const {
    return {amount / *std::min_element(own_s.begin(), own_s.end()) / 1e9,
            amount / middle(own_s) / 1e9};
  }
  double share() const { return middle(shares); }

 private:
  static double middle(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
};

// m tokens, again and again; the first time does not count.
Result<Turns> time_tokens(Device& device, const Weight& weight, int64_t m, int repetitions,
                          const Limit& limit) {
  const int64_t scratch_bytes = std::max<int64_t>(weight.kernel->scratch_bytes(m, weight.k), 64);
  QUENCH_TRY(const Buffer scratch, device.allocate(scratch_bytes));
  QUENCH_TRY(const Buffer x, device.allocate(m * weight.k * 4));
  QUENCH_TRY(const Buffer y, device.allocate(m * weight.n * 4));
  std::vector<float> inputs(static_cast<size_t>(m * weight.k));
  for (size_t i = 0; i < inputs.size(); ++i)
    inputs[i] = static_cast<float>(random_uniform(2, i)) - 0.5f;
  device.upload(x.data(), reinterpret_cast<const std::byte*>(inputs.data()), x.size_bytes());
  const Weight* const weights[] = {&weight};
  float* const outputs[] = {reinterpret_cast<float*>(y.data())};
  const MatmulArgs args = {
      reinterpret_cast<const float*>(x.data()), weights, outputs, 1, m, m, nullptr, nullptr};
  Turns turns;
  for (int i = 0; i <= repetitions; ++i) {
    const double own_s = seconds_of(device, [&](OpContext context) {
      context.scratch = scratch.data();
      weight.kernel->run(context, args);
    });
    const double limit_s =
        seconds_of(device, [&](const OpContext& context) { limit(context.worker); });
    if (i == 0) continue;
    turns.own_s.push_back(own_s);
    turns.shares.push_back(limit_s / own_s);
  }
  return turns;
}

// Rows of a matrix that is larger than the last cache, so that one token reads it from memory.
int64_t outputs_beyond_caches(const MatmulKernel& kernel, const Format& format,
                              const Ceilings& ceilings) {
  int64_t cache_bytes = 0;  // the last bounded level is the last cache
  for (const ReadCeiling& read : ceilings.read)
    cache_bytes = std::max(cache_bytes, read.up_to_bytes);
  const int64_t bytes = std::clamp(2 * cache_bytes, int64_t{32} << 20, int64_t{256} << 20);
  return std::max<int64_t>(bytes / kernel.packed_bytes(format, kPackRows, kInputs), 8) * kPackRows;
}

// Decoding by `decode`, which may be `prefill` itself.
Result<void> time_kernel(Device& device, const Ceilings& ceilings, const RandomWeight& decode,
                         const RandomWeight* prefill, KernelTime& time) {
  const Weight& weight = decode.weight();
  time.n = weight.n;
  time.k = weight.k;
  time.packed_bytes = weight.packed_bytes;
  const ReadCeiling& how = ceilings.for_working_set(weight.packed_bytes);
  QUENCH_TRY(const Turns one,
             time_tokens(device, weight, 1, kRepetitions, read_limit(device, weight, how)));
  time.decode_gb_s = one.rate(static_cast<double>(weight.packed_bytes));
  time.decode_share = one.share();
  if (prefill == nullptr) return {};
  time.prefill_tokens = kPrefillTokens;
  constexpr double kAllOps = kOps * kPrefillTokens;
  QUENCH_TRY(const Turns many, time_tokens(device, prefill->weight(), kPrefillTokens, kRepetitions,
                                           peak_limit(device, weight.kernel->arithmetic, kAllOps)));
  time.prefill_gop_s = many.rate(kAllOps);
  time.prefill_share = many.share();
  return {};
}

}  // namespace

Result<std::vector<KernelTime>> time_kernels(
    Device& device, const Ceilings& ceilings, const std::vector<const Format*>& formats,
    const std::function<bool(size_t, size_t, const std::string&)>& progress) {
  std::vector<KernelTime> times;
  for (size_t i = 0; i < formats.size(); ++i) {
    const Format& format = *formats[i];
    if (!format.fits(kPackRows, kInputs)) continue;
    if (format.encode == nullptr && format.trellis == nullptr) continue;
    if (!progress(i, formats.size(), format.name))
      return fail(ErrorCode::kCancelled, "Stopped before {} was timed.", format.name);
    const MatmulKernel& kernel = choose_kernel(device, format, kPrefillOutputs, kInputs);
    KernelTime& time = times.emplace_back();
    time.format = format.name;
    time.kernel = kernel.name;
    QUENCH_TRY(const RandomWeight small,
               RandomWeight::make(device, kernel, format, kPrefillOutputs));
    // Slow kernels get little to do: a few looks tell.
    QUENCH_TRY(const Turns look, time_tokens(device, small.weight(), 1, 3, [](const Worker&) {}));
    if (look.rate(kOps).best < kSlowGopS * device.num_workers()) {
      QUENCH_TRY_VOID(time_kernel(device, ceilings, small, nullptr, time));
      continue;
    }
    QUENCH_TRY(const RandomWeight large,
               RandomWeight::make(device, kernel, format,
                                  outputs_beyond_caches(kernel, format, ceilings)));
    QUENCH_TRY_VOID(time_kernel(device, ceilings, large, &small, time));
  }
  return times;
}

}  // namespace quench
