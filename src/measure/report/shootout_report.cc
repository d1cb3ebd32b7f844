#include "measure/report/shootout_report.h"

#include <fmt/ranges.h>

namespace quench {
namespace {

std::optional<double> median_of(const Summary& summary) {
  return summary.count == 0 ? std::nullopt : std::optional(summary.median);
}

struct Need {
  const char* name;
  const Choice* choice;
};

std::vector<Need> needs(const Recommendation& recommendation) {
  return {{"storage", &recommendation.storage},
          {"speed", &recommendation.speed},
          {"balance", &recommendation.balance}};
}

// "temperature 0.7, top_p 0.9"
std::string settings_text(const Json& sampling) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : sampling.items())
    parts.push_back(fmt::format("{} {}", key, value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string measured_how(const Shootout& shootout) {
  const ShootoutRow& reference = shootout.rows.front();
  const ProtocolLength& length = shootout.length;
  const Machine machine = this_machine();
  const Summary& speed = reference.speed.decode_tok_s;
  std::string text = fmt::format(
      "Speed: {} on {}, {} {} with {} threads. {} in {}: {} warm-up and {} counted runs each with "
      "seeds from {}, {}{}; {}. Shown are medians over all counted runs",
      reference.model.name, machine.cpu_model.empty() ? "an unknown CPU" : machine.cpu_model,
      reference.target.value("device", ""), reference.target.value("isa", ""),
      reference.target.value("threads", 0), fmt::join(shootout.protocol.tasks, ", "),
      shootout.lang == "zh" ? "Chinese" : "English", length.warmups, length.runs,
      shootout.first_seed, settings_text(shootout.protocol.sampling),
      length.max_new_tokens ? fmt::format(" but at most {} tokens", *length.max_new_tokens) : "",
      shootout.interleaved ? "the profiles took turns, in both directions"
                           : "the profiles were measured one after the other, because they do not "
                             "fit into memory together");
  if (speed.count > 1) {
    text += fmt::format("; in parentheses the interval that holds the true median with {:.1f} %",
                        100.0 * speed.interval.coverage);
  }
  text += ".";
  if (!shootout.evaluation) return text + " Loss was not measured.";
  const Evaluation& evaluation = *shootout.evaluation;
  text += fmt::format(
      " Loss: mean KL divergence from the reference over {} tokens of {} ({} tokens in {} domains{}"
      "), and the share of positions with the same most probable token. {} The reference against "
      "itself gives {}.",
      evaluation.scored, evaluation.text_path, evaluation.tokens,
      shootout.rows.front().scores ? shootout.rows.front().scores->domains.size() : 0,
      length.max_tokens_per_domain > 0
          ? fmt::format(", about {} of each", length.max_tokens_per_domain)
          : "",
      evaluation.convention_text(), evaluation.noise_floor_max);
  return text;
}

std::string recommendation_lines(const Shootout& shootout, const char* format_bullet) {
  std::string text;
  for (const auto& [need, choice] : needs(shootout.recommendation)) {
    text += fmt::format(fmt::runtime(format_bullet), need,
                        choice->profile.empty() ? "none" : choice->profile, choice->reason);
  }
  return text;
}

// Breaks at spaces so that lines have at most 100 columns.
std::string wrap(const std::string& text) {
  constexpr size_t kColumns = 100;
  std::string result;
  size_t line_begin = 0;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const bool fits = result.size() + (end - begin) + 1 - line_begin <= kColumns;
    if (result.size() > line_begin) {
      result += fits ? ' ' : '\n';
      if (!fits) line_begin = result.size();
    }
    result.append(text, begin, end - begin);
    begin = end + 1;
  }
  return result + "\n";
}

std::string state_line(const Shootout& shootout) {
  return shootout.complete ? "" : "Stopped before the end: what follows is what was measured.\n\n";
}

}  // namespace

Table shootout_table(const Shootout& shootout) {
  Table table;
  table.columns = {{"profile", "profile", Align::kLeft},
                   {"format", "format", Align::kLeft},
                   {"bytes", "size MB"},
                   {"saved_fraction", "saved %"},
                   {"compression_ratio", "ratio"},
                   {"decode_tok_s", "decode tok/s"},
                   {"ttft_s", "TTFT s"},
                   {"e2e_s", "E2E s"},
                   {"kld_mean", "KL nats"},
                   {"ppl", "PPL"},
                   {"top1_agreement", "same top %"},
                   {"peak_bytes", "RAM MB"},
                   {"make_s", "make s"}};
  const auto reference_bytes = static_cast<double>(shootout.rows.front().model.bytes);
  for (const ShootoutRow& row : shootout.rows) {
    const auto bytes = static_cast<double>(row.model.bytes);
    const Summary& decode = row.speed.decode_tok_s;
    Cell speed = number_cell(median_of(decode), 1);
    if (decode.count > 1) {
      speed.text =
          fmt::format("{} ({:.1f}-{:.1f})", speed.text, decode.interval.low, decode.interval.high);
    }
    const EvalScores* scores = row.scores ? &row.scores->overall : nullptr;
    auto score = [&](double value, int decimals, double scale = 1.0) {
      return scores != nullptr ? number_cell(value, decimals, scale) : Cell{};
    };
    table.rows.push_back(
        {text_cell(row.profile), text_cell(row.model.format), number_cell(bytes, 2, 1e-6),
         number_cell(1.0 - bytes / reference_bytes, 1, 100.0),
         number_cell(reference_bytes / bytes, 2), speed,
         number_cell(median_of(row.speed.ttft_s), 3), number_cell(median_of(row.speed.e2e_s), 2),
         score(scores != nullptr ? scores->kld.mean : 0.0, 4),
         score(scores != nullptr ? scores->ppl : 0.0, 2),
         score(scores != nullptr ? scores->top1_agreement : 0.0, 1, 100.0),
         row.peak_bytes ? number_cell(static_cast<double>(*row.peak_bytes), 1, 1e-6) : Cell{},
         number_cell(row.make_s, 2)});
  }
  return table;
}

Table domain_table(const Shootout& shootout) {
  Table table;
  table.columns = {{"profile", "profile", Align::kLeft},
                   {"domain", "domain", Align::kLeft},
                   {"scored", "tokens"},
                   {"kld_mean", "KL nats"},
                   {"kld_low", "from"},
                   {"kld_high", "to"},
                   {"kld_p99", "99 %"},
                   {"kld_max", "largest"},
                   {"top1_agreement", "same top %"},
                   {"ppl", "PPL"}};
  for (const ShootoutRow& row : shootout.rows) {
    if (!row.scores) continue;
    for (const EvalScores& scores : row.scores->domains) {
      table.rows.push_back(
          {text_cell(row.profile), text_cell(scores.domain),
           number_cell(static_cast<double>(scores.scored), 0), number_cell(scores.kld.mean, 4),
           number_cell(scores.kld.low, 4), number_cell(scores.kld.high, 4),
           number_cell(scores.kld_p99, 3), number_cell(scores.kld_max, 3),
           number_cell(scores.top1_agreement, 1, 100.0), number_cell(scores.ppl, 2)});
    }
  }
  return table;
}

std::string shootout_text(const Shootout& shootout, bool bold) {
  return fmt::format(
      "{}{}\nRecommendation\n{}\n{}", state_line(shootout), shootout_table(shootout).text(bold),
      recommendation_lines(shootout, "  {:<8} {}: {}\n"), wrap(measured_how(shootout)));
}

std::string shootout_markdown(const Shootout& shootout, const std::string& time) {
  return fmt::format(
      "# quench shootout: {}\n\nMeasured {}.\n\n{}{}\n## Recommendation\n\n{}\n## Loss by "
      "domain\n\n"
      "Mean KL divergence with its 95 % interval over documents.\n\n{}\n## How it was "
      "measured\n\n{}",
      shootout.rows.front().model.name, time, state_line(shootout),
      shootout_table(shootout).markdown(), recommendation_lines(shootout, "- {}: **{}**, {}\n"),
      domain_table(shootout).markdown(), wrap(measured_how(shootout)));
}

}  // namespace quench
