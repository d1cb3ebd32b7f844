#!/usr/bin/env python3
"""Times llama.cpp on a GGUF file, at its best setting.

    bench_llama.py FILE.gguf [--dir DIR] [--prompt N] [--decode N] [--depth N] [--threads N] [--repetitions N]

Tries both builds that setup.sh made (native: compiled here, timed by llama-bench; prebuilt: from npm, timed by
bench_prebuilt.mjs), flash attention on and off, weights in memory or mapped, and for prompts over 512 tokens
micro-batches of 512 and of the whole prompt: one choice after the other, for prefill and for decode each by itself.
Then repeats the best and prints one JSON object with the lists prefill_tok_s and decode_tok_s. Prefill and decode both
start with --depth tokens in the cache; decode does not follow the prompt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_DIR = Path.home() / ".cache/quench-peers"
KINDS = ("prefill_tok_s", "decode_tok_s")
# What usually wins; tune() tries to do better.
START = {"build": "native", "flash": 1, "mmap": 0, "micro_batch": 512}


def call(command):
    """Runs a command and returns its standard output; says what went wrong if it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout


def measure(directory, gguf, setting, prompt, decode, depth=0, threads=2, repetitions=1):
    """One process: loads the file, warms up, and times `repetitions` prefills and decodes; 0 tokens leaves one out."""
    if setting["build"] == "prebuilt":
        words = ["node", HERE / "bench_prebuilt.mjs", directory, gguf, "--prompt", prompt, "--decode", decode]
        words += ["--depth", depth, "--threads", threads, "--reps", repetitions]
        words += ["--flash", setting["flash"], "--mmap", setting["mmap"], "--batch", setting["micro_batch"]]
        return json.loads(call(words))
    words = [directory / "native/bin/llama-bench", "-m", gguf, "-p", prompt, "-n", decode, "-d", depth, "-t", threads]
    words += ["-r", repetitions, "-fa", setting["flash"], "-lm", "mmap" if setting["mmap"] else "none"]
    words += ["-ub", setting["micro_batch"], "-o", "json"]
    result = {kind: [] for kind in KINDS}
    for test in json.loads(call(words)):
        result["prefill_tok_s" if test["n_gen"] == 0 else "decode_tok_s"] = test["samples_ts"]
    return result


def measure_kind(directory, gguf, setting, kind, prompt, decode, depth=0, threads=2, repetitions=1):
    """The list of one kind only, prefill_tok_s or decode_tok_s."""
    lengths = (prompt, 0) if kind == "prefill_tok_s" else (0, decode)
    return measure(directory, gguf, setting, *lengths, depth, threads, repetitions)[kind]


def tune(directory, gguf, prompt, decode, depth=0, threads=2):
    """Changes one choice after the other, and keeps it if it is faster; returns (kind to best setting, all trials)."""
    best, trials = {}, []
    for kind in KINDS:
        changes = [{}, {"flash": 0}, {"mmap": 1}, {"build": "prebuilt"}]
        if kind == "prefill_tok_s" and prompt > 512:
            changes.append({"micro_batch": min(prompt, 2048)})
        best[kind], fastest = START, 0.0
        for change in changes:
            setting = {**best[kind], **change}
            rate = max(measure_kind(directory, gguf, setting, kind, prompt, decode, depth, threads, repetitions=2))
            trials.append({"kind": kind, **setting, "tok_s": rate})
            if rate > fastest:
                best[kind], fastest = setting, rate
    return best, trials


def describe(setting):
    """A few words for a table."""
    words = [setting["build"], "flash" if setting["flash"] else "no flash", "mapped" if setting["mmap"] else "memory"]
    if setting["micro_batch"] != START["micro_batch"]:
        words.append(f"micro-batch {setting['micro_batch']}")
    return ", ".join(words)


def system_lines(directory, gguf):
    """What each build says about the instruction sets it uses."""
    prebuilt = json.loads(call(["node", HERE / "bench_prebuilt.mjs", directory, gguf, "--prompt", 0, "--decode", 0]))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.write("a")
        text.flush()
        # It prints the line, then gives up: the text is too short to measure. llama-bench does not print it.
        command = [directory / "native/bin/llama-perplexity", "-m", gguf, "-f", text.name, "-c", "64"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = [line.partition("system_info: ")[2] for line in (done.stdout + done.stderr).splitlines()]
    native = next((line.strip() for line in lines if line), None)
    return {"native": native, "prebuilt": prebuilt["system"].strip()}


def main():
    parser = argparse.ArgumentParser(description="Times llama.cpp on a GGUF file, at its best setting.")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="what setup.sh made")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--build", choices=("native", "prebuilt"), help="no search: this build, --flash and --mmap")
    parser.add_argument("--flash", type=int, choices=(0, 1), default=START["flash"])
    parser.add_argument("--mmap", type=int, choices=(0, 1), default=START["mmap"])
    args = parser.parse_args()

    if args.build:
        fixed = {**START, "build": args.build, "flash": args.flash, "mmap": args.mmap}
        best, trials = {kind: fixed for kind in KINDS}, []
    else:
        best, trials = tune(args.dir, args.gguf, args.prompt, args.decode, args.depth, args.threads)
    lengths = (args.prompt, args.decode, args.depth, args.threads, args.repetitions)
    result = {kind: measure_kind(args.dir, args.gguf, best[kind], kind, *lengths) for kind in KINDS}
    result.update(
        settings=best, trials=trials, file_bytes=os.path.getsize(args.gguf), system=system_lines(args.dir, args.gguf))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
