#!/usr/bin/env node
// Opens an HTML report in a headless Chromium and compares what its charts hold with the numbers it was made from:
//   node tools/test_report.mjs report.html NUMBERS.json [A.json B.json] [--screenshots DIR]
// The numbers are what `quench shootout`, `quench bench` or `quench compare` wrote with --json; a comparison has those of
// its ratios only, and takes its runs from the two records behind it.
// In light and dark, wide (1280) and phone-wide (390): nothing is loaded, no script fails, the page does not scroll
// sideways, every canvas holds a drawn chart, every run of the JSON is a dot inside its chart's area.
// Opt-in, not part of make test: it needs chromium (Debian's package, or CHROMIUM=path) and node 18 or later.
import {spawn} from "node:child_process";
import {mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join, resolve} from "node:path";

const words = process.argv.slice(2);
const flag = words.indexOf("--screenshots");
const screenshots = flag < 0 ? null : words.splice(flag, 2)[1];
const [page, ...files] = words;
if (!page || files.length === 0) {
  console.error("usage: node tools/test_report.mjs report.html NUMBERS.json [A.json B.json] [--screenshots DIR]");
  process.exit(2);
}
// Of a grid each row is a task, as `quench compare` takes it.
const as_record = (json) => json.schema !== "quench.bench/1" ? json : {tasks: json.rows.map((row) => ({
  task: `${row.test} ${row.tokens} @${row.depth} x${row.batch}`,
  runs: row.tok_s.map((speed) => row.test === "decode" ? {decode_tok_s: speed}
                                                       : {ttft_s: row.tokens * row.batch / speed})}))};
const [measured, ...files_behind] = files.map((file) => JSON.parse(readFileSync(file, "utf8")));
const sides = files_behind.map(as_record);
let failures = 0;
function check(good, what) {
  if (good) return;
  failures += 1;
  console.error(`FAILED: ${what}`);
}

// The Chrome DevTools Protocol over two pipes: one JSON message after the other, each ended by a zero byte.
class Browser {
  constructor() {
    this.profile = mkdtempSync(join(tmpdir(), "test-report-"));
    this.child = spawn(process.env.CHROMIUM || "chromium",
                       ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
                        `--user-data-dir=${this.profile}`, "about:blank"],
                       {stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
                        env: {...process.env, HOME: this.profile}});
    this.child.on("error", (error) => { console.error(`chromium: ${error.message}`); process.exit(1); });
    this.waiting = new Map();
    this.events = [];
    this.last = 0;
    let text = "";
    this.child.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
      for (let end; (end = text.indexOf("\0")) >= 0; text = text.slice(end + 1)) this.take(JSON.parse(text.slice(0, end)));
    });
  }
  take(message) {
    if (!message.id) return this.events.push(message);
    const {done, failed} = this.waiting.get(message.id);
    message.error ? failed(new Error(message.error.message)) : done(message.result);
  }
  send(method, params = {}, sessionId = this.session) {
    const id = ++this.last;
    this.child.stdio[3].write(JSON.stringify({id, method, params, sessionId}) + "\0");
    return new Promise((done, failed) => this.waiting.set(id, {done, failed}));
  }
  async evaluate(expression) {
    const {result, exceptionDetails} =
      await this.send("Runtime.evaluate", {expression, returnByValue: true, awaitPromise: true});
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
    return result.value;
  }
  // Its helper processes write to the profile until it has ended.
  async close() {
    const ended = new Promise((done) => this.child.on("exit", done));
    await this.send("Browser.close", {}, undefined);
    await ended;
    rmSync(this.profile, {recursive: true, force: true, maxRetries: 10, retryDelay: 200});
  }
}

