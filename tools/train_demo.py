#!/usr/bin/env python3
"""Train the small Qwen2 demo model of models/demo from scratch.

The script reads the corpus, derives chats, trains the tokenizer and the model, and writes a plain
Hugging Face directory with a model card that holds the run's own numbers.

    python tools/train_demo.py --data DATA --out models/demo --minutes 75 --threads 2
    python tools/train_demo.py --data DATA --out models/demo --steps 20000 --device cuda --batch 64

DATA holds corpus/, text/ and eval/ (the files are named in load_texts).  The configurations (and so
the shape), the hand-written chat and the fixed part of the model card come from models/demo.
"""

import argparse
import ast
import hashlib
import json
import lzma
import os
import random
import re
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers
from torch.nn.functional import cross_entropy

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"
BASE_VOCAB, CONTEXT = 7650, 1024
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOT, IM_START, IM_END = range(BASE_VOCAB, BASE_VOCAB + 3)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CARD_MARK = "<!-- below: the numbers of the run, written by tools/train_demo.py -->\n"
# Source -> (held-out domain, share of the token stream); made for a run of some ten million tokens.
MIX = {
    "en_tiny": ("english", 0.07), "en_fairy": ("english", 0.08), "en_classic": ("english", 0.03),
    "zh_novel": ("chinese", 0.18), "zh_ci": ("chinese", 0.01), "zh_tatoeba": ("chinese", 0.03),
    "py": ("python", 0.10),
    "chat_everyday": ("chat", 0.04), "chat_sentence": ("chat", 0.05),
    "chat_en_zh": ("chat", 0.06), "chat_zh_en": ("chat", 0.06), "chat_gsm8k": ("chat", 0.03),
    "chat_story_en": ("chat", 0.09), "chat_story_zh": ("chat", 0.09), "chat_code": ("chat", 0.08),
}  # fmt: skip
CHAT = json.loads((DEMO / "chat.json").read_text(encoding="utf-8"))  # all that is hand-written
NOUNS_EN, NOUNS_ZH = CHAT["nouns_en"].split(), CHAT["nouns_zh"].split()


def load_texts(data):
    """Read the corpus files into lists of documents."""

    def docs(name, straight_quotes=False):
        text = lzma.decompress((data / name).read_bytes()).decode("utf-8")
        if straight_quotes:
            text = text.translate(str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "_": ""}))
        return [d.strip("\n") for d in text.split("<|endoftext|>\n") if d.strip()]

    novels, ci = docs("corpus/zh-novels.txt.xz"), docs("corpus/zh-ci-song.txt.xz")
    # A character that the traditional Tang poems use far more often than the simplified texts is
    # taken as traditional; pairs of Tatoeba with such characters are left out.
    simple = Counter("".join(novels + ci))
    tang = Counter("".join(docs("corpus/zh-tang-first20k.txt.xz")))
    traditional = {c for c, n in tang.items() if simple[c] * 10 < n}
    traditional |= set("們嗎妳麼甚唸喫週裡麵鐘錶腳醫藥嚇帳噸碼歲媽爺")
    pairs = [x.split("\t")[:2] for x in docs("corpus/zh-en-tatoeba.tsv.xz")[0].splitlines()]
    return {
        "tiny": docs("text/calibration/exllamav3-tiny.txt.xz", True),
        "fairy": docs("corpus/en-fairy-tales.txt.xz", True),
        "classic": docs("corpus/en-classic-stories.txt.xz", True),
        "novel": novels, "ci": ci, "py": docs("corpus/python-stdlib-3.11.txt.xz"),
        "tatoeba": [(en, zh) for en, zh in pairs if not traditional & set(zh)],
        "gsm8k": [json.loads(x) for x in docs("eval/gsm8k_train.jsonl.xz")[0].splitlines()],
    }  # fmt: skip


def held_out(key):
    """True for the 1 % of keys that are kept from training."""
    return int(hashlib.md5(key.encode()).hexdigest()[:8], 16) % 100 == 0


def pieces(text, size, sep="\n"):
    """Cut a text at paragraph ends into pieces of about size characters."""
    out, current = [], ""
    for paragraph in re.split(sep + "+", text):
        current = f"{current}{sep}{paragraph}" if current else paragraph
        if len(current) >= size:
            out.append(current)
            current = ""
    return out + [current] if current.strip() else out


def passages(text, low, high):
    """Cut a text into passages of low..high characters that begin and end with a sentence."""
    out, current = [], ""
    for sentence in re.findall(r"[^.!?。！？]+[.!?。！？]+[\"'”’」]*\s*", text):
        if len(current) + len(sentence) > high:
            if len(current) >= low:
                out.append(current.strip())
            current = ""
        current += sentence
    return out + [current.strip()] if low <= len(current) <= high else out


