// Who looks: the form before a daemon that wants to know, and the dialog that lets one who looks act.

import { say } from "../common/ask.js";
import { byId, el, setProse, setText } from "../common/dom.js";
import { dashboardKey, forgetDashboardKey, isSendable, setDashboardKey } from "../common/keys.js";

const WHO = "It has API keys, so its dashboard is not for everyone who can connect.";
const NOT_A_KEY = "This is no key: it has blanks, line ends or letters that no key has.";

export class Session {
  #restart;
  #isTrying = false;

  /** `restart()` connects anew, with the key that there is then. */
  constructor(restart) {
    this.#restart = restart;
    byId("entry-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId("entry-key");
      const fault = this.#take(field.value);
      if (fault === null) field.value = "";
      else setProse(byId("entry-reason"), fault);
    });
    byId("session").addEventListener("click", () => this.#press());
  }

  /** The daemon does not let us look. True: it is tried again, without the key that was wrong. */
  refused(error) {
    const hadKey = dashboardKey() !== null;
    forgetDashboardKey();
    if (hadKey && !this.#isTrying) {
      say("The session is over, or the key is no longer known.", { kind: "bad", seconds: 12 });
      this.#restart(); // looking alone may need no key
      return true;
    }
    this.#isTrying = false;
    setProse(byId("entry-reason"), hadKey ? error.message : WHO);
    byId("session").hidden = true;
    byId("entry").hidden = false;
    byId("entry-key").focus();
    return false;
  }

  /** A snapshot came: we may look. */
  admitted(mayAct) {
    byId("entry").hidden = true;
    const button = byId("session");
    button.hidden = false;
    setText(button, mayAct ? "Sign out" : "Sign in to act");
    if (this.#isTrying && !mayAct) {
      forgetDashboardKey();
      say("With this key one may not act: it takes an admin key, or a session.", { kind: "bad", seconds: 12 });
    }
    this.#isTrying = false;
  }

  /** Ask for a key, since `reason` kept somebody from acting; other reasons than a missing key are only told. */
  ask(reason) {
    if (dashboardKey() !== null) say(reason);
    else this.#dialog();
  }

  #press() {
    if (dashboardKey() === null) {
      this.#dialog();
      return;
    }
    forgetDashboardKey();
    this.#restart();
  }

  #take(text) {
    const key = text.trim();
    if (!isSendable(key)) return NOT_A_KEY;
    setDashboardKey(key);
    this.#isTrying = true;
    this.#restart();
    return null;
  }

  #dialog() {
    const field = el("input", {
      id: "act-key",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
    });
    const fault = el("p", { class: "bad-text", role: "alert" });
    const close = el("button", {
      type: "button",
      class: "button",
      text: "Not now",
      on: { click: () => dialog.close() },
    });
    const form = el(
      "form",
      {},
      el("h2", { id: "ask-title", text: "To act, say who you are" }),
      el(
        "p",
        {},
        "On the daemon's machine, ",
        el("code", { text: "gemmad dashboard" }),
        " opens this page with a session of its own. Or paste an admin key, or the token of such a session:",
      ),
      el("label", { class: "field", for: "act-key" }, el("span", { text: "Admin key or session token" }), field),
      fault,
      el("p", { class: "small soft", text: "It is kept until this tab is closed, and sent to this daemon only." }),
      el(
        "div",
        { class: "buttons" },
        close,
        el("button", { type: "submit", class: "button primary", text: "Sign in" }),
      ),
    );
    const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title" }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const words = this.#take(field.value);
      if (words === null) dialog.close();
      else setText(fault, words);
    });
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  }
}
