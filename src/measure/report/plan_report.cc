#include "measure/report/plan_report.h"

#include <map>

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
          {"basis", prediction.calibration.basis}};
}

std::string between(const Interval& interval, double scale, int decimals) {
  return fmt::format("{:.{}f} (90 %: {:.{}f} to {:.{}f})", interval.value * scale, decimals,
                     interval.low * scale, decimals, interval.high * scale, decimals);
}

std::string memory_text(const Deployment& deployment) {
  const MemoryTerms& memory = deployment.prediction.memory;
  std::string text = "\nmemory\n";
  auto line = [&](const char* name, double bytes) {
    if (bytes > 0.0) text += fmt::format("  {:<42} {:>9.2f} GB\n", name, bytes / 1e9);
  };
  line("weights", memory.weights_bytes);
  line(fmt::format("keys and values, {:.0f} x {:.0f} tokens", deployment.setup.batch,
                   deployment.setup.prompt_tokens + deployment.setup.output_tokens)
           .c_str(),
       memory.kv_bytes);
  line("activations", memory.activations_bytes);
  line("copies and tables", memory.overhead_bytes);
  line("peak while loading", memory.load_peak_bytes);
  line("total", memory.total_bytes());
  const Fit& fit = deployment.fit;
  line("usable on one device", fit.usable_bytes);
  if (fit.fits) {
    text +=
        fmt::format("  it fits; at most {} tokens at this batch, or {} request{} of this length\n",
                    fit.max_context_tokens, fit.max_batch, fit.max_batch == 1 ? "" : "s");
  } else if (deployment.split_devices) {
    text += fmt::format("  it does not fit; over {} devices it does ({})\n",
                        *deployment.split_devices, deployment.split_how);
  } else {
    text += "  it does not fit\n";
  }
  for (const std::string& remark : deployment.remarks) text += "  note: " + remark + "\n";
  return text;
}

std::string range_text(const std::optional<Between>& range) {
  return range ? fmt::format("{:.3g} to {:.3g}", range->low, range->high) : "-";
}

std::string break_even_text(const CostPlan& cost) {
  const BreakEven& even = *cost.break_even;
  if (!even.exists) {
    return "  buying never pays: a token costs more electricity here than its rent elsewhere\n";
  }
  return fmt::format(
      "  buying pays off after {:.3g} M tokens (90 %: {:.3g} to {:.3g}), that is {:.0f} hours of "
      "work ({:.0f} to {:.0f}); {} within {:.3g} years at {:.0f} % busy; {} moves it most\n",
      even.tokens_middle / 1e6, even.tokens.low / 1e6, even.tokens.high / 1e6,
      even.own_hours_middle, even.own_hours.low, even.own_hours.high,
      even.within_life ? "reached" : "not reached", even.years_at_most, cost.prices.busy * 100.0,
      even.dominated_by);
}

std::string cost_text(const CostPlan& cost) {
  if (!cost.prices.own && !cost.prices.rent) {
    std::string none =
        "\ncost: no price is known for this device; give --buy and --electricity, or --rent\n";
    for (const std::string& input : cost.prices.lines) none += "  " + input + "\n";
    return none;
  }
  std::string text = fmt::format("\ncost, in {}\n", cost.prices.currency);
  for (const std::string& input : cost.prices.lines) text += "  " + input + "\n";
  if (cost.own_per_million) {
    text += fmt::format("  own: {} per million tokens, {:.2f} kWh of them\n",
                        range_text(cost.own_per_million), cost.energy_kwh_per_million);
  }
  if (cost.rent_per_million) {
    text += fmt::format("  rent ({}): {} per million tokens, {}\n", cost.rent_device,
                        range_text(cost.rent_per_million),
                        cost.prices.rent && cost.prices.rent->per_month
                            ? fmt::format("{:.0f} % of the month busy", 100.0 * cost.prices.busy)
                            : "without idle hours");
  }
  if (cost.break_even) text += break_even_text(cost);
  if (cost.hybrid) {
    const Hybrid& hybrid = *cost.hybrid;
    text += fmt::format(
        "  a day: {:.0f} own machines for the peak {:.3g} {}, rent only {:.3g}, one own machine "
        "and "
        "{:.1f} rented hours {:.3g}\n",
        hybrid.machines_for_peak, hybrid.own_only_per_day, cost.prices.currency,
        hybrid.rent_only_per_day, hybrid.rented_hours_per_day, hybrid.hybrid_per_day);
  }
  for (const std::string& warning : cost.warnings) text += "  note: " + warning + "\n";
  if (cost.concurrency.empty()) return text;
  Table table;
  table.columns = {{"batch", "requests at once"},
                   {"tok_s", "tok/s"},
                   {"own", "own, per M tokens"},
                   {"rent", "rent, per M tokens"}};
  for (const CostConcurrencyRow& row : cost.concurrency) {
    table.rows.push_back({number_cell(static_cast<double>(row.batch), 0),
                          text_cell(fmt::format("{:.0f} to {:.0f}", row.tok_s.low, row.tok_s.high)),
                          text_cell(range_text(row.own_per_million)),
                          text_cell(range_text(row.rent_per_million))});
  }
  return text + "\n" + table.text();
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
               {"remarks", deployment.remarks},
               {"cost", cost.prices.own || cost.prices.rent ? cost_json(cost) : Json()}};
  if (deployment.split_devices) {
    Placement split = setup;
    split.devices = *deployment.split_devices;
    json["split"] = {{"devices", split.devices},
                     {"how", deployment.split_how},
                     {"prediction", prediction_json(split, *deployment.split_prediction)}};
  }
  return json;
}

