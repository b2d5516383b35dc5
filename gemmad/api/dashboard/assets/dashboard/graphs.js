// Which charts there are, and where their points come from: the last minutes from the stream, hours and days from the
// daemon's history.

import { requestJson } from "../common/api.js";
import { byId, setText } from "../common/dom.js";
import { bytes, count, latency, percent, rate } from "../common/format.js";
import { dashboardKey } from "../common/keys.js";
import { Chart } from "./chart.js";
import { columns, columnsByWorker, columnsOfSamples, kvUsage, workerNames } from "./series.js";
import { LIVE_SECONDS } from "./store.js";

const RANGES = { "1h": 3600, "24h": 86400, "7d": 7 * 86400 };
const HISTORY_POINTS = 500;
const REFRESH_MS = 30000;
const LEAST_SPAN_SECONDS = 300;

const TRAFFIC = [
  {
    chart: { title: "Tokens", unit: "per second", format: rate },
    series: [
      { label: "generated", read: (point) => point.tokens_per_second },
      { label: "prompts", read: (point) => point.prompt_tokens_per_second },
    ],
  },
  {
    chart: { title: "First token", format: latency, floor: 0.05 },
    series: [
      { label: "p50", read: (point) => point.ttft_p50 },
      { label: "p95", read: (point) => point.ttft_p95 },
    ],
    empty: "no request got its first token lately",
  },
  {
    chart: { title: "Requests", format: count, floor: 4 },
    series: [
      { label: "running", read: (point) => point.running },
      { label: "waiting", read: (point) => point.waiting },
    ],
  },
];

const MEMORY = [
  {
    chart: { title: "KV cache in use", format: percent, kind: "share" },
    live: (worker) => worker.kv_usage,
    sampled: kvUsage,
    empty: "no worker is ready",
  },
  {
    chart: { title: "Device memory", unit: "reserved", format: bytes, kind: "bytes", floor: 2 ** 20 },
    live: (worker) => worker.device_bytes || null,
    sampled: (sample) => sample.reserved_bytes,
    empty: "no worker is on a GPU",
  },
  {
    chart: { title: "Host memory", format: bytes, kind: "bytes", floor: 2 ** 20 },
    live: (worker) => worker.host_rss_bytes || null,
    sampled: (sample) => sample.host_rss_bytes || null,
    empty: "nothing is measured yet",
  },
];

export class Graphs {
  #traffic = TRAFFIC.map((graph) => ({ ...graph, chart: new Chart(graph.chart) }));
  #memory = MEMORY.map((graph) => ({ ...graph, chart: new Chart(graph.chart) }));
  #points = [];
  #range = "live";
  #asked = 0;
  #timer = 0;

  constructor() {
    byId("traffic").append(...this.#traffic.map(({ chart }) => chart.node));
    byId("memory").append(...this.#memory.map(({ chart }) => chart.node));
    for (const button of byId("range").querySelectorAll("button")) {
      button.addEventListener("click", () => this.#choose(button.dataset.range));
    }
    this.#press();
  }

  /** Show the last minutes; memory only if that is what was chosen. */
  show(points) {
    if (points.length === 0) return;
    const span = liveSpan(points);
    for (const { chart, series, empty } of this.#traffic) {
      chart.set({
        series,
        span,
        empty,
        data: columns(
          points,
          series.map(({ read }) => read),
        ),
      });
    }
    this.#points = points;
    if (this.#range !== "live") return;
    const names = workerNames(points);
    for (const { chart, live, empty } of this.#memory) {
      chart.set({ series: names.map((label) => ({ label })), span, empty, data: columnsByWorker(points, names, live) });
    }
  }

  #choose(range) {
    this.#range = range;
    this.#press();
    clearInterval(this.#timer);
    this.#asked += 1;
    setText(byId("memory-words"), "");
    if (range === "live") {
      this.show(this.#points);
      return;
    }
    this.#load();
    this.#timer = setInterval(() => document.hidden || this.#load(), REFRESH_MS);
  }

  async #load() {
    const range = this.#range;
    const asked = (this.#asked += 1);
    try {
      const path = `dashboard/history?since=${range}&limit=${HISTORY_POINTS}`;
      const { samples } = await requestJson(path, { key: dashboardKey() });
      if (asked !== this.#asked) return;
      setText(byId("memory-words"), samples.length === 0 ? "no samples of this time are kept yet" : "");
      this.#showSamples(samples, RANGES[range]);
    } catch (error) {
      if (asked === this.#asked) setText(byId("memory-words"), error.message);
    }
  }

  #showSamples(samples, seconds) {
    const now = Date.now() / 1000;
    const names = [...new Set(samples.map((sample) => sample.worker))].sort();
    for (const { chart, sampled, empty } of this.#memory) {
      chart.set({
        series: names.map((label) => ({ label })),
        span: [now - seconds, now],
        empty,
        data: columnsOfSamples(samples, names, { read: sampled, width: Math.max(1, seconds / HISTORY_POINTS / 2) }),
      });
    }
  }

  #press() {
    for (const button of byId("range").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.range === this.#range));
    }
  }
}

/** From the first point, or 5 minutes ago if that is longer, to the last; 15 minutes at most. */
function liveSpan(points) {
  const last = points.at(-1).at;
  return [Math.max(last - LIVE_SECONDS, Math.min(points[0].at, last - LEAST_SPAN_SECONDS)), last];
}