def story_pairs(text, low, high, nouns, prompts, rng):
    """Story prompts, each about the two listed words that a passage of the text has most often."""
    for passage in passages(text, low, high):
        words = re.findall(r"[a-z]+", passage.lower()) if nouns is NOUNS_EN else passage
        found = sorted((-words.count(noun), noun) for noun in nouns if noun in words)[:2]
        if not found:
            continue
        topic = "和".join(noun for _, noun in found)
        if nouns is NOUNS_EN:
            topic = " and ".join(f"{'an' if n[0] in 'aeiou' else 'a'} {n}" for _, n in found)
            named = re.search(r"\b(an? (?:\w+ )?\w+) (?:named|called) (\w+)", passage)
            topic = named.group(1) if named else topic
        yield rng.choice(prompts).format(topic), passage


def function_pairs(module, rng):
    """Code prompts with the functions of one module (10 to 60 lines) as answers."""
    for node in ast.walk(ast.parse(module)):
        if not isinstance(node, ast.FunctionDef):
            continue
        lines = module.split("\n")[node.lineno - 1 : node.end_lineno]
        code = textwrap.dedent("\n".join(lines))
        if not 10 <= len(lines) <= 60 or len(code) > 2600:
            continue
        doc = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
        if 10 < len(doc) < 120:
            prompt = rng.choice(CHAT["code_doc"]).format(doc[0].lower() + doc[1:])
        else:
            words = node.name.strip("_").replace("_", " ")
            about = max(10, round(len(lines), -1))
            prompt = rng.choice(CHAT["code_name"]).format(node.name, about, words)
        yield prompt, f"```python\n{code}\n```"


def everyday_pairs():
    """The hand-written prompts and answers of models/demo/chat.json, and small sums."""
    pairs = []
    for line in CHAT["everyday"]:
        if " => " in line:
            prompts, answers = (part.split(" | ") for part in line.split(" => "))
            pairs += [(p.strip(), a.strip()) for p in prompts for a in answers]
        for a in range(1, 11) if line == "[sums]" else ():
            pairs.append((f"Count from 1 to {a}.", ", ".join(map(str, range(1, a + 1))) + "."))
            for b in range(1, 11):
                pairs.append((f"What is {a} + {b}?", f"{a} + {b} = {a + b}"))
                pairs.append((f"{a}加{b}等于几？", f"{a}加{b}等于{a + b}。"))
                if a > b:
                    pairs.append((f"What is {a} - {b}?", f"{a} - {b} = {a - b}"))
    return pairs


def build_sources(texts, seed):
    """Derive every source of MIX: name -> (train documents, held-out documents), where a document
    is a string (plain text) or a list of (user, assistant) turns."""
    rng = random.Random(seed)
    out = {name: ([], []) for name in MIX}

    def add(name, key, doc):
        out[name][held_out(key)].append(doc)

    for name, size in (("tiny", 10**9), ("fairy", 3200), ("classic", 3200)):
        low, high = (200, 1000) if name == "tiny" else (380, 620)
        for text in texts[name]:
            body = text if name == "tiny" else text.split("\n", 1)[-1].strip()
            for piece in pieces(body, size, "\n\n" if "\n\n" in body else "\n"):
                add(f"en_{name}", piece, piece)
                if name != "classic":
                    for pair in story_pairs(piece, low, high, NOUNS_EN, CHAT["story_en"], rng):
                        add("chat_story_en", piece, [pair])
    for text in texts["novel"]:
        for piece in pieces(text, 1100):
            add("zh_novel", piece, piece)
            if not text.startswith("《西游记》"):  # this copy lacks its commas
                for pair in story_pairs(piece, 150, 520, NOUNS_ZH, CHAT["story_zh"], rng):
                    add("chat_story_zh", piece, [pair])
    for text in texts["ci"]:
        title, _, body = text.partition("\n")
        add("zh_ci", text, text)
        if body and rng.random() < 0.1:
            add("chat_story_zh", text, [(f"写一首宋词：{title.split(' ')[0]}", body)])
    for module in texts["py"]:
        for piece in pieces(module, 2800, "\n\n"):
            add("py", module, piece)
        for pair in function_pairs(module, rng):
            add("chat_code", module, [pair])
    for item in texts["gsm8k"]:
        answer = re.sub(r"<<.*?>>", "", item["answer"]).replace("\n#### ", "\nThe answer is ")
        add("chat_gsm8k", item["question"], [(item["question"], answer + ".")])
    add_tatoeba(texts["tatoeba"], add, rng)
    pairs = everyday_pairs()
    for _ in range(4000):  # the hand-written part has no held-out share: it is learnt by heart
        out["chat_everyday"][0].append(rng.choices(pairs, k=rng.choice([1, 1, 2, 3])))
    for name in ("chat_sentence", "chat_en_zh", "chat_zh_en"):  # some chats of several turns
        for docs in out[name]:
            rng.shuffle(docs)
            joined = []
            while docs:
                turns = range(rng.choice([1, 1, 2, 4]))
                joined.append([turn for _ in turns if docs for turn in docs.pop()])
            docs[:] = joined
    return out


