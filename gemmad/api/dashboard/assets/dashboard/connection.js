// The stream of events, as long as somebody looks.
//
// A page that nobody sees lets go of it after a while: a browser has six connections to one host for all of its tabs,
// and a daemon has better things to do.

import { follow } from "../common/events.js";
import { dashboardKey } from "../common/keys.js";

const UNSEEN_MS = 10000;

export class Connection {
  #onEvent;
  #onState;
  #stream = null;
  #unseen = 0;

  /** `onEvent(event, value)`; `onState` as of `follow`, and `{state: "paused"}`. */
  constructor({ onEvent, onState }) {
    this.#onEvent = onEvent;
    this.#onState = onState;
    document.addEventListener("visibilitychange", () => this.#look());
  }

  /** Begin, or begin anew with the key that there is now. */
  start() {
    this.#stop();
    if (document.hidden) return;
    const stream = new AbortController();
    this.#stream = stream;
    follow("dashboard/events", {
      key: dashboardKey,
      signal: stream.signal,
      onEvent: (event, data) => {
        if (this.#stream === stream) this.#onEvent(event, JSON.parse(data));
      },
      onState: (state) => {
        if (this.#stream !== stream) return;
        if (state.state === "refused") this.#stream = null;
        this.#onState(state);
      },
    });
  }

  #stop() {
    this.#stream?.abort();
    this.#stream = null;
  }

  #look() {
    clearTimeout(this.#unseen);
    if (!document.hidden) {
      if (this.#stream === null) this.start();
      return;
    }
    this.#unseen = setTimeout(() => {
      if (this.#stream === null) return;
      this.#stop();
      this.#onState({ state: "paused" });
    }, UNSEEN_MS);
  }
}
