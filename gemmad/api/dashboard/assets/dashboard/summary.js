// The daemon at one look: its state, its facts, its figures.

import { bindCopy, byId, el, icon, keyed, setProse, setText } from "../common/dom.js";
import { count, duration, latency, plural, rate } from "../common/format.js";
import { daemonState } from "./words.js";

let url = "";

/** Make what changes only in its words. */
export function prepareSummary() {
  const copy = el("button", { type: "button", class: "button tight", "aria-label": "Copy the address", text: "Copy" });
  bindCopy(copy, () => url);
  const address = el("dd", {}, el("code", { id: "address" }), copy);
  byId("facts").append(
    el("div", { class: "fact", dataset: { key: "Address" } }, el("dt", { text: "Address" }), address),
  );
}

/** Show a snapshot. */
export function showSummary({ overview, point }) {
  setText(byId("version"), overview.version);
  showState(overview);
  url = apiAddress(overview.url);
  setText(byId("address"), url);
  keyed(byId("facts"), [{ name: "Address" }, ...facts(overview)], {
    key: (fact) => fact.name,
    create: (fact) => el("div", { class: "fact" }, el("dt", { text: fact.name }), el("dd")),
    update: (node, fact) => {
      if (fact.words === undefined) return;
      const words = node.querySelector("dd");
      setText(words, fact.words);
      words.className = fact.kind ?? "";
    },
  });
  keyed(byId("tiles"), tiles(overview, point), {
    key: (tile) => tile.name,
    create: (tile) =>
      el(
        "div",
        { class: "tile" },
        el("dt", { text: tile.name }),
        el("dd", { class: "figure" }),
        el("dd", { class: "more" }),
      ),
    update: (node, tile) => {
      setText(node.children[1], tile.figure);
      setText(node.children[2], tile.more);
      node.classList.toggle("warn", tile.warn === true);
    },
  });
  document.title = `${daemonState(overview).word} · gemmad`;
}

/** A badge's word, colour and icon. */
export function setBadge(node, { word, kind, icon: drawn }, more = "") {
  const wanted = `badge ${kind} ${more}`.trim();
  if (node.className === wanted && node.dataset.word === word) return;
  node.className = wanted;
  node.dataset.word = word;
  node.replaceChildren(icon(drawn), el("span", { text: word }));
}

function showState(overview) {
  const state = daemonState(overview);
  setBadge(byId("state"), state, "large");
  const trouble = overview.trouble;
  setProse(byId("state-words"), trouble === null ? state.sentence : `${trouble.reason} To mend it: ${trouble.remedy}`);
}

function apiAddress(address) {
  return address.startsWith("unix:") ? address : `${address}/v1`;
}

function facts(overview) {
  const { config } = overview;
  const found = [
    { name: overview.models.length > 1 ? "Names" : "Model", words: overview.models.join(", ") || "none" },
    { name: "Context", words: overview.max_context === null ? "–" : `${count(overview.max_context)} tokens` },
    { name: "Up", words: `${duration(overview.uptime_seconds)}, pid ${overview.pid}` },
    { name: "Configuration", words: config.path ?? "no file: the defaults" },
  ];
  if (config.reload !== null) {
    const ago = `${duration(config.reload.seconds_ago)} ago`;
    const words = config.reload.ok ? ago : `refused ${ago}`;
    found.push({ name: "Last reload", words, kind: config.reload.ok ? "" : "bad-text" });
  }
  return found;
}

function tiles(overview, point) {
  const { requests, tokens, workers } = overview;
  const room = workers.reduce((sum, worker) => sum + (worker.capacity?.max_sequences ?? 0), 0);
  const ended = [
    [requests.failed, "failed"],
    [requests.refused, "refused"],
    [requests.abandoned, "abandoned"],
    [requests.failovers, "moved on"],
  ].filter(([number]) => number > 0);
  return [
    {
      name: "Generating",
      figure: rate(point?.tokens_per_second ?? tokens.per_second),
      more: `tokens/s · ${count(tokens.generated)} so far`,
    },
    {
      name: "Reading prompts",
      figure: rate(point?.prompt_tokens_per_second ?? 0),
      more: `tokens/s · ${count(tokens.prompt)} so far`,
    },
    { name: "Running", figure: count(requests.running), more: room === 0 ? "no room yet" : `room for ${count(room)}` },
    {
      name: "Waiting",
      figure: count(requests.waiting),
      more: requests.waiting === 0 ? "nobody waits" : "in the queue",
      warn: requests.waiting > 0,
    },
    {
      name: "First token",
      figure: latency(point?.ttft_p50 ?? null),
      more: (point?.ttft_p95 ?? null) === null ? "none in the last minute" : `p50 · p95 ${latency(point.ttft_p95)}`,
    },
    {
      name: "Finished",
      figure: count(requests.finished),
      more:
        ended.map(([number, word]) => `${count(number)} ${word}`).join(", ") ||
        `of ${plural(requests.total, "request")}`,
      warn: requests.failed > 0,
    },
  ];
}
