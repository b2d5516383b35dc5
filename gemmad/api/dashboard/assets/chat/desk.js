/** The conversations that this page has in hand, and the replies that are being written to them. */

import { assistantTurn, pictureIds, withChangedTurn, withTurn } from "./conversation.js";
import { dataUrlOf } from "./picture.js";
import { ask } from "./reply.js";
import { requestBody } from "./request.js";
import { pause, send } from "./server.js";

const KEEP_EVERY_MS = 2000;

/**
 * One reply at a time for each conversation. `onChange(id)`: a conversation is another now. `onText(id, turnId, text)`:
 * a reply has grown to `text`. `onEnd(id, turnId)`: it is whole. `onFull()`: the browser has no room left.
 */
export class Desk {
  #shelf;
  #album;
  #hooks;
  #open = new Map();
  #runs = new Map();

  constructor({ shelf, album }, hooks) {
    this.#shelf = shelf;
    this.#album = album;
    this.#hooks = hooks;
    addEventListener("pagehide", () => this.#keepRuns());
    setInterval(() => this.#keepRuns(), KEEP_EVERY_MS);
  }

  get running() {
    return new Set(this.#runs.keys());
  }

  /** `{turnId, wait}` of the reply that is being written, or null. */
  run(id) {
    return this.#runs.get(id) ?? null;
  }

  /** The conversation with all text there is now; null if there is none. */
  get(id) {
    const conversation = this.#open.get(id) ?? this.#shelf.one(id);
    const run = this.#runs.get(id);
    return conversation !== null && run !== undefined ? withText(conversation, run) : conversation;
  }

  /** Take and keep another state of a conversation. One without a turn is kept only if it was before. */
  set(conversation) {
    this.#open.set(conversation.id, conversation);
    this.#keep(conversation);
    this.#hooks.onChange(conversation.id);
  }

  /** Another tab has changed it. */
  forget(id) {
    if (!this.#runs.has(id)) this.#open.delete(id);
  }

  drop(id) {
    this.stop(id);
    this.#open.delete(id);
    this.#shelf.drop(id);
  }

  stop(id) {
    this.#runs.get(id)?.abort.abort();
  }

  /** The data: URLs of all pictures that are still kept, by id. */
  async dataUrls(conversation) {
    const urls = new Map();
    for (const id of pictureIds(conversation)) {
      const blob = await this.#album.one(id);
      const url = blob === null ? null : await dataUrlOf(blob);
      if (url !== null) urls.set(id, url);
    }
    return urls;
  }

  /**
   * Ask the model for what comes after a conversation, or, with `goOn`, for the rest of its last turn. Resolves to the
   * fault, null if there was none.
   */
  async answer(conversation, { goOn = false } = {}) {
    const asked = goOn ? conversation : withTurn(conversation, assistantTurn(), Date.now());
    const { id } = conversation;
    const turn = asked.turns.at(-1);
    const run = { turnId: turn.id, text: turn.text, wait: null, abort: new AbortController() };
    this.stop(id);
    this.#runs.set(id, run);
    this.set(asked);
    const body = requestBody(conversation, { dataUrls: await this.dataUrls(conversation), goOn });
    const reply = await ask(body, {
      send,
      pause,
      signal: run.abort.signal,
      clock: () => performance.now() / 1000,
      onText: (piece) => this.#grow(id, run, piece),
      onWait: (words, seconds) => this.#wait(id, run, words, seconds),
    });
    this.#finish(id, run, reply);
    return reply.fault;
  }

  #grow(id, run, piece) {
    run.text += piece;
    this.#hooks.onText(id, run.turnId, run.text);
  }

  #wait(id, run, words, seconds) {
    run.wait = words === null ? null : `${words}: next try in ${seconds} s`;
    this.#hooks.onChange(id);
  }

  #finish(id, run, reply) {
    if (this.#runs.get(id) === run) this.#runs.delete(id);
    const conversation = this.#open.get(id);
    if (conversation?.turns.some((turn) => turn.id === run.turnId)) {
      this.set(withChangedTurn(conversation, run.turnId, { text: run.text, reply }, Date.now()));
      this.#hooks.onEnd(id, run.turnId);
    } else this.#hooks.onChange(id);
  }

  #keepRuns() {
    for (const [id, run] of this.#runs) {
      const conversation = this.#open.get(id);
      if (conversation !== undefined) this.#keep(withText(conversation, run));
    }
  }

  #keep(conversation) {
    const worthIt = conversation.turns.length > 0 || this.#shelf.one(conversation.id) !== null;
    if (worthIt && !this.#shelf.keep(conversation)) this.#hooks.onFull();
  }
}

function withText(conversation, run) {
  return withChangedTurn(conversation, run.turnId, { text: run.text }, conversation.updated);
}
