/** Which model is asked: the names that the server has. */

import { ApiError } from "../common/api.js";
import { byId, el } from "../common/dom.js";
import { models } from "./server.js";

const AGAIN_MS = 5000;
const UNKNOWN = "No model known yet";

/** `onChoose(id)`: a person took another. `onKnown()`: there is more to show. `onRefused(error)`: a key is needed. */
export class ModelPicker {
  #select = byId("model");
  #known = [];
  #onKnown;
  #onRefused;

  constructor({ onChoose, onKnown, onRefused }) {
    this.#onKnown = onKnown;
    this.#onRefused = onRefused;
    this.#select.addEventListener("change", () => onChoose(this.#select.value));
  }

  /** Ask the server, again and again until it tells. */
  async load() {
    try {
      this.#known = await models();
      this.#onKnown();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) this.#onRefused(error);
      else setTimeout(() => this.load(), AGAIN_MS);
    }
  }

  /** The name that is sent: the wanted one if the server has it, else its first; the wanted one while none is known. */
  chosen(wanted) {
    const names = this.#known.map(({ id }) => id);
    return names.includes(wanted) ? wanted : (names[0] ?? wanted);
  }

  /** Whether it looks at pictures; so long as nobody knows, it does. */
  sees(wanted) {
    return this.#one(wanted)?.sees !== false;
  }

  show(wanted) {
    const names = this.#known.length > 0 ? this.#known.map(({ id }) => id) : [wanted || UNKNOWN];
    if (names.join("\n") !== [...this.#select.options].map(({ value }) => value).join("\n")) {
      this.#select.replaceChildren(...names.map((id) => el("option", { value: id, text: id })));
    }
    this.#select.value = this.chosen(wanted) || UNKNOWN;
    const context = this.#one(wanted)?.context;
    this.#select.title = context ? `${context} tokens of context` : "";
  }

  #one(wanted) {
    return this.#known.find(({ id }) => id === this.chosen(wanted));
  }
}
