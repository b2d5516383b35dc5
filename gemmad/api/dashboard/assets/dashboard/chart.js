// One chart: a title, a legend that tells the values under the cursor or else the latest, and uPlot's canvas.
/* global uPlot */

import { el, setAttribute, setText } from "../common/dom.js";
import { colour, onThemeChange } from "../common/theme.js";
import { timeOfDay } from "../common/format.js";
import { extremes, summary } from "./series.js";

const HEIGHT = 148;
const SUMMARY_SECONDS = 20;
const COLOURS = 8;
const BINARY_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const TIME_STEPS = [15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];
const SHARE_STEPS = [0.1, 0.25, 0.5, 1];
const DAY_SECONDS = 86400;

let palette = null;
onThemeChange(() => (palette = null));

export class Chart {
  #title;
  #format;
  #kind;
  #floor;
  #series = [];
  #data = [[]];
  #span = [0, 1];
  #plot = null;
  #isSeen = false;
  #isWaiting = false;
  #summarisedAt = -Infinity;
  #legend = el("ul", { class: "legend" });
  #at = el("span", { class: "at faint small" });
  #place = el("div", { class: "plot", role: "img" });
  #empty = el("p", { class: "empty faint", hidden: true });

  /** `kind`: "number", "bytes" or "share" (0 to 1); `floor` is the least that the axis reaches up to. */
  constructor({ title, unit = "", format, kind = "number", floor = 1 }) {
    this.#title = title;
    this.#format = format;
    this.#kind = kind;
    this.#floor = floor;
    this.node = el(
      "figure",
      { class: "panel chart" },
      el(
        "figcaption",
        {},
        el("h3", {}, title, unit === "" ? null : el("span", { class: "unit", text: ` ${unit}` })),
        this.#at,
        this.#legend,
      ),
      el("div", { class: "plot-frame" }, this.#place, this.#empty),
    );
    new IntersectionObserver((entries) => {
      this.#isSeen = entries.at(-1).isIntersecting;
      if (this.#isSeen && this.#isWaiting) this.#draw();
    }).observe(this.node);
    new ResizeObserver(() => this.#resize()).observe(this.#place);
    onThemeChange(() => this.#rebuild());
  }

  /** Show columns; `series` are `{label}`, `span` the moments at both ends, `empty` the words if there is nothing. */
  set({ series, data, span, empty = "nothing yet" }) {
    const isNew = series.map(({ label }) => label).join("\n") !== this.#series.map(({ label }) => label).join("\n");
    this.#series = series;
    this.#data = data;
    this.#span = span;
    this.#empty.hidden = data.slice(1).some((column) => extremes(column) !== null);
    setText(this.#empty, empty);
    this.#isWaiting = true;
    if (isNew) this.#rebuild();
    else if (this.#isSeen) this.#draw();
  }

  #draw() {
    this.#isWaiting = false;
    this.#plot ??= this.#make();
    this.#plot.setData(this.#data, false);
    this.#plot.setScale("x", { min: this.#span[0], max: this.#span[1] });
    this.#tell(this.#plot.cursor.idx ?? null);
    const now = performance.now() / 1000;
    if (now - this.#summarisedAt < SUMMARY_SECONDS) return;
    this.#summarisedAt = now;
    setAttribute(this.#place, "aria-label", summary(this.#title, this.#series, this.#data, this.#format));
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#summarisedAt = -Infinity;
    this.#legend.replaceChildren(
      ...this.#series.map(({ label }, index) =>
        el(
          "li",
          {},
          el("span", { class: `swatch series-${(index % COLOURS) + 1}` }),
          el("span", { class: "label", text: label }),
          el("span", { class: "value" }),
        ),
      ),
    );
    if (this.#data[0].length > 0) this.#draw();
  }

  #resize() {
    const width = this.#place.clientWidth;
    if (this.#plot !== null && width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #tell(row) {
    const hasRow = row !== null && row >= 0 && row < this.#data[0].length;
    setText(this.#at, hasRow ? timeOfDay(this.#data[0][row]) : "");
    this.#series.forEach((_, index) => {
      const column = this.#data[index + 1] ?? [];
      const value = hasRow ? column[row] : column.at(-1);
      setText(this.#legend.children[index].lastElementChild, this.#format(value ?? null));
    });
  }

  #make() {
    palette ??= readPalette();
    const grid = { stroke: palette.line, width: 1 };
    const axis = { stroke: palette.text, font: palette.font, grid, ticks: { show: false } };
    const reach = (_plot, _least, most) => [0, this.#kind === "share" ? 1 : Math.max(this.#floor, (most ?? 0) * 1.12)];
    const options = {
      width: Math.max(120, this.#place.clientWidth),
      height: HEIGHT,
      padding: [8, 6, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "gemmad" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: { x: { time: true }, y: { range: reach } },
      axes: [
        { ...axis, size: 24, space: 56, incrs: TIME_STEPS, values: (plot, moments) => timeLabels(plot, moments) },
        {
          ...axis,
          size: 62,
          space: 24,
          gap: 6,
          values: (_plot, values) => values.map((value) => this.#label(value)),
          ...this.#steps(),
        },
      ],
      series: [{}, ...this.#series.map((_, index) => line(index))],
      hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx ?? null)] },
    };
    return new uPlot(options, this.#data, this.#place);
  }

  #steps() {
    if (this.#kind === "bytes") return { incrs: BINARY_STEPS };
    return this.#kind === "share" ? { incrs: SHARE_STEPS } : {};
  }

  #label(value) {
    if (value === 0) return "0";
    return this.#format(value)
      .replace(/(\.\d*?)0+( |$)/, "$1$2")
      .replace(/\.( |$)/, "$1");
  }
}

function line(index) {
  const stroke = palette.series[index % COLOURS];
  return { stroke, width: 1.5, points: { show: false }, dash: index < COLOURS ? undefined : [4, 3] };
}

function readPalette() {
  return {
    text: colour("--text-faint"),
    line: colour("--line"),
    series: Array.from({ length: COLOURS }, (_, index) => colour(`--series-${index + 1}`)),
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
  };
}

function timeLabels(plot, moments) {
  const span = plot.scales.x.max - plot.scales.x.min;
  return moments.map((moment) => {
    if (span > 2 * DAY_SECONDS) {
      return new Date(moment * 1000).toLocaleDateString(undefined, { weekday: "short", day: "numeric" });
    }
    return timeOfDay(moment).slice(0, 5);
  });
}
