#!/usr/bin/env python3
"""Makes tests/gguf: small GGUF files written by the Python package gguf (ggml-org's own), which quench must read.

    make_gguf_fixtures.py [--check]        needs numpy and gguf; --check: makes them again and compares

types.gguf        every kind of key, and of every type that quench decodes a tensor of random blocks (two rows of 512)
                  with its values as that package dequantizes them, as F32 beside it: "q4_k" and "q4_k.values"
<model>.gguf      a tiny model of tests/tiny_model for each of llama.cpp's five names of Qwen architectures, with the
                  keys and tensor names of that package
tokenizer.gguf    the vocabulary of tests/text/small_tokenizer, without tensors
"""

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "tests" / "gguf"
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
         "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
# Where the f16 scales of a block are; all other bytes may be anything.
SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2]}
MODELS = {"qwen1": "qwen", "qwen2_yarn": "qwen2", "qwen2_moe_norm": "qwen2moe", "qwen3_tied_f16": "qwen3",
          "qwen3_moe": "qwen3moe"}
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def random_blocks(rng, name, rows, cols):
    weights, size = gguf.GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (rows * cols // weights, size), np.uint8)
    for at in SCALES.get(name, [0]):
        scales = rng.uniform(-0.01, 0.01, len(blocks)).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, cols // weights * size)


def write_types(path):
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "none")
    for name, value in [("uint8", 200), ("int8", -100), ("uint16", 60000), ("int16", -30000), ("uint32", 4000000000),
                        ("int32", -2000000000), ("float32", 0.25), ("uint64", 2**63 + 1), ("int64", -(2**62)),
                        ("float64", 1e300), ("bool", True), ("string", "h\u00e9llo")]:
        getattr(writer, f"add_{name}")(f"test.{name}", value)
    writer.add_array("test.strings", ["a", "", "\u4f60\u597d"])
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.numbers", [0.5, -1.5])
    writer.add_array("test.booleans", [True, False])
    for name in TYPES:
        blocks = random_blocks(rng, name, 2, 512)
        writer.add_tensor(name.lower(), blocks, raw_dtype=Type[name])
        writer.add_tensor(name.lower() + ".values", gguf.dequantize(blocks, Type[name]))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8 : 8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors[name] = (entry["dtype"], np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"]))
    return tensors


def add_keys(writer, arch, config):
    first = arch == "qwen"
    heads = config["num_attention_heads"]
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon" if first else "rms_norm_eps"])
    writer.add_rope_freq_base(config["rotary_emb_base" if first else "rope_theta"])
    if first:
        writer.add_rope_dimension_count(config["hidden_size"] // heads)
    else:
        writer.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if config.get("rope_scaling"):
        scaling = config["rope_scaling"]
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling.get("rope_type", scaling.get("type"))))
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
        writer.add_expert_weights_norm(config["norm_topk_prob"])
        if arch == "qwen2moe":
            writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def add_words(writer, count):
    """A vocabulary of the right length for models without one: llama.cpp wants it, nobody reads it."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([chr(0x100 + i) for i in range(count)])
    writer.add_token_types([gguf.TokenType.NORMAL] * count)
    writer.add_token_merges([f"{chr(0x100)} {chr(0x101)}"])
    writer.add_eos_token_id(0)


def write_model(path, model, arch):
    folder = ROOT / "tests" / "tiny_model" / model
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, arch)
    add_keys(writer, arch, config)
    add_words(writer, config["vocab_size"])
    layers = config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), layers)
    dense = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, layers)  # layers without experts, which llama.cpp lacks

    def gguf_name(name):
        return next(n for n in (m.get_name(name, try_suffixes=(".weight", ".bias")) for m in (names, dense)) if n)

    tensors = read_safetensors(folder)
    stacks = {}
    for name, (dtype, values) in sorted(tensors.items()):
        if ".experts." in name:
            head, rest = name.split(".experts.")
            expert, rest = rest.split(".", 1)
            stacks.setdefault(f"{head}.experts.{rest}", {})[int(expert)] = values
            continue
        if values.ndim == 1 or name.endswith("mlp.gate.weight"):
            values = values.astype(np.float32)
            dtype = "F32"
        if name.endswith("shared_expert_gate.weight"):
            values = values.reshape(-1)
        writer.add_tensor(gguf_name(name), values, raw_dtype=Type[dtype])
    for name, parts in sorted(stacks.items()):
        writer.add_tensor(gguf_name(name), np.stack([parts[e] for e in sorted(parts)]))
    finish(writer)


def write_tokenizer(path):
    tokenizer = json.loads((ROOT / "tests/text/small_tokenizer/tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    count = max(*vocab.values(), *added) + 4  # three rows of padding
    tokens = [f"[PAD{i}]" for i in range(count)]
    types = [gguf.TokenType.UNUSED] * count
    for token, i in vocab.items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for i, token in added.items():
        tokens[i] = token["content"]
        types[i] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(next(i for i, token in added.items() if token["content"] == "<|im_end|>"))
    finish(writer)


def main():
    parser = argparse.ArgumentParser(description="Makes the GGUF files of tests/gguf.")
    parser.add_argument("--check", action="store_true", help="make them in a temporary folder and compare")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if args.check else OUT
        folder.mkdir(parents=True, exist_ok=True)
        write_types(folder / "types.gguf")
        for model, arch in MODELS.items():
            write_model(folder / f"{model}.gguf", model, arch)
        write_tokenizer(folder / "tokenizer.gguf")
        if not args.check:
            return
        for path in sorted(folder.iterdir()):
            if path.read_bytes() != (OUT / path.name).read_bytes():
                sys.exit(f"{path.name} is not what this script makes")


if __name__ == "__main__":
    main()
