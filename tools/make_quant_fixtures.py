#!/usr/bin/env python3
"""Makes tests/quant: tiny models as other programs quantize them, and what is in them.

    make_quant_fixtures.py [NAME ...]    write all fixtures, or those named

Every quantized tensor is made by the code of the library that owns the layout (GPTQModel,
bitsandbytes through transformers, compressed-tensors, transformers' FP8), and so is the float
matrix that it stands for. Beside each checkpoint:
  expected.json       for every quantized matrix its shape, some values, and the SHA-256 of all its
                      values as little-endian float32, row by row
  golden.safetensors  ids, and the logits that transformers computes in float32 with those matrices

Needs the versions in PINS; no accelerator.
"""

import hashlib
import importlib.metadata
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM

PINS = {"gptqmodel": "7.7.0", "bitsandbytes": "0.50.2", "compressed-tensors": "0.20.0",
        "transformers": "5.23.0"}
OUT = Path(__file__).resolve().parent.parent / "tests" / "quant"
MAX_BYTES = 1_200_000  # of tests/quant
IDS = [3, 1, 4, 1, 5, 9, 2, 6]

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2,
         "num_key_value_heads": 1}
WIDE_KEYS = {**SMALL, "num_key_value_heads": 2}  # all sides multiples of 64
PARTIAL = {**SMALL, "intermediate_size": 192}  # blocks of 128 x 128 at the edges are cut off
# Shapes that such blocks divide, but for the rows of keys and values.
SQUARE = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 2,
          "num_key_value_heads": 1}


def make_model(shape, dtype, **changes):
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=32, num_hidden_layers=1, max_position_embeddings=128,
                         tie_word_embeddings=True, initializer_range=0.1, **shape)
    for key, value in changes.items():
        setattr(config, key, value)
    model = Qwen2ForCausalLM(config).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def linear_names(model, head=False):
    return [name for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and (head or name != "lm_head")]


def plain_tensors(model, quantized):
    """What stays as it is."""
    skip = {name + ".weight" for name in quantized}
    if model.config.tie_word_embeddings:
        skip.add("lm_head.weight")
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()
            if name not in skip}


def round_to_grid(weight, bits, group, sym):
    """Scales and zeros [out, groups], minimum to maximum, as GPTQ's and AWQ's quantizers find them."""
    out, cols = weight.shape
    group = cols if group == -1 else group
    w = weight.float().reshape(out, cols // group, group)
    top = 2 ** bits - 1
    if sym:
        scales = 2 * w.abs().amax(-1) / top
        zeros = torch.full_like(scales, (top + 1) // 2)
    else:
        low, high = w.amin(-1).clamp(max=0), w.amax(-1).clamp(min=0)
        scales = (high - low) / top
        zeros = (-low / scales).round()
    return scales.half().float(), zeros


def gptq(bits, group, sym, act_order=False, version=1, head=False):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.config import FORMAT, QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    model = make_model(SMALL, torch.float16, **({"tie_word_embeddings": False} if head else {}))
    config = QuantizeConfig(bits=bits, group_size=group, sym=sym, desc_act=act_order,
                            format=FORMAT.GPTQ if version == 1 else FORMAT.GPTQ_V2, lm_head=head)
    names = linear_names(model, head)
    tensors, expected = plain_tensors(model, names), {}
    for name in names:
        linear = model.get_submodule(name)
        cols = linear.in_features
        size = cols if group == -1 else group
        order = torch.randperm(cols) if act_order else torch.arange(cols)
        g_idx = torch.empty(cols, dtype=torch.int32)
        g_idx[order] = torch.arange(cols, dtype=torch.int32) // size
        scales, zeros = round_to_grid(linear.weight.data[:, order], bits, group, sym)
        packed = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act_order,
                             in_features=cols, out_features=linear.out_features, bias=False,
                             format=config.format)
        bias, linear.bias = linear.bias, None
        packed.pack_block(linear, scales, zeros, g_idx)
        linear.bias = bias
        packed.post_init()
        scales, packed.scales = packed.scales, packed.scales.float()
        expected[name] = packed.dequantize_weight().T.float()
        packed.scales = scales
        if version == 1:
            convert_gptq_v2_to_v1_format_module(packed, config)
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"{name}.{part}"] = getattr(packed, part).clone()
    settings = config.to_dict()
    settings.pop("meta", None)
    return model, tensors, settings, expected


def old_gptq():
    """As programs of 2023 wrote it: quantize_config.json, and biases of zeros everywhere."""
    model, tensors, settings, expected = gptq(4, 64, True)
    for name in expected:
        rows = expected[name].shape[0]
        tensors.setdefault(f"{name}.bias", torch.zeros(rows, dtype=torch.float16))
    keep = ("bits", "group_size", "desc_act", "sym")
    return model, tensors, {"quantize_config.json": {k: settings[k] for k in keep}}, expected


