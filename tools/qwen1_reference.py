"""QWenLMHeadModel (Qwen of 2023) in PyTorch float32: a reference for tests, one sequence at a time.

transformers has no class for this model; it was published as remote code beside its checkpoints.
This file is written from the formulas of that code. make_golden.py checks it against transformers'
Qwen2 given the same weights under other names, with the rope base and the query scale set by hand.

The layer: x += c_proj(attention(ln_1(x))); x += mlp(ln_2(x)).
  attention  c_attn is q, k, v stacked in that order, always with bias; c_proj has none (no_bias).
             The published code splits at hidden_size, so kv_channels * heads must equal it.
  rope       on all kv_channels dims, halves rotated (NeoX), base rotary_emb_base, positions from 0.
  mlp        c_proj(w1(x) * silu(w2(x))): w2 is the gate; both have intermediate_size / 2 rows.
  norms      x / sqrt(mean(x^2) + layer_norm_epsilon) * weight.
  head       lm_head, never tied to wte.

Dynamic NTK (use_dynamic_ntk), the published definition:
  alpha = max(2^ceil(log2(L / seq_length) + 1) - 1, 1);  base' = base * alpha^(d / (d - 2))
  L is the number of tokens in the prompt, without padding, per sequence of a batch. Alpha is 1 up
  to L = seq_length, 3 up to 2 * seq_length, 7 up to 4 * seq_length. It is fixed when the prompt is
  processed, applies to every position of the sequence, and stays while it decodes: a sequence that
  grows past seq_length while decoding keeps alpha 1. (In the published code a batch without an
  attention mask takes one alpha from its padded length; that is not copied. There, too, a prompt
  fed in pieces takes alpha from the first piece; here L is always the whole prompt.)

LogN (use_logn_attn), the published definition:
  after rope, the query at 1-based position i is multiplied by ln(i) / ln(seq_length) if
  i > seq_length, else by 1. It follows the true position, while decoding too, so it does begin when
  a sequence grows past seq_length. Keys and values are never scaled. (The published code skips the
  multiplication while there are at most seq_length keys, where all factors are 1; it counts
  padding of a left-padded batch as positions, which is not copied; its table ends at 32767.)

scale_attn_weights: scores are divided by sqrt(kv_channels). The published code reads the flag from
the config but always scales; so does this file.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file


def ntk_alpha(prompt_tokens, seq_length):
    """The dynamic-NTK factor for a prompt of this many tokens: an integer."""
    context_value = math.log(prompt_tokens / seq_length, 2) + 1
    return max(2 ** math.ceil(context_value) - 1, 1)


def rope_base(config, prompt_tokens):
    """The rope base of a sequence whose prompt has this many tokens."""
    if not config["use_dynamic_ntk"]:
        return float(config["rotary_emb_base"])
    dim = config["kv_channels"]
    alpha = ntk_alpha(prompt_tokens, config["seq_length"])
    return config["rotary_emb_base"] * alpha ** (dim / (dim - 2))


def rope_tables(base, dim, begin, end):
    """cos and sin for positions [begin, end): [end - begin, dim], the halves equal."""
    inv_freq = 1.0 / base ** (torch.arange(0, dim, 2).float() / dim)  # [dim / 2]
    angles = torch.outer(torch.arange(begin, end).float(), inv_freq)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def apply_rope(x, cos, sin):
    """x [heads, tokens, dim], cos and sin [tokens, dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def logn_scale(config, begin, end):
    """Factor of the query at 0-based positions [begin, end): [end - begin]."""
    trained = config["seq_length"]
    factors = [math.log(i, trained) if i > trained else 1.0 for i in range(begin + 1, end + 1)]
    return torch.tensor(factors)


def rms_norm(x, weight, epsilon):
    """x [tokens, hidden]."""
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))


class Qwen1:
    """The model: config is config.json as a dict, weights maps tensor names to float32 tensors."""

    def __init__(self, config, weights):
        if config["kv_channels"] * config["num_attention_heads"] != config["hidden_size"]:
            raise ValueError("kv_channels * num_attention_heads must equal hidden_size")
        if config["rotary_pct"] != 1.0 or not config["no_bias"]:
            raise ValueError("expected rotary_pct 1.0 and no_bias true, as in every release")
        self.config = config
        self.weights = weights

    @classmethod
    def load(cls, directory):
        """Reads config.json and every *.safetensors of a checkpoint directory."""
        directory = Path(directory)
        weights = {}
        for path in sorted(directory.glob("*.safetensors")):
            weights.update({name: t.float() for name, t in load_file(path).items()})
        return cls(json.loads((directory / "config.json").read_text()), weights)

    def start(self, prompt_tokens):
        """The state of a new sequence whose whole prompt will have this many tokens."""
        layers = self.config["num_hidden_layers"]
        return {
            "base": rope_base(self.config, prompt_tokens),
            "tokens": 0,
            "keys": [None] * layers,  # each [heads, tokens, kv_channels] after rope
            "values": [None] * layers,
        }

    @torch.no_grad()
    def forward(self, ids, state, observe=None):
        """Appends ids [tokens] to the sequence; returns logits [tokens, vocab_size].

        observe(name, tensor) is called with "embed" and "layer<N>.out", each [tokens, hidden].
        """
        c, w = self.config, self.weights
        begin, end = state["tokens"], state["tokens"] + len(ids)
        cos, sin = rope_tables(state["base"], c["kv_channels"], begin, end)
        x = w["transformer.wte.weight"][ids]
        if observe:
            observe("embed", x)
        for layer in range(c["num_hidden_layers"]):
            p = f"transformer.h.{layer}."
            h = rms_norm(x, w[p + "ln_1.weight"], c["layer_norm_epsilon"])
            x = x + self._attention(h, layer, state, cos, sin)
            h = rms_norm(x, w[p + "ln_2.weight"], c["layer_norm_epsilon"])
            gate = torch.nn.functional.silu(h @ w[p + "mlp.w2.weight"].T)
            x = x + ((h @ w[p + "mlp.w1.weight"].T) * gate) @ w[p + "mlp.c_proj.weight"].T
            if observe:
                observe(f"layer{layer}.out", x)
        state["tokens"] = end
        h = rms_norm(x, w["transformer.ln_f.weight"], c["layer_norm_epsilon"])
        return h @ w["lm_head.weight"].T

    def _attention(self, h, layer, state, cos, sin):
        """h [tokens, hidden], already normed -> [tokens, hidden]."""
        c, w = self.config, self.weights
        p = f"transformer.h.{layer}.attn."
        tokens, dim = h.shape[0], c["kv_channels"]
        qkv = h @ w[p + "c_attn.weight"].T + w[p + "c_attn.bias"]
        q, k, v = (t.view(tokens, -1, dim).transpose(0, 1) for t in qkv.chunk(3, dim=-1))
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        if state["keys"][layer] is not None:
            k = torch.cat((state["keys"][layer], k), dim=1)
            v = torch.cat((state["values"][layer], v), dim=1)
        state["keys"][layer], state["values"][layer] = k, v
        begin, end = state["tokens"], state["tokens"] + tokens
        if c["use_logn_attn"]:
            q = q * logn_scale(c, begin, end)[:, None]
        scores = q @ k.transpose(1, 2) / math.sqrt(dim)  # [heads, tokens, end]
        future = torch.arange(end) > torch.arange(begin, end)[:, None]
        scores = scores.masked_fill(future, float("-inf"))
        out = scores.softmax(dim=-1) @ v
        return out.transpose(0, 1).reshape(tokens, -1) @ w[p + "c_proj.weight"].T