def add_tatoeba(pairs, add, rng):
    """Translation pairs in both directions, sentences with a given word, and plain Chinese."""
    for index, (en, zh) in enumerate(pairs):
        to_zh, to_en = rng.choice(CHAT["to_zh"]), rng.choice(CHAT["to_en"])
        add("chat_en_zh", en, [(to_zh + en, zh)])
        add("chat_zh_en", en, [(to_en + zh, en)])
        if words := [w for w in re.findall(r"[a-z]+", en) if len(w) > 3]:
            word = rng.choice(words)
            add("chat_sentence", en, [(rng.choice(CHAT["sentence"]).format(word), en)])
        start = rng.randrange(max(1, len(zh) - 2))
        if len(zh) > 6:
            add("chat_sentence", en, [(f"用“{zh[start : start + 2]}”造句。", zh)])
        block = pairs[index - 19 : index + 1]
        if index % 20 == 19 and not any(held_out(e) for e, _ in block):
            add("zh_tatoeba", zh + "+", "\n".join(z for _, z in block))


def train_tokenizer(texts, seed):
    """Train the byte-level BPE in the Qwen2 form on 45 % English, 30 % Chinese, 25 % Python."""
    rng = random.Random(seed)
    english = texts["tiny"] + texts["fairy"] + [en for en, _ in texts["tatoeba"]] * 2
    english += [x["question"] + "\n" + x["answer"] for x in texts["gsm8k"][:4000]]
    parts = (
        (5.4e6, english, [p for t in texts["classic"] for p in pieces(t, 3200)]),
        (3.6e6, [zh for _, zh in texts["tatoeba"]] * 2,
         [p for t in texts["novel"] + texts["ci"][:1000] for p in pieces(t, 1100)]),
        (3.0e6, [], [p for t in texts["py"] for p in pieces(t, 2800)]),
    )  # fmt: skip
    corpus = []
    for budget, first, rest in parts:
        rng.shuffle(rest)
        for text in first + rest:
            if budget > 0:
                corpus.append(text)
                budget -= len(text.encode())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=BASE_VOCAB, initial_alphabet=level.alphabet(),
                                  max_token_length=24, show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    assert [tokenizer.token_to_id(t) for t in SPECIALS] == [EOT, IM_START, IM_END]
    return tokenizer


def encode_docs(tokenizer, docs):
    """Encode documents; returns a list of (token ids, loss mask) arrays."""

    def encode(texts):
        return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]

    plain = encode([doc for doc in docs if isinstance(doc, str)])
    turns = [turn for doc in docs if not isinstance(doc, str) for turn in doc]
    users, answers = encode([f"user\n{u}" for u, _ in turns]), encode([a for _, a in turns])
    system, role, newline = encode(["system\nYou are a helpful assistant.", "assistant\n", "\n"])
    plain, turns, out = iter(plain), iter(zip(users, answers, strict=True)), []
    for doc in docs:
        if isinstance(doc, str):
            ids = next(plain)
            mask = [True] * len(ids)
        else:
            ids = [IM_START, *system, IM_END, *newline]
            mask = [False] * len(ids)
            for user, answer in (next(turns) for _ in doc):
                prompt = [IM_START, *user, IM_END, *newline, IM_START, *role]
                ids += prompt + answer + [IM_END] + newline
                mask += [False] * len(prompt) + [True] * (len(answer) + 1) + [False] * len(newline)
        ids, mask = ids + [EOT], mask + [isinstance(doc, str)]
        out.append((np.array(ids, np.int64), np.array(mask)))
    return out


