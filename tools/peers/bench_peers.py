#!/usr/bin/env python3
"""Times quench beside llama.cpp, in turns, on random weights in the shapes of official models: 'make bench-peers'.

    bench_peers.py [--models NAME[:LAYERS] ...] [--formats FORMAT ...] [--prompt N] [--decode N] [--depth N]
                   [--threads N] [--repetitions N] [--isa LEVEL] [--json FILE]

For every model and format: writes the GGUF files a llama.cpp user would take instead (q8_0 for int8; q4_0 and q4_k_m
for 4 bits), looks for llama.cpp's best setting, then lets the two programs take turns (A B A B ...), one process each
time, so that a machine that grows slower is not taken for a slower program. Prints Markdown; --json keeps every number.
A large model is cut in depth by NAME:LAYERS. Files go to DIR/models and are deleted after use unless --keep.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

import bench_llama
from bench_llama import HERE, KINDS, call

ROOT = HERE.parents[1]
# What a llama.cpp user would run in place of each of quench's formats.
PEERS = {
    "bf16": ["bf16"],
    "int8": ["q8_0"],
    "int4_g128": ["q4_0", "q4_k_m"],
    "int3_g64": ["q3_k_m"],
}


def busy_fraction(seconds=2.0):
    """The share of the processors' time that others use just now: a measurement beside it is worth little."""
    def read():
        times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(times), times[3] + times[4]  # all, idle and waiting for disk

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1.0 - (idle_after - idle) / max(1, total_after - total)


def parameters(config):
    """About how many weights the model has: enough to judge whether its files fit on the disk."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if "num_experts" in config:
        inner = config["moe_intermediate_size"] * config["num_experts"]
    width = config.get("head_dim", hidden // config["num_attention_heads"])
    heads = 2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    per_layer = hidden * (width * heads + 3 * inner)
    return config["num_hidden_layers"] * per_layer + 2 * config["vocab_size"] * hidden


def make_gguf(args, name, layers, form, source=None):
    """Writes DIR/models/NAME-LAYERS-FORMAT.gguf unless it is there, and returns its path."""
    path = args.dir / "models" / f"{name}-{layers}-{form}.gguf"
    if not path.exists():
        print(f"bench_peers: writing {path.name}", file=sys.stderr)
        words = [args.dir / "venv/bin/python", HERE / "make_gguf.py", name, "--format", form, "--layers", layers]
        words += ["--out", path, "--quantize", args.dir / "native/bin/llama-quantize", "--threads", args.threads]
        call(words + (["--from", source] if source else []))
    return path


def run_quench(args, name, layers, form):
    words = [args.quench, "bench", name, "--random-weights", "--format", form, "--layers", layers]
    words += ["--pp", args.prompt, "--tg", args.decode, "--repetitions", 1]
    words += ["--threads", args.threads, "--json"]
    words += ["--depth", args.depth] if args.depth else []
    words += ["--isa", args.isa] if args.isa else []
    return json.loads(call(words))


def summary(rates):
    return {"best": max(rates), "median": statistics.median(rates), "all": rates}


def measure_format(args, name, layers, form, ggufs):
    """One format of quench against its peers, in turns. ggufs: peer's format to file."""
    lengths = (args.prompt, args.decode, args.depth, args.threads)
    tuned = {}
    for peer, gguf in ggufs.items():
        print(f"bench_peers: looking for llama.cpp's best setting for {gguf.name}", file=sys.stderr)
        tuned[peer] = bench_llama.tune(args.dir, gguf, *lengths)
    rates = {side: {kind: [] for kind in KINDS} for side in ["quench", *ggufs]}
    quench = None
    for turn in range(args.repetitions):
        print(f"bench_peers: {name} {form}, turn {turn + 1} of {args.repetitions}", file=sys.stderr)
        if not args.no_quench:
            quench = run_quench(args, name, layers, form)
            for kind in KINDS:
                rates["quench"][kind] += quench[kind]
        for peer, gguf in ggufs.items():
            best = tuned[peer][0]
            for kind in KINDS:
                rates[peer][kind] += bench_llama.measure_kind(args.dir, gguf, best[kind], kind, *lengths)
    rows = []
    for peer, gguf in ggufs.items():
        row = {"model": name, "layers": layers, "format": form, "peer_format": peer}
        row["quench"] = {kind: summary(rates["quench"][kind]) for kind in KINDS} if quench else None
        row["peer"] = {kind: summary(rates[peer][kind]) for kind in KINDS}
        row["peer_settings"], row["peer_trials"] = tuned[peer]
        row["peer_file_bytes"] = gguf.stat().st_size
        # Of each depth; it has one.
        row["read_bytes_per_token"] = round(quench["read_bytes_per_token"][0]) if quench else None
        row["ceilings"] = quench.get("ceilings") if quench else None
        rows.append(row)
    return rows


