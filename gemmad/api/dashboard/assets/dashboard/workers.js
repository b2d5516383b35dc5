// The workers as cards: who it is, how it is, what it holds, and what may be done.

import { byId, el, keyed, setAttribute, setText } from "../common/dom.js";
import { bytes, count, duration, percent, plural } from "../common/format.js";
import { actButton, drain, recycle, resume, setRefusal } from "./acts.js";
import { memoryPlace, showMemory } from "./memory.js";
import { setBadge } from "./summary.js";
import { recycleWords, refusalWords, stageWords, workerState } from "./words.js";

let seen = null;

/** Show a snapshot's workers; `refused(reason)` is called when somebody presses what they may not. */
export function showWorkers(snapshot, refused) {
  seen = snapshot;
  const { workers } = snapshot.overview;
  const gpus = new Map(snapshot.gpus.map((gpu) => [gpu.uuid, gpu]));
  setText(byId("workers-words"), workersWords(workers));
  keyed(byId("workers"), workers, {
    key: (worker) => worker.name,
    create: (worker) => card(worker.name, refused),
    update: (node, worker) => showWorker(node, worker, gpus.get(worker.gpu) ?? null, snapshot.may_act),
  });
}

function workersWords(workers) {
  if (workers.length === 0) return "none are known yet";
  const ready = workers.filter((worker) => worker.state === "ready").length;
  return `${count(ready)} of ${count(workers.length)} ready`;
}

function card(name, refused) {
  const now = () => seen.overview.workers.find((worker) => worker.name === name);
  const act = (text, label, kind, run) =>
    actButton({ text, label: `${label} ${name}`, kind, refused, act: () => run(now(), seen.overview.workers) });
  const title = `worker-${name}`;
  const buttons = [
    act("Drain…", "Drain", "drain", drain),
    act("Resume", "Resume", "resume", resume),
    act("Recycle…", "Recycle", "recycle", recycle),
  ];
  return el(
    "li",
    {},
    el(
      "article",
      { class: "panel worker", "aria-labelledby": title },
      el(
        "div",
        { class: "worker-now" },
        el(
          "header",
          {},
          el("h3", { id: title, class: "mono", text: name }),
          el("p", { class: "device soft" }),
          el("p", { class: "badge" }),
        ),
        el("p", { class: "since soft small" }),
        progressPlace("stage", `${name} loads`),
        el("ul", { class: "notes" }),
        el("dl", { class: "meters" }),
      ),
      el(
        "div",
        { class: "worker-plans" },
        memoryPlace(),
        successorPlace(name),
        el("dl", { class: "renewal small" }),
        el("div", { class: "buttons" }, buttons),
      ),
    ),
  );
}

function progressPlace(kind, label) {
  return el(
    "div",
    { class: kind, hidden: true },
    el("p", { class: "small" }),
    el("progress", { max: 1, "aria-label": label }),
  );
}

function successorPlace(name) {
  return el(
    "div",
    { class: "successor", hidden: true },
    el("p", { class: "line" }, el("strong"), el("span", { class: "badge" })),
    el("progress", { max: 1, "aria-label": `the next life of ${name} loads` }),
    el("p", { class: "small soft" }),
  );
}

function showWorker(node, worker, gpu, mayAct) {
  const state = workerState(worker);
  node.firstElementChild.dataset.kind = state.kind;
  setText(node.querySelector(".device"), gpu === null ? worker.device : `${gpu.name} · GPU ${gpu.label}`);
  setBadge(node.querySelector("header .badge"), state);
  setText(node.querySelector(".since"), sinceWords(worker, state));
  showStage(node.querySelector(".stage"), worker);
  showList(node.querySelector(".notes"), notes(worker), (note) => note.kind);
  showMeters(node.querySelector(".meters"), meters(worker, gpu));
  showMemory(node.querySelector(".memory"), worker.memory);
  showSuccessor(node.querySelector(".successor"), worker.successor);
  showPairs(node.querySelector(".renewal"), renewal(worker));
  showButtons(node, worker, mayAct);
}

function sinceWords(worker, state) {
  const parts = [`${state.sentence}, for ${duration(worker.state_seconds)}`];
  if (worker.life > 0) parts.push(`life ${count(worker.life)}`);
  if (worker.pid !== null) parts.push(`pid ${worker.pid}`);
  if (worker.life > 0) parts.push(plural(worker.requests, "request"));
  return parts.join(" · ");
}

function showStage(node, worker) {
  node.hidden = worker.stage === null || worker.state !== "starting";
  if (node.hidden) return;
  setText(node.querySelector("p"), stageWords(worker));
  setProgress(node.querySelector("progress"), worker.progress);
}

function setProgress(node, share) {
  setAttribute(node, "value", share || null); // none: it moves, and tells no share
}

function notes(worker) {
  const found = [];
  if (worker.waits_for) found.push({ kind: "warn", words: `Waits for ${worker.waits_for}` });
  if (worker.last_error) {
    found.push({ kind: worker.state === "ready" ? "quiet" : "bad", words: `Last error: ${worker.last_error}` });
  }
  if (worker.retry_in_seconds !== null) {
    found.push({ kind: "quiet", words: `Next try in ${duration(worker.retry_in_seconds)}` });
  }
  const { weights, kv } = worker.capacity ?? { weights: "bf16", kv: "bf16" };
  if (weights !== "bf16" || kv !== "bf16")
    found.push({ kind: "quiet", words: `Weights in ${weights}, KV cache in ${kv}` });
  return found;
}

