// The end of the daemon's log, as it is written. Lines may hold anything: they are text.

import { byId, el, keyed, setText } from "../common/dom.js";
import { count } from "../common/format.js";
import { linesWith } from "./store.js";
import { fieldWords, logLevel } from "./words.js";

const SHOWN_LINES = 300;
const NEAR_END_PIXELS = 24;

export class Log {
  #lines = [];
  #frozen = null;
  #place = byId("log");

  constructor() {
    byId("log-level").addEventListener("change", () => this.#show());
    byId("log-text").addEventListener("input", () => this.#show());
    byId("log-pause").addEventListener("click", () => this.#pause());
  }

  /** Take what is known now. */
  show(lines) {
    if (lines === this.#lines) return;
    this.#lines = lines;
    if (this.#frozen === null) this.#show();
    else setText(byId("log-words"), pausedWords(lines, this.#frozen));
  }

  #pause() {
    this.#frozen = this.#frozen === null ? this.#lines : null;
    const button = byId("log-pause");
    button.setAttribute("aria-pressed", String(this.#frozen !== null));
    button.textContent = this.#frozen === null ? "Pause" : "Go on";
    this.#show();
  }

  #show() {
    const lines = this.#frozen ?? this.#lines;
    const found = linesWith(lines, {
      severity: logLevel(byId("log-level").value).severity,
      text: byId("log-text").value,
      severityOf: (level) => logLevel(level).severity,
      wordsOf: (line) => `${line.at} ${line.level} ${line.logger} ${line.event} ${fieldWords(line.fields)}`,
    });
    const isAtEnd = this.#place.scrollHeight - this.#place.scrollTop - this.#place.clientHeight < NEAR_END_PIXELS;
    keyed(byId("log-lines"), found.slice(-SHOWN_LINES), {
      key: (line) => `${line.number} ${line.at}`,
      create: lineNode,
      update: () => {},
    });
    if (isAtEnd) this.#place.scrollTop = this.#place.scrollHeight;
    setText(byId("log-words"), this.#frozen === null ? foundWords(lines, found) : pausedWords(this.#lines, lines));
  }
}

function lineNode(line) {
  const level = logLevel(line.level);
  return el(
    "li",
    { class: level.kind, title: line.logger },
    el("time", { datetime: line.at, text: clock(line.at) }),
    el("span", { class: "level", text: level.word }),
    el("span", { class: "event", text: line.event }),
    el("span", { class: "fields", text: fieldWords(line.fields) }),
  );
}

function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? at : date.toLocaleTimeString([], { hour12: false });
}

function foundWords(lines, found) {
  return found.length === lines.length ? "" : `${count(found.length)} of ${count(lines.length)} lines`;
}

function pausedWords(lines, frozen) {
  const last = frozen.at(-1)?.number ?? 0;
  const missed = lines.filter((line) => line.number > last).length;
  return missed === 0 ? "paused" : `paused, ${count(missed)} more since`;
}
