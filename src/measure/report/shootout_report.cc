#include "measure/report/shootout_report.h"

#include <fmt/ranges.h>

#include "measure/report/cost_report.h"
#include "measure/report/lookup.h"
#include "measure/report/wrap.h"

namespace quench {
namespace {

constexpr const char* kNeeds[] = {"storage", "speed", "balance"};

std::string shown(const Json& json, const char* path) {
  const Json& value = part(json, path);
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "-" : value.dump();
}

// "temperature 0.7, top_p 0.9"
std::string settings_text(const Json& sampling) {
  if (!sampling.is_object()) return "-";
  std::vector<std::string> parts;
  for (const auto& [key, value] : sampling.items())
    parts.push_back(fmt::format("{} {}", key, value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// "71.7 +-5.8": percent and its standard error; in files of an earlier version only in the
// evaluation.
Cell accuracy_cell(const Json& shootout, size_t row) {
  const Json& kept = shootout["rows"][row];
  auto percent = number(kept, "/accuracy");
  auto error = number(kept, "/accuracy_standard_error");
  const Json& scores = list(shootout, "/evaluations");
  double scale = 100.0;
  if (!percent && row < scores.size()) {
    percent = number(scores[row], "/accuracy/percent");
    error = number(scores[row], "/accuracy/standard_error");
    scale = 1.0;
  }
  Cell cell = number_cell(percent, 1, scale);
  if (percent && error) cell.text += fmt::format(" \u00b1{:.1f}", scale * *error);
  return cell;
}

std::string state_line(const Json& shootout, const Strings& strings) {
  return part(shootout, "/complete") == Json(false) ? strings("incomplete") + "\n\n" : "";
}

std::string choice_text(const Json& shootout, const char* need, const Strings& strings) {
  const std::string profile =
      text(part(shootout, "/recommendation"), fmt::format("/{}/profile", need).c_str());
  return profile.empty() ? strings("none") : profile_text(strings, profile);
}

TableColumn column(const Strings& strings, const char* key, Align align = Align::kRight) {
  return {key, strings(fmt::format("column.{}", key)), align};
}

}  // namespace

Result<void> validate_shootout(const Json& shootout, const std::string& where) {
  const Json& rows = part(shootout, "/rows");
  if (text(shootout, "/schema") != "quench.shootout/1" || !rows.is_array() || rows.empty()) {
    return fail(ErrorCode::kInvalidFile,
                "{}: expected a quench.shootout/1 with at least one row, as `quench shootout "
                "--json` writes it, or what `quench bench --json` writes.",
                where);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto bytes = number(rows[i], "/bytes");
    if (text(rows[i], "/profile").empty() || !bytes || !(*bytes > 0.0)) {
      return fail(
          ErrorCode::kInvalidFile,
          "{}: row {} needs a \"profile\" (a name) and \"bytes\" (over 0); found {} and {}.", where,
          i, part(rows[i], "/profile").dump(), part(rows[i], "/bytes").dump());
    }
  }
  return {};
}

std::string name_text(const Strings& strings, const std::string& name) {
  return strings.fill("name." + name, {}).value_or(name);
}

Table shootout_table(const Json& shootout, const Strings& strings) {
  const Json& rows = shootout["rows"];
  Table table;
  table.columns = {column(strings, "profile", Align::kLeft),
                   column(strings, "format", Align::kLeft)};
  bool has_accuracy = false;
  for (size_t i = 0; i < rows.size(); ++i)
    has_accuracy |= !accuracy_cell(shootout, i).value.is_null();
  for (const char* key :
       {"bytes", "saved_fraction", "compression_ratio", "decode_tok_s", "ttft_s", "e2e_s",
        "kld_mean", "ppl", "accuracy", "top1_agreement", "peak_bytes", "make_s"}) {
    if (key != std::string_view("accuracy") || has_accuracy)
      table.columns.push_back(column(strings, key));
  }
  const double reference_bytes = *number(rows[0], "/bytes");
  for (size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    const double bytes = *number(row, "/bytes");
    Cell speed = number_cell(number(row, "/decode_tok_s"), 1);
    const Json& statistics = part(row, "/statistics/decode_tok_s");
    const auto low = number(statistics, "/low");
    const auto high = number(statistics, "/high");
    if (low && high && number(statistics, "/count").value_or(0) > 1)
      speed.text = fmt::format("{} ({:.1f}-{:.1f})", speed.text, *low, *high);
    std::vector<Cell> cells = {
        {profile_text(strings, text_cell(text(row, "/profile")).text), row["profile"]},
        text_cell(text(row, "/format")),
        number_cell(bytes, 2, 1e-6),
        number_cell(1.0 - bytes / reference_bytes, 1, 100.0),
        number_cell(reference_bytes / bytes, 2),
        speed,
        number_cell(number(row, "/ttft_s"), 3),
        number_cell(number(row, "/e2e_s"), 2),
        number_cell(number(row, "/kld_mean"), 4),
        number_cell(number(row, "/ppl"), 2)};
    if (has_accuracy) cells.push_back(accuracy_cell(shootout, i));
    cells.push_back(number_cell(number(row, "/top1_agreement"), 1, 100.0));
    cells.push_back(number_cell(number(row, "/peak_bytes"), 1, 1e-6));
    cells.push_back(number_cell(number(row, "/make_s"), 2));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Table domain_table(const Json& shootout, const Strings& strings) {
  Table table;
  table.columns = {column(strings, "profile", Align::kLeft),
                   column(strings, "domain", Align::kLeft)};
  for (const char* key :
       {"scored", "kld_mean", "kld_low", "kld_high", "kld_p99", "kld_max", "top1_agreement", "ppl"})
    table.columns.push_back(column(strings, key));
  const Json& rows = shootout["rows"];
  const Json& evaluations = list(shootout, "/evaluations");
  for (size_t i = 0; i < std::min(rows.size(), evaluations.size()); ++i) {
    for (const Json& scores : list(evaluations[i], "/domains")) {
      const std::string profile = text_cell(text(rows[i], "/profile")).text;
      table.rows.push_back({{profile_text(strings, profile), rows[i]["profile"]},
                            text_cell(name_text(strings, text(scores, "/domain"))),
                            number_cell(number(scores, "/scored"), 0),
                            number_cell(number(scores, "/kld/mean"), 4),
                            number_cell(number(scores, "/kld/ci95/0"), 4),
                            number_cell(number(scores, "/kld/ci95/1"), 4),
                            number_cell(number(scores, "/kld/p99"), 3),
                            number_cell(number(scores, "/kld/max"), 3),
                            number_cell(number(scores, "/top1_agreement"), 1, 100.0),
                            number_cell(number(scores, "/ppl"), 2)});
    }
  }
  return table;
}

std::string reason_text(const Json& shootout, const char* need, const Strings& strings) {
  const Json& choice = part(part(shootout, "/recommendation"), fmt::format("/{}", need).c_str());
  const auto translated = clauses_text(strings, part(choice, "/clauses"));
  return translated ? *translated : text(choice, "/reason");
}

std::vector<std::string> measured_how(const Json& shootout, const Strings& strings) {
  std::vector<std::string> result;
  const Json& record = part(shootout, "/records/0");
  std::vector<std::string> tasks;
  for (const Json& task : list(record, "/tasks"))
    tasks.push_back(name_text(strings, shown(task, "/task")));
  const std::string cpu = text(shootout, "/machine/cpu_model");
  const std::string lang = text(shootout, "/settings/lang");
  result.push_back(
      strings("how.speed", {{"model", shown(shootout, "/reference/name")},
                            {"cpu", cpu.empty() ? strings("unknown_cpu") : cpu},
                            {"device", shown(record, "/settings/device")},
                            {"isa", shown(record, "/build/isa")},
                            {"threads", shown(record, "/settings/threads")},
                            {"tasks", strings.join(tasks)},
                            {"lang", strings.fill("lang." + lang, {}).value_or(lang)},
                            {"warmups", shown(shootout, "/settings/warmups")},
                            {"runs", shown(shootout, "/settings/runs")},
                            {"seed", shown(shootout, "/settings/first_seed")},
                            {"sampling", settings_text(part(shootout, "/settings/sampling"))}}));
  if (number(shootout, "/settings/max_new_tokens"))
    result.push_back(
        strings("how.at_most", {{"tokens", shown(shootout, "/settings/max_new_tokens")}}));
  result.push_back(strings(part(shootout, "/settings/interleaved") == Json(false)
                               ? "how.one_by_one"
                               : "how.interleaved"));
  const Json& speed = part(shootout, "/rows/0/statistics/decode_tok_s");
  const auto coverage = number(speed, "/coverage");
  result.push_back(
      coverage && number(speed, "/count").value_or(0) > 1
          ? strings("how.interval", {{"coverage", fmt::format("{:.1f}", 100.0 * *coverage)}})
          : strings("how.medians"));
  const Json& evaluation = part(shootout, "/evaluations/0");
  if (!evaluation.is_object()) {
    result.push_back(strings("how.no_loss"));
    return result;
  }
  std::map<std::string, std::string> values = {
      {"scored", shown(evaluation, "/scored")},
      {"text", shown(evaluation, "/text")},
      {"tokens", shown(evaluation, "/tokens")},
      {"domains", std::to_string(list(evaluation, "/domains").size())},
      {"per_domain", shown(evaluation, "/max_tokens_per_domain")},
      {"context", shown(evaluation, "/context")},
      {"stride", shown(evaluation, "/stride")},
      {"kld", fmt::format("{:.3g}", number(evaluation, "/noise_floor/kld_max").value_or(0.0))}};
  result.push_back(strings(
      number(evaluation, "/max_tokens_per_domain") ? "how.loss_limited" : "how.loss", values));
  // A file of an earlier version says it in English only.
  const auto windows = strings.fill("how." + text(evaluation, "/windows"), values);
  result.push_back(windows ? *windows : text(evaluation, "/convention"));
  result.push_back(strings("how.noise", values));
  if (number(shootout, "/rows/0/accuracy_questions")) {
    result.push_back(
        strings("how.accuracy", {{"questions", shown(shootout, "/rows/0/accuracy_questions")}}));
  }
  return result;
}

namespace {

std::string how_paragraph(const Json& shootout, const Strings& strings) {
  std::string result;
  for (const std::string& sentence : measured_how(shootout, strings))
    result += (result.empty() ? "" : strings("sentence_space")) + sentence;
  return wrap(result);
}

}  // namespace

std::string shootout_text(const Json& shootout, const Strings& strings, bool bold) {
  std::string lines;
  for (const char* need : kNeeds) {
    lines += fmt::format("  {:<8} {}{}{}\n", strings(fmt::format("need.{}", need)),
                         choice_text(shootout, need, strings), strings("name_separator"),
                         reason_text(shootout, need, strings));
  }
  const std::string cost = cost_text(shootout, strings, bold);
  return fmt::format("{}{}\n{}\n{}\n{}{}", state_line(shootout, strings),
                     shootout_table(shootout, strings).text(bold), strings("recommendation"), lines,
                     cost.empty() ? cost : cost + "\n", how_paragraph(shootout, strings));
}

std::string shootout_markdown(const Json& shootout, const Strings& strings) {
  std::string lines;
  for (const char* need : kNeeds) {
    lines += fmt::format("- {}{}**{}**{}{}\n", strings(fmt::format("need.{}", need)),
                         strings("name_separator"), choice_text(shootout, need, strings),
                         strings("clause_separator"), reason_text(shootout, need, strings));
  }
  const std::string cost = cost_markdown(shootout, strings);
  return fmt::format("# {}\n\n{}\n\n{}{}\n## {}\n\n{}\n## {}\n\n{}\n\n{}\n{}## {}\n\n{}",
                     strings("title", {{"model", shown(shootout, "/reference/name")}}),
                     strings("measured_at", {{"time", shown(shootout, "/time")}}),
                     state_line(shootout, strings), shootout_table(shootout, strings).markdown(),
                     strings("recommendation"), lines, strings("loss_by_domain"),
                     strings("loss_by_domain.note"), domain_table(shootout, strings).markdown(),
                     cost.empty() ? cost : cost + "\n", strings("how"),
                     how_paragraph(shootout, strings));
}

}  // namespace quench
