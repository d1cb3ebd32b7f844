// quench list: the tables that the program is made of.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "apps/verbs.h"
#include "base/json.h"
#include "base/paths.h"
#include "devices/device.h"
#include "formats/format.h"
#include "io/quant_writer.h"
#include "measure/eval/eval_task.h"
#include "models/family.h"
#include "plan/hardware.h"
#include "quantize/encoder.h"
#include "text/chat_template.h"

namespace quench {
namespace {

void print_row(const std::string& name, const std::string& description) {
  std::printf("%-22s %s\n", name.c_str(), description.c_str());
}

Result<void> list_formats() {
  for (const Format& format : all_formats())
    print_row(format.name, format.description + (format.encode == nullptr ? " (read only)" : ""));
  return {};
}

Result<void> list_families() {
  for (const Family* family : all_families()) print_row(family->architecture, family->description);
  return {};
}

Result<void> list_device_rows() {
  for (const DeviceRow& row : list_devices()) print_row(row.name, row.description);
  return {};
}

Result<void> list_templates() {
  for (const std::string_view name : ChatTemplate::names()) {
    QUENCH_TRY(const ChatTemplate chat_template, ChatTemplate::by_name(name));
    print_row(std::string(name), std::string(chat_template.description()));
  }
  return {};
}

// A folder of JSON files with "name" and "description".
Result<void> list_folder(const std::string& folder) {
  QUENCH_TRY(const std::string path, data_path(folder));
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    QUENCH_TRY(const Json json, read_json_file(file));
    // The protocol lies beside the tasks but is none.
    if (!json.is_object() || json.contains("tasks")) continue;
    auto text = [&, &object = json](const char* key, const std::string& fallback) {
      const auto value = object.find(key);
      return value != object.end() && value->is_string() ? value->get<std::string>() : fallback;
    };
    print_row(text("name", std::filesystem::path(file).stem().string()), text("description", ""));
  }
  return {};
}

// What bench measures, then what eval asks.
Result<void> list_tasks() {
  QUENCH_TRY_VOID(list_folder("tasks"));
  QUENCH_TRY(const std::string path, data_path("tasks/eval"));
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    QUENCH_TRY(const EvalTask task, load_eval_task(file));
    print_row(task.name, task.description + "; quench eval --tasks");
  }
  return {};
}

Result<void> list_shapes() {
  QUENCH_TRY(const std::string path, data_path("models/shapes.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  for (const auto& [name, config] : json.at("models").items()) {
    print_row(name, config.at("architectures").at(0).get<std::string>());
  }
  return {};
}

Result<void> list_algorithms() {
  for (const Algorithm* algorithm : all_algorithms())
    print_row(algorithm->name, algorithm->description);
  return {};
}

Result<void> list_layouts() {
  for (const QuantWriter* writer : all_quant_writers())
    print_row(writer->name, writer->description);
  return {};
}

Result<void> list_hardware() {
  QUENCH_TRY(const std::vector<Hardware> all, all_hardware());
  for (const Hardware& hardware : all) {
    const HardwareValue& bandwidth = hardware.values.at("memory_gb_s");
    print_row(hardware.name,
              fmt::format("{:6.4g} GB, {:6.4g} GB/s, {:6.4g} TFLOP/s bf16, {:4.0f} W "
                          " ({}, {})",
                          hardware.at("memory_gb"), bandwidth.value, hardware.at("bf16_tflops"),
                          hardware.at("tdp_w"), bandwidth.source, bandwidth.date));
  }
  return {};
}

constexpr const char* kListExamples = R"(Examples:
  quench list formats                  what a matrix can be stored in
  quench list shapes                   models that --random-weights and plan know by name
  quench list hardware                 devices that plan and explain know)";

struct Listing {
  const char* name;
  std::function<Result<void>()> print;
};

const std::vector<Listing>& tables() {
  static const std::vector<Listing> all = {
      {"formats", list_formats},
      {"algorithms", list_algorithms},
      {"layouts", list_layouts},
      {"families", list_families},
      {"devices", list_device_rows},
      {"templates", list_templates},
      {"shapes", list_shapes},
      {"tasks", list_tasks},
      {"recipes", [] { return list_folder("recipes"); }},
      {"hardware", list_hardware},
  };
  return all;
}

}  // namespace

void add_list(CLI::App& app, Verb& chosen) {
  CLI::App* verb = app.add_subcommand(
      "list",
      "Print a table: formats, algorithms, layouts, families, devices, templates, shapes, tasks, "
      "recipes, hardware");
  verb->require_subcommand(1);
  verb->footer(kListExamples);
  for (const Listing& table : tables()) {
    CLI::App* sub = verb->add_subcommand(table.name, fmt::format("List the {}", table.name));
    sub->footer("");
    sub->callback([&table, &chosen] { chosen = table.print; });
  }
}

}  // namespace quench
