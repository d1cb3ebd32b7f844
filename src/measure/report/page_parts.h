// What the pages of a shootout, a bench and a comparison share: runs as strips of dots with their
// table, the facts of a machine, and how figures are written. Pure functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "measure/report/html.h"

namespace quench {

// "12", "12.3", "1.23", "0.123": three digits or more of what takes milliseconds here and minutes
// there.
int decimals_for(double value);
// 2026-01-31T12:34:56Z as people write it.
std::string readable_time(const std::string& utc);

// How a figure of a run is written: "ms" of seconds under one.
struct Unit {
  std::string name;
  double scale;
  int decimals;
  bool is_time;

  std::string text(double value) const { return fixed(value * scale, decimals); }
};
Unit time_unit(double largest_s);

// The counted runs (or the warm-ups) of a record that have a value there, of one task or (task "")
// of all.
std::vector<double> run_values(const Json& record, const std::string& task, const char* path,
                               bool warmup);

// One row of a chart of strips.
struct Strip {
  std::string panel;  // rows of one panel share an axis; "" where there is only one
  std::string label;
  int color = 0;
  std::vector<double> values;  // of the counted runs
  std::vector<double> warmups;
  std::vector<double> limits;  // of the same runs; may be empty
};
// The strip of one record.
Strip record_strip(const Json& record, const std::string& task, const char* path,
                   const char* limit_path);

struct StripChart {
  std::string key;  // "html.speed": the heading; with ".note" the note, which may say {coverage}
  std::string limit_note;  // a key; said where a row has a limit; or empty
  Unit unit;
  const char* label_column = "profile";  // of the table below
  std::vector<Strip> strips = {};        // those without values are left out
};
// A section with the chart and its table; nothing where no strip has values.
void add_strips(HtmlReport& html, const Strings& strings, const StripChart& chart);

using Facts = std::vector<std::pair<std::string, std::string>>;
// Processor, memory, device, model, commit: of a file with "machine", "build", "time", "id"; what
// is measured of the model lies in `record`, its description in `model`.
Facts machine_facts(const Strings& strings, const Json& json, const Json& record,
                    const Json& model);
// The kernels of a record; nothing where it names none.
void add_kernels(const Strings& strings, const Json& record, const std::string& name, Facts& facts);

}  // namespace quench