// In the page: what every chart holds, and whether it was drawn.
const read_charts = `[...document.querySelectorAll("canvas")].map((canvas) => {
  const chart = Chart.getChart(canvas);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const area = chart.chartArea;
  const inside = (p) => p.x >= area.left - 1 && p.x <= area.right + 1 && p.y >= area.top - 1 && p.y <= area.bottom + 1;
  return {
    id: canvas.id, label: canvas.getAttribute("aria-label"), drawn: pixels.some((value) => value !== 0),
    boxes: chart.quench_boxes || [],
    datasets: chart.data.datasets.map((dataset, d) => ({
      role: dataset.quench, data: dataset.data.map(({x, y, label}) => ({x, y, label})),
      inside: chart.getDatasetMeta(d).data.every(inside)})),
  };
})`;

const close = (a, b) => Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
const same = (a, b) => a.length === b.length && a.every((value, i) => close(value, b[i]));
const runs = (record, task) => record.tasks.filter((t) => task === null || t.task === task)
  .flatMap((t) => t.runs).filter((run) => !run.warmup && !known(run.error));
const known = (value) => value !== null && value !== undefined;

// The dots that the JSON asks for, chart by chart in the order of the page.
const values_of = (list, key) => list.map((run) => run[key]).filter(known);
const some = (rows) => rows.filter((values) => values.length);
const scaled = (rows) => {
  const scale = Math.max(...rows.flat()) < 1 ? 1e3 : 1;
  return rows.map((values) => values.map((value) => value * scale));
};

function of_shootout(shootout) {
  const charts = [];
  const scored = shootout.rows.filter((row) => known(row.kld_mean));
  if (scored.length) charts.push(["points", scored.map((row) => [row.bytes / 1e6, row.kld_mean])]);
  const strip = (task, key) => some(shootout.records.map((record) => values_of(runs(record, task), key)));
  charts.push(["values", strip(null, "decode_tok_s")]);
  for (const key of ["ttft_s", "e2e_s"]) {
    const all = shootout.records.flatMap((record) => values_of(runs(record, null), key));
    const scale = Math.max(...all) < 1 ? 1e3 : 1;
    for (const {task} of shootout.records[0].tasks)
      charts.push(["values", strip(task, key).map((values) => values.map((value) => value * scale))]);
  }
  for (const {domain} of shootout.evaluations[0]?.domains ?? []) {
    charts.push(["values", shootout.evaluations.slice(1).map(
      (evaluation) => [evaluation.domains.find((scores) => scores.domain === domain).kld.mean])]);
  }
  return charts;
}

function of_record(record) {
  const strip = (key) => some(record.tasks.map(({task}) => values_of(runs(record, task), key)));
  const load = (key) => some(record.loads.map((level) => level.runs.filter((run) => known(run[key]) && !known(run.error))
    .map((run) => run[key] + (run.late_s ?? 0))));
  return [strip("decode_tok_s"), scaled(strip("ttft_s")), scaled(strip("e2e_s")),
          scaled(load("ttft_s")), scaled(load("e2e_s"))].filter((rows) => rows.length).map((rows) => ["values", rows]);
}

const of_grid = (grid) => ["decode", "prefill"]
  .map((test) => ["values", grid.rows.filter((row) => row.test === test).map((row) => row.tok_s)])
  .filter(([, rows]) => rows.length);

function of_comparison(comparison) {
  const metrics = ["decode_tok_s", "ttft_s", "e2e_s", "e2e_equal_length_s"];
  const charts = metrics.map((metric) => comparison.rows.filter((row) => row.metric === metric)
    .map((row) => [row.speedup])).filter((rows) => rows.length).map((rows) => ["values", rows]);
  if (sides.length === 2) {
    for (const key of metrics.slice(0, 3)) {
      const both = sides[0].tasks.map(({task}) => sides.map((side) => values_of(runs(side, task), key)))
        .filter((rows) => rows.every((values) => values.length));
      const scale = key !== "decode_tok_s" && Math.max(...both.flat(2)) < 1 ? 1e3 : 1;
      for (const rows of both) charts.push(["values", rows.map((values) => values.map((value) => value * scale))]);
    }
  }
  return charts;
}

