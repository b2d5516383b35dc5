/** The pane with the system prompt, the parameters and the key. */

import { el } from "../common/dom.js";
import { apiKey, forgetApiKey } from "../common/keys.js";
import { PARAMETERS, readParameter } from "./parameters.js";

/** `onChange(changes)` is told new `{system}` or `{parameters}`; `onKey()` asks the person for a key; `onClose()`. */
export class SettingsPane {
  #system = el("textarea", {
    id: "system",
    rows: 5,
    placeholder: "Who the model is and how it answers",
    spellcheck: "true",
  });
  #fields = new Map();
  #keyWords = el("p", { class: "small soft" });
  #forget = el("button", { type: "button", class: "button tight", text: "Forget it" });
  #onChange;

  constructor(place, { onChange, onKey, onClose }) {
    this.#onChange = onChange;
    this.#system.addEventListener("input", () => onChange({ system: this.#system.value }));
    const reset = el("button", { type: "button", class: "button tight", text: "All as the server has it" });
    reset.addEventListener("click", () => {
      onChange({ parameters: {} });
      for (const { input } of this.#fields.values()) input.value = "";
      this.#check();
    });
    const close = el("button", { type: "button", class: "button tight settings-close", text: "Close" });
    close.addEventListener("click", onClose);
    const change = el("button", { type: "button", class: "button tight", text: "Give a key" });
    change.addEventListener("click", () => onKey().then(() => this.showKey()));
    this.#forget.addEventListener("click", () => {
      forgetApiKey();
      this.showKey();
      change.focus();
    });
    place.append(
      el("div", { class: "settings-head" }, el("h2", { text: "Settings" }), close),
      el("div", { class: "field" }, el("label", { for: "system", text: "System prompt" }), this.#system),
      el("h3", { text: "How replies are drawn" }),
      el("p", { class: "small soft", text: "An empty field leaves it to the server." }),
      el(
        "div",
        { class: "parameters" },
        PARAMETERS.map((parameter) => this.#field(parameter)),
      ),
      el("div", { class: "buttons" }, reset),
      el("h3", { text: "API key" }),
      this.#keyWords,
      el("div", { class: "buttons" }, change, this.#forget),
    );
    this.showKey();
  }

  /** Another conversation's. */
  show({ system, parameters }) {
    this.#system.value = system;
    for (const [name, { input }] of this.#fields) input.value = parameters[name] ?? "";
    this.#check();
  }

  showKey() {
    const has = apiKey() !== null;
    this.#keyWords.textContent = has ? "One is kept in this browser and sent to this server only." : "None is sent.";
    this.#forget.hidden = !has;
  }

  #field(parameter) {
    const { name, label, kind, hint } = parameter;
    const id = `parameter-${name}`;
    const described = `${id}-hint`;
    const input =
      kind === "lines"
        ? el("textarea", { id, rows: 2, "aria-describedby": described, spellcheck: "false" })
        : el("input", { id, type: "text", inputmode: "decimal", "aria-describedby": described, autocomplete: "off" });
    const words = el("p", { id: described, class: "small faint", text: hint });
    input.addEventListener("input", () => {
      this.#check();
      this.#onChange({ parameters: this.#typed() });
    });
    this.#fields.set(name, { parameter, input, words });
    return el("div", { class: `field of-${kind}` }, el("label", { for: id, text: label }), input, words);
  }

  #typed() {
    return Object.fromEntries([...this.#fields].map(([name, { input }]) => [name, input.value]));
  }

  #check() {
    for (const { parameter, input, words } of this.#fields.values()) {
      const { fault } = readParameter(parameter, input.value);
      input.setAttribute("aria-invalid", String(fault !== undefined));
      words.textContent = fault ?? parameter.hint;
      words.classList.toggle("bad-words", fault !== undefined);
    }
  }
}
