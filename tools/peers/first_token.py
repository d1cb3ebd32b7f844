#!/usr/bin/env python3
"""Times how long a program takes from its start to its first token, beside llama.cpp, in turns.

    first_token.py [--shape Qwen2.5-1.5B] [--layers N] [--format bf16] [--turns 5] [--pause 5] [--threads 2]
                   [--work FOLDER] [--dir DIR] [--quench build/quench] [--base OTHER/quench]

Writes a bf16 checkpoint of random weights in the shape of an official model, with the tokenizer of models/demo, and the
same as a GGUF file (`quench convert`); with --format also both quantized, each by its own program. Then whole processes
take turns: quench answers a prompt of some forty tokens with one token and with 64; llama-bench (the native build of
setup.sh; mapped, and read into memory) evaluates as many tokens once, without its warm-up. Both have the files in the
page cache. Measured is the time from the start of the process to the first byte of its answer (llama-bench: to its
result) and to its end. Between two processes lie --pause seconds: in a virtual machine the memory that one gives back
goes to the host a little later, and who starts before that finds it ready. --base is another build to compare with.
Prints Markdown: seconds, best / median.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_peers import PEERS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROMPT = "Why is the sky blue at noon and red in the evening?"
PROMPT_TOKENS = 39  # of it, with the chat template


def make_files(args):
    """The model's folder, and llama.cpp's name for a format to a GGUF file in it; made unless they are there."""
    model, gguf = args.work / "model", args.work / "model.gguf"
    if not model.exists():
        config = json.loads((ROOT / "models/shapes.json").read_text())["models"].get(args.shape)
        if config is None:
            sys.exit(f"models/shapes.json has no shape {args.shape}.")
        if args.layers:
            config["num_hidden_layers"] = args.layers
        (args.work / "config.json").write_text(json.dumps(config))
        subprocess.run(
            [sys.executable, ROOT / "tools/make_model.py", model, "--config", args.work / "config.json", "--dtype", "BF16"],
            check=True, stdout=subprocess.DEVNULL)
        for name in ("merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json", "generation_config.json"):
            shutil.copy(ROOT / "models/demo" / name, model / name)
    if not gguf.exists():
        subprocess.run([args.quench, "convert", model, "--to", "gguf", "-o", gguf], check=True, stdout=subprocess.DEVNULL)
    if args.format == "bf16":
        return model, {"bf16": gguf}
    quantized = args.work / f"model-{args.format}"
    if not quantized.exists():
        subprocess.run([args.quench, "quantize", model, "--format", args.format, "--algorithm", "rtn", "-o", quantized],
                       check=True, stdout=subprocess.DEVNULL)
    ggufs = {form: args.work / f"model-{form}.gguf" for form in PEERS[args.format]}
    for form, path in ggufs.items():
        if not path.exists():
            subprocess.run([args.dir / "native/bin/llama-quantize", gguf, path, form], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return quantized, ggufs


def commands(args, model, ggufs):
    """Name to command line."""
    def answer(program, tokens):
        return [program, "run", model, "--prompt", PROMPT, "--greedy", "--max_new_tokens", tokens, "--threads", args.threads]

    builds = {"quench": args.quench} | ({"quench, base": args.base} if args.base else {})
    rows = {f"{name}, {n} token{'s'[:n > 1]}": answer(path, n) for name, path in builds.items() for n in (1, 64)}
    llama = args.dir / "native/bin/llama-bench"
    if llama.exists():
        for form, gguf in ggufs.items():
            for mode in ("mmap", "none"):
                rows[f"llama.cpp {form}, {'mapped' if mode == 'mmap' else 'read'}"] = [
                    llama, "-m", gguf, "-p", PROMPT_TOKENS, "-n", 0, "-t", args.threads, "-r", 1, "--no-warmup",
                    "-lm", mode, "-o", "jsonl"]
    else:
        print(f"first_token.py: {llama} is not there (setup.sh makes it), so quench runs alone.", file=sys.stderr)
    return {name: [str(word) for word in words] for name, words in rows.items()}


def times(command):
    """Seconds to the first byte on standard output, and to the end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    first = time.perf_counter() - start
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode(errors='replace')[-2000:]}")
    return first, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="Qwen2.5-1.5B")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--format", default="bf16", choices=PEERS)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("/tmp/quench-first-token"))
    parser.add_argument("--dir", type=Path, default=Path.home() / ".cache/quench-peers")
    parser.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    parser.add_argument("--base", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = commands(args, *make_files(args))
    found = {name: [] for name in rows}
    for turn in range(args.turns + 1):
        for name, command in rows.items():
            time.sleep(args.pause)
            pair = times(command)
            if turn > 0:  # the first fills the page cache
                found[name].append(pair)
    print("| program | first token, s | end, s |\n|---|---:|---:|")
    for name, pairs in found.items():
        cells = [f"{min(column):.3f} / {statistics.median(column):.3f}" for column in zip(*pairs)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
