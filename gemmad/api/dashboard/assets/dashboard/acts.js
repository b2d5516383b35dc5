// What an operator does from here. Each asks first where it hurts somebody, and says what came of it.

import { requestJson } from "../common/api.js";
import { ask, say } from "../common/ask.js";
import { el, setAttribute } from "../common/dom.js";
import { plural } from "../common/format.js";
import { dashboardKey } from "../common/keys.js";

/** A button that stays where it is while it may not be pressed, so that the keyboard finds it and its reason. */
export function actButton({ text, label, kind = "", act, refused }) {
  const button = el("button", { type: "button", class: `button tight ${kind}`.trim(), "aria-label": label, text });
  button.addEventListener("click", async () => {
    if (button.dataset.busy) return;
    if (button.getAttribute("aria-disabled") === "true") {
      refused(button.title);
      return;
    }
    button.dataset.busy = "yes";
    try {
      await act();
    } catch (error) {
      say(error.message, { kind: "bad", seconds: 12 });
    } finally {
      delete button.dataset.busy;
    }
  });
  return button;
}

/** Let a button be pressed, or tell why not. */
export function setRefusal(button, reason) {
  setAttribute(button, "aria-disabled", reason === null ? null : "true");
  setAttribute(button, "title", reason);
}

/** Drain a worker, after a question that tells who is left. */
export async function drain(worker, workers) {
  const others = workers.filter((other) => other.name !== worker.name && other.state === "ready").length;
  const running = worker.load?.running ?? 0;
  const what = running === 0 ? "what it has" : plural(running, "request");
  const lines = [`It finishes ${what}, its process ends, and its device is free until it is resumed.`];
  if (others === 0) lines.push("No other worker is ready: new requests will be refused with 503.");
  const sure = await ask({ title: `Drain ${worker.name}?`, lines, yes: "Drain", danger: others === 0 });
  if (sure) await post(`workers/${encodeURIComponent(worker.name)}/drain`, `${worker.name} drains.`);
}

/** Want a worker again. */
export async function resume(worker) {
  await post(`workers/${encodeURIComponent(worker.name)}/resume`, `${worker.name} starts again.`);
}

/** Renew a worker, after a question. */
export async function recycle(worker) {
  const sure = await ask({
    title: `Recycle ${worker.name}?`,
    lines: [
      "A new process takes its place. Where there is room, it gets ready beside the old one;" +
        " else the old one finishes first, and new requests wait or go elsewhere. No answer changes.",
    ],
    yes: "Recycle",
  });
  if (sure) await post(`workers/${encodeURIComponent(worker.name)}/recycle`, `${worker.name} is being recycled.`);
}

/** Renew all workers, one after another. */
export async function recycleAll() {
  const sure = await ask({
    title: "Recycle all workers?",
    lines: ["Each gets a new process, one after another, while requests go on. Drained ones are left out."],
    yes: "Recycle all",
  });
  if (sure) await post("workers/all/recycle", "The workers are being recycled, one after another.");
}

/** End a request, after a question: its client is told that an operator did. */
export async function cancel(listed) {
  const sure = await ask({
    title: "Cancel this request?",
    lines: [
      el("p", { class: "mono wrap", text: listed.request_id }),
      "Its client gets an error that says an operator ended it.",
    ],
    yes: "Cancel the request",
    no: "Let it run",
    danger: true,
  });
  if (sure) await post(`requests/${encodeURIComponent(listed.request_id)}/cancel`, "The request was cancelled.");
}

/** Read the configuration again, after showing what would come of it. Resolves to the outcome; null: not wanted. */
export async function reload() {
  const preview = await requestJson("dashboard/reload?dry_run=1", { method: "POST", key: dashboardKey() });
  if (!preview.ok) {
    const lines = ["The files have mistakes, so the running settings stay:", list(preview.errors)];
    await ask({ title: "Nothing to reload", lines, yes: "Understood", no: null });
    return null;
  }
  const lines = reloadLines(preview);
  const sure = await ask({ title: "Reload the configuration?", lines, yes: "Reload" });
  if (!sure) return null;
  const outcome = await requestJson("dashboard/reload", { method: "POST", key: dashboardKey() });
  say(outcome.ok ? "The configuration was reloaded." : outcome.errors.join(" "), { kind: outcome.ok ? "ok" : "bad" });
  return outcome;
}

function reloadLines(preview) {
  const lines = [];
  if (preview.applied.length > 0) lines.push("In force at once:", list(preview.applied));
  if (preview.rolling.length > 0)
    lines.push("Tried by one worker, then taken by all, which are renewed:", list(preview.rolling));
  if (preview.pending.length > 0) {
    lines.push("Not before the daemon starts anew:", list(preview.pending.map((setting) => setting.key)));
  }
  if (lines.length === 0) lines.push("The files say what the daemon has. API keys are read again.");
  return lines;
}

function list(texts) {
  return el(
    "ul",
    { class: "ask-list mono" },
    texts.map((text) => el("li", { text })),
  );
}

async function post(path, words) {
  await requestJson(`dashboard/${path}`, { method: "POST", key: dashboardKey() });
  say(words, { kind: "ok" });
}
