#!/usr/bin/env node
// Opens an HTML report in a headless Chromium and compares what its charts hold with the numbers it was made from:
//   node tools/test_report.mjs report.html shootout.json [--screenshots DIR]
// In light and dark, wide (1280) and phone-wide (390): nothing is loaded, no script fails, the page does not scroll
// sideways, every canvas holds a drawn chart, every run of the JSON is a dot inside its chart's area.
// Opt-in, not part of make test: it needs chromium (Debian's package, or CHROMIUM=path) and node 18 or later.
import {spawn} from "node:child_process";
import {mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join, resolve} from "node:path";

const [page, numbers, ...rest] = process.argv.slice(2);
if (!page || !numbers) {
  console.error("usage: node tools/test_report.mjs report.html shootout.json [--screenshots DIR]");
  process.exit(2);
}
const screenshots = rest[0] === "--screenshots" ? rest[1] : null;
const shootout = JSON.parse(readFileSync(numbers, "utf8"));
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
  .flatMap((t) => t.runs).filter((run) => !run.warmup);
const known = (value) => value !== null && value !== undefined;

// The dots that the JSON asks for, chart by chart in the order of the page.
function expected() {
  const charts = [];
  const measured = shootout.rows.filter((row) => known(row.kld_mean));
  if (measured.length) charts.push(["points", measured.map((row) => [row.bytes / 1e6, row.kld_mean])]);
  const strip = (task, key) => shootout.records.map((record) => runs(record, task).map((run) => run[key]).filter(known))
    .filter((values) => values.length);
  charts.push(["values", strip(null, "decode_tok_s")]);
  for (const key of ["ttft_s", "e2e_s"]) {
    const all = shootout.records.flatMap((record) => runs(record, null).map((run) => run[key])).filter(known);
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
        const {data} = await browser.send("Page.captureScreenshot", {captureBeyondViewport: true});
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
