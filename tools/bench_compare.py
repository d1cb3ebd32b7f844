#!/usr/bin/env python3
"""Is this tree slower than an earlier revision? 'make bench-compare BASE=rev'.

    bench_compare.py BASE [--cases NAME[:LAYERS]/FORMAT ...] [--pairs N] [--prompt N] [--decode N] [--threads N]
                     [--isa LEVEL] [--loss PERCENT] [--json FILE]

Builds BASE in build-base/ (kept, so a second comparison begins at once), then lets the two programs take turns, one
process each time, in the order A B B A, on random weights: what slows the machine for a while slows both. Judged is the
median over the pairs of the ratio of their speeds, with the interval between two order statistics that holds the true
median with at least 95 % (David and Nagaraja, "Order Statistics", section 7.1). A loss is a ratio more than --loss
percent below 1 whose interval does not reach 1. Exit 1 on a loss.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = ["Qwen2.5-0.5B/int4", "Qwen2.5-0.5B/int8", "Qwen2.5-0.5B/bf16", "Qwen2.5-1.5B:7/int4", "Qwen2.5-1.5B:7/trellis3"]
KINDS = {"prefill": "prefill_tok_s", "decode": "decode_tok_s"}


def call(command, cwd=ROOT):
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench_compare.py: {' '.join(map(str, command))} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout.strip()


def build_base(revision):
    """The program of that revision, built as 'make' builds this tree's."""
    commit = call(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"])
    tree = ROOT / "build-base" / commit[:12]
    if not tree.exists():
        call(["git", "worktree", "prune"])
        call(["git", "worktree", "add", "--detach", tree, commit])
    print(f"building {commit[:12]} in {tree.relative_to(ROOT)}", file=sys.stderr)
    call(["cmake", "--preset", "release", "-DQUENCH_TESTS=OFF"], tree)
    call(["ninja", "-C", "build", "quench"], tree)
    return tree / "build/quench"


def measure(args, program, case):
    model, form = case.split("/")
    name, _, layers = model.partition(":")
    command = [program, "bench", name, "--random-weights", "--format", form, "--pp", args.prompt, "--tg", args.decode]
    command += ["--repetitions", 1, "--threads", args.threads, "--json"]
    if layers:
        command += ["--layers", layers]
    if args.isa:
        command += ["--isa", args.isa]
    record = json.loads(call(command))
    return {kind: record[key][0] for kind, key in KINDS.items()}


def median_interval(values):
    """The extremes that hold the median with at least 95 %, and as near to it as that allows."""
    values, count = sorted(values), len(values)
    rank = 0  # values left out at either end
    outside = 0.0
    for r in range(count // 2):
        outside += 2 * math.comb(count, r) * 0.5**count
        if outside > 0.05:
            break
        rank = r + 1
    rank = max(rank, 1)
    return values[rank - 1], values[count - rank]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--isa")
    parser.add_argument("--loss", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.pairs < 6:
        sys.exit("bench_compare.py: fewer than 6 pairs have no interval of 95 %: --pairs 6 or more.")
    programs = {"base": build_base(args.base), "change": ROOT / "build/quench"}
    rows, lost = [], []
    print("| weights | | base tok/s | this tree tok/s | ratio (95 %) | |")
    print("|---|---|---:|---:|---:|---|")
    for case in args.cases:
        speeds = {side: {kind: [] for kind in KINDS} for side in programs}
        for pair in range(args.pairs):
            for side in ["base", "change"] if pair % 2 == 0 else ["change", "base"]:
                for kind, tok_s in measure(args, programs[side], case).items():
                    speeds[side][kind].append(tok_s)
            print(f"\r\x1b[K{case}: {pair + 1} of {args.pairs} pairs", end="", file=sys.stderr)
        print("\r\x1b[K", end="", file=sys.stderr)
        for kind in KINDS:
            ratios = [b / a for a, b in zip(speeds["base"][kind], speeds["change"][kind])]
            ratio, (low, high) = statistics.median(ratios), median_interval(ratios)
            verdict = "faster" if low > 1 else "slower" if high < 1 else "cannot tell"
            if ratio < 1 - args.loss / 100 and high < 1:
                verdict = "LOSS"
                lost.append(f"{case} {kind}")
            base, change = (statistics.median(speeds[side][kind]) for side in programs)
            print(f"| {case} | {kind} | {base:.1f} | {change:.1f} | {ratio:.3f} ({low:.3f} to {high:.3f}) | {verdict} |")
            rows.append({"case": case, "kind": kind, "ratio": ratio, "low": low, "high": high, "verdict": verdict,
                         "base_tok_s": speeds["base"][kind], "change_tok_s": speeds["change"][kind]})
        sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps({"base": args.base, "pairs": args.pairs, "rows": rows}, indent=1) + "\n")
    if lost:
        sys.exit(f"bench_compare.py: slower than {args.base} by more than {args.loss:g} %: {', '.join(lost)}.")


if __name__ == "__main__":
    main()
