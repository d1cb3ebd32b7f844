#!/usr/bin/env python3
"""Does quench's clock agree with another client's? Times streams of a server that nobody here wrote, twice.

    check_clock.py --model MODEL [--server llama-cpp-python | transformers] [--quench build/quench] [--python PYTHON]
                   [--runs N] [--tokens N] [--prompt-words N] [--json FILE]

PYTHON has openai, and llama-cpp-python[server] or transformers[serving]. MODEL is a GGUF file for llama-cpp-python (random
weights will do: make_gguf.py), a Hugging Face directory with a tokenizer for transformers (make_model.py). Without
--server its kind decides. Two comparisons:

- The same streams: both clients ask a tee on the loopback interface, which asks the server once and hands every byte to
  both as it comes. Compared are tokens and the time per token after the first, stream by stream.
- In turns: quench and openai-python ask the server alternately; compared are the medians of the first token's time and
  of the time per token. Other programs on the machine show up here, not above.

Beside both stands the decode rate that the server itself prints (transformers prints none). Exit 1 when the same streams
differ by more than 3 %, or when quench's figures in turns, of the streams that the server has a rate for, do.
"""

import argparse
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = 0.03

# One openai-python client: its requests' times as JSON lines.
CLIENT = """
import json, sys, time
from openai import OpenAI
url, prompt, tokens, seeds, model = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
client = OpenAI(base_url=url, api_key="none", timeout=600, max_retries=0)
print("ready", flush=True)
for seed in seeds:
    sys.stdin.readline()
    start, times, usage = time.perf_counter(), [], None
    for part in client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}], stream=True,
                                               max_tokens=tokens, temperature=0.7, top_p=0.9, seed=seed,
                                               stream_options={"include_usage": True}):
        if part.choices and part.choices[0].delta.content:
            times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tee(BaseHTTPRequestHandler):
    """Pairs POST requests: the second of a pair brings the server's one answer to both."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream = 0
    lock = threading.Lock()
    waiting = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        connection.request("GET", self.path)
        body = connection.getresponse().read()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.over = threading.Event()
        with self.lock:
            self.waiting.append(self)
            pair = [self.waiting.pop(0), self.waiting.pop(0)] if len(self.waiting) == 2 else None
        if pair is None:
            self.over.wait()
            return
        try:
            self.serve(pair)
        finally:
            for one in pair:
                one.over.set()

    def serve(self, pair):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        # openai-python's: quench begins with fields that not every server takes, and leaves out what is refused.
        asked = min(pair, key=lambda one: "OpenAI" not in one.headers.get("User-Agent", ""))
        connection.request("POST", self.path, asked.body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for one in pair:
            one.send_response(answer.status)
            one.send_header("Content-Type", answer.getheader("Content-Type"))
            one.send_header("Transfer-Encoding", "chunked")
            one.end_headers()
        while part := answer.read1(65536):
            for one in pair:
                one.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        for one in pair:
            one.wfile.write(b"0\r\n\r\n")


class TeeServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A client that leaves with its connection open is none.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def llama_cpp_words(args, port):
    words = args.command.split() if args.command else [args.python, "-m", "llama_cpp.server"]
    words += ["--model", args.model, "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096"]
    words += ["--n_threads", str(args.threads), "--n_threads_batch", str(args.threads)]
    return words + ["--chat_format", "chatml", "--verbose", "true"]


def transformers_words(args, port):
    words = args.command.split() if args.command else [args.python, "-m", "transformers.cli.transformers", "serve"]
    return words + [args.model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "bfloat16"]


# How each server is started, and how long it takes for a token by its own words: a pattern with the number of tokens and
# the milliseconds for one.
SERVERS = {
    "llama-cpp-python": (llama_cpp_words, r"\beval time = +[\d.]+ ms / +(\d+) runs +\( *([\d.]+) ms per token"),
    "transformers": (transformers_words, None),
}


def start_server(args, port, log):
    # transformers lists the models of its cache, and fails where there is none.
    cache = tempfile.mkdtemp(prefix="check_clock.")
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": cache}
    words = SERVERS[args.server][0](args, port)
    server = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"check_clock: the server ended; its log is {log.name}.")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return server
        except OSError:
            time.sleep(0.5)
    sys.exit(f"check_clock: the server did not come up; its log is {log.name}.")


class OtherClient:
    def __init__(self, args, url, seeds):
        words = [args.python, "-c", CLIENT, url, args.prompt, str(args.tokens), json.dumps(seeds), args.model]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def times(self):
        return json.loads(self.process.stdout.readline())


def quench_runs(args, url, seed, runs):
    words = [args.quench, "bench", "--url", url, "--prompt", args.prompt, "--warmups", "0", "--runs", str(runs), "--seed",
             str(seed), "--max_new_tokens", str(args.tokens), "--no-nonce", "--no-history", "--timeout", "600", "--model-name",
             args.model, "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check_clock: quench failed: {done.stderr}")
    return json.loads(done.stdout)["tasks"][0]["runs"]


def tpot(times):
    return (times[-1] - times[0]) / (len(times) - 1)


