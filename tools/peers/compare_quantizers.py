#!/usr/bin/env python3
"""Judges quench's quantizer beside llama.cpp's own, by the loss at equal bytes.

    DIR/venv/bin/python tools/peers/compare_quantizers.py [--model MODEL] [--dir DIR] [--work FOLDER]
                                                          [--max-tokens N] [--json FILE]

DIR is what tools/peers/setup.sh made (default ~/.cache/quench-peers). Writes the model as a bf16 GGUF file, lets
llama-imatrix read the calibration texts that quench uses, lets llama-quantize make every type with and without that
importance matrix (and some types for every matrix, --pure), makes quench's own by gptq, then judges all by one
'quench eval --against MODEL'. Prints Markdown; --json keeps every number. Files in FOLDER are kept and used again: give
a new one after a change of either program. llama.cpp's files are judged as f32 files of exactly their decoded values,
which is quicker than their own types. --max-tokens takes so many tokens of each domain of the evaluation.
"""

import argparse
import csv
import io
import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

import gguf

from bench_llama import DEFAULT_DIR, HERE, call

ROOT = HERE.parents[1]
CALIBRATION = ROOT / "texts/calibration"
SEPARATOR = "<|endoftext|>"

# As llama-quantize mixes them: a type names a recipe, its head and some others get more bits.
MIXES = ["Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K_S", "Q3_K_M", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M",
         "Q6_K", "Q8_0"]
# One type for every matrix: without it llama.cpp has nothing near 3 bits for a model with a large embedding.
PURE = ["Q2_K", "IQ3_XXS", "IQ3_S", "Q3_K_S", "IQ4_XS", "Q4_0", "Q4_K_S", "Q5_K_S"]

# quench's own, everywhere one format; the flag says whether in the rotated basis.
PLAIN = [("trellis2", True), ("trellis2.5", True), ("trellis3", True)] + [
    (name, rotate) for name in ("int3_g64", "int4_g128", "int4_g64", "int4_g32", "int5_g128", "int6_g128")
    for rotate in (False, True)]
# Files of llama.cpp whose bytes quench gets, to be given out by measurement (--allocate).
TARGETS = ["Q2_K-pure-imatrix", "IQ3_XXS-pure-imatrix", "Q3_K_M", "Q4_K_M", "Q5_K_M"]
EQUAL = 0.01  # files whose bytes differ by at most so much count as equal


def calibration_text():
    """The calibration texts as one, conversations in the form the Qwen template gives them."""
    parts = []
    for path in sorted(CALIBRATION.iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            parts.append(text.replace(f"\n{SEPARATOR}\n", SEPARATOR))
            continue
        for line in filter(None, text.splitlines()):
            turns = json.loads(line)["messages"]
            parts.append("".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns))
    return SEPARATOR.join(parts)


def tensor_bytes(path):
    """The bytes of all tensors of a GGUF file or of a model directory."""
    if path.suffix == ".gguf":
        return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)
    total = 0
    for shard in path.glob("*.safetensors"):
        with shard.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(t["data_offsets"][1] - t["data_offsets"][0] for n, t in header.items() if n != "__metadata__")
    return total


def make(path, words):
    """Runs a command whose last argument but for options is the file `words(part)` writes; keeps what is there."""
    if not path.exists():
        part = path.with_name("part-" + path.name)
        shutil.rmtree(part, ignore_errors=True)
        call(words(part))
        part.rename(path)
    return path


