// A worker's memory: its plan, and what it takes, as two stacked bars on one scale, and the same as a table.

import { el, setText } from "../common/dom.js";
import { bytes } from "../common/format.js";
import { bars, takenBytes } from "./budget.js";

/** A place for both bars, their legend and the table. */
export function memoryPlace() {
  const node = el("div", { class: "memory" });
  node.append(
    el("div", { class: "memory-bars", "aria-hidden": "true" }, barPlace("planned"), barPlace("measured")),
    el(
      "details",
      {},
      el(
        "summary",
        {},
        el("ul", { class: "legend", "aria-hidden": "true" }),
        el("span", { class: "more", text: "as a table" }),
      ),
      el("table", { class: "rows" }, el("caption", { class: "off-screen", text: "Memory plan" }), el("tbody")),
    ),
  );
  return node;
}

/** Show a plan in such a place; one that stays the same is not drawn again. */
export function showMemory(node, rows) {
  node.hidden = rows.length === 0;
  const shown = JSON.stringify(rows);
  if (node.dataset.shown === shown) return;
  node.dataset.shown = shown;
  const drawn = bars(rows);
  const [planned, measured] = node.querySelectorAll(".memory-bar");
  fill(planned, drawn.planned, drawn.plannedBytes);
  measured.hidden = drawn.measured === null;
  if (drawn.measured !== null) fill(measured, drawn.measured, drawn.measuredBytes);
  node.querySelector(".legend").replaceChildren(...legend(drawn.planned));
  node.querySelector("tbody").replaceChildren(...table(rows, drawn));
}

function barPlace(name) {
  return el(
    "div",
    { class: "memory-bar" },
    el("span", { class: "bar-name", text: name }),
    el("span", { class: "stack" }),
    el("span", { class: "bar-sum number" }),
  );
}

function fill(bar, parts, sum) {
  const pieces = parts.map((part) => {
    const piece = el("span", { class: `piece ${part.colour}`, title: `${part.name}: ${bytes(part.bytes)}` });
    piece.style.width = `${part.share * 100}%`;
    return piece;
  });
  bar.querySelector(".stack").replaceChildren(...pieces);
  setText(bar.querySelector(".bar-sum"), bytes(sum));
}

function legend(parts) {
  const groups = new Map();
  for (const part of parts) {
    const names = groups.get(part.colour) ?? [];
    groups.set(part.colour, [...names, part.name]);
  }
  return [...groups].map(([colour, names]) =>
    el("li", {}, el("span", { class: `swatch ${colour}` }), el("span", { text: names.join(", ") })),
  );
}

function table(rows, drawn) {
  const line = (cells, tag = "td") =>
    el(
      "tr",
      {},
      el("th", { scope: "row", text: cells[0] }),
      cells.slice(1).map((text) => el(tag, { class: "number", text })),
    );
  const head = el(
    "tr",
    {},
    ["row", "planned", "measured"].map((text, place) =>
      el("th", { scope: "col", class: place === 0 ? "" : "number", text }),
    ),
  );
  const lines = rows.map((row) =>
    line([row.name, bytes(row.planned_bytes), bytes(row.name === "reserve" ? null : row.measured_bytes)]),
  );
  const sum = rows.reduce((all, row) => all + takenBytes(row), 0);
  return [head, ...lines, line(["sum", bytes(drawn.plannedBytes), bytes(drawn.measured === null ? null : sum)])];
}
