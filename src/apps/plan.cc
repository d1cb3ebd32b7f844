// quench plan: does a model fit a device, how fast will it be, what does it cost; before anything
// is bought, rented or run.
#include <algorithm>
#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/format.h"
#include "measure/analyze/accuracy.h"
#include "measure/analyze/advise.h"
#include "measure/analyze/quantity.h"
#include "measure/analyze/score.h"
#include "measure/measured_model.h"
#include "measure/records.h"
#include "measure/report/plan_report.h"

namespace quench {
namespace {

constexpr const char* kPlanExamples = R"~(Examples:
  quench plan Qwen2.5-7B
  quench plan Qwen2.5-7B --device A100 --engine vllm --precision awq --prompt 2048 --batch 8
  quench plan Qwen2.5-7B --device RTX-3060 --engine llama.cpp --precision q4_k_m --rent-device A100
  quench plan Qwen2.5-14B --recommend --max-tpot 30ms --max-cost 2USD --engine vllm
  quench plan Qwen2.5-7B --device RTX-4090 --lang zh
  quench plan --accuracy)~";

struct PlanFlags {
  std::string model = "demo", device, engine, precision, rows_path;
  int64_t devices = 1;
  double prompt_tokens = 512.0, output_tokens = 256.0, batch = 1.0;
  CostWishes cost;
  Demand demand;
  std::string rent_device;  // empty: the same device is rented
  std::string max_ttft, max_tpot, max_cost;
  double max_memory_gb = 0.0;
  std::string lang = "en";
  bool recommend = false, accuracy = false, json = false, no_history = false;
};

Result<std::vector<PublishedRow>> extra_rows(const PlanFlags& flags) {
  if (flags.rows_path.empty()) return std::vector<PublishedRow>();
  QUENCH_TRY(const std::string text, read_file(flags.rows_path));
  return parse_published(text, flags.rows_path);
}

Result<void> accuracy(const PlanFlags& flags) {
  QUENCH_TRY(const auto extra, extra_rows(flags));
  QUENCH_TRY(const Predictor predictor, Predictor::load(extra));
  const std::vector<AccuracyGroup> groups = leave_one_model_out(predictor);
  const Strings& strings = Strings::of(flags.lang);
  const Table table = accuracy_table(groups, strings);
  if (flags.json) {
    print_json({{"schema", "quench.accuracy/1"}, {"groups", table.json()}});
  } else {
    std::fputs(table.text(stdout_takes_style()).c_str(), stdout);
    std::fputs(accuracy_summary(groups, strings).c_str(), stdout);
  }
  return {};
}

// Where it would run, and who answers for it.
struct Place {
  Placement setup;
  std::string engine_text;
  PredictFn predict;
  // Of this machine, where the prediction can be scored.
  std::optional<PredictionKey> key;
  Ceilings ceilings;
};

Result<Place> place_elsewhere(const PlanFlags& flags, const Predictor& predictor,
                              const std::string& device_name, const std::string& precision) {
  QUENCH_TRY(const Hardware device, find_hardware(device_name));
  Place place;
  place.engine_text = flags.engine.empty() ? "vllm" : flags.engine;
  QUENCH_TRY(place.setup, predictor.setup(flags.model, place.engine_text, precision, device));
  place.setup.devices = flags.devices;
  place.setup.prompt_tokens = flags.prompt_tokens;
  place.setup.output_tokens = flags.output_tokens;
  place.setup.batch = flags.batch;
  place.predict = predict_elsewhere(predictor, place.setup, place.engine_text);
  return place;
}

Result<Place> place_here(const PlanFlags& flags, const Predictor& predictor,
                         const std::string& precision) {
  if (!flags.engine.empty() && flags.engine != "quench") {
    return fail(ErrorCode::kInvalidArgument,
                "On this machine quench plans for itself; --engine {} needs a --device.",
                flags.engine);
  }
  SessionOptions options;
  options.model = flags.model;
  options.format = precision;
  options.random_weights =
      flags.model != "demo" && !is_directory(flags.model) && !file_exists(flags.model);
  QUENCH_TRY(const auto model, plan_model(options, Weights::kOptional));
  QUENCH_TRY(const Ceilings ceilings, cached_ceilings(*model->device, false));
  const auto memory = static_cast<double>(physical_memory_bytes());
  // The power of a processor is in no file of the kernel's; --watt says it.
  const Hardware device = this_hardware(ceilings, memory, model->plan.read_bytes_per_token,
                                        flags.cost.busy_w.value_or(100.0));
  Place place;
  place.engine_text = "quench";
  QUENCH_TRY(place.setup, predictor.setup(flags.model, "quench", precision, device));
  if (const Format* format = find_format(precision)) place.setup.precision.name = format->name;
  place.setup.prompt_tokens = flags.prompt_tokens;
  place.setup.output_tokens = flags.output_tokens;
  place.setup.batch = flags.batch;
  ProgressLine progress(true);
  progress.show(fmt::format("Running some layers of {} in {} to see how fast they are here",
                            model->files.name, precision.empty() ? "its own format" : precision),
                0, 1);
  auto predict = predict_here(options, ceilings, place.setup);
  progress.clear();
  QUENCH_TRY(place.predict, std::move(predict));
  place.key =
      prediction_key(measured_model(model->files.name, model->plan, ""), model->device->isa(),
                     model->device->num_workers(), static_cast<int64_t>(flags.batch));
  place.ceilings = ceilings;
  return place;
}

Result<Place> find_place(const PlanFlags& flags, const Predictor& predictor,
                         const std::string& device, const std::string& precision) {
  return device.empty() ? place_here(flags, predictor, precision)
                        : place_elsewhere(flags, predictor, device, precision);
}

Result<std::optional<double>> optional_seconds(const std::string& text, const char* flag) {
  if (text.empty()) return std::optional<double>();
  QUENCH_TRY(const double seconds, parse_seconds(text, flag));
  return std::optional(seconds);
}

Result<Limits> read_limits(const PlanFlags& flags) {
  Limits limits;
  QUENCH_TRY(limits.ttft_s, optional_seconds(flags.max_ttft, "--max-ttft"));
  QUENCH_TRY(limits.tpot_s, optional_seconds(flags.max_tpot, "--max-tpot"));
  if (flags.max_memory_gb > 0.0) limits.memory_bytes = flags.max_memory_gb * 1e9;
  if (!flags.max_cost.empty()) {
    QUENCH_TRY(limits.per_million, parse_money(flags.max_cost));
  }
  return limits;
}

Result<void> recommend(const PlanFlags& flags, const Predictor& predictor) {
  QUENCH_TRY(const Limits limits, read_limits(flags));
  QUENCH_TRY(const std::vector<Price> prices, load_prices());
  // The named device, or all that have a price, or with no engine named this machine.
  std::vector<std::string> devices;
  if (!flags.device.empty()) {
    devices = {flags.device};
  } else if (flags.engine.empty()) {
    devices = {""};
  } else {
    for (const Price& price : prices) {
      if (price.kind == "rent" &&
          std::find(devices.begin(), devices.end(), price.device) == devices.end())
        devices.push_back(price.device);
    }
  }
  const std::string currency =
      limits.per_million ? limits.per_million->currency : flags.cost.currency;
  std::vector<Candidate> candidates;
  for (const std::string& device : devices) {
    std::vector<std::string> precisions = {"bf16", "gptq-int8", "gptq-int4", "awq", "fp8"};
    if (device.empty()) precisions = {"bf16", "int8", "int4_g128"};
    if (!flags.precision.empty()) precisions = {flags.precision};
    for (const std::string& precision : precisions) {
      QUENCH_TRY(const Place place, find_place(flags, predictor, device, precision));
      if (precision == "fp8" && !place.setup.device.find("fp8_tflops")) continue;
      QUENCH_TRY(const Deployment deployment,
                 deploy(place.setup, place.engine_text, place.predict));
      if (!deployment.fit.fits && !deployment.split_devices) continue;
      CostWishes wishes = flags.cost;
      if (wishes.currency.empty()) wishes.currency = currency;
      const Price* price = find_price(prices, "rent", place.setup.device.name, wishes.currency,
                                      deployment.devices());
      QUENCH_TRY(const auto rows, against_concurrency(deployment, place.predict));
      for (const ConcurrencyRow& row : rows) {
        if (!row.fits) continue;
        Placement setup = place.setup;
        setup.batch = static_cast<double>(row.batch);
        setup.devices = deployment.devices();
        QUENCH_TRY(const Prediction prediction, place.predict(setup));
        Candidate c;
        c.device = place.setup.device.name;
        c.devices = setup.devices;
        c.precision = precision;
        c.batch = row.batch;
        c.memory_bytes = prediction.memory.total_bytes();
        c.ttft_s = prediction.ttft_s;
        c.tpot_s = prediction.tpot_s;
        c.tok_s = prediction.decode_tok_s;
        if (price != nullptr && (wishes.currency.empty() || price->currency == wishes.currency)) {
          const double n = static_cast<double>(setup.devices);
          Renting rent;
          rent.per_hour = {price->amount.low * n, price->amount.high * n};
          c.currency = price->currency;
          c.rent_per_million = rent_cost_per_million(rent, {c.tok_s.low, c.tok_s.high}, 1.0, 0.0);
        }
        candidates.push_back(std::move(c));
      }
    }
  }
  const Advice advice = advise(std::move(candidates), limits);
  if (flags.json) {
    Json json = {{"schema", "quench.plan/1"}, {"model", flags.model}};
    json["recommendation"] = advice_json(advice);
    print_json(json);
  } else {
    std::fputs(advice_text(advice, Strings::of(flags.lang)).c_str(), stdout);
  }
  return {};
}

// To be scored when it is measured. Failing costs nobody the plan.
void keep_plan(const PlanFlags& flags, const Place& place) {
  if (!place.key || flags.no_history) return;
  const auto prediction =
      make_prediction(*place.key, place.setup, place.predict, place.ceilings, utc_time());
  const auto kept =
      prediction ? keep_prediction(*prediction) : Result<void>(tl::unexpected(prediction.error()));
  if (!kept) {
    std::fprintf(stderr, "quench: %s\n", kept.error().message.c_str());
  } else if (!flags.json) {
    std::printf("\n%s\n", Strings::of(flags.lang)("plan.kept").c_str());
  }
}

Result<void> plan(const PlanFlags& flags) {
  if (flags.accuracy) return accuracy(flags);
  QUENCH_TRY(const auto extra, extra_rows(flags));
  QUENCH_TRY(const Predictor predictor, Predictor::load(extra));
  if (flags.recommend) return recommend(flags, predictor);
  QUENCH_TRY(const Place place, find_place(flags, predictor, flags.device, flags.precision));
  QUENCH_TRY(Deployment owned, deploy(place.setup, place.engine_text, place.predict));
  if (const auto why = place.key ? disturbance_sentence(place.ceilings) : std::nullopt)
    owned.remarks.push_back({"plan.remark.disturbed", {}, {{"why", *why}}});
  QUENCH_TRY(const auto owned_rows, against_concurrency(owned, place.predict));
  Deployment rented = owned;
  std::vector<ConcurrencyRow> rented_rows = owned_rows;
  if (!flags.rent_device.empty()) {
    // Rented in the precision it is published in, unless one was named.
    QUENCH_TRY(const Place other,
               place_elsewhere(flags, predictor, flags.rent_device, flags.precision));
    QUENCH_TRY(rented, deploy(other.setup, other.engine_text, other.predict));
    QUENCH_TRY(rented_rows, against_concurrency(rented, other.predict));
  }
  QUENCH_TRY(const CostPlan cost,
             plan_cost(flags.cost, flags.demand, owned, rented, owned_rows, rented_rows));
  if (flags.json) {
    print_json(plan_json(owned, cost));
  } else {
    std::fputs(plan_text(owned, cost, Strings::of(flags.lang)).c_str(), stdout);
  }
  keep_plan(flags, place);
  return {};
}

}  // namespace

