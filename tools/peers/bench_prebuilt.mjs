// Times the prebuilt llama.cpp of the npm package node-llama-cpp, the way llama-bench times a build of its own.
//
//   node bench_prebuilt.mjs DIR MODEL.gguf [--prompt N] [--decode N] [--depth N] [--threads N] [--reps N]
//                           [--flash 0|1] [--mmap 0|1] [--batch N]
//
// DIR is the folder that setup.sh made. Prints one JSON object: prefill_tok_s and decode_tok_s, one number for every
// repetition, and the line in which llama.cpp names its instruction sets. Decode includes the greedy sampler and one
// JavaScript call per token, some per cent on models under 1B; llama-bench has neither. Prefill leaves out the head,
// which llama-bench computes for the last token.
import {join} from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const option = value => ({type: "string", default: value});
const {values, positionals} = parseArgs({allowPositionals: true, options: {
    prompt: option("512"), decode: option("64"), depth: option("0"), threads: option("2"), reps: option("1"),
    flash: option("1"), mmap: option("1"), batch: option("512")}});
if (positionals.length !== 2) {
    console.error("usage: node bench_prebuilt.mjs DIR MODEL.gguf [--prompt N] [--decode N] ...");
    process.exit(2);
}
const [dir, file] = positionals;
const [prompt, decode, depth, threads, reps, flash, mmap, batch] =
    ["prompt", "decode", "depth", "threads", "reps", "flash", "mmap", "batch"].map(name => Number(values[name]));

const {getLlama, LlamaLogLevel} = await import(pathToFileURL(join(dir, "node_modules/node-llama-cpp/dist/index.js")));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath: file, useMmap: mmap === 1});
const context = await model.createContext({
    contextSize: depth + prompt + decode + 64, batchSize: batch, threads, flashAttention: flash === 1});
const sequence = context.getSequence();
// Any tokens do; the file's vocabulary has more than 100,000.
const tokens = (count, seed) => Array.from({length: count}, (_, i) => 300 + (i * 7919 + seed * 13) % 100000);

// Starts an empty sequence at the depth asked for.
async function restart(seed) {
    await sequence.clearHistory();
    if (depth > 0) await sequence.evaluateWithoutGeneratingNewTokens(tokens(depth, seed));
}

const prefillRates = [], decodeRates = [];
for (let r = 0; r <= reps; ++r) {  // repetition 0 warms up and is not counted
    if (prompt > 0) {
        await restart(r);
        const begin = performance.now();
        await sequence.evaluateWithoutGeneratingNewTokens(tokens(prompt, r + 100));
        if (r > 0) prefillRates.push(prompt / (performance.now() - begin) * 1e3);
    }
    if (decode > 0) {
        await restart(r);
        const count = r > 0 ? decode : 1;
        const begin = performance.now();
        let n = 0;
        for await (const _ of sequence.evaluate([500], {temperature: 0, yieldEogToken: true})) if (++n >= count) break;
        if (r > 0) decodeRates.push(n / (performance.now() - begin) * 1e3);
    }
}
console.log(JSON.stringify({
    prefill_tok_s: prefillRates, decode_tok_s: decodeRates, system: llama.systemInfo,
    version: llama.llamaCppRelease.release}));
process.exit(0);
