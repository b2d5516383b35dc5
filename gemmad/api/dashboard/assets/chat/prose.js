/** A reply's text on the page, while it grows and when it is whole. */

import { bindCopy, el } from "../common/dom.js";
import { settledLength } from "./blocks.js";
import { rendered } from "./markdown.js";

const SHORTEST_PAUSE_MS = 100;
const PAUSE_PER_COST = 10;
/** Drawing takes at most a tenth of the time, however long a reply gets. */

/** Draws into `place`. `grow(text)` may be called per token; `finish(text)` draws all of it at once and for good. */
export class Prose {
  #place;
  #settled = el("div", { class: "blocks" });
  #tail = el("div", { class: "blocks growing" });
  #settledLength = 0;
  #text = "";
  #timer = 0;
  #frame = 0;
  #pauseMs = SHORTEST_PAUSE_MS;
  #drawnAt = -Infinity;
  #afterDrawing;

  constructor(place, { afterDrawing = () => {} } = {}) {
    this.#place = place;
    this.#afterDrawing = afterDrawing;
  }

  grow(text) {
    this.#text = text.replace(/\r\n?/g, "\n");
    if (this.#timer !== 0 || this.#frame !== 0) return;
    const wait = Math.max(0, this.#drawnAt + this.#pauseMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#frame = requestAnimationFrame(() => this.#draw());
    }, wait);
  }

  finish(text) {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = this.#frame = 0;
    this.#place.replaceChildren(el("div", { class: "blocks" }, decorated(rendered(text))));
    this.#afterDrawing();
  }

  #draw() {
    this.#frame = 0;
    const begun = performance.now();
    if (this.#tail.parentNode !== this.#place) this.#place.replaceChildren(this.#settled, this.#tail);
    const settled = settledLength(this.#text.slice(this.#settledLength));
    if (settled > 0) {
      const text = this.#text.slice(this.#settledLength, this.#settledLength + settled);
      this.#settled.append(decorated(rendered(text)));
      this.#settledLength += settled;
    }
    this.#tail.replaceChildren(decorated(rendered(this.#text.slice(this.#settledLength))));
    this.#drawnAt = performance.now();
    this.#pauseMs = Math.max(SHORTEST_PAUSE_MS, PAUSE_PER_COST * (this.#drawnAt - begun));
    this.#afterDrawing();
  }
}

/** Code gets a head with its language and a copy button; what is wide can be scrolled by keyboard too. */
function decorated(fragment) {
  for (const pre of fragment.querySelectorAll("pre")) {
    const code = pre.querySelector("code");
    const language = /language-(\S+)/.exec(code?.className ?? "")?.[1] ?? "";
    const button = el("button", {
      type: "button",
      class: "button quiet tight",
      text: "Copy",
      "aria-label": "Copy this code",
    });
    bindCopy(button, () => pre.textContent);
    const block = el(
      "div",
      { class: "code-block" },
      el("div", { class: "code-head" }, el("span", { text: language }), button),
    );
    pre.replaceWith(block);
    pre.tabIndex = 0;
    block.append(pre);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = el("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}
