#!/usr/bin/env python3
"""Loads a checkpoint that quench wrote with the library that owns its layout, and compares.

    check_written.py CHECKPOINT REFERENCE

REFERENCE is the same model as a plain float32 checkpoint (the decoded matrices). Compared are every
quantized matrix, dequantized by the library, and the logits of a few tokens. The library computes
in the checkpoint's own type, so the logits' error is that of float16 or bfloat16. Needs what
make_quant_fixtures.py needs.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def load(path, method):
    if method in ("gptq", "awq"):
        from gptqmodel import BACKEND, GPTQModel
        backend = BACKEND.GPTQ_TORCH if method == "gptq" else BACKEND.AWQ_TORCH
        # In bfloat16, its choice on a CPU, it would round the scales.
        return GPTQModel.load(path, backend=backend, device="cpu", dtype=torch.float16).model
    return AutoModelForCausalLM.from_pretrained(path, device_map="cpu", dtype="auto")


def dequantize(module, method):
    """The float matrix [out, in] of a quantized module; None for any other."""
    if method == "gptq" and hasattr(module, "dequantize_weight"):
        scales, module.scales = module.scales, module.scales.float()
        weight = module.dequantize_weight().T
        module.scales = scales
        return weight
    if method == "awq" and hasattr(module, "qweight"):
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
        return dequantize_gemm(qweight=module.qweight, qzeros=module.qzeros,
                               scales=module.scales.float(), bits=4,
                               group_size=module.group_size).T
    if method == "bitsandbytes":
        from bitsandbytes import functional, nn
        if isinstance(module, nn.Linear4bit):
            state = module.weight.quant_state
            dtype, state.dtype = state.dtype, torch.float32
            weight = functional.dequantize_4bit(module.weight.data, state)
            state.dtype = dtype
            return weight
        if isinstance(module, nn.Linear8bitLt):
            scb = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            return functional.int8_vectorwise_dequant(module.weight.data, scb)
    if method == "compressed-tensors" and hasattr(module, "quantization_scheme"):
        from compressed_tensors.compressors import BaseCompressor
        scheme = module.quantization_scheme
        state = {key: value.float() if key == "weight_scale" else value
                 for key, value in module.state_dict().items()}
        compressor = BaseCompressor.get_value_from_registry(scheme.format.value)
        return compressor.decompress(state, scheme)["weight"]
    if method == "fp8" and isinstance(module, torch.nn.Linear):
        return module.weight  # without an accelerator it is decoded, to bfloat16, when it is loaded
    return None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, reference_path = sys.argv[1:]
    config = json.loads((Path(path) / "config.json").read_text())
    method = config["quantization_config"]["quant_method"]
    reference = AutoModelForCausalLM.from_pretrained(reference_path, dtype=torch.float32)
    model = load(path, method)
    modules = dict(model.named_modules())
    compared, largest = 0, 0.0
    for name, module in reference.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        weight = dequantize(modules[name], method)
        if weight is None:
            continue
        scale = module.weight.abs().max()
        largest = max(largest, float((weight.float() - module.weight).abs().max() / scale))
        compared += 1
    with torch.no_grad():
        want = reference(IDS).logits
        got = model(IDS).logits.float()
    print(json.dumps({
        "checkpoint": Path(path).name, "method": method, "matrices": compared,
        "weights_max_error": largest,
        "logits_relative_error": float((got - want).norm() / want.norm()),
        "same_top_token": f"{int((got.argmax(-1) == want.argmax(-1)).sum())} of {IDS.numel()}"}))


if __name__ == "__main__":
    main()