void add_plan(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* verb = app.add_subcommand(
      "plan", "Does a model fit a device, how fast will it be, what does it cost");
  verb->footer(kPlanExamples);
  verb->add_option("MODEL", flags->model, "Model directory, or an official name")
      ->capture_default_str();
  verb->add_option("--device", flags->device,
                   "A device of `quench list hardware`; without it, this machine");
  verb->add_option("--devices", flags->devices, "How many of them")->check(CLI::Range(1, 64));
  verb->add_option("--engine", flags->engine,
                   "transformers, vllm, sglang, llama.cpp, ..., with a version or without");
  verb->add_option("--precision,--format", flags->precision,
                   "bf16, fp8, gptq-int8, gptq-int4, awq, q4_k_m, ..., or a format of quench");
  verb->add_option("--prompt", flags->prompt_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1.0, 1e7))
      ->capture_default_str();
  verb->add_option("--output", flags->output_tokens, "Tokens of the answer")
      ->check(CLI::Range(1.0, 1e7))
      ->capture_default_str();
  verb->add_option("--batch", flags->batch, "Requests at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  add_cost_options(*verb, flags->cost);
  verb->add_option("--rent-device", flags->rent_device,
                   "What is rented, when it is another device");
  verb->add_option("--demand", flags->demand.tokens_per_day,
                   "Tokens a day: own machine first, rent the rest")
      ->check(CLI::Range(0.0, 1e15));
  verb->add_option("--busy-hours", flags->demand.busy_hours,
                   "Hours of the day that the demand comes in")
      ->check(CLI::Range(0.1, 24.0))
      ->capture_default_str();
  CLI::Option* recommend =
      verb->add_flag("--recommend", flags->recommend, "Choose precision, batch and device");
  verb->add_option("--max-ttft", flags->max_ttft, "First token at the latest: 500ms, 2s")
      ->needs(recommend);
  verb->add_option("--max-tpot", flags->max_tpot, "Time per token at most: 30ms")->needs(recommend);
  verb->add_option("--max-memory-gb", flags->max_memory_gb, "Memory at most")
      ->check(CLI::Range(0.0, 1e6))
      ->needs(recommend);
  verb->add_option("--max-cost", flags->max_cost, "Per million tokens rented: 2USD")
      ->needs(recommend);
  verb->add_flag("--accuracy", flags->accuracy,
                 "How far the predictor is off on models left out of its fit");
  verb->add_option(
      "--rows", flags->rows_path,
      "More measured rows to fit to, a CSV file like hardware/published/qwen_speed.csv");
  verb->add_flag("--no-history", flags->no_history,
                 "Do not keep the prediction of this machine to be scored");
  verb->add_option("--lang", flags->lang, "Language of the text")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "One JSON object instead of text");
  verb->callback([flags, &chosen] { chosen = [flags] { return plan(*flags); }; });
}

}  // namespace quench