const expected = () => ({"quench.shootout/1": of_shootout, "quench.record/1": of_record, "quench.bench/1": of_grid,
                         "quench.compare/1": of_comparison})[measured.schema](measured);

function check_charts(charts, where) {
  const wanted = expected();
  check(charts.length === wanted.length, `${where}: ${charts.length} charts, expected ${wanted.length}`);
  charts.forEach((chart, c) => {
    const at = `${where}, ${chart.label}`;
    check(chart.drawn, `${at}: the canvas is empty`);
    const [role, values] = wanted[c] ?? [];
    // The names of the circles are the second half of the boxes.
    chart.boxes.slice(chart.boxes.length / 2).forEach((a, i, names) => names.slice(i + 1).forEach((b) =>
      check(a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1], `${at}: two names overlap`)));
    const dots = chart.datasets.filter((dataset) => dataset.role === role);
    check(dots.length === values?.length, `${at}: ${dots.length} rows of dots, expected ${values?.length}`);
    dots.forEach((dataset, d) => {
      check(dataset.inside, `${at}: a dot of row ${d} lies outside`);
      const held = role === "points" ? [dataset.data[0].x, dataset.data[0].y] : dataset.data.map((point) => point.x);
      check(values && same(held, values[d]), `${at}: row ${d} holds ${held}, expected ${values?.[d]}`);
    });
  });
}

const browser = new Browser();
try {
  const {targetId} = await browser.send("Target.createTarget", {url: "about:blank"});
  browser.session = (await browser.send("Target.attachToTarget", {targetId, flatten: true})).sessionId;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await browser.send(`${domain}.enable`);
  if (screenshots) mkdirSync(screenshots, {recursive: true});
  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const where = `${scheme} ${width}`;
      browser.events.length = 0;
      await browser.send("Emulation.setEmulatedMedia", {features: [{name: "prefers-color-scheme", value: scheme}]});
      await browser.send("Emulation.setDeviceMetricsOverride",
                         {width, height: 900, deviceScaleFactor: 1, mobile: width < 600});
      await browser.send("Page.navigate", {url: `file://${resolve(page)}`});
      await browser.evaluate(`new Promise((done) => document.readyState === "complete" && location.protocol === "file:"
        ? done() : addEventListener("load", done))`);
      await browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
      check_charts(await browser.evaluate(read_charts), where);
      const wide = await browser.evaluate("[document.documentElement.scrollWidth, innerWidth]");
      check(wide[0] <= width && wide[1] === width, `${where}: the page is ${wide[0]} wide in a window of ${wide[1]}`);
      for (const {method, params} of browser.events) {
        check(method !== "Runtime.exceptionThrown", `${where}: ${JSON.stringify(params.exceptionDetails)}`);
        check(method !== "Log.entryAdded" || params.entry.level !== "error", `${where}: ${params.entry?.text}`);
        check(method !== "Network.requestWillBeSent" || params.request.url.startsWith("file://"),
              `${where}: it loads ${params.request?.url}`);
      }
      if (screenshots) {
        // A window as high as the page, and painted: what lies beyond it may not be drawn yet on a busy machine.
        const height = await browser.evaluate("document.documentElement.scrollHeight");
        await browser.send("Emulation.setDeviceMetricsOverride",
                           {width, height, deviceScaleFactor: 1, mobile: width < 600});
        await browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        const {data} = await browser.send("Page.captureScreenshot");
        writeFileSync(join(screenshots, `${scheme}-${width}.png`), Buffer.from(data, "base64"));
      }
    }
  }
} catch (error) {
  check(false, error.stack);
} finally {
  await browser.close();
}
console.log(failures ? `${failures} failures` : "The charts hold the numbers, in light and dark, wide and phone-wide.");
process.exit(failures ? 1 : 0);
