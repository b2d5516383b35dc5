/** A word about what was just taken away, and for some seconds the way back. */

import { say } from "../common/ask.js";
import { el } from "../common/dom.js";

const OFFER_SECONDS = 12;

let offer = null;

/** `undo()` is called once at most, and never once there is another offer, or `withdrawUndo`. */
export function offerUndo(words, undo) {
  withdrawUndo();
  say(words, { seconds: OFFER_SECONDS });
  offer = document.getElementById("notices").lastElementChild;
  const button = el("button", { type: "button", class: "button quiet tight", text: "Undo" });
  button.addEventListener("click", () => {
    withdrawUndo();
    undo();
  });
  offer.append(" ", button);
}

/** What came since would be lost with it. */
export function withdrawUndo() {
  offer?.remove();
  offer = null;
}
