#include "measure/report/plan_report.h"

#include <algorithm>
#include <array>
#include <map>

#include "measure/report/page_parts.h"

namespace quench {
namespace {

Json memory_json(const Prediction& prediction) {
  const MemoryTerms& memory = prediction.memory;
  return {{"weights_bytes", memory.weights_bytes},
          {"kv_bytes", memory.kv_bytes},
          {"activations_bytes", memory.activations_bytes},
          {"overhead_bytes", memory.overhead_bytes},
          {"load_peak_bytes", memory.load_peak_bytes > 0.0 ? Json(memory.load_peak_bytes) : Json()},
          {"total_bytes", interval_json(prediction.memory_bytes)}};
}

Json step_json(const Placement& setup, const StepTerms& terms) {
  return {{"bound", terms.bound()},
          {"because", Strings::of("en")(bound_sentence(setup, terms))},
          {"total_s", terms.total_s},
          {"host_s", terms.host_s},
          {"weights_s", terms.weights_s + terms.head_s},
          {"kv_s", terms.kv_s},
          {"compute_s", terms.compute_s},
          {"gap_s", terms.gap_s},
          {"collective_s", terms.collective_s},
          {"step_s", terms.step_s},
          {"weights_bytes", terms.weights_bytes},
          {"kv_bytes", terms.kv_bytes},
          {"flop", terms.flop}};
}

Json prediction_json(const Placement& setup, const Prediction& prediction) {
  return {{"ttft_s", interval_json(prediction.ttft_s)},
          {"tpot_s", interval_json(prediction.tpot_s)},
          {"request_s", interval_json(prediction.request_s)},
          {"decode_tok_s", interval_json(prediction.decode_tok_s)},
          {"decode", step_json(setup, prediction.step)},
          {"prefill", step_json(setup, prediction.prefill)},
          {"basis", Strings::of("en")(prediction.calibration.basis)}};
}

// The values of a sentence about an interval.
std::map<std::string, std::string> between(const Interval& interval, double scale, int decimals) {
  return {{"value", fixed(interval.value * scale, decimals)},
          {"low", fixed(interval.low * scale, decimals)},
          {"high", fixed(interval.high * scale, decimals)}};
}

std::string three_digits(double value) { return fmt::format("{:.3g}", value); }

std::string indented(const std::string& line) { return "  " + line + "\n"; }

std::string notes_text(const std::vector<Sentence>& notes, const Strings& strings) {
  std::string text;
  for (const Sentence& note : notes)
    text += indented(strings("plan.note", {{"text", strings(note)}}));
  return text;
}

std::string fit_text(const Deployment& deployment, const Strings& strings) {
  const Fit& fit = deployment.fit;
  if (fit.fits) {
    return strings(fit.max_batch == 1 ? "plan.memory.fits_one" : "plan.memory.fits",
                   {{"tokens", std::to_string(fit.max_context_tokens)},
                    {"requests", std::to_string(fit.max_batch)}});
  }
  if (!deployment.split_devices) return strings("plan.memory.no_fit");
  return strings("plan.memory.split", {{"devices", std::to_string(*deployment.split_devices)},
                                       {"how", strings(deployment.split_how)}});
}

std::string memory_text(const Deployment& deployment, const Strings& strings) {
  const Placement& setup = deployment.setup;
  const MemoryTerms& memory = deployment.prediction.memory;
  std::string text =
      "\n" + strings(setup.device.has_own_memory() ? "plan.memory.accelerator" : "plan.memory") +
      "\n";
  auto line = [&](const char* key, double bytes,
                  const std::map<std::string, std::string>& values = {}) {
    constexpr size_t kNameColumns = 42;
    const std::string name =
        padded(strings(std::string("plan.memory.") + key, values), kNameColumns, Align::kLeft);
    if (bytes > 0.0) text += indented(fmt::format("{} {:>9.2f} GB", name, bytes / 1e9));
  };
  line("weights", memory.weights_bytes);
  line("kv", memory.kv_bytes,
       {{"batch", fixed(setup.batch, 0)},
        {"tokens", fixed(setup.prompt_tokens + setup.output_tokens, 0)}});
  line("activations", memory.activations_bytes);
  line("overhead", memory.overhead_bytes);
  line("load_peak", memory.load_peak_bytes);
  line("total", memory.total_bytes());
  line("usable", deployment.fit.usable_bytes);
  return text + indented(fit_text(deployment, strings)) + notes_text(deployment.remarks, strings);
}

std::string speed_text(const Deployment& deployment, const Strings& strings) {
  const Prediction& prediction = deployment.used();
  Placement used = deployment.setup;
  used.devices = deployment.devices();
  const std::string heading =
      deployment.split_devices
          ? strings("plan.speed.split", {{"devices", std::to_string(used.devices)}})
          : strings(deployment.fit.fits ? "plan.speed" : "plan.speed.no_fit");
  auto time = [&](const Interval& interval, double scale, int decimals, const char* unit) {
    std::map<std::string, std::string> values = between(interval, scale, decimals);
    values["unit"] = unit;
    return strings("plan.interval", values);
  };
  const std::vector<std::pair<std::string, std::string>> figures = {
      {strings("plan.speed.ttft"), time(prediction.ttft_s, 1e3, 0, "ms")},
      {strings("plan.speed.tpot"), time(prediction.tpot_s, 1e3, 1, "ms")},
      {strings("plan.speed.request"), time(prediction.request_s, 1.0, 2, "s")},
      {strings("plan.speed.tokens"),
       strings("plan.speed.tokens_text", between(prediction.decode_tok_s, 1.0, 1))}};
  int widest = 0;
  for (const auto& [name, figure] : figures) widest = std::max(widest, display_width(name));
  std::string text = "\n" + heading + "\n";
  for (const auto& [name, figure] : figures)
    text += indented(padded(name, static_cast<size_t>(widest + 2), Align::kLeft) + figure);
  auto bound = [&](const char* key, const StepTerms& terms) {
    return indented(strings(key, {{"why", strings(bound_sentence(used, terms))}}));
  };
  text += bound("plan.speed.decode", prediction.step);
  text += bound("plan.speed.prefill", prediction.prefill);
  return text +
         indented(strings("plan.speed.basis", {{"basis", strings(prediction.calibration.basis)}}));
}

std::string range_text(const std::optional<Between>& range, const Strings& strings) {
  return range ? strings("plan.range",
                         {{"low", three_digits(range->low)}, {"high", three_digits(range->high)}})
               : "-";
}

std::string break_even_text(const CostPlan& cost, const Strings& strings) {
  const BreakEven& even = *cost.break_even;
  if (!even.exists) return strings("plan.cost.never");
  return strings(even.within_life ? "plan.cost.pays_off" : "plan.cost.pays_off_late",
                 {{"tokens", three_digits(even.tokens_middle / 1e6)},
                  {"tokens_low", three_digits(even.tokens.low / 1e6)},
                  {"tokens_high", three_digits(even.tokens.high / 1e6)},
                  {"hours", fixed(even.own_hours_middle, 0)},
                  {"hours_low", fixed(even.own_hours.low, 0)},
                  {"hours_high", fixed(even.own_hours.high, 0)},
                  {"years", three_digits(even.years_at_most)},
                  {"percent", fixed(cost.prices.busy * 100.0, 0)},
                  {"input", strings(even.dominated_by)}});
}

// What a million tokens cost on either machine.
std::string rates_text(const CostPlan& cost, const Strings& strings) {
  std::string text;
  if (cost.own_per_million) {
    text += indented(strings("plan.cost.own", {{"range", range_text(cost.own_per_million, strings)},
                                               {"kwh", fixed(cost.energy_kwh_per_million, 2)}}));
  }
  if (cost.rent_per_million) {
    const bool is_month = cost.prices.rent && cost.prices.rent->per_month;
    std::map<std::string, std::string> values = {
        {"device", strings(device_sentence(cost.rent_device))},
        {"range", range_text(cost.rent_per_million, strings)}};
    if (is_month) values["percent"] = fixed(100.0 * cost.prices.busy, 0);
    text += indented(strings(is_month ? "plan.cost.rent_month" : "plan.cost.rent", values));
  }
  return text;
}

std::string hybrid_text(const CostPlan& cost, const Strings& strings) {
  const Hybrid& hybrid = *cost.hybrid;
  return strings("plan.cost.hybrid", {{"machines", fixed(hybrid.machines_for_peak, 0)},
                                      {"own", three_digits(hybrid.own_only_per_day)},
                                      {"currency", cost.prices.currency},
                                      {"rent", three_digits(hybrid.rent_only_per_day)},
                                      {"hours", fixed(hybrid.rented_hours_per_day, 1)},
                                      {"hybrid", three_digits(hybrid.hybrid_per_day)}});
}

TableColumn column(const char* key, const Strings& strings, Align align = Align::kRight) {
  return {key, strings(std::string("plan.column.") + key), align};
}

Table concurrency_table(const CostPlan& cost, const Strings& strings) {
  Table table;
  for (const char* key : {"batch", "tok_s", "own", "rent"})
    table.columns.push_back(column(key, strings));
  for (const CostConcurrencyRow& row : cost.concurrency) {
    const std::string tok_s = strings(
        "plan.range", {{"low", fixed(row.tok_s.low, 0)}, {"high", fixed(row.tok_s.high, 0)}});
    table.rows.push_back({number_cell(static_cast<double>(row.batch), 0), text_cell(tok_s),
                          text_cell(range_text(row.own_per_million, strings)),
                          text_cell(range_text(row.rent_per_million, strings))});
  }
  return table;
}

std::string cost_text(const CostPlan& cost, const Strings& strings) {
  const bool has_price = cost.prices.own || cost.prices.rent;
  std::string text = "\n" +
                     (has_price ? strings("plan.cost", {{"currency", cost.prices.currency}})
                                : strings("plan.cost.none")) +
                     "\n";
  for (const Sentence& line : cost.prices.lines) text += indented(strings(line));
  if (!has_price) return text;
  text += rates_text(cost, strings);
  if (cost.break_even) text += indented(break_even_text(cost, strings));
  if (cost.hybrid) text += indented(hybrid_text(cost, strings));
  text += notes_text(cost.warnings, strings);
  return cost.concurrency.empty() ? text : text + "\n" + concurrency_table(cost, strings).text();
}

}  // namespace

Json plan_json(const Deployment& deployment, const CostPlan& cost) {
  const Placement& setup = deployment.setup;
  Json values = Json::object();
  for (const auto& [key, value] : setup.device.values) {
    values[key] = {{"value", value.value},
                   {"source", value.source},
                   {"date", value.date.empty() ? Json() : Json(value.date)}};
  }
  Json json = {{"schema", "quench.plan/1"},
               {"model", setup.shape.name},
               {"engine", deployment.engine_text},
               {"precision", setup.precision.name},
               {"device", {{"name", setup.device.name}, {"values", values}}},
               {"devices", setup.devices},
               {"settings",
                {{"prompt_tokens", setup.prompt_tokens},
                 {"output_tokens", setup.output_tokens},
                 {"batch", setup.batch}}},
               {"memory", memory_json(deployment.prediction)},
               {"fit",
                {{"usable_bytes", deployment.fit.usable_bytes},
                 {"needed_bytes", deployment.fit.needed_bytes},
                 {"fits", deployment.fit.fits},
                 {"max_context_tokens", deployment.fit.max_context_tokens},
                 {"max_batch", deployment.fit.max_batch}}},
               {"prediction", prediction_json(setup, deployment.prediction)},
               {"split", nullptr},
               {"remarks", english(deployment.remarks)},
               {"cost", cost.prices.own || cost.prices.rent ? cost_json(cost) : Json()}};
  if (deployment.split_devices) {
    Placement split = setup;
    split.devices = *deployment.split_devices;
    json["split"] = {{"devices", split.devices},
                     {"how", Strings::of("en")(deployment.split_how)},
                     {"prediction", prediction_json(split, *deployment.split_prediction)}};
  }
  return json;
}

std::string plan_text(const Deployment& deployment, const CostPlan& cost, const Strings& strings) {
  const Placement& setup = deployment.setup;
  const Hardware& device = setup.device;
  std::map<std::string, std::string> title = {{"model", setup.shape.name},
                                              {"precision", setup.precision.name},
                                              {"engine", deployment.engine_text},
                                              {"device", strings(device_sentence(device.name))}};
  if (setup.devices > 1) title["count"] = std::to_string(setup.devices);
  auto digits = [](double value) { return fmt::format("{:.4g}", value); };
  return strings(setup.devices > 1 ? "plan.title_devices" : "plan.title", title) + "\n" +
         strings("plan.setting", {{"bandwidth", fixed(device.at("memory_gb_s"), 0)},
                                  {"tflops", digits(device.at("bf16_tflops"))},
                                  {"memory", digits(device.at("memory_gb"))},
                                  {"unit", device.has_own_memory() ? "GiB" : "GB"},
                                  {"prompt", fixed(setup.prompt_tokens, 0)},
                                  {"answer", fixed(setup.output_tokens, 0)},
                                  {"batch", fixed(setup.batch, 0)}}) +
         "\n" + memory_text(deployment, strings) + speed_text(deployment, strings) +
         cost_text(cost, strings);
}

std::string advice_text(const Advice& advice, const Strings& strings) {
  std::string text = advice_reason(advice, strings) + "\n";
  if (!advice.best) return text;
  Table table;
  table.columns = {column("device", strings, Align::kLeft),
                   column("precision", strings, Align::kLeft)};
  for (const char* key :
       {"devices", "at_once", "ttft_s", "tpot_s", "tok_s", "memory_gb", "rent_each"})
    table.columns.push_back(column(key, strings));
  table.columns.push_back(column("violates", strings, Align::kLeft));
  auto add = [&](const Candidate& c) {
    table.rows.push_back({text_cell(strings(device_sentence(c.device))), text_cell(c.precision),
                          number_cell(static_cast<double>(c.devices), 0),
                          number_cell(static_cast<double>(c.batch), 0),
                          number_cell(c.ttft_s.value, 2), number_cell(c.tpot_s.value, 1, 1e3),
                          number_cell(c.tok_s.value, 0), number_cell(c.memory_bytes, 1, 1e-9),
                          text_cell(range_text(c.rent_per_million, strings)),
                          text_cell(c.violates.empty() ? "" : strings(c.violates.front()))});
  };
  add(*advice.best);
  for (const Candidate& c : advice.others) add(c);
  for (const Candidate& c : advice.rejected) add(c);
  return text + "\n" + table.text();
}

std::string accuracy_summary(const std::vector<AccuracyGroup>& groups, const Strings& strings) {
  struct Mean {
    double sum = 0.0;
    double worst = 0.0;
    int64_t count = 0;
  };
  // Of an engine, in this order.
  constexpr std::array<const char*, 3> kFigures = {
      "plan.accuracy.memory", "plan.accuracy.memory_awq", "plan.accuracy.speed"};
  std::map<std::pair<std::string, size_t>, Mean> means;
  for (const AccuracyGroup& group : groups) {
    if (group.kind != "plain") continue;
    const std::string engine = group.engine.substr(0, group.engine.find_first_of(" +"));
    const size_t figure = !group.is_memory ? 2 : group.precision == "awq" ? 1 : 0;
    Mean& mean = means[{engine, figure}];
    mean.sum += group.mean_error;
    mean.worst = std::max(mean.worst, group.mean_error);
    ++mean.count;
  }
  std::string text = "\n" + strings("plan.accuracy.summary") + "\n";
  for (const auto& [of, mean] : means) {
    const auto& [engine, figure] = of;
    constexpr size_t kNameColumns = 26;
    const std::string name =
        padded(strings(kFigures[figure], {{"engine", engine}}), kNameColumns, Align::kLeft);
    text +=
        indented(name + " " +
                 strings("plan.accuracy.mean",
                         {{"mean", fixed(100.0 * mean.sum / static_cast<double>(mean.count), 1)},
                          {"groups", std::to_string(mean.count)},
                          {"worst", fixed(100.0 * mean.worst, 1)}}));
  }
  return text;
}

}  // namespace quench
