#!/usr/bin/env python3
"""The output error of every matrix that quantizing leaves: the proxy loss of the model that ships, format beside format.

    tools/proxy_loss.py [--quench build/quench] [--tokens N]

For each matrix W and its quantized self V the figure is |X (W - V)^T|^2 / |X W^T|^2, X being the inputs that the original
gets on texts/eval (which calibration does not see), by torch in float32 with sums in float64; so the program judges
nothing of itself but the decoding of its own files ('quench convert --to plain', rounded to bf16: 3e-6 of the output).
Matrices of the layers count together, the head apart. bits are those of the format, of a 128 x 128 matrix. Needs torch,
transformers and safetensors. Prints Markdown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "models/demo"
WINDOW = 512
# Format, algorithm, rotated.
CANDIDATES = [("trellis2", "gptq", True), ("int2_g64", "gptq", False), ("q2_k", "gptq", False),
              ("trellis2.5", "gptq", True), ("trellis3", "rtn", True), ("trellis3", "gptq", False),
              ("trellis3", "gptq", True), ("int3_g128", "gptq", False), ("int3_g128", "gptq", True),
              ("int3_g64", "gptq", False), ("int3_g64", "gptq", True), ("q3_k", "gptq", False), ("q3_k", "rtn", False)]


def call(program, *arguments):
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"quench {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def windows(tokens):
    """Windows of the texts, as many tokens of each."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    for path in sorted((ROOT / "texts/eval").iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            chats = [json.loads(line)["messages"] for line in text.splitlines() if line.strip()]
            text = "".join(tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats)
        ids = tokenizer(text)["input_ids"][:tokens]
        for begin in range(0, len(ids), WINDOW):
            yield torch.tensor([ids[begin:begin + WINDOW]])


def second_moments(tokens):
    """{name of a matrix: (W, X^T X)} of the original."""
    model = transformers.AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    moments = {}

    def keep(name):
        def hook(module, inputs, _):
            x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            moments[name] = moments.get(name, 0) + x.T @ x
        return hook

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, module in linear.items():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        for window in windows(tokens):
            model(window)
    return {name: (module.weight.detach().double(), moments[name]) for name, module in linear.items()}


def losses(matrices, weights):
    """(of the layers, of the head): the squared error of all outputs as a share of their squares."""
    sums = {False: [0.0, 0.0], True: [0.0, 0.0]}
    for name, (w, moment) in matrices.items():
        is_head = name == "lm_head"
        key = f"{name}.weight"
        v = weights[key if key in weights else "model.embed_tokens.weight"].double()
        pair = sums[is_head]
        pair[0] += torch.sum(((w - v) @ moment) * (w - v)).item()
        pair[1] += torch.sum((w @ moment) * w).item()
    return [sums[is_head][0] / max(sums[is_head][1], 1e-300) for is_head in (False, True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quench", type=Path, default=ROOT / "build/quench")
    parser.add_argument("--tokens", type=int, default=8192, help="of each text")
    arguments = parser.parse_args()
    matrices = second_moments(arguments.tokens)
    print("| format | algorithm | bits | layers, % | head, % |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, algorithm, rotated) in enumerate(CANDIDATES):
            made, plain = Path(folder) / f"{number}", Path(folder) / f"{number}-plain"
            said = json.loads(call(arguments.quench, "quantize", "demo", "--format", name, "--algorithm", algorithm,
                                   *(["--rotate"] if rotated else []), "-o", made, "--json"))
            call(arguments.quench, "convert", made, "--to", "plain", "-o", plain)
            weights = {}
            for file in sorted(plain.glob("*.safetensors")):
                weights.update(load_file(file))
            layers, head = losses(matrices, weights)
            print(f"| {name} | {algorithm}{', rotated' if rotated else ''} | {said['bits_per_weight']:.3f} | "
                  f"{100 * layers:.3f} | {100 * head:.3f} |", flush=True)


if __name__ == "__main__":
    main()