def awq(version, group):
    from gptqmodel.nn_modules.qlinear.gemv_awq import AwqGEMVLinear
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    model = make_model(WIDE_KEYS, torch.float16)
    names = linear_names(model)
    tensors, expected = plain_tensors(model, names), {}
    for name in names:
        linear = model.get_submodule(name)
        scales, zeros = round_to_grid(linear.weight.data, 4, group, False)
        arguments = {"bits": 4, "group_size": group, "sym": False, "desc_act": False,
                     "in_features": linear.in_features, "out_features": linear.out_features}
        bias, linear.bias = linear.bias, None
        gemm = AwqTorchLinear(**arguments)
        gemm.pack(linear, scales, zeros)
        expected[name] = dequantize_gemm(qweight=gemm.qweight, qzeros=gemm.qzeros,
                                         scales=gemm.scales.float(), bits=4,
                                         group_size=group).T.float()
        packed = gemm
        if version == "gemv":
            # From the rounded weights: the two packers break ties differently.
            linear.weight.data = expected[name].half()
            packed = AwqGEMVLinear(**arguments)
            packed.pack(linear, scales, zeros)
        linear.bias = bias
        for part in ("qweight", "qzeros", "scales"):
            tensors[f"{name}.{part}"] = getattr(packed, part).clone()
    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True,
                "version": version, "modules_to_not_convert": None}
    return model, tensors, settings, expected


def bitsandbytes(**options):
    import bitsandbytes as bnb
    from bitsandbytes import functional

    model = make_model(SMALL, torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder + "/float")
        quantized = AutoModelForCausalLM.from_pretrained(
            folder + "/float", quantization_config=BitsAndBytesConfig(**options),
            device_map="cpu", dtype=torch.bfloat16)
        quantized.save_pretrained(folder + "/quantized")
        tensors = load_file(folder + "/quantized/model.safetensors")
        settings = json.loads(
            (Path(folder) / "quantized/config.json").read_text())["quantization_config"]
    expected = {}
    for name, module in quantized.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            state = module.weight.quant_state
            state.dtype = torch.float32
            expected[name] = functional.dequantize_4bit(module.weight.data, state).float()
        elif isinstance(module, bnb.nn.Linear8bitLt):
            scb = tensors[name + ".SCB"]
            expected[name] = functional.int8_vectorwise_dequant(tensors[name + ".weight"], scb)
    return model, tensors, settings, expected


