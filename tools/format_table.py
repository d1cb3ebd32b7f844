#!/usr/bin/env python3
"""What every format loses by every algorithm, and how quickly it decodes: the table of docs/format-table.md.

    tools/format_table.py [--quench build/quench] [--work FOLDER] [--formats NAME,...] [--max-tokens N] [--out FILE]

Loss is that of the model that ships, quantized with each algorithm that takes the format, by one 'quench eval --against
demo' (N tokens of each domain of texts/eval, and its continuation test). Trellis formats are also rotated, which is what
they are for. Speed is decode of one sequence of the Qwen2.5-0.5B shape with random weights, which no algorithm changes:
three rounds over all formats in turns, the best and the median, beside the limit that the ceiling of that run gives.
Formats that differ in the type of their scales only (_bf16, _f32) are left out, and so are plain
floats. Files in FOLDER are kept and taken
again: give a new one after a change of the program.
"""

import argparse
import csv
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEED_SHAPE = "Qwen2.5-0.5B"
ROUNDS = 3


def quench(arguments, program):
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def listed(what, program):
    status, out, err = quench(["list", what], program)
    if status != 0:
        sys.exit(err)
    return [(line.split()[0], line) for line in out.splitlines() if line.strip()]


def candidates(program, wanted):
    """(name, format, algorithm, rotated) of all pairs that may suit each other."""
    formats = [name for name, line in listed("formats", program)
               if "(read only)" not in line and not name.endswith(("_bf16", "_f32"))
               and name not in ("f32", "f16", "bf16")]
    if wanted:
        formats = [name for name in formats if name in wanted]
    algorithms = [name for name, _ in listed("algorithms", program)]
    for name in formats:
        for algorithm in sorted(algorithms, key=["rtn", "search", "weighted", "awq", "gptq", "awq_gptq"].index):
            if not name.startswith("trellis"):
                yield f"{name}-{algorithm}", name, algorithm, False
            elif algorithm in ("rtn", "gptq"):
                yield f"{name}-{algorithm}", name, algorithm, False
                yield f"{name}-{algorithm}-rotated", name, algorithm, True


def make(program, work, wanted):
    """Makes every candidate; returns {name: what 'quench quantize --json' said}."""
    made = {}
    for name, format_name, algorithm, rotated in candidates(program, wanted):
        out, report = work / name, work / f"{name}.json"
        if not report.exists():
            arguments = ["quantize", "demo", "--format", format_name, "--algorithm", algorithm, "-o", str(out),
                         "--json"] + (["--rotate"] if rotated else [])
            status, text, err = quench(arguments, program)
            if status != 0 and "does not suit" in err:
                continue
            if status != 0:
                sys.exit(f"{name}: {err}")
            report.write_text(text)
            print(f"made {name}", file=sys.stderr)
        made[name] = json.loads(report.read_text())
    return made


def judge(program, work, made, max_tokens):
    """{name: row of 'quench eval --csv' over all domains}, the original's under "demo"."""
    kept = work / "judged.json"
    if kept.exists() and set(made) <= set(rows := json.loads(kept.read_text())):
        return rows
    paths = [str(work / name) for name in made]
    amount = ["--max-tokens", str(max_tokens)] if max_tokens else []
    status, text, err = quench(["eval", *paths, "--against", "demo", "--csv", *amount], program)
    if status != 0:
        sys.exit(err)
    rows = {Path(row["model"]).name: row for row in csv.DictReader(io.StringIO(text)) if row["domain"] == "all"}
    kept.write_text(json.dumps(rows))
    return rows


def speeds(program, work, formats):
    """{format: {"tok_s": [...], "limit_share": [...]}}, the share of what the ceiling of the same run allows."""
    kept = work / "speeds.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    missing = [name for name in formats if name not in found]
    measured = {name: {"tok_s": [], "limit_share": []} for name in missing}
    for turn in range(ROUNDS if missing else 0):
        for name in missing:
            status, text, err = quench(
                ["bench", SPEED_SHAPE, "--random-weights", "--format", name, "--pp", "16", "--tg", "32",
                 "--repetitions", "3", "--no-history", "--json"], program)
            if status != 0:
                sys.exit(f"{name}: {err}")
            row = next(row for row in json.loads(text)["rows"] if row["test"] == "decode")
            measured[name]["tok_s"].extend(row["tok_s"])
            measured[name]["limit_share"].append(row["limit_share"])
        print(f"speeds, round {turn + 1} of {ROUNDS}", file=sys.stderr)
    found.update(measured)
    kept.write_text(json.dumps(found))
    return found


def table(made, judged, fast):
    """Markdown, the fewest bits first; a line per format and algorithm."""
    original = judged["demo"]
    lines = ["| format | algorithm | bits | saved | KLD mean | 95 % interval | PPL | accuracy % | decode tok/s | limit % |",
             "|---|---|---:|---:|---:|---|---:|---:|---:|---:|",
             f"| the original, bf16 | | 16.00 | 0 | | | {float(original['ppl']):.1f} "
             f"| {float(original['accuracy_percent']):.1f} | | |"]
    for name, report in sorted(made.items(), key=lambda item: (item[1]["bits_per_weight"], item[0])):
        format_name, _, algorithm = name.partition("-")
        row, speed = judged[name], fast[format_name]
        low, high = json.loads(row["kld_ci95"])
        lines.append(
            f"| {format_name} | {algorithm.replace('-', ', ') or 'rtn'} | {report['bits_per_weight']:.2f} "
            f"| {report['saved_fraction']:.3f} | {float(row['kld_mean']):.5f} | {low:.5f} .. {high:.5f} "
            f"| {float(row['ppl']):.1f} | {float(row['accuracy_percent']):.1f} "
            f"| {max(speed['tok_s']):.0f} / {statistics.median(speed['tok_s']):.0f} "
            f"| {100 * statistics.median(speed['limit_share']):.0f} |")
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    arguments.add_argument("--work", type=Path, help="default: a temporary folder")
    arguments.add_argument("--formats", default="", help="names with commas; default: all")
    arguments.add_argument("--max-tokens", type=int, default=1000, help="of each domain; 0: all")
    arguments.add_argument("--out", type=Path, help="default: stdout")
    options = arguments.parse_args()
    wanted = [name for name in options.formats.split(",") if name]
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        formats = sorted({pair[1] for pair in candidates(options.quench, wanted)})
        if unknown := sorted(set(wanted) - set(formats)):
            sys.exit(f"format_table.py: no such format that can be written: {', '.join(unknown)}.")
        made = make(options.quench, work, wanted)
        judged = judge(options.quench, work, made, options.max_tokens)
        text = table(made, judged, speeds(options.quench, work, formats))
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
