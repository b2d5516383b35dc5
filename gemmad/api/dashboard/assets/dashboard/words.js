// States as an operator reads them: a word, a kind (which has a colour), an icon, and a sentence. Pure.

import { duration, percent, plural } from "../common/format.js";

const WORKER = {
  ready: ["ready", "ok", "check", "takes requests"],
  starting: ["loading", "busy", "spin", "its process loads the model"],
  waiting: ["waiting", "warn", "clock", "its GPU, or memory on it, is not there yet"],
  draining: ["draining", "warn", "drop", "finishes what it has and gets nothing new"],
  stopping: ["stopping", "warn", "stop", "was told to exit"],
  stopped: ["stopped", "idle", "pause", "no process, and none is wanted"],
  hung: ["hung", "bad", "warning", "was silent for too long; its stacks are in the log"],
  killing: ["being killed", "bad", "cross", "was sent SIGKILL"],
  backoff: ["crashed", "bad", "warning", "begins anew after a pause"],
  failed: ["failed", "bad", "cross", "crashed too often, or its settings cannot work"],
};

const DAEMON = {
  ready: ["Ready", "ok", "check", "Requests are answered."],
  loading: ["Loading", "busy", "spin", "The model loads; requests are answered once a worker is ready."],
  recovering: ["Recovering", "warn", "spin", "No worker for the moment; requests wait until one is back."],
  draining: ["Draining", "warn", "drop", "The daemon ends: what runs is finished, nothing new is taken."],
  failed: ["Failed", "bad", "cross", "No worker will come by itself. What stands on the cards below tells why."],
  no_model: ["No model", "bad", "warning", "There is no model to serve."],
};

const LEVEL = {
  debug: ["debug", "idle", 10],
  info: ["info", "idle", 20],
  warning: ["warning", "warn", 30],
  error: ["error", "bad", 40],
  critical: ["critical", "bad", 50],
};

/** How a worker's state reads: `{word, kind, icon, sentence}`. */
export function workerState(worker) {
  const [word, kind, icon, sentence] = WORKER[worker.state] ?? [worker.state, "idle", "dot", ""];
  if (worker.state === "stopped" && worker.drained) {
    return { word: "drained", kind: "idle", icon: "pause", sentence: "stays away until it is resumed" };
  }
  if (worker.state === "ready" && worker.recycling) {
    return { word, kind, icon, sentence: "takes requests; a new life is to follow" };
  }
  return { word, kind, icon, sentence };
}

/** How the daemon's state reads. */
export function daemonState(overview) {
  const workers = overview.workers;
  if (overview.state === "failed" && workers.length > 0 && workers.every((worker) => worker.drained)) {
    return { word: "Drained", kind: "warn", icon: "pause", sentence: "Every worker was told to stay away." };
  }
  const [word, kind, icon, sentence] = DAEMON[overview.state] ?? [overview.state, "idle", "dot", ""];
  if (overview.state === "ready" && overview.degraded) {
    const away = workers.filter((worker) => worker.state !== "ready" && !worker.drained).length;
    const words = `Requests are answered, but ${plural(away, "worker is", "workers are")} not ready.`;
    return { word: "Degraded", kind: "warn", icon: "warning", sentence: words };
  }
  return { word, kind, icon, sentence };
}

/** How a log level reads, and how severe it is. */
export function logLevel(name) {
  const [word, kind, severity] = LEVEL[name] ?? [name, "idle", 20];
  return { word, kind, severity };
}

/** "load weights, 41 %": what a worker that has no requests yet is about. Empty if it says nothing. */
export function stageWords(worker) {
  if (worker.stage === null) return "";
  return !worker.progress ? worker.stage : `${worker.stage}, ${percent(worker.progress)}`;
}

/** When a worker is renewed next. */
export function recycleWords(worker) {
  if (worker.recycling) return "under way";
  if (worker.next_recycle_in_seconds === null) return "none by the clock";
  return `in ${duration(worker.next_recycle_in_seconds)}`;
}

/** Why nobody at this page may act; null if they may. */
export function refusalWords(mayAct) {
  return mayAct ? null : "Looking only: this needs an admin key, or a session from “gemmad dashboard”.";
}

/** A log line's fields as one string, "worker=gpu0 life=3". */
export function fieldWords(fields) {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${typeof value === "string" ? quoted(value) : JSON.stringify(value)}`)
    .join(" ");
}

function quoted(text) {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