function meters(worker, gpu) {
  const found = [];
  const { load, capacity } = worker;
  if (load !== null && capacity !== null) {
    const waiting = load.waiting > 0 ? ` + ${count(load.waiting)}` : "";
    found.push({
      name: "Sequences",
      words: `${count(load.running)}${waiting} of ${count(capacity.max_sequences)}`,
      share: load.running / capacity.max_sequences,
    });
  }
  if (worker.kv_usage !== null)
    found.push({ name: "KV cache", words: percent(worker.kv_usage), share: worker.kv_usage, alarming: true });
  if (gpu !== null) found.push(...gpuMeters(gpu));
  if (load !== null) {
    if (load.prompt_tokens > 0) {
      found.push({
        name: "Prompts cached",
        words: percent(load.cached_tokens / load.prompt_tokens),
        share: load.cached_tokens / load.prompt_tokens,
      });
    }
    if (load.device_bytes > 0) found.push({ name: "Reserved by torch", words: bytes(load.device_bytes) });
    if (load.host_rss_bytes > 0) found.push({ name: "Host memory", words: bytes(load.host_rss_bytes) });
    if (load.preemptions > 0) found.push({ name: "Preempted", words: count(load.preemptions) });
  }
  return found;
}

function gpuMeters(gpu) {
  const found = [];
  if (gpu.utilisation !== null)
    found.push({ name: "GPU busy", words: percent(gpu.utilisation), share: gpu.utilisation });
  if (gpu.memory_used_bytes !== null && gpu.memory_total_bytes) {
    const words = `${bytes(gpu.memory_used_bytes)} of ${bytes(gpu.memory_total_bytes)}`;
    found.push({ name: "GPU memory", words, share: gpu.memory_used_bytes / gpu.memory_total_bytes });
  }
  if (gpu.power_watts !== null) {
    const limit = gpu.power_limit_watts === null ? "" : ` of ${count(gpu.power_limit_watts)}`;
    found.push({
      name: "Power",
      words: `${count(gpu.power_watts)}${limit} W`,
      share: gpu.power_limit_watts ? gpu.power_watts / gpu.power_limit_watts : undefined,
    });
  }
  if (gpu.temperature_celsius !== null)
    found.push({ name: "Temperature", words: `${count(gpu.temperature_celsius)} °C` });
  return found;
}

function renewal(worker) {
  const found = [];
  if (!worker.drained) found.push({ name: "Next recycle", words: recycleWords(worker) });
  if (worker.last_recycle) found.push({ name: "Last recycle", words: worker.last_recycle });
  return found;
}

function showSuccessor(node, successor) {
  node.hidden = successor === null;
  if (successor === null) return;
  setText(node.querySelector("strong"), `Next life, ${count(successor.life)}`);
  setBadge(node.querySelector(".badge"), workerState(successor));
  const progress = node.querySelector("progress");
  progress.hidden = successor.state !== "starting";
  setProgress(progress, successor.progress);
  const words = [stageWords(successor), successor.waits_for, successor.last_error].filter(Boolean).join(" · ");
  setText(node.lastElementChild, words);
}

function showButtons(node, worker, mayAct) {
  const refusal = refusalWords(mayAct);
  const [drainButton, resumeButton, recycleButton] = node.querySelectorAll(".buttons > button");
  drainButton.hidden = worker.drained;
  resumeButton.hidden = !worker.drained;
  setRefusal(drainButton, refusal);
  setRefusal(resumeButton, refusal);
  setRefusal(recycleButton, refusal ?? recycleRefusal(worker));
}

function recycleRefusal(worker) {
  if (worker.drained) return "It is drained: resume it instead.";
  if (worker.recycling) return "A renewal is under way already.";
  return null;
}

function showMeters(node, found) {
  keyed(node, found, {
    key: (meter) => meter.name,
    create: (meter) =>
      el(
        "div",
        { class: "meter" },
        el("dt", { text: meter.name }),
        el("dd", {}, el("span", { class: "value" }), el("span", { class: "track", "aria-hidden": "true" }, el("span"))),
      ),
    update: (each, meter) => {
      setText(each.querySelector(".value"), meter.words);
      const track = each.querySelector(".track");
      track.hidden = meter.share === undefined;
      if (meter.share === undefined) return;
      const width = `${Math.round(Math.min(1, meter.share) * 1000) / 10}%`;
      if (track.firstElementChild.style.width !== width) track.firstElementChild.style.width = width;
      each.classList.toggle("high", meter.alarming === true && meter.share >= 0.95);
    },
  });
}

function showPairs(node, pairs) {
  keyed(node, pairs, {
    key: (pair) => pair.name,
    create: (pair) => el("div", {}, el("dt", { text: pair.name }), el("dd")),
    update: (each, pair) => setText(each.lastElementChild, pair.words),
  });
}

function showList(node, items, kindOf) {
  keyed(node, items, {
    key: (item) => `${kindOf(item)} ${item.words.slice(0, 12)}`,
    create: (item) => el("li", { class: kindOf(item) }),
    update: (each, item) => setText(each, item.words),
  });
}
