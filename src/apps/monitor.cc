// quench monitor: who uses this machine, live or as CSV: the series that a record keeps.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <deque>
#include <thread>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/clock.h"
#include "base/file.h"
#include "measure/machine.h"
#include "measure/published.h"
#include "measure/report/table.h"
#include "measure/telemetry.h"

namespace quench {
namespace {

constexpr const char* kMonitorExamples = R"(Examples:
  quench monitor
  quench monitor --interval 0.1 --count 600 --csv > series.csv
  quench monitor --pid 4242)";

struct MonitorFlags {
  double interval_s = 1.0;
  int64_t count = 0;
  int pid = 0;
  bool csv = false;
};

// One row, with what quench processes have read meanwhile.
struct Row {
  TelemetrySample sample;
  std::optional<double> ceiling_gb_s;
  std::optional<double> tok_s;

  std::optional<double> read_share() const {
    if (!sample.read_gb_s || !ceiling_gb_s) return std::nullopt;
    return *sample.read_gb_s / *ceiling_gb_s;
  }
};

Table csv_table(bool has_pid) {
  Table table;
  table.columns = {{"time_s", ""},       {"busy_share", ""},   {"own_share", ""},
                   {"others_share", ""}, {"steal_share", ""},  {"machine_memory_bytes", ""},
                   {"memory_bytes", ""}, {"clock_ghz", ""},    {"temperature_c", ""},
                   {"power_w", ""},      {"traffic_gb_s", ""}, {"read_gb_s", ""},
                   {"read_share", ""},   {"tok_s", ""}};
  if (!has_pid) {
    // Of the watched process; without one there is only the machine.
    for (const char* key : {"own_share", "others_share", "memory_bytes"})
      std::erase_if(table.columns, [&](const TableColumn& column) { return column.key == key; });
  }
  return table;
}

std::vector<Cell> csv_cells(const Table& table, const Row& row, double start_s) {
  const auto& [reading, interval, read_gb_s] = row.sample;
  auto bytes = [](std::optional<int64_t> value) { return value ? Cell{"", *value} : Cell{}; };
  const std::vector<std::pair<const char*, Cell>> all = {
      {"time_s", number_cell(reading.time_s - start_s, 2)},
      {"busy_share", number_cell(interval.busy_share, 3)},
      {"own_share", number_cell(interval.own_share, 3)},
      {"others_share", number_cell(interval.others_share, 3)},
      {"steal_share", number_cell(interval.steal_share, 3)},
      {"machine_memory_bytes", bytes(reading.memory_used_bytes)},
      {"memory_bytes", bytes(reading.memory_bytes)},
      {"clock_ghz", number_cell(reading.clock_ghz, 3)},
      {"temperature_c", number_cell(reading.temperature_c, 1)},
      {"power_w", number_cell(interval.power_w, 1)},
      {"traffic_gb_s", number_cell(interval.traffic_gb_s, 2)},
      {"read_gb_s", number_cell(read_gb_s, 2)},
      {"read_share", number_cell(row.read_share(), 3)},
      {"tok_s", number_cell(row.tok_s, 1)}};
  std::vector<Cell> cells;
  for (const TableColumn& column : table.columns) {
    for (const auto& [key, cell] : all) {
      if (column.key == key) cells.push_back(cell);
    }
  }
  return cells;
}

std::string bar(double part) {
  constexpr int kWidth = 30;
  const int full = static_cast<int>(std::clamp(part, 0.0, 1.0) * kWidth + 0.5);
  return "[" + std::string(static_cast<size_t>(full), '=') +
         std::string(static_cast<size_t>(kWidth - full), ' ') + "]";
}

// The last values as a line of blocks.
std::string sparkline(const std::deque<double>& shares) {
  static constexpr const char* kBlocks[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                            "\u2585", "\u2586", "\u2587", "\u2588"};
  std::string line;
  for (const double value : shares)
    line += kBlocks[static_cast<int>(std::clamp(value, 0.0, 1.0) * 8.0 + 0.5)];
  return line;
}

std::string number_text(std::optional<double> value, int decimals, const char* unit,
                        double scale = 1.0) {
  return value ? fmt::format("{:.{}f} {}", scale * *value, decimals, unit) : std::string("-");
}

// The screen as lines; the first sample has no interval and is not shown.
std::vector<std::string> screen(const Row& row, const std::deque<double>& busy,
                                const MonitorFlags& flags) {
  const auto& [reading, interval, read_gb_s] = row.sample;
  const Machine machine = this_machine();
  const auto total = static_cast<double>(machine.memory_bytes.value_or(0));
  const auto used = static_cast<double>(reading.memory_used_bytes.value_or(0));
  char clock[16];
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::strftime(clock, sizeof(clock), "%H:%M:%S", ::localtime_r(&now, &parts));
  std::vector<std::string> lines = {
      fmt::format("{}  {}, {} CPUs; every {} s, Ctrl-C ends", clock, machine.cpu_model,
                  machine.cpus, flags.interval_s),
      fmt::format("processors  {} {:3.0f} %   stolen {}", bar(interval.busy_share.value_or(0.0)),
                  100.0 * interval.busy_share.value_or(0.0),
                  number_text(interval.steal_share, 1, "%", 100.0)),
      "            " + sparkline(busy),
      fmt::format("memory      {} {:.1f} of {:.1f} GB", bar(total > 0.0 ? used / total : 0.0),
                  used / 1e9, total / 1e9),
      fmt::format("clock {}   temperature {}   power {}   memory traffic {}",
                  number_text(reading.clock_ghz, 2, "GHz"),
                  number_text(reading.temperature_c, 0, "C"), number_text(interval.power_w, 1, "W"),
                  number_text(interval.traffic_gb_s, 1, "GB/s"))};
  if (read_gb_s) {
    lines.push_back(fmt::format(
        "quench      {} {:.1f} GB/s of weights and cache, {} of the "
        "ceiling, {}",
        bar(row.read_share().value_or(0.0)), *read_gb_s,
        number_text(row.read_share(), 0, "%", 100.0), number_text(row.tok_s, 1, "tok/s")));
  }
  if (flags.pid != 0) {
    lines.push_back(
        fmt::format("process {}  {} of the processors, {} of memory", flags.pid,
                    number_text(interval.own_share, 0, "%", 100.0),
                    reading.memory_bytes
                        ? fmt::format("{:.1f} MB", static_cast<double>(*reading.memory_bytes) / 1e6)
                        : "-"));
  }
  return lines;
}

class Monitor {
 public:
  explicit Monitor(const MonitorFlags& flags)
      : flags_(flags), reader_("", flags.pid), table_(csv_table(flags.pid != 0)) {}