def compressed(layout, dtype=torch.bfloat16, shape=SMALL, ignore=("lm_head",), **weights):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig,
                                                QuantizationScheme)
    from compressed_tensors.quantization.utils import calculate_qparams

    model = make_model(shape, dtype)
    args = QuantizationArgs(**weights)
    inputs = None
    if layout != "pack-quantized":
        inputs = QuantizationArgs(num_bits=8, type=args.type, symmetric=True, strategy="token",
                                  dynamic=True)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=inputs)
    compressor = BaseCompressor.get_value_from_registry(layout)
    names = [name for name in linear_names(model) if name not in ignore]
    tensors, expected = plain_tensors(model, names), {}
    for name in names:
        weight = model.get_submodule(name).weight.data
        rows, cols = weight.shape
        if args.strategy == "group":
            cut = weight.reshape(rows, cols // args.group_size, args.group_size)
            low, high = cut.amin(-1), cut.amax(-1)
        elif args.strategy == "block":
            block_rows, block_cols = args.block_structure
            padded = torch.zeros(-(-rows // block_rows) * block_rows,
                                 -(-cols // block_cols) * block_cols, dtype=weight.dtype)
            padded[:rows, :cols] = weight
            cut = padded.reshape(padded.shape[0] // block_rows, block_rows, -1, block_cols)
            low, high = cut.amin((1, 3)), cut.amax((1, 3))
        elif args.strategy == "channel":
            low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        else:
            low, high = weight.min().reshape(1), weight.max().reshape(1)
        scale, zero = calculate_qparams(low, high, args)
        state = {"weight": weight, "weight_scale": scale.to(dtype), "weight_zero_point": zero}
        stored = compressor.compress(state, scheme)
        for part, tensor in stored.items():
            tensors[f"{name}.{part}"] = tensor.clone()
        wide = {key: value.float() if key == "weight_scale" else value
                for key, value in stored.items()}
        expected[name] = compressor.decompress(wide, scheme)["weight"].float()
    settings = QuantizationConfig(config_groups={"group_0": scheme}, format=layout,
                                  quantization_status="compressed", ignore=list(ignore))
    settings = json.loads(settings.model_dump_json())
    return model, tensors, settings, expected


def fp8(shape, scale_dtype):
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

    class Quantizer:
        quantization_config = FineGrainedFP8Config()

    model = make_model(shape, torch.bfloat16)
    names = linear_names(model)
    tensors, expected = plain_tensors(model, names), {}
    for name in names:
        key = name + ".weight"
        weight = model.get_submodule(name).weight.data.float()
        rows, cols = weight.shape
        # The library quantizes whole blocks only.
        padded = torch.zeros(-(-rows // 128) * 128, -(-cols // 128) * 128)
        padded[:rows, :cols] = weight
        stored = Fp8Quantize(Quantizer).convert({key: padded})
        scales = stored[key + "_scale_inv"].to(scale_dtype)
        tensors[key] = stored[key][:rows, :cols].clone()
        tensors[key + "_scale_inv"] = scales
        wide = Fp8Dequantize(Quantizer)._dequantize_one(stored[key], scales, torch.float32)
        expected[name] = wide[:rows, :cols]
    settings = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}
    return model, tensors, settings, expected


INT = {"type": "int", "dynamic": False}
FLOAT = {"type": "float", "num_bits": 8, "symmetric": True, "dynamic": False}
CASES = {
    "gptq_int4": lambda: gptq(4, 32, True),
    "gptq_int4_act_order": lambda: gptq(4, 32, True, act_order=True),
    "gptq_int8_rows": lambda: gptq(8, -1, True),
    "gptq_int3": lambda: gptq(3, 32, True),
    "gptq_v2_int2": lambda: gptq(2, 32, False, version=2),
    "gptq_v2_int4_head": lambda: gptq(4, 64, False, version=2, head=True),
    "gptq_v2_int3": lambda: gptq(3, 64, False, version=2),
    "gptq_2023": old_gptq,
    "awq_gemm": lambda: awq("gemm", 32),
    "awq_gemv": lambda: awq("gemv", 64),
    "bnb_nf4": lambda: bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                    bnb_4bit_compute_dtype=torch.bfloat16),
    "bnb_nf4_double": lambda: bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                           bnb_4bit_compute_dtype=torch.bfloat16,
                                           bnb_4bit_use_double_quant=True),
    "bnb_fp4": lambda: bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="fp4",
                                    bnb_4bit_compute_dtype=torch.bfloat16),
    "bnb_int8": lambda: bitsandbytes(load_in_8bit=True),
    "compressed_int4": lambda: compressed("pack-quantized", num_bits=4, strategy="group",
                                          group_size=32, symmetric=True, **INT),
    "compressed_int4_zero_points": lambda: compressed(
        "pack-quantized", num_bits=4, strategy="group", group_size=64, symmetric=False, **INT),
    "compressed_int8_packed": lambda: compressed(
        "pack-quantized", dtype=torch.float16, num_bits=8, strategy="channel", symmetric=False,
        **INT),
    "compressed_int8": lambda: compressed("int-quantized", num_bits=8, strategy="channel",
                                          symmetric=True, **INT),
    "compressed_fp8": lambda: compressed("float-quantized", strategy="channel", **FLOAT),
    "compressed_fp8_tensor": lambda: compressed("float-quantized", strategy="tensor", **FLOAT),
    "compressed_fp8_block": lambda: compressed(
        "float-quantized", shape=PARTIAL, strategy="block", block_structure=[128, 128], **FLOAT),
    "fp8": lambda: fp8(SQUARE, torch.float32),
    "fp8_bf16_scales": lambda: fp8(PARTIAL, torch.bfloat16),
}


@torch.no_grad()
def write(name, made):
    model, tensors, settings, expected = made
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.config.save_pretrained(scratch)
        config = json.loads((Path(scratch) / "config.json").read_text())
    config["architectures"] = ["Qwen2ForCausalLM"]
    if "quantize_config.json" in settings:
        (folder / "quantize_config.json").write_text(
            json.dumps(settings["quantize_config.json"], indent=2) + "\n")
    else:
        config["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({key: value.contiguous() for key, value in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})

    wide = Qwen2ForCausalLM(model.config).float()  # a cast model would have rounded rotary tables
    wide.load_state_dict(model.state_dict())
    facts = {}
    for module, values in expected.items():
        values = values.detach().contiguous()
        weight = wide.get_submodule(module).weight
        assert weight.shape == values.shape, (module, weight.shape, values.shape)
        relative = float((weight - values).norm() / weight.norm())
        assert relative < 0.5, (name, module, relative)  # two bits are that coarse
        weight.data = values
        flat = values.flatten()
        facts[module + ".weight"] = {
            "shape": list(values.shape),
            "sha256": hashlib.sha256(values.numpy().tobytes()).hexdigest(),
            "every_997th": [float(v) for v in flat[::997]]}
    (folder / "expected.json").write_text(json.dumps(facts) + "\n")
    logits = wide.eval()(torch.tensor([IDS])).logits[0]
    save_file({"ids": torch.tensor(IDS, dtype=torch.int32), "logits": logits.contiguous()},
              folder / "golden.safetensors")
    return sum(path.stat().st_size for path in folder.iterdir())


def main():
    for package, version in PINS.items():
        found = importlib.metadata.version(package)
        if found != version:
            sys.exit(f"make_quant_fixtures.py: needs {package} {version}, found {found}")
    unknown = set(sys.argv[1:]) - set(CASES)
    if unknown:
        sys.exit(f"make_quant_fixtures.py: no fixture {unknown}; known are {', '.join(CASES)}")
    for name in sys.argv[1:] or CASES:
        print(f"{name}: {write(name, CASES[name]())} bytes", flush=True)
    total = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    if total > MAX_BYTES:
        sys.exit(f"make_quant_fixtures.py: {total} bytes, more than {MAX_BYTES}")
    print(f"tests/quant: {total} bytes")


if __name__ == "__main__":
    main()
