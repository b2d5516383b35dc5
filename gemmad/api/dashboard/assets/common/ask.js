// A question that has to be answered before something is done that hurts, and a word about what was done.

import { el } from "./dom.js";

/**
 * Ask in a modal dialog; resolves to whether the person said yes. `lines` are paragraphs, as text or as elements.
 * Escape and the other button (none if `no` is null) mean no, and the focus goes back to where it was.
 */
export function ask({ title, lines, yes, no = "Not now", danger = false }) {
  return new Promise((resolve) => {
    const refuse = no === null ? null : el("button", { type: "submit", value: "no", class: "button", text: no });
    const agree = el("button", {
      type: "submit",
      value: "yes",
      class: danger ? "button danger" : "button primary",
      text: yes,
    });
    const dialog = el(
      "dialog",
      { class: "ask", "aria-labelledby": "ask-title" },
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "ask-title", text: title }),
        lines.map((line) => (typeof line === "string" ? el("p", { text: line }) : line)),
        el("div", { class: "buttons" }, refuse, agree),
      ),
    );
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
    ((danger && refuse) || agree).focus();
  });
}

/** Say something for some seconds at the page's edge; screen readers hear it once. `kind`: ok, bad or empty. */
export function say(text, { kind = "", seconds = 6 } = {}) {
  const place = document.getElementById("notices") ?? makePlace();
  const notice = el("p", { class: `notice ${kind}`.trim(), text });
  place.append(notice);
  while (place.children.length > 4) place.firstElementChild.remove();
  setTimeout(() => notice.remove(), seconds * 1000);
}

function makePlace() {
  const place = el("div", { id: "notices", role: "status", "aria-live": "polite" });
  document.body.append(place);
  return place;
}