class Stream:
    """An endless stream of packed rows; the next document comes from the source that is furthest
    behind its share of the tokens, and each source is shuffled anew on every pass over it."""

    def __init__(self, sources, shares, seed):
        self.sources, self.shares, self.seed = sources, shares, seed
        self.order = {name: [] for name in sources}
        self.passes, self.tokens = dict.fromkeys(sources, 0), dict.fromkeys(sources, 0)
        self.ids, self.mask = np.zeros(0, np.int64), np.zeros(0, bool)

    def batch(self, rows):
        """The next inputs and labels, both (rows, CONTEXT); -100 where no loss is taken."""
        need, parts, have = rows * CONTEXT + 1, [(self.ids, self.mask)], len(self.ids)
        while have < need:
            name = min(self.sources, key=lambda n: (self.tokens[n] + 1) / self.shares[n])
            if not self.order[name]:
                self.order[name] = list(range(len(self.sources[name])))
                random.Random(f"{self.seed} {name} {self.passes[name]}").shuffle(self.order[name])
                self.passes[name] += 1
            parts.append(self.sources[name][self.order[name].pop()])
            self.tokens[name] += len(parts[-1][0])
            have += len(parts[-1][0])
        ids, mask = (np.concatenate(x) for x in zip(*parts, strict=True))
        self.ids, self.mask = ids[need - 1 :], mask[need - 1 :]
        labels = np.where(mask[1:need], ids[1:need], -100)
        return (torch.from_numpy(x.reshape(rows, CONTEXT)) for x in (ids[: need - 1], labels))


def train(args, work, sources):
    """Train until --steps or --minutes are used up; returns steps, seconds and passes by source."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(args.seed)
    config = AutoConfig.from_pretrained(args.out)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(args.device).train()
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.lr, momentum=0.95, weight_decay=0.02),
        torch.optim.AdamW(others, lr=args.lr / 5, betas=(0.9, 0.95), weight_decay=0, fused=True),
    ]
    stream = Stream(sources, {n: MIX[n][1] for n in sources}, args.seed)
    step, elapsed, path = 0, 0.0, work / "checkpoint.pt"
    if args.resume and path.exists():
        saved = torch.load(path, map_location=args.device)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step, elapsed = saved["step"], saved["elapsed"]
        for _ in range(step):
            stream.batch(args.batch)

    def checkpoint():  # atomically: others may read the directory meanwhile
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
        torch.save({**state, "step": step, "elapsed": elapsed}, f"{path}.tmp")
        os.replace(f"{path}.tmp", path)
        weights = {k: v.to("cpu", torch.bfloat16) for k, v in model.state_dict().items()}
        del weights["lm_head.weight"]  # tied to the embedding
        temporary = args.out / "model.safetensors.tmp"
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))
        os.replace(temporary, args.out / "model.safetensors")

    @torch.compile
    def loss_of(ids, labels):
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            logits = model(input_ids=ids).logits
        return cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)

    last, last_save, losses = time.time(), time.time(), []
    while (progress := step / args.steps if args.steps else elapsed / 60 / args.minutes) < 1:
        # Learning rate: warm-up over 2 % of the run, constant to 40 %, then linear to zero.
        scale = min(1.0, progress / 0.02 + 0.01, (1 - progress) / 0.6)
        loss = loss_of(*(t.to(args.device) for t in stream.batch(args.batch)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.set_num_threads(1)  # many small products: threads would only wait for each other
        for optimizer, peak in zip(optimizers, (args.lr, args.lr / 5), strict=True):
            optimizer.param_groups[0]["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.set_num_threads(args.threads)
        losses.append(loss.detach())
        step, elapsed, last = step + 1, elapsed + time.time() - last, time.time()
        if step % 20 == 0:
            mean, speed = torch.stack(losses).mean().item(), step * args.batch * CONTEXT / elapsed
            print(f"step {step} {progress:6.1%} loss {mean:.3f} {speed:.0f} tokens/s", flush=True)
            losses = []
        if last - last_save > args.save_minutes * 60:
            checkpoint()
            last_save = last
    checkpoint()
    passes = {n: stream.tokens[n] / sum(len(d[0]) for d in sources[n]) for n in sources}
    return step, elapsed, passes


def held_out_losses(model, held, device):
    """Mean loss per token on the held-out documents of each domain."""
    out = {}
    for domain in ("english", "chinese", "python", "chat"):
        docs = {n: d for n, d in held.items() if MIX[n][0] == domain and d}
        sizes = {n: sum(len(d[0]) for d in docs[n]) for n in docs}
        stream, total, count = Stream(docs, sizes, 0), 0.0, 0
        for _ in range(min(60, sum(sizes.values()) // CONTEXT)):
            ids, labels = stream.batch(1)
            with torch.no_grad():
                logits = model(input_ids=ids.to(device)).logits.float()[0].cpu()
            total += cross_entropy(logits, labels[0], reduction="sum").item()
            count += (labels != -100).sum().item()
        out[domain] = total / count
        print(f"held-out {domain} loss {out[domain]:.3f} perplexity {np.exp(out[domain]):.1f}")
    return out


def check(out, held, device):
    """Load the written directory with transformers, measure it and let it answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).to(device).eval()
    losses = held_out_losses(model, held, device)

    def chat(prompt):
        message = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)

    ours = encode_docs(Tokenizer.from_file(str(out / "tokenizer.json")), [[("你好 3+4", "x")]])
    ids = tokenizer(chat("你好 3+4")).input_ids
    assert ours[0][0][: len(ids)].tolist() == ids, "chat format differs from the template"
    samples = []
    for prompt in CHAT["samples"]:
        inputs = tokenizer(chat(prompt), return_tensors="pt").to(device)
        for kind in ("greedy", "sampled"):  # with the rates of generation_config.json
            torch.manual_seed(1)
            ids = model.generate(**inputs, max_new_tokens=300, do_sample=kind == "sampled")
            text = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :]).strip()
            samples.append((prompt, kind, text))
            print(f"\n>>> {prompt}  [{kind}]\n{text}", flush=True)
    return losses, samples, sum(p.numel() for p in model.parameters())


