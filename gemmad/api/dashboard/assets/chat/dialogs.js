/** Questions and answers in dialogs: the key, and the next request as code. */

import { bindCopy, el } from "../common/dom.js";
import { isSendable, setApiKey } from "../common/keys.js";
import { asCurl, asPython } from "./snippets.js";

const LONG_URL = /(data:image\/\w+;base64,[A-Za-z0-9+/]{24})[A-Za-z0-9+/=]{40,}/g;

/** Ask for an API key and keep it; resolves to whether one was given. `reason` is why it is asked for. */
export function askForKey(reason) {
  const input = el("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-fault",
  });
  const remember = el("input", { id: "remember", type: "checkbox" });
  const fault = el("p", { id: "key-fault", class: "small bad-words" });
  const dialog = el(
    "dialog",
    { class: "ask", "aria-labelledby": "key-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "key-title", text: "An API key" }),
      el("p", { text: reason }),
      el("div", { class: "field" }, el("label", { for: "key", text: "Key" }), input, fault),
      el("label", { class: "check" }, remember, " Remember it in this browser"),
      el(
        "div",
        { class: "buttons" },
        el("button", { type: "submit", value: "no", formnovalidate: true, class: "button", text: "Not now" }),
        el("button", { type: "submit", value: "yes", class: "button primary", text: "Use it" }),
      ),
    ),
  );
  dialog.querySelector("form").addEventListener("submit", (event) => {
    if (event.submitter?.value === "no" || isSendable(input.value.trim())) return;
    event.preventDefault();
    fault.textContent = "A key has no spaces and only letters, digits and signs of ASCII.";
    input.focus();
  });
  // without this, Enter would press the first button
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    dialog.querySelector("form").requestSubmit(dialog.querySelector('[value="yes"]'));
  });
  return opened(dialog, input).then(() => {
    if (dialog.returnValue !== "yes") return false;
    setApiKey(input.value.trim(), { remember: remember.checked });
    return true;
  });
}

/** Show a request as curl and as Python. */
export function showCode(body, { url, base, withKey, note }) {
  const texts = { curl: asCurl(body, { url, withKey }), python: asPython(body, { base, withKey }) };
  const place = el("pre", { class: "snippet", tabindex: 0, role: "region", "aria-label": "The request" });
  const choices = el("div", { class: "segmented", role: "group", "aria-label": "Language" });
  const copier = el("button", { type: "button", class: "button primary", text: "Copy" });
  let chosen = "curl";
  const show = (name) => {
    chosen = name;
    place.textContent = texts[name].replace(LONG_URL, "$1…");
    for (const button of choices.children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
  };
  for (const [name, words] of [
    ["curl", "curl"],
    ["python", "Python"],
  ]) {
    choices.append(el("button", { type: "button", text: words, dataset: { name }, on: { click: () => show(name) } }));
  }
  bindCopy(copier, () => texts[chosen]);
  show("curl");
  const shortened = texts.curl.length !== place.textContent.length;
  const dialog = el(
    "dialog",
    { class: "ask code-dialog", "aria-labelledby": "code-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "code-title", text: "The request as code" }),
      el("p", { class: "soft", text: note }),
      choices,
      place,
      shortened
        ? el("p", { class: "small soft", text: "Pictures are shortened here; the copy has them whole." })
        : null,
      withKey ? el("p", { class: "small soft", text: "The key comes from the variable GEMMAD_API_KEY." }) : null,
      el("div", { class: "buttons" }, el("button", { type: "submit", class: "button", text: "Close" }), copier),
    ),
  );
  return opened(dialog, copier);
}

function opened(dialog, focused) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
    focused.focus();
  });
}