  Result<void> run() {
    if (flags_.pid != 0 && !is_alive())
      return fail(ErrorCode::kNotFound, "There is no process {}.", flags_.pid);
    install_interrupt_flag();
    const double start_s = now_s();
    TelemetrySample last;
    last.reading = reader_.read();
    PublishedReads reads_before = published_reads();
    for (int64_t i = 0; flags_.count == 0 || i < flags_.count; ++i) {
      wait_until(start_s + static_cast<double>(i + 1) * flags_.interval_s);
      if (interrupt_flag().load(std::memory_order_relaxed)) break;
      if (flags_.pid != 0 && !is_alive()) break;
      Row row;
      row.sample.reading = reader_.read();
      row.sample.interval = between(last.reading, row.sample.reading);
      const PublishedReads reads = published_reads();
      set_reads(row, reads_before, reads);
      show(row, start_s);
      last = row.sample;
      reads_before = reads;
    }
    return {};
  }

 private:
  bool is_alive() const {
    return !read_proc("/proc/" + std::to_string(flags_.pid) + "/stat").empty();
  }

  static void wait_until(double time_s) {
    while (now_s() < time_s && !interrupt_flag().load(std::memory_order_relaxed)) {
      const double rest_s = std::min(time_s - now_s(), 0.1);
      if (rest_s > 0.0) std::this_thread::sleep_for(std::chrono::duration<double>(rest_s));
    }
  }

  static void set_reads(Row& row, const PublishedReads& before, const PublishedReads& now) {
    const double duration_s = row.sample.interval.duration_s;
    if (now.engines == 0 || duration_s <= 0.0) return;
    // A process that has ended takes its counters along.
    if (now.read_bytes < before.read_bytes) return;
    row.sample.read_gb_s =
        static_cast<double>(now.read_bytes - before.read_bytes) / duration_s / 1e9;
    row.tok_s = static_cast<double>(now.tokens - before.tokens) / duration_s;
    row.ceiling_gb_s = now.ceiling_gb_s;
  }

  void show(const Row& row, double start_s) {
    if (flags_.csv || ::isatty(STDOUT_FILENO) == 0) {
      table_.rows = {csv_cells(table_, row, start_s)};
      const std::string text = table_.csv();
      // The header once.
      const size_t line = has_header_ ? text.find('\n') + 1 : 0;
      has_header_ = true;
      std::fputs(text.c_str() + line, stdout);
    } else {
      busy_.push_back(row.sample.interval.busy_share.value_or(0.0));
      if (busy_.size() > 60) busy_.pop_front();
      const std::vector<std::string> lines = screen(row, busy_, flags_);
      if (lines_shown_ > 0) std::printf("\x1b[%zuA", lines_shown_);
      for (const std::string& line : lines) std::printf("\r\x1b[K%s\n", line.c_str());
      std::fputs("\x1b[J", stdout);
      lines_shown_ = lines.size();
    }
    std::fflush(stdout);
  }

  const MonitorFlags& flags_;
  MachineReader reader_;
  Table table_;
  bool has_header_ = false;
  std::deque<double> busy_;
  size_t lines_shown_ = 0;
};

}  // namespace

void add_monitor(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<MonitorFlags>();
  CLI::App* verb = app.add_subcommand("monitor", "Processors, memory, clocks and power, live");
  verb->footer(kMonitorExamples);
  verb->add_option("--interval", flags->interval_s, "Seconds between two readings")
      ->check(CLI::Range(0.02, 3600.0))
      ->capture_default_str();
  verb->add_option("--count", flags->count, "End after so many; 0: at Ctrl-C")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  verb->add_option("--pid", flags->pid, "Watch this process too, and end with it")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--csv", flags->csv, "One CSV line per reading, also on a terminal");
  verb->callback([flags, &chosen] { chosen = [flags] { return Monitor(*flags).run(); }; });
}

}  // namespace quench