std::string plan_text(const Deployment& deployment, const CostPlan& cost) {
  const Placement& setup = deployment.setup;
  const Hardware& device = setup.device;
  std::string text = fmt::format(
      "{}, {}, {} on {}{}\n{:.0f} GB/s, {:.4g} TFLOP/s in bf16, {:.4g} {}; prompt {:.0f}, answer "
      "{:.0f}, {:.0f} at once\n",
      setup.shape.name, setup.precision.name, deployment.engine_text,
      setup.devices > 1 ? fmt::format("{} x ", setup.devices) : "", device.name,
      device.at("memory_gb_s"), device.at("bf16_tflops"), device.at("memory_gb"),
      device.kind == "gpu" || device.kind == "npu" ? "GiB" : "GB", setup.prompt_tokens,
      setup.output_tokens, setup.batch);
  text += memory_text(deployment);
  const Prediction& prediction = deployment.used();
  Placement used = setup;
  used.devices = deployment.devices();
  text += fmt::format("\nspeed{}\n", deployment.split_devices
                                         ? fmt::format(", over {} devices", used.devices)
                                     : deployment.fit.fits ? ""
                                                           : ", if it did fit");
  text += fmt::format("  first token     {} ms\n", between(prediction.ttft_s, 1e3, 0));
  text += fmt::format("  time per token  {} ms\n", between(prediction.tpot_s, 1e3, 1));
  text += fmt::format("  whole answer    {} s\n", between(prediction.request_s, 1.0, 2));
  text += fmt::format("  tokens          {} per second, all together\n",
                      between(prediction.decode_tok_s, 1.0, 1));
  text += fmt::format("  decode is bound by {}\n",
                      Strings::of("en")(bound_sentence(used, prediction.step)));
  text += fmt::format("  prefill is bound by {}\n",
                      Strings::of("en")(bound_sentence(used, prediction.prefill)));
  text += fmt::format("  from {}\n", prediction.calibration.basis);
  return text + cost_text(cost);
}

std::string advice_text(const Advice& advice) {
  std::string text = advice.reason + "\n";
  if (!advice.best) return text;
  Table table;
  table.columns = {{"device", "device", Align::kLeft},
                   {"precision", "precision", Align::kLeft},
                   {"devices", "devices"},
                   {"batch", "batch"},
                   {"ttft_s", "first token s"},
                   {"tpot_s", "ms per token"},
                   {"tok_s", "tok/s"},
                   {"memory_gb", "GB"},
                   {"rent", "rent per M tokens"},
                   {"violates", "", Align::kLeft}};
  auto add = [&](const Candidate& c) {
    table.rows.push_back({text_cell(c.device), text_cell(c.precision),
                          number_cell(static_cast<double>(c.devices), 0),
                          number_cell(static_cast<double>(c.batch), 0),
                          number_cell(c.ttft_s.value, 2), number_cell(c.tpot_s.value, 1, 1e3),
                          number_cell(c.tok_s.value, 0), number_cell(c.memory_bytes, 1, 1e-9),
                          text_cell(range_text(c.rent_per_million)),
                          text_cell(c.violates.empty() ? "" : c.violates.front())});
  };
  add(*advice.best);
  for (const Candidate& c : advice.others) add(c);
  for (const Candidate& c : advice.rejected) add(c);
  return text + "\n" + table.text();
}

std::string accuracy_summary(const std::vector<AccuracyGroup>& groups) {
  struct Mean {
    double sum = 0.0;
    double worst = 0.0;
    int64_t count = 0;
  };
  std::map<std::string, Mean> means;
  for (const AccuracyGroup& group : groups) {
    if (group.kind != "plain") continue;
    std::string name = group.engine.substr(0, group.engine.find_first_of(" +"));
    name += group.is_memory ? (group.precision == "awq" ? " memory, awq" : " memory") : " speed";
    Mean& mean = means[name];
    mean.sum += group.mean_error;
    mean.worst = std::max(mean.worst, group.mean_error);
    ++mean.count;
  }
  std::string text = "\nbatch 1, one device, a prompt of one token, at least five dense models:\n";
  for (const auto& [name, mean] : means) {
    text += fmt::format("  {:<26} mean error {:.1f} % over {} groups, worst group {:.1f} %\n", name,
                        100.0 * mean.sum / static_cast<double>(mean.count), mean.count,
                        100.0 * mean.worst);
  }
  return text;
}

}  // namespace quench