def write_card(args, run, losses, samples, params):
    """Write README.md: the fixed text of models/demo/README.md and the numbers of this run."""
    size = (args.out / "model.safetensors").stat().st_size
    hardware = f"{args.threads} CPU cores" if args.device == "cpu" else "one GPU"
    steps, seconds, passes = run
    tokens = steps * args.batch * CONTEXT
    limit = f"--steps {args.steps}" if args.steps else f"--minutes {args.minutes:g}"
    card = f"""
## The run

| | |
|---|---|
| size | {params:,} parameters, {size:,} bytes |
| training | {steps} steps of {args.batch} x {CONTEXT} tokens = {tokens:,} tokens |
| optimizer | Muon for the matrices (rate {args.lr:g}), AdamW for the rest ({args.lr / 5:g}); bf16 |
| hardware | {hardware}, {seconds / 60:.0f} minutes, {tokens / seconds:.0f} tokens/s |
| options | `{limit} --batch {args.batch} --lr {args.lr:g} --seed {args.seed}` |

| held-out domain | loss per token | perplexity |
|---|---|---|
"""
    card += "".join(f"| {d} | {v:.3f} | {np.exp(v):.1f} |\n" for d, v in losses.items())
    card += "\n| source | share of the tokens | passes |\n|---|---|---|\n"
    card += "".join(f"| {n} | {MIX[n][1]:.0%} | {passes[n]:.2f} |\n" for n in MIX)
    card += "\n## Answers\n\nGreedy with repetition_penalty 1.1, cut to 300 characters.\n"
    for prompt, kind, answer in samples:
        if kind == "greedy":
            answer = re.sub(r"<\|\w+\|>", "", answer).strip()[:300]
            card += f"\n**{prompt}**\n\n{textwrap.indent(answer, '    ')}\n"
    fixed = (DEMO / "README.md").read_text(encoding="utf-8").split(CARD_MARK)[0]
    (args.out / "README.md").write_text(fixed + CARD_MARK + card, encoding="utf-8")


def main():
    """Parse the arguments and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="directory with the corpus")
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--work", type=Path, help="directory for checkpoints (default OUT-work)")
    parser.add_argument("--minutes", type=float, default=60, help="training time")
    parser.add_argument("--steps", type=int, default=0, help="number of steps; overrides --minutes")
    parser.add_argument("--batch", type=int, default=4, help="rows of 1024 tokens per step")
    parser.add_argument("--lr", type=float, default=0.02, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--save-minutes", type=float, default=5, help="time between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work or args.out.with_name(args.out.name + "-work")
    for directory in (args.out, work):
        directory.mkdir(parents=True, exist_ok=True)
    texts = load_texts(args.data)
    tokenizer = train_tokenizer(texts, args.seed)
    tokenizer.save(str(args.out / "tokenizer.json"))
    tokenizer.model.save(str(args.out))  # vocab.json, merges.txt
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        (args.out / name).write_bytes((DEMO / name).read_bytes())
    built = build_sources(texts, args.seed)
    sources = {name: encode_docs(tokenizer, docs[0]) for name, docs in built.items()}
    held = {name: encode_docs(tokenizer, docs[1]) for name, docs in built.items()}
    for name, docs in sources.items():
        print(f"{name:14s} {len(docs):6d} documents {sum(len(d[0]) for d in docs):8d} tokens")
    write_card(args, train(args, work, sources), *check(args.out, held, args.device))


if __name__ == "__main__":
    main()
