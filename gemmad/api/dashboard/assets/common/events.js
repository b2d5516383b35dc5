// Server-sent events through fetch, since EventSource can send no key.

import { ApiError, request } from "./api.js";

const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15000];

/** Text in pieces as they come, events out. https://html.spec.whatwg.org/multipage/server-sent-events.html */
export class EventParser {
  #rest = "";
  #data = [];
  #event = "";
  #begun = false;

  /** The events that `text` completes, each `{event, data}`. */
  push(text) {
    if (!this.#begun && text !== "") {
      this.#begun = true;
      text = text.replace(/^\uFEFF/, "");
    }
    const all = this.#rest + text;
    // a CR at the very end may be the first half of CR LF
    const known = all.endsWith("\r") ? all.slice(0, -1) : all;
    const lines = known.split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + all.slice(known.length);
    const events = [];
    for (const line of lines) this.#take(line, events);
    return events;
  }

  #take(line, events) {
    if (line === "") {
      if (this.#data.length) events.push({ event: this.#event || "message", data: this.#data.join("\n") });
      this.#data = [];
      this.#event = "";
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
  }
}

/** The events of a response's body, as they come. One that is cut off ends it without a word. */
export async function* readEvents(response) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** How long to wait before try number `tries` (from 0), in milliseconds; `chance` from 0 to 1 spreads many pages. */
export function pauseBefore(tries, chance) {
  const longest = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)];
  return Math.round(longest * (0.6 + 0.4 * chance));
}

/**
 * Read a stream of events and begin anew when it ends, until `signal` says so. `onEvent(event, data)` gets each;
 * `onState` is told `{state: "live"}`, `{state: "connecting", error, retryInMs}`, and `{state: "refused", error}` for a
 * 401 or 403, after which `follow` returns. A stream silent for `silenceMs` counts as gone.
 */
export async function follow(path, { key, onEvent, onState, signal, silenceMs = 15000 }) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    let error = null;
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop);
    let watchdog = setTimeout(stop, silenceMs);
    try {
      const response = await request(path, { key: key(), signal: attempt.signal, accept: "text/event-stream" });
      for await (const { event, data } of readEvents(response)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, silenceMs);
        if (tries !== -1) onState({ state: "live" });
        tries = -1; // what worked once may fail as often again
        onEvent(event, data);
      }
    } catch (caught) {
      if (signal.aborted) return;
      if (caught instanceof ApiError && (caught.status === 401 || caught.status === 403)) {
        onState({ state: "refused", error: caught });
        return;
      }
      error = caught instanceof ApiError ? caught : attempt.signal.aborted ? null : caught;
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted) return;
    const retryInMs = pauseBefore(Math.max(0, tries), Math.random());
    onState({ state: "connecting", error, retryInMs });
    await pause(retryInMs, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      globalThis.removeEventListener?.("online", done);
      resolve();
    }
    signal.addEventListener("abort", done);
    globalThis.addEventListener?.("online", done);
  });
}
