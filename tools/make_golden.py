#!/usr/bin/env python3
"""Makes tests/tiny_model and tests/golden: what the C++ forward pass and sampler are judged by.

    make_golden.py            write everything
    make_golden.py --check    regenerate into a temporary directory, compare with what is committed

Needs exactly the versions in PINS. tests/golden/README.md describes the files.

Every reference number is float32, eager attention, one sequence at a time, so that no padding
exists. QWenLMHeadModel, which transformers lacks, comes from qwen1_reference.py. Before a case is
written the script proves it:
  - each greedy token, made with a KV cache, is the argmax of one forward pass over the whole text;
    its lead over the second token is over MIN_MARGIN of the largest logit, else another prompt is
    drawn; likewise the lead of the last chosen expert over the first one not chosen;
  - a left-padded batch with an attention mask gives the same logits to 1e-5;
  - Qwen1 agrees to 1e-5 with transformers' Qwen2 given the same weights under other names.
"""

import argparse
import filecmp
import json
import sys
import tempfile
from pathlib import Path

import make_model
import qwen1_reference
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

PINS = {"torch": "2.13.0", "transformers": "5.23.0"}
TESTS = Path(__file__).resolve().parent.parent / "tests"
GREEDY_TOKENS = 64
MIN_MARGIN = 1e-3
MAX_BYTES = 2_500_000  # of tests/golden and tests/tiny_model together

QWEN1 = {"hidden_size": 32, "kv_channels": 16, "num_attention_heads": 2, "intermediate_size": 48,
         "num_hidden_layers": 2, "vocab_size": 47, "seq_length": 32, "max_position_embeddings": 256}
QWEN3_MOE = {"hidden_size": 32, "head_dim": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 48, "moe_intermediate_size": 12, "num_hidden_layers": 2,
             "vocab_size": 53}