class Makers:
    """The two quantizers; each returns rows {name, path, side, ...}."""

    def __init__(self, args, work):
        self.quench, self.model, self.work, self.threads = args.quench, args.model, work, args.threads
        self.bin = args.dir / "native/bin"

    def source(self):
        return make(self.work / "source.gguf",
                    lambda part: [self.quench, "convert", self.model, "--to", "gguf", "-o", part])

    def importance(self, source):
        text = self.work / "calibration.txt"
        text.write_text(calibration_text(), encoding="utf-8")
        return make(self.work / "imatrix.gguf", lambda part: [
            self.bin / "llama-imatrix", "-m", source, "-f", text, "-o", part, "-c", 512, "--parse-special", "--no-ppl",
            "-t", self.threads])

    def llama(self, source, kind, imatrix=None, pure=False):
        name = "llama-" + kind + ("-pure" if pure else "") + ("-imatrix" if imatrix else "")
        options = (["--pure"] if pure else []) + (["--imatrix", imatrix] if imatrix else [])
        try:
            path = make(self.work / f"{name}.gguf", lambda part: [
                self.bin / "llama-quantize", *options, source, part, kind, self.threads])
        except SystemExit as refusal:
            print(f"{name}: llama-quantize refuses: {str(refusal)[-300:]}", file=sys.stderr)
            return []
        decoded = make(self.work / f"{name}-f32.gguf", lambda part: [
            self.quench, "convert", path, "--to", "gguf", "--type", "f32", "-o", part])
        return [{"name": name, "side": "llama.cpp", "path": path, "judged": decoded}]

    def own(self, name, recipe):
        """A model by quench's gptq, after a recipe."""
        name = "quench-" + name + ("-rotated" if recipe["rotate"] else "")
        file = self.work / f"{name}.json"
        file.write_text(json.dumps({"name": name, "algorithm": "gptq", **recipe}))
        path = make(self.work / name, lambda part: [
            self.quench, "quantize", self.model, "--recipe", file, "-o", part, "--threads", self.threads])
        return [{"name": name, "side": "quench", "path": path, "judged": path, "recipe": recipe}]

    def allocated(self, target, bits):
        """A model of so many bits per weight, which go where measuring says that they help most."""
        name = f"quench-{target}-bytes"
        path = make(self.work / name, lambda part: [
            self.quench, "quantize", self.model, "--bits", f"{bits:.6f}", "--allocate", "-o", part, "--threads",
            self.threads])
        return [{"name": name, "side": "quench", "path": path, "judged": path}]


def judge(args, rows):
    """One evaluation of all files; adds what was lost to every row."""
    done = call([args.quench, "eval", *(row["judged"] for row in rows), "--against", args.model, "--items", 0,
                 "--max-tokens", args.max_tokens, "--no-noise-floor", "--csv", "--threads", args.threads])
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(done))}
    for row in rows:
        line = lines[str(row["judged"])]
        row["kld"] = float(line["kld_mean"])
        row["kld_ci95"] = json.loads(line["kld_ci95"])
        row["same_top_percent"] = 100 * float(line["top1_agreement"])


def rival(rows, size):
    """llama.cpp's best at so many bytes: (KLD, how it was found). Its best file within 1 % where there is one, else its
    log KLD between the best file of fewer bytes and the best of more, straight over bytes."""
    near = [row for row in rows if abs(row["bytes"] / size - 1) <= EQUAL]
    if near:
        best = min(near, key=lambda row: row["kld"])
        return best["kld"], best["name"]
    # The frontier: files that no smaller one beats.
    frontier = []
    for row in sorted(rows, key=lambda row: row["bytes"]):
        if not frontier or row["kld"] < frontier[-1]["kld"]:
            frontier.append(row)
    below = [row for row in frontier if row["bytes"] < size]
    above = [row for row in frontier if row["bytes"] > size]
    if not below or not above:
        return None, "nothing of these bytes"
    a, b = below[-1], above[0]
    share = (size - a["bytes"]) / (b["bytes"] - a["bytes"])
    kld = math.exp((1 - share) * math.log(a["kld"]) + share * math.log(b["kld"]))
    return kld, f"between {a['name']} and {b['name']}"


