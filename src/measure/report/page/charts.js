// Draws the charts of a report from the JSON in #report-data. A chart is one of two kinds: "strips" (one row per
// version: every run a dot, the interval a bar, the median a line, the limit a triangle) and "plane" (size against
// loss, speed as the area of the circle). Colours come from the style sheet, so that light and dark are one place.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("report-data").textContent).charts;
  const drawn = new Map();  // canvas id to Chart
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const series = (index) => color(`--series-${index % 8}`);
  const faint = (css, share) => css + Math.round(255 * share).toString(16).padStart(2, "0");
  const cut = (label) => (label.length > 18 ? label.slice(0, 17) + "…" : label);
  const known = (value) => value !== null && value !== undefined;

  function axis(title, more) {
    return {
      title: {display: Boolean(title), text: title, color: color("--muted")},
      grid: {color: color("--line"), drawBorder: false},
      ticks: {color: color("--muted"), maxRotation: 0, autoSkipPadding: 12},
      ...more,
    };
  }

  function options(x, y, tooltip) {
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      layout: {padding: {right: 14, top: 4}},
      scales: {x, y},
      plugins: {legend: {display: false}, tooltip: {callbacks: {title: () => "", label: tooltip}}},
    };
  }

  // Dots of one row side by side, always the same way, so that equal values do not hide each other.
  const spread = (index, count) => (count < 2 ? 0 : ((index * 7) % count) / (count - 1) - 0.5) * 0.36;

  function strips(panel, unit) {
    const datasets = [];
    panel.rows.forEach((row, y) => {
      const css = series(row.color);
      const text = (value) => `${row.label}: ${value} ${unit}`;
      datasets.push({
        type: "scatter", quench: "values", order: 1, pointRadius: 4, pointHoverRadius: 6,
        backgroundColor: faint(css, 0.75), borderColor: css, borderWidth: 0,
        data: row.values.map((x, i) => ({x, y: y + spread(i, row.values.length), text: text(row.shown[i])})),
      });
      if (known(row.low) && known(row.high)) {
        datasets.push({
          type: "line", quench: "interval", order: 3, borderColor: faint(css, 0.28), borderWidth: 16, pointRadius: 0,
          pointHitRadius: 0, data: [{x: row.low, y}, {x: row.high, y}],
        });
      }
      if (known(row.mid)) {
        datasets.push({
          type: "line", quench: "middle", order: 2, borderColor: color("--text"), borderWidth: 2.5, pointRadius: 0,
          pointHitRadius: 6, data: [{x: row.mid, y: y - 0.3, text: text(row.mid_shown)},
                                    {x: row.mid, y: y + 0.3, text: text(row.mid_shown)}],
        });
      }
      if (known(row.limit)) {
        datasets.push({
          type: "scatter", quench: "limit", order: 0, pointStyle: "triangle", rotation: 180, pointRadius: 7,
          pointHoverRadius: 9, backgroundColor: color("--text"),
          data: [{x: row.limit, y: y - 0.28, text: text(row.limit_shown)}],
        });
      }
    });
    const rows = axis("", {
      min: -0.5, max: panel.rows.length - 0.5, reverse: true,
      afterBuildTicks: (scale) => { scale.ticks = panel.rows.map((_, value) => ({value})); },
    });
    rows.grid.display = false;
    rows.ticks.color = color("--text");
    rows.ticks.autoSkip = false;
    rows.ticks.callback = (value) => cut(panel.rows[value].label);
    return {data: {datasets}, options: options(axis(unit, {beginAtZero: true, grace: "4%"}), rows,
                                               (item) => item.raw.text)};
  }

  // Names beside the circles: the first place that touches no circle and no other name.
  const names = {
    id: "names",
    afterDatasetsDraw(chart) {
      const {ctx, chartArea: area} = chart;
      const circles = [];
      chart.data.datasets.forEach((dataset, d) => {
        if (dataset.quench !== "points") return;
        chart.getDatasetMeta(d).data.forEach((point, i) => {
          const raw = dataset.data[i];
          circles.push({x: point.x, y: point.y, r: raw.r, lines: [raw.label, raw.speed_text].filter(Boolean)});
        });
      });
      ctx.save();
      ctx.fillStyle = color("--text");
      ctx.textBaseline = "top";
      const taken = circles.map((c) => [c.x - c.r, c.y - c.r, c.x + c.r, c.y + c.r]);
      const apart = (a, b) => a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
      for (const c of circles) {
        ctx.font = `600 13px ${Chart.defaults.font.family}`;
        const width = Math.max(...c.lines.map((line) => ctx.measureText(line).width));
        const height = 15 * c.lines.length;
        const shifts = [0, -8, 8, -16, 16, -24, 24].map((shift) => c.y - height / 2 + shift);
        const places = [...shifts.map((y) => [c.x + c.r + 5, y]),
                        [c.x - width / 2, c.y - c.r - 4 - height], [c.x - width / 2, c.y + c.r + 4],
                        ...shifts.map((y) => [c.x - c.r - 5 - width, y]),
                        [c.x - width / 2, c.y - c.r - 8 - 2 * height]];
        const boxes = places.map(([x, y]) => [x, y, x + width, y + height]);
        const inside = (b) => b[0] >= area.left && b[2] <= chart.width && b[1] >= area.top && b[3] <= area.bottom + 4;
        const box = boxes.find((b) => inside(b) && taken.every((other) => apart(b, other))) ||
                    boxes.find(inside) || boxes[0];
        taken.push(box);
        c.lines.forEach((line, i) => {
          ctx.font = `${i === 0 ? "600 13px" : "12px"} ${Chart.defaults.font.family}`;
          ctx.fillText(line, box[0], box[1] + 15 * i);
        });
      }
      ctx.restore();
      chart.quench_boxes = taken;  // of circles, then of names; tools/test_report.mjs looks at them
    },
  };

  function plane(panel, canvas) {
    const largest = Math.max(...panel.points.map((point) => point.speed || 0));
    const radius = canvas.parentElement.clientWidth < 500 ? 18 : 26;
    const datasets = panel.points.map((point) => ({
      type: "bubble", quench: "points", clip: false, backgroundColor: faint(series(point.color), 0.55),
      borderColor: series(point.color), borderWidth: 2, hoverRadius: 2,
      data: [{x: point.x, y: point.y, label: cut(point.label), speed_text: point.speed_text, text: point.text,
              // The area says the speed, so the radius is its root.
              r: Math.max(4, largest > 0 ? radius * Math.sqrt((point.speed || 0) / largest) : 8)}],
    }));
    const most = (key) => Math.max(...panel.points.map((point) => point[key]));
    const right = most("x") * 1.15;
    // A budget far above every loss would flatten the picture; then only the table names it.
    const shows_budget = known(panel.budget) && panel.budget < 4 * most("y");
    const top = Math.max(most("y"), shows_budget ? panel.budget : 0) * 1.15 || 1;
    if (shows_budget) {
      datasets.push({
        type: "line", quench: "budget", borderColor: color("--text"), borderDash: [6, 5], borderWidth: 1.5,
        pointRadius: 0, pointHitRadius: 6, order: 5, data: [{x: 0, y: panel.budget, text: panel.budget_text},
                                                            {x: right, y: panel.budget, text: panel.budget_text}],
      });
    }
    return {
      data: {datasets},
      options: options(axis(panel.x_title, {min: 0, max: right, ticks: {color: color("--muted"), maxRotation: 0,
                                            includeBounds: false}}),
                       axis(panel.y_title, {
                         // Room below 0, so that circles of the lossless lie free of the axis.
                         min: -0.12 * top, max: top,
                         ticks: {color: color("--muted"), includeBounds: false,
                                 callback(value) { return value < 0 ? "" : this.getLabelForValue(value); }}}),
                       (item) => item.raw.text),
      plugins: [names],
    };
  }

  function draw() {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 13;
    for (const chart of charts) {
      chart.panels.forEach((panel, index) => {
        const canvas = document.getElementById(`${chart.id}-${index}`);
        if (drawn.has(canvas.id)) drawn.get(canvas.id).destroy();
        const config = chart.kind === "plane" ? plane(panel, canvas) : strips(panel, chart.unit);
        drawn.set(canvas.id, new Chart(canvas, config));
      });
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