def cell(row, side, kind):
    return "{best:.1f} / {median:.1f}".format(**row[side][kind]) if row[side] else "-"


def ratio(row, kind):
    if not row["quench"]:
        return "-"
    return " / ".join(f"{row['quench'][kind][s] / row['peer'][kind][s]:.2f}" for s in ("best", "median"))


def markdown(args, result):
    lines = [
        f"Tokens per second, best / median of {args.repetitions} turns; prefill {args.prompt}, decode {args.decode} "
        f"tokens, both at depth {args.depth}; {args.threads} threads. Ratio: quench over llama.cpp.",
        "",
        "| model | layers | quench | llama.cpp | prefill quench | prefill llama.cpp | ratio "
        "| decode quench | decode llama.cpp | ratio |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        cells = [row["model"], str(row["layers"]), row["format"], row["peer_format"]]
        for kind in KINDS:
            cells += [cell(row, "quench", kind), cell(row, "peer", kind), ratio(row, kind)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| model | quench | read per token, bytes | llama.cpp | file, bytes | prefill setting | decode setting |",
        "|---|---|---:|---|---:|---|---|",
    ]
    for row in result["rows"]:
        read = "-" if row["read_bytes_per_token"] is None else f"{row['read_bytes_per_token']:,}"
        cells = [row["model"], row["format"], read, row["peer_format"], f"{row['peer_file_bytes']:,}"]
        cells += [bench_llama.describe(row["peer_settings"][kind]) for kind in KINDS]
        lines.append("| " + " | ".join(cells) + " |")
    ceilings = next((row["ceilings"] for row in result["rows"] if row["ceilings"]), None)
    lines += ["", f"Ceilings that quench measured: `{json.dumps(ceilings)}`", ""]
    lines += [f"- llama.cpp {build}: {line}" for build, line in result["system"].items()]
    lines.append(f"- Processor time that others took before the start: {100 * result['busy_before']:.0f} %")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Times quench beside llama.cpp, in turns.")
    parser.add_argument("--models", nargs="+", default=["Qwen2.5-0.5B", "Qwen2.5-1.5B"], metavar="NAME[:LAYERS]")
    parser.add_argument("--formats", nargs="+", default=["bf16", "int8", "int4_g128"], choices=PEERS)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0, help="tokens in the cache before prefill and before decode")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--isa", help="passed on to quench")
    parser.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    parser.add_argument("--no-quench", action="store_true", help="only llama.cpp")
    parser.add_argument("--dir", type=Path, default=bench_llama.DEFAULT_DIR, help="what setup.sh made")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--keep", action="store_true", help="keep the GGUF files for the next time")
    args = parser.parse_args()

    shapes = json.loads((ROOT / "models/shapes.json").read_text())["models"]
    busy = busy_fraction()
    if busy > 0.1:
        print(f"bench_peers: warning: others use {100 * busy:.0f} % of this machine: the figures will be low and "
              "uneven", file=sys.stderr)
    result = {"schema": "quench.peers/1", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "settings": {
        key: getattr(args, key) for key in ("prompt", "decode", "depth", "threads", "repetitions", "isa")},
        "busy_before": busy, "system": None, "rows": []}
    for model in args.models:
        name, _, layers = model.partition(":")
        if name not in shapes:
            parser.error(f"no shape {name} in models/shapes.json")
        layers = int(layers or shapes[name]["num_hidden_layers"])
        need = 4 * parameters({**shapes[name], "num_hidden_layers": layers})
        (args.dir / "models").mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(args.dir / "models").free < need:
            sys.exit(f"bench_peers: {model} needs about {need / 1e9:.0f} GB free below {args.dir}: give fewer layers")
        bf16 = None
        try:
            bf16 = make_gguf(args, name, layers, "bf16")
            result["system"] = result["system"] or bench_llama.system_lines(args.dir, bf16)
            for form in args.formats:
                ggufs = {}
                try:
                    for peer in PEERS[form]:
                        ggufs[peer] = bf16 if peer == "bf16" else make_gguf(args, name, layers, peer, bf16)
                    result["rows"] += measure_format(args, name, layers, form, ggufs)
                finally:
                    for gguf in ggufs.values():
                        if gguf != bf16 and not args.keep:
                            gguf.unlink()
                if args.json:
                    args.json.write_text(json.dumps(result, indent=1) + "\n")
        finally:
            if bf16 and not args.keep:
                bf16.unlink()
    print(markdown(args, result))


if __name__ == "__main__":
    main()