# name: (architecture, dtype, bytes per shard, changes to make_model.default_config)
MODELS = {
    "qwen2": ("Qwen2ForCausalLM", "F32", 0, {
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 83}),
    "qwen2_tied": ("Qwen2ForCausalLM", "F32", 0, {
        "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
        "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 71,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "qwen2_one_kv_head_bf16": ("Qwen2ForCausalLM", "BF16", 0, {
        "hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1,
        "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 61}),
    "qwen2_yarn": ("Qwen2ForCausalLM", "F32", 0, {
        "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 59, "rope_theta": 10000.0,
        "max_position_embeddings": 256, "rope_scaling": {
            "factor": 4.0, "original_max_position_embeddings": 64, "type": "yarn"}}),
    "qwen2_window": ("Qwen2ForCausalLM", "F32", 0, {
        "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 53,
        "use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    "qwen1": ("QWenLMHeadModel", "F32", 0, {
        **QWEN1, "use_dynamic_ntk": False, "use_logn_attn": False}),
    "qwen1_ntk": ("QWenLMHeadModel", "F32", 0, {**QWEN1, "use_logn_attn": False}),
    "qwen1_logn": ("QWenLMHeadModel", "F32", 0, {**QWEN1, "use_dynamic_ntk": False}),
    "qwen1_ntk_logn": ("QWenLMHeadModel", "F32", 0, QWEN1),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "F32", 0, {
        "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
        "intermediate_size": 48, "moe_intermediate_size": 12, "num_hidden_layers": 3,
        "shared_expert_intermediate_size": 24, "vocab_size": 53, "mlp_only_layers": [1]}),
    "qwen2_moe_norm": ("Qwen2MoeForCausalLM", "F32", 0, {
        "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 48, "moe_intermediate_size": 12, "num_hidden_layers": 2,
        "shared_expert_intermediate_size": 20, "vocab_size": 47, "decoder_sparse_step": 2,
        "norm_topk_prob": True}),
    "qwen3_sharded": ("Qwen3ForCausalLM", "F32", 58_000, {
        "hidden_size": 32, "head_dim": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 61}),
    "qwen3_tied_f16": ("Qwen3ForCausalLM", "F16", 0, {
        "hidden_size": 32, "head_dim": 16, "num_attention_heads": 3, "num_key_value_heads": 1,
        "intermediate_size": 56, "num_hidden_layers": 2, "vocab_size": 79,
        "tie_word_embeddings": True}),
    "qwen3_yarn_options": ("Qwen3ForCausalLM", "F32", 0, {
        "hidden_size": 32, "head_dim": 16, "num_attention_heads": 3, "num_key_value_heads": 1,
        "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 53,
        "max_position_embeddings": 128, "layer_types": ["full_attention"] * 2,
        "rope_parameters": {
            "attention_factor": 1.25, "beta_fast": 4.0, "beta_slow": 0.5, "factor": 2.0,
            "original_max_position_embeddings": 64, "rope_theta": 10000, "rope_type": "yarn"}}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "F32", 0, QWEN3_MOE),
    "qwen3_moe_no_norm": ("Qwen3MoeForCausalLM", "F32", 0, {
        **QWEN3_MOE, "norm_topk_prob": False, "num_experts": 5, "num_experts_per_tok": 2,
        "attention_bias": True}),
}

# name: (model, prompt lengths, what it covers)
CASES = {
    "qwen2": ("qwen2", [16, 41], "the base case: QKV bias, GQA 2:1, untied head"),
    "qwen2_tied": ("qwen2_tied", [24, 37], "tied head, MHA, rms_norm_eps 1e-5"),
    "qwen2_ragged": ("qwen2_tied", [16, 23, 40, 31], "a ragged batch of four sequences"),
    "qwen2_one_kv_head_bf16": ("qwen2_one_kv_head_bf16", [19, 40],
                               "one KV head for three query heads; BF16 weights, float32 math"),
    "qwen2_yarn": ("qwen2_yarn", [16, 90],
                   "YaRN, factor 4, 64 trained positions, with the attention factor; applied to "
                   "the short sequence too"),
    "qwen2_window": ("qwen2_window", [20, 60],
                     "sliding window 24 from layer 1 on, layer 0 full; short prompt passes the "
                     "window while decoding"),
    "qwen1": ("qwen1", [17, 33], "QWenLMHeadModel without length tricks"),
    "qwen1_ntk": ("qwen1_ntk", [20, 33, 70],
                  "dynamic NTK, 32 trained positions: alpha 1, 3, 7, fixed by the prompt length; "
                  "the first sequence keeps alpha 1 while decoding past 32"),
    "qwen1_logn": ("qwen1_logn", [20, 47], "LogN; the first sequence enters it while decoding"),
    "qwen1_ntk_logn": ("qwen1_ntk_logn", [20, 33, 70], "dynamic NTK and LogN, as released"),
    "qwen2_moe": ("qwen2_moe", [18, 33],
                  "seven experts, top 3 not renormalized, shared expert with gate; layer 1 dense "
                  "by mlp_only_layers"),
    "qwen2_moe_norm": ("qwen2_moe_norm", [25],
                       "top 3 renormalized; layer 0 dense by decoder_sparse_step 2"),
    "qwen3_sharded": ("qwen3_sharded", [16, 39],
                      "QK norm, head_dim * heads three times hidden_size, untied; sharded"),
    "qwen3_tied_f16": ("qwen3_tied_f16", [30], "tied head, GQA 3:1; F16 weights, float32 math"),
    "qwen3_yarn_options": ("qwen3_yarn_options", [64],
                           "YaRN with attention_factor and betas given; config.json in the form "
                           "that transformers 5 saves (rope_parameters, dtype, layer_types)"),
    "qwen3_moe": ("qwen3_moe", [17, 30], "seven experts, top 3 renormalized, no shared expert"),
    "qwen3_moe_no_norm": ("qwen3_moe_no_norm", [28],
                          "five experts, top 2 not renormalized; attention_bias true"),
}


class HfModel:
    """A transformers model behind the two calls that a case needs."""

    def __init__(self, model):
        self.model = model.eval()
        self.observe = self.expert_gaps = None
        base = model.model
        base.embed_tokens.register_forward_hook(lambda m, i, out: self._tell("embed", out))
        for n, layer in enumerate(base.layers):
            layer.register_forward_hook(
                lambda m, i, out, n=n: self._tell(f"layer{n}.out", out))
            if hasattr(layer.mlp, "experts"):
                layer.mlp.gate.register_forward_hook(self._router)

    @classmethod
    def load(cls, directory):
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager",
            output_loading_info=True)
        if any(info.values()):
            raise SystemExit(f"{directory}: transformers did not load it cleanly: {info}")
        if hasattr(model.config, "num_experts"):
            model.set_experts_implementation("eager")
        return cls(model)

    def _tell(self, name, out):
        if self.observe:
            self.observe(name, out[0])  # [1, tokens, hidden] -> [tokens, hidden]

    def _router(self, module, inputs, outputs):
        if self.expert_gaps is not None:
            top = outputs[0].topk(module.top_k + 1, dim=-1).values  # of the router's logits
            self.expert_gaps.append((top[:, -2] - top[:, -1]).min().item())

    @torch.no_grad()
    def forward(self, ids, prompt_tokens, observe=None):
        """ids [tokens] -> logits [tokens, vocab], no cache."""
        self.observe = observe
        logits = self.model(ids[None], use_cache=False).logits[0]
        self.observe = None
        return logits

    @torch.no_grad()
    def greedy(self, ids):
        """The next GREEDY_TOKENS ids, with transformers' own cache and loop."""
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        out = self.model.generate(ids[None], attention_mask=torch.ones_like(ids[None]),
                                  do_sample=False, max_new_tokens=GREEDY_TOKENS)
        return out[0, len(ids):]

    @torch.no_grad()
    def check_padding(self, sequences):
        """A left-padded batch gives what each sequence alone gives, whatever the position ids."""
        sequences = [*sequences, sequences[0][:9]]
        longest = max(map(len, sequences))
        ids = torch.stack([torch.nn.functional.pad(s, (longest - len(s), 0)) for s in sequences])
        lengths = torch.tensor([len(s) for s in sequences])
        mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
        worst = 0.0
        for positions in (None, (mask.cumsum(-1) - 1).clamp(min=0)):
            logits = self.model(ids, attention_mask=mask, position_ids=positions).logits
            for row, s in zip(logits, sequences):
                alone = self.forward(s, len(s))
                worst = max(worst, relative_error(row[longest - len(s):], alone))
        if worst > 1e-5:
            raise SystemExit(f"a left-padded batch differs by {worst:.2e}")
        return worst


