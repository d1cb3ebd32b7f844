#!/usr/bin/env python3
"""Compares quench's perplexity with that of transformers and of llama.cpp, on the same text and the same windows.

    tools/peers/check_perplexity.py [--dir DIR] [--quench FILE] [--text FILE] [--context N] [--json FILE]

Needs a Python with torch and transformers, and DIR/native/bin/llama-perplexity (tools/peers/setup.sh; default
~/.cache/quench-peers). Judged are the model that ships and random-weight checkpoints of other architectures with its
tokenizer (make_model.py). Two comparisons of each:
  - sliding windows, against transformers in float32: at most 0.1 % apart;
  - halves, against llama.cpp on the GGUF file that quench convert writes: at most 0.5 % apart.
The transformers side cuts its windows itself, from the published rule and not from quench's code. Prints Markdown; fails
where a difference is larger.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from bench_llama import DEFAULT_DIR, HERE, call

sys.path.insert(0, str(HERE.parent))
import make_model  # noqa: E402

ROOT = HERE.parents[1]
DEMO = ROOT / "models/demo"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "generation_config.json")
# Shapes of the random checkpoints, beside their architecture's defaults.
RANDOM = {
    "Qwen3ForCausalLM": {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_hidden_layers": 3},
    "Qwen2MoeForCausalLM": {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
                            "moe_intermediate_size": 64, "shared_expert_intermediate_size": 128,
                            "num_hidden_layers": 3},
}
SHARE = 10_000  # characters of each text
TRANSFORMERS_MOST = 0.001
LLAMA_MOST = 0.005


def default_text(path):
    """One document: what the other two programs would make of a separator differs."""
    texts = [(ROOT / f"texts/eval/{name}.txt").read_text(encoding="utf-8") for name in ("english", "python")]
    joined = "\n".join(text[:SHARE] for text in texts).replace("<|endoftext|>\n", "")
    path.write_text(joined, encoding="utf-8")
    return path


def random_model(out, architecture, changes):
    config = make_model.default_config(architecture)
    demo = json.loads((DEMO / "config.json").read_text())
    config.update({"vocab_size": demo["vocab_size"], "max_position_embeddings": 2048, **changes})
    make_model.write_model(out, config, "BF16", 0, 1, sys.stderr)
    for name in TOKENIZER_FILES:
        shutil.copy(DEMO / name, out / name)
    return out


def quench_eval(args, model, text, convention):
    return json.loads(call([args.quench, "eval", model, "--text", text, "--context", args.context, "--convention",
                            convention, "--items", 0, "--kv-format", "f32", "--threads", args.threads, "--json"]))


def transformers_perplexity(path, text, context, stride):
    """Every token but the first is scored once, in the first window that holds it; a window starts `stride` later than
    the one before it (https://huggingface.co/docs/transformers/perplexity). Returns (perplexity, scored tokens)."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    ids = torch.tensor(tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"])
    total, scored, previous_end = 0.0, 0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + context, len(ids))
        with torch.no_grad():
            logits = model(ids[None, begin:end]).logits[0].double()
        log_p = torch.log_softmax(logits, dim=-1)
        targets = torch.arange(previous_end, end)
        total -= log_p[targets - 1 - begin, ids[targets]].sum().item()
        scored += len(targets)
        previous_end = end
        if end == len(ids):
            break
    return math.exp(total / scored), scored


def llama_perplexity(args, gguf, text):
    command = [args.dir / "native/bin/llama-perplexity", "-m", gguf, "-f", text, "-c", args.context, "-t", args.threads]
    command += ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
    if not found:
        sys.exit(f"llama-perplexity gave no estimate ({done.returncode}):\n{done.stderr[-2000:]}")
    return float(found[1])


def check(args, name, model, text, work):
    """Two rows: {model, beside, quench, other, difference, most}."""
    sliding = quench_eval(args, model, text, "sliding")
    other, scored = transformers_perplexity(model, text, sliding["context"], sliding["stride"])
    if scored != sliding["scored"]:
        sys.exit(f"{name}: transformers scored {scored} tokens, quench {sliding['scored']}.")
    halves = quench_eval(args, model, text, "halves")
    gguf = work / f"{name}.gguf"
    call([args.quench, "convert", model, "--to", "gguf", "--type", "bf16", "-o", gguf])
    rows = [("transformers", sliding, other, TRANSFORMERS_MOST),
            ("llama.cpp", halves, llama_perplexity(args, gguf, text), LLAMA_MOST)]
    return [{"model": name, "beside": beside, "scored": own["scored"], "quench": own["ppl"], "other": ppl,
             "difference": own["ppl"] / ppl - 1, "most": most} for beside, own, ppl, most in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR)
    parser.add_argument("--text", type=Path, help="one document (default: two of texts/eval, joined)")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        text = args.text or default_text(work / "text.txt")
        rows = check(args, "demo", DEMO, text, work)
        for architecture, changes in RANDOM.items():
            rows += check(args, f"random-{architecture}", random_model(work / architecture, architecture, changes),
                          text, work)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("| model | beside | tokens scored | quench | the other | difference | at most |\n|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['model']} | {row['beside']} | {row['scored']} | {row['quench']:.5f} | {row['other']:.5f} | "
              f"{100 * row['difference']:+.4f} % | {100 * row['most']:.1f} % |")
    if any(abs(row["difference"]) > row["most"] for row in rows):
        sys.exit("Perplexities differ by more than they may.")


if __name__ == "__main__":
    main()
