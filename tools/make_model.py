#!/usr/bin/env python3
"""Writes random-weight Qwen checkpoints in the Hugging Face layout, of any size and dtype.

    make_model.py OUT --arch Qwen2ForCausalLM --set hidden_size=96 --set rope_theta=10000.0
    make_model.py OUT --config path/to/config.json --dtype BF16 --shard-bytes 5000000000

OUT gets config.json and model.safetensors, or shards with model.safetensors.index.json. Tensor
names and config fields are those of the published checkpoints. Only blocks of a tensor are ever in
memory, so a 72B shape needs disk and time, not RAM.

Weights are exact in any language. Element i (row-major) of tensor `name` is
    h = mix64(key + (i + 1) * 0x9E3779B97F4A7C15),  key = mix64(fnv1a64(name) ^ mix64(seed))
    s = sum of the four 16-bit fields of h - 131070             (close to normal, std 37837.23)
    value = float32(mean) + float32(s) * float32(std / 37837.23), float32 arithmetic
with mix64 the finalizer of splitmix64, and all integers modulo 2**64; then rounded to the dtype
(nearest even). `init_of` gives mean and std: 1/sqrt(fan_in) for matrices, which keeps activations
near 1 at every width, norms near 1, biases never zero.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

ARCHITECTURES = (
    "QWenLMHeadModel",
    "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
)
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
TORCH_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BLOCK = 1 << 20  # elements made at a time
IRWIN_HALL_STD = math.sqrt(4 * (65536**2 - 1) / 12)  # of the sum of four uniform 16-bit integers


# ---- configurations -----------------------------------------------------------------------------


def default_config(architecture):
    """A small config.json of this architecture with every field that released files have."""
    if architecture == "QWenLMHeadModel":
        return {
            "architectures": [architecture],
            "attn_dropout_prob": 0.0,
            "auto_map": {
                "AutoConfig": "configuration_qwen.QWenConfig",
                "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
            },
            "bf16": False,
            "emb_dropout_prob": 0.0,
            "fp16": False,
            "fp32": False,
            "hidden_size": 96,
            "initializer_range": 0.02,
            "intermediate_size": 320,  # twice the width of w1 and w2
            "kv_channels": 16,
            "layer_norm_epsilon": 1e-6,
            "max_position_embeddings": 8192,
            "model_type": "qwen",
            "no_bias": True,
            "num_attention_heads": 6,
            "num_hidden_layers": 3,
            "onnx_safe": None,
            "rotary_emb_base": 10000,
            "rotary_pct": 1.0,
            "scale_attn_weights": True,
            "seq_length": 2048,
            "tie_word_embeddings": False,
            "tokenizer_type": "QWenTokenizer",
            "transformers_version": "4.32.0",
            "use_cache": True,
            "use_dynamic_ntk": True,
            "use_flash_attn": "auto",
            "use_logn_attn": True,
            "vocab_size": 211,
        }
    moe = "Moe" in architecture
    qwen3 = architecture.startswith("Qwen3")
    config = {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 96,
        "initializer_range": 0.02,
        "intermediate_size": 160,
        "max_position_embeddings": 512,
        "max_window_layers": 3,
        "model_type": ("qwen3" if qwen3 else "qwen2") + ("_moe" if moe else ""),
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": None if qwen3 else 512,
        "tie_word_embeddings": False,
        "transformers_version": "4.51.0" if qwen3 else "4.43.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 211,
    }
    if qwen3:
        config.update(attention_bias=False, head_dim=24, rope_scaling=None)
    if moe:
        config.update(
            decoder_sparse_step=1,
            moe_intermediate_size=40,
            norm_topk_prob=qwen3,
            num_experts=7,
            num_experts_per_tok=3,
            output_router_logits=False,
            router_aux_loss_coef=0.001,
        )
        if qwen3:
            config["mlp_only_layers"] = []
        else:
            config["shared_expert_intermediate_size"] = 72
    return config


# ---- inventory ----------------------------------------------------------------------------------


def is_sparse(config, layer):
    """Whether decoder layer `layer` has experts."""
    return (
        config.get("num_experts", 0) > 0
        and layer not in (config.get("mlp_only_layers") or [])
        and (layer + 1) % config.get("decoder_sparse_step", 1) == 0
    )


def list_tensors(config):
    """Yields (name, shape) of every tensor of the checkpoint, in file order."""
    architecture = config["architectures"][0]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture {architecture}: expected one of {', '.join(ARCHITECTURES)}")
    if architecture == "QWenLMHeadModel":
        yield from _list_qwen1(config)
    else:
        yield from _list_qwen2_and_3(config, architecture)


def _list_qwen1(config):
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    projection = config["kv_channels"] * config["num_attention_heads"]
    width = config["intermediate_size"] // 2
    yield "transformer.wte.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        p = f"transformer.h.{layer}."
        yield p + "ln_1.weight", (hidden,)
        yield p + "attn.c_attn.weight", (3 * projection, hidden)
        yield p + "attn.c_attn.bias", (3 * projection,)
        yield p + "attn.c_proj.weight", (hidden, projection)
        yield p + "ln_2.weight", (hidden,)
        yield p + "mlp.w1.weight", (width, hidden)
        yield p + "mlp.w2.weight", (width, hidden)
        yield p + "mlp.c_proj.weight", (hidden, width)
    yield "transformer.ln_f.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def _list_mlp(prefix, hidden, width):
    yield prefix + "gate_proj.weight", (width, hidden)
    yield prefix + "up_proj.weight", (width, hidden)
    yield prefix + "down_proj.weight", (hidden, width)


def _list_qwen2_and_3(config, architecture):
    qwen3 = architecture.startswith("Qwen3")
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    q_width, kv_width = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    qkv_bias = config.get("attention_bias", False) if qwen3 else config.get("qkv_bias", True)
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        yield p + "input_layernorm.weight", (hidden,)
        for name, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
            yield f"{p}self_attn.{name}_proj.weight", (width, hidden)
            if qkv_bias:
                yield f"{p}self_attn.{name}_proj.bias", (width,)
        yield p + "self_attn.o_proj.weight", (hidden, q_width)
        if qwen3 and qkv_bias:
            yield p + "self_attn.o_proj.bias", (hidden,)
        if qwen3:
            yield p + "self_attn.q_norm.weight", (head_dim,)
            yield p + "self_attn.k_norm.weight", (head_dim,)
        yield p + "post_attention_layernorm.weight", (hidden,)
        if not is_sparse(config, layer):
            yield from _list_mlp(p + "mlp.", hidden, config["intermediate_size"])
            continue
        yield p + "mlp.gate.weight", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            prefix = f"{p}mlp.experts.{expert}."
            yield from _list_mlp(prefix, hidden, config["moe_intermediate_size"])
        if not qwen3:
            shared = config["shared_expert_intermediate_size"]
            yield from _list_mlp(p + "mlp.shared_expert.", hidden, shared)
            yield p + "mlp.shared_expert_gate.weight", (1, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (vocab, hidden)


# ---- values -------------------------------------------------------------------------------------


def init_of(name, shape):
    """(mean, std) of the tensor: activations stay near 1, attention and routing are not flat."""
    if name.endswith(".bias"):
        return 0.0, 0.3
    if len(shape) == 1:
        return 1.0, 0.1  # norms
    if "wte" in name or "embed_tokens" in name:
        return 0.0, 0.4
    gain = 1.0
    if any(part in name for part in ("q_proj", "k_proj", "c_attn", "mlp.gate.weight")):
        gain = 1.5
    return 0.0, gain / math.sqrt(shape[1])


def mix64(x):
    """The finalizer of splitmix64, on one Python integer."""
    mask = (1 << 64) - 1
    x &= mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def tensor_key(name, seed):
    """The 64-bit key of a tensor's stream: mix64(fnv1a64(name) ^ mix64(seed))."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return mix64(h ^ mix64(seed))