def table(rows):
    lines = ["| file | bytes | bits per weight | saved_fraction | KLD mean | 95 % interval | same top % | KLD over "
             "llama.cpp's at equal bytes |", "|---|---:|---:|---:|---:|---|---:|---|"]
    for row in sorted(rows, key=lambda row: row["bytes"]):
        ratio = ""
        if row["side"] == "quench":
            ratio = f"{row['ratio']:.2f} ({row['rival']})" if row["ratio"] else row["rival"]
        low, high = row["kld_ci95"]
        lines.append(f"| {row['name']} | {row['bytes']} | {row['bits_per_weight']:.3f} | {row['saved_fraction']:.4f} | "
                     f"{row['kld']:.5f} | {low:.5f} .. {high:.5f} | {row['same_top_percent']:.2f} | {ratio} |")
    return "\n".join(lines)


def goals(rows):
    """The three goals in words: (what, KLD of quench over that of llama.cpp, the most it may be)."""
    by_name = {row["name"]: row for row in rows}
    compact = by_name["quench-trellis3-rotated"]
    results = [("compact, over llama.cpp's best at its bytes", compact["ratio"], 0.70, compact["rival"])]
    for kind in TARGETS[-2:]:
        size = by_name[f"llama-{kind}"]["bytes"]
        own = min((row for row in rows if row["side"] == "quench" and row["bytes"] <= size * (1 + EQUAL)),
                  key=lambda row: row["kld"])
        for name in (f"llama-{kind}", f"llama-{kind}-imatrix"):
            results.append((f"{own['name']}, over {name}", own["kld"] / by_name[name]["kld"], 0.80, name))
        best, how = rival([row for row in rows if row["side"] == "llama.cpp"], size)
        results.append((f"{own['name']}, over llama.cpp's best at the bytes of {kind}", own["kld"] / best, 0.80, how))
    lines = ["| goal | beside | ratio | at most | |", "|---|---|---:|---:|---|"]
    for what, ratio, most, how in results:
        verdict = "no rival" if ratio is None else "met" if ratio <= most else f"missed by {ratio / most - 1:.0%}"
        lines.append(f"| {what} | {how} | {'' if ratio is None else f'{ratio:.3f}'} | {most:.2f} | {verdict} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR)
    parser.add_argument("--work", type=Path, help="folder for the files; without it a temporary one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=0, help="of each domain; 0: all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for program in ("llama-imatrix", "llama-quantize"):
        if not (args.dir / "native/bin" / program).exists():
            sys.exit(f"{args.dir}/native/bin/{program} is not there: run tools/peers/setup.sh {args.dir}.")
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        makers = Makers(args, work)
        source = makers.source()
        imatrix = makers.importance(source)
        rows = []
        for pure, kinds in ((False, MIXES), (True, PURE)):
            for kind in kinds:
                rows += makers.llama(source, kind, None, pure) + makers.llama(source, kind, imatrix, pure)
        for form, rotate in PLAIN:
            rows += makers.own(form, {"default": form, "roles": {}, "rotate": rotate})
        numbers = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(source).tensors)
        for kind in TARGETS:
            bits = 8 * tensor_bytes(work / f"llama-{kind}.gguf") / numbers
            rows += makers.allocated(kind, bits)
        for row in rows:
            row["bytes"] = tensor_bytes(row["path"])
            row["bits_per_weight"] = 8 * row["bytes"] / numbers
            row["saved_fraction"] = 1 - row["bytes"] / (2 * numbers)
        judge(args, rows)
    theirs = [row for row in rows if row["side"] == "llama.cpp"]
    for row in rows:
        if row["side"] == "quench":
            kld, row["rival"] = rival(theirs, row["bytes"])
            row["ratio"] = row["kld"] / kld if kld else None
    if args.json:
        args.json.write_text(json.dumps([{**row, "path": row["path"].name, "judged": row["judged"].name} for row in rows], indent=1) + "\n")
    print(table(rows) + "\n\n" + goals(rows))


if __name__ == "__main__":
    main()
