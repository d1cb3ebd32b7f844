#!/usr/bin/env python3
"""Writes a GGUF file of random weights with the shape of an official Qwen model (speed needs the shape only).

    make_gguf.py Qwen2.5-0.5B --format q8_0 --out FILE [--layers N] [--seed S] [--quantize path/to/llama-quantize]

SHAPE is a name in models/shapes.json; --layers cuts the depth, so that a large shape fits. Matrices are normal with a
standard deviation of 0.02, norms near 1, biases small; norms, biases and routers are F32, as llama.cpp's own converter
leaves them. A format other than bf16 goes through a bf16 file (--from, or a temporary one) and llama-quantize, which
picks the type of each tensor as it does for everyone (Q6_K for the head of a Q4_0 file, say). One tensor is in memory
at a time.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

SHAPES = Path(__file__).resolve().parents[2] / "models" / "shapes.json"
ARCHITECTURES = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "Qwen3MoeForCausalLM": "qwen3moe"}
BLOCK = 1 << 22  # numbers made at a time


def head_dim(config):
    return config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])


def tensors(config, arch):
    """Yields (name, shape with rows first, mean, std) in the order of the file. Mean is None for a matrix."""
    hidden, vocab, width = config["hidden_size"], config["vocab_size"], head_dim(config)
    q_rows, kv_rows = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    yield "token_embd.weight", (vocab, hidden), None, 0.02
    for layer in range(config["num_hidden_layers"]):
        p = f"blk.{layer}."
        yield p + "attn_norm.weight", (hidden,), 1.0, 0.02
        for name, rows in (("attn_q", q_rows), ("attn_k", kv_rows), ("attn_v", kv_rows)):
            yield f"{p}{name}.weight", (rows, hidden), None, 0.02
            if arch == "qwen2":
                yield f"{p}{name}.bias", (rows,), 0.0, 0.02
        yield p + "attn_output.weight", (hidden, q_rows), None, 0.02
        if arch != "qwen2":
            yield p + "attn_q_norm.weight", (width,), 1.0, 0.02
            yield p + "attn_k_norm.weight", (width,), 1.0, 0.02
        yield p + "ffn_norm.weight", (hidden,), 1.0, 0.02
        if arch == "qwen3moe":
            experts, inner = config["num_experts"], config["moe_intermediate_size"]
            yield p + "ffn_gate_inp.weight", (experts, hidden), 0.0, 0.02
            yield p + "ffn_gate_exps.weight", (experts, inner, hidden), None, 0.02
            yield p + "ffn_up_exps.weight", (experts, inner, hidden), None, 0.02
            yield p + "ffn_down_exps.weight", (experts, hidden, inner), None, 0.02
        else:
            inner = config["intermediate_size"]
            yield p + "ffn_gate.weight", (inner, hidden), None, 0.02
            yield p + "ffn_up.weight", (inner, hidden), None, 0.02
            yield p + "ffn_down.weight", (hidden, inner), None, 0.02
    yield "output_norm.weight", (hidden,), 1.0, 0.02
    if not config["tie_word_embeddings"]:
        yield "output.weight", (vocab, hidden), None, 0.02


def random_bf16(rng, shape, std):
    """Normal numbers as bf16 bits, rounded to nearest even, in an array of uint16."""
    out = np.empty(int(np.prod(shape)), np.uint16)
    for begin in range(0, out.size, BLOCK):
        part = out[begin : begin + BLOCK]
        bits = (rng.standard_normal(part.size, np.float32) * np.float32(std)).view(np.uint32)
        part[:] = (bits + ((bits >> 16) & 1) + 0x7FFF) >> 16
    return out.reshape(shape)


def add_tokenizer(writer, vocab_size):
    """A vocabulary of the right length: the bytes as byte-level BPE spells them, one merge, made-up words, an end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in printable}
    spelled.update({byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in spelled)})
    tokens = [spelled[byte] for byte in range(256)] + ["ab"]
    tokens += [f"w{i}" for i in range(len(tokens), vocab_size - 1)] + ["<|im_end|>"]
    types = [gguf.TokenType.NORMAL] * (vocab_size - 1) + [gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(vocab_size - 1)
    writer.add_pad_token_id(vocab_size - 1)
    writer.add_add_bos_token(False)


def write_bf16(path, shape, config, seed):
    arch = ARCHITECTURES[config["architectures"][0]]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(shape)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if arch == "qwen3moe":
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    add_tokenizer(writer, config["vocab_size"])

    for name, dims, mean, _ in tensors(config, arch):
        dtype, kind = (np.uint16, gguf.GGMLQuantizationType.BF16) if mean is None else (np.float32, None)
        writer.add_tensor_info(name, dims, np.dtype(dtype), int(np.prod(dims)) * np.dtype(dtype).itemsize, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for _, dims, mean, std in tensors(config, arch):
        if mean is None:
            writer.write_tensor_data(random_bf16(rng, dims, std))
        else:
            writer.write_tensor_data(rng.standard_normal(dims, np.float32) * np.float32(std) + np.float32(mean))
    writer.close()


def main():
    parser = argparse.ArgumentParser(description="Writes a GGUF file of random weights in an official model's shape.")
    parser.add_argument("shape", metavar="SHAPE", help="a name in models/shapes.json")
    parser.add_argument("--format", default="bf16", help="bf16, or what llama-quantize knows: q8_0, q4_0, q4_k_m, ...")
    parser.add_argument("--layers", type=int, help="keep only the first N layers")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", type=Path, dest="source", help="a bf16 file of this shape, made by this script")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quantize", type=Path, default=Path.home() / ".cache/quench-peers/native/bin/llama-quantize")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()

    models = json.loads(SHAPES.read_text())["models"]
    if args.shape not in models:
        parser.error(f"no shape {args.shape} in {SHAPES}; it has {', '.join(models)}")
    config = models[args.shape]
    if config["architectures"][0] not in ARCHITECTURES:
        parser.error(f"{args.shape} is a {config['architectures'][0]}; this script writes {', '.join(ARCHITECTURES)}")
    if args.layers:
        config = {**config, "num_hidden_layers": min(args.layers, config["num_hidden_layers"])}
    args.out.parent.mkdir(parents=True, exist_ok=True)

    # Written under another name first: a file that has its own name is complete.
    partial = args.out.with_name(args.out.name + ".partial")
    bf16 = args.out.with_name(args.out.name + ".bf16")
    try:
        if args.format == "bf16":
            write_bf16(partial, args.shape, config, args.seed)
        else:
            if not args.source:
                write_bf16(bf16, args.shape, config, args.seed)
            command = [args.quantize, args.source or bf16, partial, args.format.upper(), str(args.threads)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode != 0:
                sys.exit(f"{args.quantize} failed:\n{done.stderr[-2000:]}")
        partial.replace(args.out)
    finally:
        bf16.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