def make_block(key, begin, count, mean, std):
    """Elements [begin, begin + count) of a tensor: [count] float32."""
    h = np.arange(begin + 1, begin + count + 1, dtype=np.uint64)
    h *= np.uint64(0x9E3779B97F4A7C15)
    h += np.uint64(key)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    s = h.view("<u2").reshape(count, 4).sum(axis=1, dtype=np.int32) - np.int32(131070)
    return np.float32(mean) + s.astype(np.float32) * np.float32(std / IRWIN_HALL_STD)


def encode(values, dtype):
    """[n] float32 -> little-endian bytes of the dtype, rounded to nearest even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.view(np.uint32)  # no NaN here, so the carry needs no care
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype("<u2").tobytes()


# ---- files --------------------------------------------------------------------------------------


def plan_shards(tensors, dtype, shard_bytes):
    """Splits the list in order; a shard is closed when the next tensor would not fit."""
    shards, used = [[]], 0
    for name, shape in tensors:
        tensor_bytes = math.prod(shape) * DTYPE_BYTES[dtype]
        if shards[-1] and shard_bytes and used + tensor_bytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append((name, shape))
        used += tensor_bytes
    return shards


def write_shard(path, tensors, dtype, seed):
    """Writes one safetensors file, a block of elements at a time. Returns its tensor bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        end = offset + math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            key, (mean, std), count = tensor_key(name, seed), init_of(name, shape), math.prod(shape)
            for begin in range(0, count, BLOCK):
                block = make_block(key, begin, min(BLOCK, count - begin), mean, std)
                f.write(encode(block, dtype))
    return offset


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_model(out, config, dtype="F32", shard_bytes=0, seed=1, log=None):
    """Writes the checkpoint directory `out`. shard_bytes 0 means one file."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    config = dict(config)
    if "rope_parameters" in config:  # the form that transformers 5 saves
        for old in ("rope_theta", "rope_scaling", "torch_dtype"):
            config.pop(old, None)
        config["dtype"] = TORCH_DTYPE[dtype]
    else:
        config["torch_dtype"] = TORCH_DTYPE[dtype]
    if config["model_type"] == "qwen":
        config.update(bf16=dtype == "BF16", fp16=dtype == "F16", fp32=dtype == "F32")
    write_json(out / "config.json", config)
    shards = plan_shards(list_tensors(config), dtype, shard_bytes)
    weight_map, total = {}, 0
    for number, tensors in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        total += write_shard(out / name, tensors, dtype, seed)
        weight_map.update({tensor: name for tensor, _ in tensors})
        if log:
            print(f"{out / name}: {len(tensors)} tensors", file=log, flush=True)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(out / "model.safetensors.index.json", index)
    return total


def parse_setting(text):
    """'key=value' with a JSON value, or a plain string where it is no JSON."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}': expected key=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="a config.json to follow")
    source.add_argument("--arch", choices=ARCHITECTURES, help="start from a small default config")
    parser.add_argument("--set", type=parse_setting, action="append", default=[],
                        metavar="KEY=JSON", help="change a config field (repeatable)")
    parser.add_argument("--dtype", choices=DTYPE_BYTES, default="BF16")
    parser.add_argument("--shard-bytes", type=int, default=0, help="0: one file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    config = json.loads(args.config.read_text()) if args.config else default_config(args.arch)
    config.update(args.set)
    config.pop("quantization_config", None)  # the weights written here are not quantized
    total = write_model(args.out, config, args.dtype, args.shard_bytes, args.seed, sys.stderr)
    print(f"{args.out}: {total} bytes of {args.dtype} weights")


if __name__ == "__main__":
    main()
