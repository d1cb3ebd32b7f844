#!/usr/bin/env python3
"""llama.cpp against quench on the same GGUF files: logits of every position and greedy tokens.

    check_gguf.py [--quench build/quench] FILE...      needs llama-cpp-python and numpy

Prints for each file the relative error of llama.cpp's logits against quench's (plain C++ kernels, keys and values in
F32), the largest difference of log-probabilities, and how many greedy tokens are the same. Exit 1 when a file of
plain numbers (F32, F16, BF16) differs by more than 1e-3, which llama.cpp's own rounding of inputs to F16 explains.
LLAMA_CPP_LIB_PATH may name the folder of another build of llama.cpp's libraries.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

PROMPT = [1, 2, 3, 9, 30, 12, 25, 7, 7, 41, 5, 18]


class Llama:
    """One file, opened by the C functions: the class of the package wants a tokenizer that works."""

    def __init__(self, path, context):
        model_params = llama_cpp.llama_model_default_params()
        model_params.use_mmap = True
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if not self.model:
            sys.exit(f"{path}: llama.cpp cannot load it")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = context
        params.n_ubatch = context
        params.n_threads = params.n_threads_batch = 2
        params.type_k = params.type_v = 0  # F32
        params.flash_attn_type = 0
        self.context = llama_cpp.llama_init_from_model(self.model, params)

    def logits(self, ids):
        """Of all positions, from an empty context."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        pointer = llama_cpp.llama_get_logits(self.context)
        values = np.ctypeslib.as_array(pointer, shape=(len(ids), self.vocab_size)).copy()
        llama_cpp.llama_batch_free(batch)
        return values


def quench_logits(quench, path, ids, extra):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        command = [quench, "logits", str(path), "--ids", ",".join(map(str, ids)), "--out", str(out), *extra]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return np.load(out)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def plain_numbers(path):
    import gguf

    return all(t.tensor_type.name in ("F32", "F16", "BF16") for t in gguf.GGUFReader(path).tensors)


def main():
    parser = argparse.ArgumentParser(description="Compares llama.cpp's logits with quench's.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--quench", default=str(Path(__file__).resolve().parents[1] / "build/quench"))
    parser.add_argument("--greedy", type=int, default=32, help="tokens to generate")
    parser.add_argument("--isa", default="ref", help="quench's level; ref: every number as the file has it")
    args = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    failed = False
    for path in args.files:
        extra = ["--isa", args.isa, "--kv-format", "f32"]
        llama = Llama(path, 256)
        theirs = llama.logits(PROMPT)
        ours = quench_logits(args.quench, path, PROMPT, extra)
        error = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
        largest = np.abs(log_softmax(theirs) - log_softmax(ours)).max()
        ids = list(PROMPT)
        for _ in range(args.greedy):
            ids.append(int(llama.logits(ids)[-1].argmax()))
        same = int((quench_logits(args.quench, path, ids[:-1], extra)[len(PROMPT) - 1 :].argmax(-1)
                    == np.array(ids[len(PROMPT) :])).sum())
        plain = plain_numbers(path)
        failed |= bool(plain and error > 1e-3)
        print(f"{path.name:32} logits {error:.1e}  log-probabilities {largest:.1e}  greedy {same}/{args.greedy}"
              f"{'' if plain else '  (quantized: llama.cpp quantizes inputs too)'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