class Qwen1Model:
    """qwen1_reference.Qwen1 behind the same calls, and the proof against transformers' Qwen2."""

    def __init__(self, model):
        self.model = model
        self.expert_gaps = None

    def forward(self, ids, prompt_tokens, observe=None):
        state = self.model.start(prompt_tokens)
        return self.model.forward(ids, state, observe)

    def greedy(self, ids):
        state, out = self.model.start(len(ids)), []
        logits = self.model.forward(ids, state)
        for _ in range(GREEDY_TOKENS):
            out.append(logits[-1].argmax())
            logits = self.model.forward(out[-1][None], state)
        return torch.stack(out)

    def as_qwen2(self, prompt_tokens):
        """The same model as transformers' Qwen2: w2 is gate_proj, w1 is up_proj."""
        c, weights = self.model.config, {}
        names = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm",
                 "attn.c_proj": "self_attn.o_proj", "mlp.w2": "mlp.gate_proj",
                 "mlp.w1": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj"}
        for name, tensor in self.model.weights.items():
            name = name.replace("transformer.wte", "model.embed_tokens")
            name = name.replace("transformer.ln_f", "model.norm")
            name = name.replace("transformer.h.", "model.layers.")
            if "c_attn" in name:
                for part, rows in zip("qkv", tensor.chunk(3)):
                    weights[name.replace("attn.c_attn", f"self_attn.{part}_proj")] = rows
                continue
            for old, new in names.items():
                name = name.replace(f".{old}.", f".{new}.")
            weights[name] = tensor
        config = Qwen2Config(
            hidden_size=c["hidden_size"], intermediate_size=c["intermediate_size"] // 2,
            num_hidden_layers=c["num_hidden_layers"], vocab_size=c["vocab_size"],
            num_attention_heads=c["num_attention_heads"], rms_norm_eps=c["layer_norm_epsilon"],
            num_key_value_heads=c["num_attention_heads"], attn_implementation="eager",
            rope_parameters={"rope_type": "default",
                             "rope_theta": qwen1_reference.rope_base(c, prompt_tokens)})
        model = Qwen2ForCausalLM(config)
        model.load_state_dict(weights)
        if c["use_logn_attn"]:  # rope is linear, so the scale may come before it
            for layer in model.model.layers:
                layer.self_attn.q_proj.register_forward_hook(
                    lambda m, i, out: out * qwen1_reference.logn_scale(c, 0, out.shape[1])[:, None])
        return HfModel(model)

    def check_against_qwen2(self, ids, prompt_tokens):
        other, seen = self.as_qwen2(prompt_tokens), {}
        theirs = other.forward(ids, prompt_tokens, seen.__setitem__)
        worst = [0.0]

        def compare(name, tensor):
            worst.append(relative_error(tensor, seen[name]))

        worst.append(relative_error(self.forward(ids, prompt_tokens, compare), theirs))
        if max(worst) > 1e-5:
            raise SystemExit(f"Qwen1 reference and transformers' Qwen2 differ by {max(worst):.2e}")
        return max(worst)