def same_streams(args, port):
    tee = TeeServer(("127.0.0.1", 0), Tee)
    Tee.upstream = port
    threading.Thread(target=tee.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{tee.server_address[1]}/v1"
    seeds = list(range(1, args.runs + 1))
    other = OtherClient(args, url, seeds)
    for _ in seeds:
        other.ask()
    ours = quench_runs(args, url, 1, args.runs)
    rows = []
    for run in ours:
        theirs = other.times()
        rows.append({"tokens": [len(run["token_s"]), len(theirs)], "reported_tokens": run["reported_tokens"],
                     "quench_tpot_s": run["tpot_s"], "openai_tpot_s": tpot(theirs),
                     "ratio": run["tpot_s"] / tpot(theirs)})
    tee.shutdown()
    return rows


def in_turns(args, port):
    url = f"http://127.0.0.1:{port}/v1"
    seeds = list(range(101, 101 + args.runs))
    other = OtherClient(args, url, seeds)
    figures = {"quench": {"ttft_s": [], "tpot_s": []}, "openai": {"ttft_s": [], "tpot_s": []}}
    for i, seed in enumerate(seeds):
        def ask_other():
            other.ask()
            times = other.times()
            figures["openai"]["ttft_s"].append(times[0])
            figures["openai"]["tpot_s"].append(tpot(times))
        if i % 2 == 1:
            ask_other()
        run = quench_runs(args, url, seed, 1)[0]
        figures["quench"]["ttft_s"].append(run["ttft_s"])
        figures["quench"]["tpot_s"].append(run["tpot_s"])
        if i % 2 == 0:
            ask_other()
    return figures


def printed_rates(args, log_path):
    """Seconds per token of each request's decode, as the server prints them."""
    pattern = SERVERS[args.server][1]
    text = Path(log_path).read_text(errors="replace")
    return [float(ms) / 1e3 for count, ms in re.findall(pattern, text) if int(count) > 1] if pattern else []


def of_turns(printed, runs):
    """Of the requests in turns, which are the last ones and ask in the order q o, o q, q o, ...: those of quench."""
    last = printed[-2 * runs:]
    return [last[2 * i + i % 2] for i in range(runs)] if len(last) == 2 * runs else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--quench", default=str(ROOT / "build/quench"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--server", choices=SERVERS)
    parser.add_argument("--command", help="what starts that server instead of PYTHON -m ...")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt-words", type=int, default=100)
    parser.add_argument("--json")
    args = parser.parse_args()
    args.server = args.server or ("transformers" if Path(args.model).is_dir() else "llama-cpp-python")
    # Different words: a prompt that repeats itself is no harder for anybody, but looks it.
    args.prompt = " ".join(f"word{i}" for i in range(args.prompt_words))
    port = free_port()
    log = open(f"/tmp/check_clock.{os.getpid()}.log", "w")
    server = start_server(args, port, log)
    try:
        quench_runs(args, f"http://127.0.0.1:{port}/v1", 999, 1)  # warms up
        same = same_streams(args, port)
        turns = in_turns(args, port)
    finally:
        server.terminate()
        server.wait()
    printed = printed_rates(args, log.name)
    # Stream by stream: what quench saw of a stream, and what the server says of it.
    ratios = [ours / own for ours, own in zip(turns["quench"]["tpot_s"], of_turns(printed, args.runs))]
    result = {"server": args.server, "same_streams": same, "in_turns": turns, "server_tpot_s": printed,
              "quench_over_server": ratios, "server_log": log.name}
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    worst = max(abs(row["ratio"] - 1) for row in same)
    print(f"{'same stream':<14}{'tokens':>14}{'quench ms/token':>18}{'openai ms/token':>18}{'ratio':>9}")
    for i, row in enumerate(same):
        tokens = "{} and {}".format(*row["tokens"])
        print(f"{i + 1:<14}{tokens:>14}{1e3 * row['quench_tpot_s']:>18.3f}{1e3 * row['openai_tpot_s']:>18.3f}"
              f"{row['ratio']:>9.4f}")
    print(f"{'in turns, medians of ' + str(args.runs):<28}{'quench':>12}{'openai':>12}{'ratio':>9}")
    for key in ("ttft_s", "tpot_s"):
        ours, theirs = (statistics.median(turns[who][key]) for who in ("quench", "openai"))
        print(f"{key:<28}{ours:>12.5f}{theirs:>12.5f}{ours / theirs:>9.4f}")
    if printed:
        print(f"the server prints {1e3 * statistics.median(printed):.3f} ms per decoded token (median of {len(printed)})")
    if ratios:
        print(f"quench's time per token over the server's own, of the same {len(ratios)} streams: median "
              f"{statistics.median(ratios):.4f}, {min(ratios):.4f} to {max(ratios):.4f}")
    print(f"largest difference of one stream: {100 * worst:.2f} % (allowed: {100 * ALLOWED:.0f} %)")
    sys.exit(worst > ALLOWED or (len(ratios) > 0 and abs(statistics.median(ratios) - 1) > ALLOWED))


if __name__ == "__main__":
    main()
