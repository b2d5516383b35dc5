/** The turns of a conversation on the page. It shows and reports; what is done about it is decided in main.js. */

import { copy, el, keyed, setText } from "../common/dom.js";
import { mayContinue } from "./conversation.js";
import { headingOf } from "./fault.js";
import { icon } from "./icons.js";
import { described } from "./picture.js";
import { Prose } from "./prose.js";

const NEAR_END_PIXELS = 80;
const MARKS = {
  length: "Ended at its limit of tokens.",
  stopped: "Stopped before its end.",
  fault: "Cut off before its end.",
  tool_calls: "Ended with a call of a function.",
  content_filter: "Ended by a filter.",
};

/** `act(name, turn)` is told what a person asks for: edit, delete, again, goOn. `picture(id)` gives a blob or null. */
export class Transcript {
  #list;
  #scroller;
  #toEnd;
  #act;
  #picture;
  #proses = new WeakMap();
  #shown = new WeakMap();
  #addresses = new Map();
  #follows = true;

  constructor({ list, scroller, toEnd }, { act, picture }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#toEnd = toEnd;
    this.#act = act;
    this.#picture = picture;
    scroller.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    toEnd.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#keepUp()).observe(scroller);
  }

  /** All turns; what has not changed stays as it is. `busy`: the id of the one being written; `wait`: why it waits. */
  show(conversation, { busy = null, wait = null, model = "" } = {}) {
    keyed(this.#list, conversation.turns, {
      key: (turn) => turn.id,
      create: (turn) => this.#made(turn),
      update: (node, turn) => this.#update(node, turn, { busy: turn.id === busy, wait, model, calm: busy === null }),
    });
    this.#forgetPictures(conversation);
    this.#keepUp();
  }

  /** One more piece of a reply: cheap, as often as it comes. */
  grow(turnId, text) {
    const node = this.#list.querySelector(`[data-key="${CSS.escape(turnId)}"]`);
    if (node === null) return;
    node.classList.remove("thinking");
    this.#proses.get(node).grow(text);
  }

  toEnd() {
    this.#follows = true;
    this.#keepUp();
  }

  #made(turn) {
    const mine = turn.role === "user";
    const who = el("h2", { class: "who", text: mine ? "You" : "" });
    const body = el("div", { class: mine ? "said" : "prose" });
    const node = el(
      "li",
      { class: `turn ${turn.role}` },
      who,
      el("ul", { class: "pictures", "aria-label": "Pictures", hidden: true }),
      body,
      el("p", { class: "waiting small", hidden: true }),
      el("div", { class: "fault", hidden: true }),
      el("div", { class: "turn-end" }, el("p", { class: "figures small faint" }), el("div", { class: "acts" })),
    );
    if (!mine) this.#proses.set(node, new Prose(body, { afterDrawing: () => this.#keepUp() }));
    return node;
  }

  #update(node, turn, { busy, wait, model, calm }) {
    const state = JSON.stringify([turn.text.length, turn.reply, turn.pictures.length, busy, wait, calm, model]);
    const before = this.#shown.get(node);
    if (before?.turn === turn && before.state === state) return;
    this.#shown.set(node, { turn, state });
    if (turn.role === "user") setText(node.querySelector(".said"), turn.text);
    else this.#showReply(node, turn, { busy, model });
    this.#showPictures(node.querySelector(".pictures"), turn.pictures, before?.turn.pictures);
    const waiting = node.querySelector(".waiting");
    waiting.hidden = !(busy && wait);
    setText(waiting, busy ? wait : "");
    this.#showFault(node.querySelector(".fault"), turn, busy);
    setText(node.querySelector(".figures"), busy ? "" : figures(turn.reply));
    node.querySelector(".acts").replaceChildren(...(busy ? [] : this.#acts(turn, calm)));
  }

  #showReply(node, turn, { busy, model }) {
    setText(node.querySelector(".who"), turn.reply?.model || model || "Model");
    node.classList.toggle("busy", busy);
    node.classList.toggle("thinking", busy && turn.text === "");
    node.setAttribute("aria-busy", String(busy));
    const prose = this.#proses.get(node);
    if (busy) prose.grow(turn.text);
    else prose.finish(turn.text);
  }

  #showPictures(list, pictures, before) {
    if (pictures === before) return;
    list.hidden = pictures.length === 0;
    keyed(list, pictures, {
      key: (picture) => picture.id,
      create: (picture) => this.#thumbnail(picture),
      update: () => {},
    });
  }

  #thumbnail(picture) {
    const item = el("li");
    this.#picture(picture.id).then((blob) => {
      if (blob === null) {
        item.append(el("span", { class: "lost small", text: `${picture.name}: no longer kept in this browser` }));
        return;
      }
      const address = URL.createObjectURL(blob);
      this.#addresses.set(picture.id, address);
      const image = el("img", { src: address, alt: picture.name, width: picture.width, height: picture.height });
      image.addEventListener("load", () => this.#keepUp());
      item.append(el("a", { href: address, target: "_blank", rel: "noopener", title: described(picture) }, image));
    });
    return item;
  }

  #showFault(place, turn, busy) {
    const fault = busy ? null : turn.reply?.fault;
    place.hidden = !fault;
    if (!fault) return;
    place.replaceChildren(
      el("strong", { text: headingOf(fault) }),
      el("p", { text: fault.message }),
      ...(fault.requestId ? [el("p", { class: "small soft", text: `Request ${fault.requestId}` })] : []),
      this.#button("again", "Try again", turn, { class: "button tight" }),
    );
  }

  #acts(turn, calm) {
    const copier = el(
      "button",
      { type: "button", class: "button quiet tight", "aria-label": "Copy the message", title: "Copy" },
      icon("copy"),
    );
    copier.addEventListener("click", async () => {
      const done = await copy(turn.text);
      copier.classList.toggle("done", done);
      setTimeout(() => copier.classList.remove("done"), 1500);
    });
    const acts = turn.text === "" ? [] : [copier];
    if (!calm) return acts;
    if (turn.role === "user") acts.push(this.#button("edit", "Edit", turn, { icon: "edit" }));
    else acts.push(this.#button("again", "Regenerate", turn, { icon: "again" }));
    if (mayContinue(turn)) acts.push(this.#button("goOn", "Continue", turn, { icon: "more", words: true }));
    acts.push(this.#button("delete", "Delete", turn, { icon: "trash" }));
    return acts;
  }

  #button(name, words, turn, { icon: drawing = null, words: told = drawing === null, ...props } = {}) {
    const button = el("button", {
      type: "button",
      class: "button quiet tight",
      title: words,
      "aria-label": words,
      dataset: { act: name },
      ...props,
    });
    if (drawing !== null) button.append(icon(drawing));
    if (told) button.append(words);
    button.addEventListener("click", () => this.#act(name, turn));
    return button;
  }

  #forgetPictures(conversation) {
    const used = new Set(conversation.turns.flatMap((turn) => turn.pictures.map(({ id }) => id)));
    for (const [id, address] of this.#addresses) {
      if (used.has(id)) continue;
      URL.revokeObjectURL(address);
      this.#addresses.delete(id);
    }
  }

  #noteScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_END_PIXELS;
    this.#toEnd.hidden = this.#follows;
  }

  #keepUp() {
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#noteScroll();
  }
}

/** "24 prompt + 57 reply tokens · 31.4 tokens/s · first token after 0.21 s", and how it ended if not by itself. */
export function figures(reply) {
  if (reply === null) return "";
  const parts = [];
  if (reply.ended in MARKS && !(reply.ended === "fault" && reply.firstSeconds === null)) parts.push(MARKS[reply.ended]);
  if (reply.usage) parts.push(`${reply.usage.prompt} prompt + ${reply.usage.completion} reply tokens`);
  if (reply.tokensPerSecond !== null) parts.push(`${reply.tokensPerSecond.toFixed(1)} tokens/s`);
  if (reply.firstSeconds !== null) parts.push(`first token after ${reply.firstSeconds.toFixed(2)} s`);
  return parts.join(" · ");
}