def relative_error(a, b):
    """Largest difference over largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


def draw_prompt(name, attempt, tokens, vocab):
    """[tokens] ids from the integer generator of make_model."""
    key = make_model.tensor_key(name, attempt)
    return torch.tensor([make_model.mix64(key + i) % vocab for i in range(1, tokens + 1)])


def try_prompt(model, ids):
    """(tensors of the sequence, smallest lead), or None where float noise could flip a choice."""
    greedy = model.greedy(ids)
    text = torch.cat((ids, greedy))
    model.expert_gaps = []
    logits = model.forward(text, len(ids))[len(ids) - 1 : -1]  # the rows that chose greedy
    expert_gaps, model.expert_gaps = model.expert_gaps, None
    top = logits.topk(2, dim=-1)
    lead = ((top.values[:, 0] - top.values[:, 1]) / logits.abs().amax(dim=-1)).min().item()
    if min([lead, *expert_gaps]) <= MIN_MARGIN or len(set(greedy.tolist())) < 8:
        return None
    if not torch.equal(top.indices[:, 0], greedy):
        raise SystemExit("greedy tokens with and without a KV cache differ")
    tensors = {"ids": ids, "greedy": greedy}
    tensors["logits"] = model.forward(ids, len(ids), tensors.__setitem__)
    return tensors, lead


def write_case(out, name, made_with):
    model_name, lengths, covers = CASES[name]
    directory = out / "tiny_model" / model_name
    architecture, dtype = MODELS[model_name][:2]
    qwen1 = architecture == "QWenLMHeadModel"
    model = (Qwen1Model(qwen1_reference.Qwen1.load(directory)) if qwen1
             else HfModel.load(directory))
    vocab = model.model.config["vocab_size"] if qwen1 else model.model.config.vocab_size
    tensors, notes, sequences = {}, [], []
    for k, tokens in enumerate(lengths):
        for attempt in range(1, 100):
            ids = draw_prompt(f"{name}.seq{k}", attempt, tokens, vocab)
            if result := try_prompt(model, ids):
                break
        else:
            raise SystemExit(f"{name}: no prompt of {tokens} tokens with clear greedy choices")
        tensors.update({f"seq{k}.{key}": value for key, value in result[0].items()})
        sequences.append(ids)
        notes.append(f"lead {result[1]:.4f} at attempt {attempt}")
        if qwen1:
            text = torch.cat((ids, result[0]["greedy"]))
            notes.append(f"Qwen2 {model.check_against_qwen2(text, tokens):.1e}")
    if not qwen1:
        notes.append(f"padded {model.check_padding(sequences):.1e}")
    case = out / "golden" / name
    case.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in tensors.items()},
              case / "golden.safetensors")
    make_model.write_json(case / "case.json", {
        "schema": "quench.golden/1", "name": name, "model": f"../../tiny_model/{model_name}",
        "covers": covers, "architecture": architecture, "weights_dtype": dtype,
        "prompt_tokens": lengths, "greedy_tokens": GREEDY_TOKENS, "made_with": made_with})
    print(f"{name}: {', '.join(notes)}", flush=True)


# ---- sampling -----------------------------------------------------------------------------------
# _get_logits_processor of transformers 5.23.0 builds, for the five settings used here, this order.
# A processor exists only if its setting is not None and: penalty != 1, temperature != 1,
# top_k != 0, top_p < 1; min_p always. (top_h, between temperature and top_k, is not used.)
PROCESSORS = {"repetition_penalty": "RepetitionPenaltyLogitsProcessor",
              "temperature": "TemperatureLogitsWarper", "top_k": "TopKLogitsWarper",
              "top_p": "TopPLogitsWarper", "min_p": "MinPLogitsWarper"}
CHOICES = {"repetition_penalty": [None, None, 1.05, 1.1, 1.1, 1.3, 0.8],
           "temperature": [None, 0.3, 0.6, 0.7, 0.7, 1.0, 1.5],
           "top_k": [None, None, 0, 1, 5, 20, 50, 1000],
           "top_p": [None, 0.1, 0.5, 0.8, 0.9, 0.95, 0.999, 1.0],
           "min_p": [None, None, None, 0.0, 0.02, 0.1, 0.5, 1.0]}
SAMPLING_VOCAB, SAMPLING_SETTINGS = 503, 200


class Random24:
    """splitmix64, used through the upper 24 bits of its outputs."""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        self.state += 0x9E3779B97F4A7C15
        return make_model.mix64(self.state) >> 40

    def choose(self, values):
        return values[self.bits() * len(values) >> 24]


def sampling_logits(seed, scale, drop_bits):
    """[SAMPLING_VOCAB] float32, every step exact: ((bits >> d << d) / 2^24 - 0.5) * scale."""
    random = Random24(seed)
    bits = [random.bits() >> drop_bits << drop_bits for _ in range(SAMPLING_VOCAB)]
    return (torch.tensor(bits, dtype=torch.float32) / 2**24 - 0.5) * scale


def count_survivors(logits, previous, s, nudge):
    """The chain again in float64, each threshold moved by nudge; None if top_k has a near tie."""
    x = logits.double()
    if s["repetition_penalty"] and previous:
        ids = torch.tensor(sorted(set(previous)))
        p = s["repetition_penalty"]
        x[ids] = torch.where(x[ids] < 0, x[ids] * p, x[ids] / p)
    x = x / (s["temperature"] or 1.0)
    if s["top_k"] and s["top_k"] < len(x):
        order = x.sort(descending=True).values
        last = order[s["top_k"] - 1]
        if ((x - last).abs() < 1e-4).sum() > (x == last).sum():
            return None
        x[x < last] = -torch.inf  # tokens equal to the k-th all stay
    if s["top_p"] is not None and s["top_p"] < 1.0:
        order = x.sort()
        drop = order.values.softmax(-1).cumsum(-1) <= 1 - s["top_p"] + nudge
        drop[-1] = False
        x[order.indices[drop]] = -torch.inf
    if s["min_p"]:
        probs = x.softmax(-1)
        x[probs < min(s["min_p"] * (1 + nudge), 1.0) * probs.max()] = -torch.inf
    return x.isfinite().sum().item()


def draw_setting(random, model):
    """One setting with its token, or None where rounding could change the outcome."""
    s = {"seed": random.bits(), "logit_scale": random.choose([8, 16, 16, 32]),
         "drop_bits": random.choose([0, 0, 0, 0, 0, 0, 0, 18])}  # 18: many equal logits
    s["previous"] = [random.bits() % SAMPLING_VOCAB for _ in range(random.choose([0, 1, 9, 60]))]
    s.update({key: random.choose(values) for key, values in CHOICES.items()})
    if s["drop_bits"]:
        s["top_p"] = None  # transformers leaves open which of equal tokens top_p drops
    s["u"] = random.bits() / 2**24
    logits = sampling_logits(s["seed"], s["logit_scale"], s["drop_bits"])
    ids = torch.tensor([s["previous"]], dtype=torch.int64)
    chain = model._get_logits_processor(
        GenerationConfig(do_sample=True, **{key: s[key] for key in PROCESSORS}),
        input_ids_seq_length=max(len(s["previous"]), 1))
    made = [type(p).__name__ for p in chain]
    if made != [name for name in PROCESSORS.values() if name in made]:
        raise SystemExit(f"transformers builds another order: {made}")
    scores = chain(ids, logits[None].clone())[0]
    kept = scores.isfinite().nonzero()[:, 0]
    cdf = scores[kept].double().softmax(-1).cumsum(-1)  # of the survivors, ascending token id
    if (cdf - s["u"]).abs().min() < 1e-4 or any(
            count_survivors(logits, s["previous"], s, nudge) != len(kept)
            for nudge in (-1e-5, 0.0, 1e-5)):
        return None
    return {**s, "token": kept[(cdf > s["u"]).nonzero()[0, 0]].item(), "survivors": len(kept)}


def write_sampling(out, model, made_with):
    random, settings = Random24(5), []
    while len(settings) < SAMPLING_SETTINGS:
        if setting := draw_setting(random, model):
            settings.append(setting)
    head = {"schema": "quench.sampling/1", "vocab_size": SAMPLING_VOCAB, "made_with": made_with,
            "order": list(PROCESSORS)}
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("    " + json.dumps(s) for s in settings)
    (out / "settings.json").write_text(
        json.dumps(head)[:-1] + ",\n  \"settings\": [\n" + lines + "\n  ]}\n")
    alive = [s["survivors"] for s in settings]
    print(f"sampling: {len(settings)} settings, {min(alive)} to {max(alive)} survivors")


# ---- all files ----------------------------------------------------------------------------------


def write_all(out, made_with):
    for name, (architecture, dtype, shard_bytes, changes) in MODELS.items():
        config = {**make_model.default_config(architecture), **changes}
        make_model.write_model(out / "tiny_model" / name, config, dtype, shard_bytes)
    for name in CASES:
        write_case(out, name, made_with)
    model = HfModel.load(out / "tiny_model" / "qwen2").model  # any: it owns _get_logits_processor
    write_sampling(out / "golden" / "sampling", model, made_with)


def golden_files(root):
    files = [p for top in ("golden", "tiny_model") for p in (root / top).rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): p for p in files if p.suffix != ".md"}


def compare(fresh, committed):
    """Weights, ids and JSON must be equal; float32 results agree to 1e-5 of the largest value."""
    problems = [f"{name}: only on one side" for name in sorted(fresh.keys() ^ committed.keys())]
    for name in sorted(fresh.keys() & committed.keys()):
        if name.endswith("golden.safetensors"):
            a, b = load_file(fresh[name]), load_file(committed[name])
            if a.keys() != b.keys():
                problems.append(f"{name}: other tensors")
                continue
            for key in a:
                if a[key].shape != b[key].shape or relative_error(a[key].double(), b[key]) > (
                        1e-5 if a[key].is_floating_point() else 0):
                    problems.append(f"{name}: {key} differs")
        elif not filecmp.cmp(fresh[name], committed[name], shallow=False):
            problems.append(f"{name}: differs")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    args = parser.parse_args()
    found = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    if found != PINS:
        sys.exit(f"these files are defined by {PINS}; found {found}: install those versions")
    print(f"versions as pinned: {found}")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if args.check:
        with tempfile.TemporaryDirectory() as fresh:
            write_all(Path(fresh), PINS)
            problems = compare(golden_files(Path(fresh)), golden_files(TESTS))
        sys.exit("\n".join(problems) if problems else print("equal to the committed files"))
    write_all(TESTS, PINS)
    total = sum(p.stat().st_size for p in golden_files(TESTS).values())
    print(f"{total} bytes in all")
    if total > MAX_BYTES:
        sys.exit(f"more than {MAX_BYTES}: make something smaller")


if __name__ == "__main__":
    main()
