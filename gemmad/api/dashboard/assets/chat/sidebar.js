/** The list of chats. */

import { byId, el, keyed, setAttribute, setText } from "../common/dom.js";
import { icon } from "./icons.js";

/** `onOpen(id)`, `onDelete(id)`, `onNew()`, `onExport()` and `onImport(text)` are told what a person asks for. */
export class Sidebar {
  #list = byId("chats");
  #onOpen;
  #onDelete;

  constructor({ onOpen, onDelete, onNew, onExport, onImport }) {
    this.#onOpen = onOpen;
    this.#onDelete = onDelete;
    byId("new-chat").addEventListener("click", onNew);
    byId("export-all").addEventListener("click", onExport);
    const file = byId("import-file");
    byId("import").addEventListener("click", () => file.click());
    file.addEventListener("change", async () => {
      const [chosen] = file.files;
      const text = chosen === undefined ? null : await chosen.text();
      file.value = "";
      if (text !== null) onImport(text);
    });
  }

  /** `running`: ids of those whose reply is being written. */
  show(conversations, { current, running }) {
    byId("export-all").hidden = conversations.length === 0;
    keyed(this.#list, conversations, {
      key: ({ id }) => id,
      create: ({ id }) => this.#made(id),
      update: (node, { id, title }) => {
        const open = node.querySelector(".chat-open");
        setText(open.firstElementChild, title);
        setAttribute(open, "title", title);
        setAttribute(open, "aria-current", id === current ? "true" : null);
        setText(open.lastElementChild, running.has(id) ? " (a reply is being written)" : "");
        node.classList.toggle("running", running.has(id));
        setAttribute(node.querySelector(".chat-delete"), "aria-label", `Delete ${title}`);
      },
    });
  }

  #made(id) {
    const open = el(
      "button",
      { type: "button", class: "chat-open" },
      el("span", { class: "chat-title" }),
      el("span", { class: "off-screen" }),
    );
    const remove = el("button", { type: "button", class: "chat-delete", title: "Delete" }, icon("trash"));
    open.addEventListener("click", () => this.#onOpen(id));
    remove.addEventListener("click", () => this.#onDelete(id));
    return el("li", {}, open, remove);
  }
}
