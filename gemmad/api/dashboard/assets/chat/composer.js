/** The box that a person writes in: words, and pictures by paste, drop and button. */

import { say } from "../common/ask.js";
import { byId, el, keyed } from "../common/dom.js";
import { icon } from "./icons.js";
import { MOST_PICTURES, described, takePicture } from "./picture.js";

const TALLEST = 0.4;

/** `onSend()`, `onStop()`, `onCancelEdit()` and `onChange()` are told; `keep(picture, blob)` puts a picture away. */
export class Composer {
  #words = byId("words");
  #previews = byId("previews");
  #pictures = [];
  #addresses = new Map();
  #taking = 0;
  #keep;
  #onSend;
  #onChange;

  constructor({ onSend, onStop, onCancelEdit, onChange, keep }) {
    this.#keep = keep;
    this.#onSend = onSend;
    this.#onChange = onChange;
    byId("attach").append(icon("attach"));
    byId("send").append(icon("send"));
    byId("stop").append(icon("stop"));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("stop").addEventListener("click", onStop);
    byId("cancel-edit").addEventListener("click", onCancelEdit);
    this.#words.addEventListener("input", () => this.#changed());
    this.#words.addEventListener("keydown", (event) => this.#key(event));
    this.#bindFiles();
    this.#bindDrop();
  }

  /** `{text, pictures}` as it stands. */
  get draft() {
    return { text: this.#words.value, pictures: this.#pictures };
  }

  get isEmpty() {
    return this.#words.value.trim() === "" && this.#pictures.length === 0;
  }

  /** Put other words and pictures in; `blobs` resolves a picture's id. */
  async fill({ text, pictures }, blobs) {
    this.#words.value = text;
    this.#pictures = [];
    this.#changed();
    for (const picture of pictures) {
      const blob = await blobs(picture.id);
      if (blob !== null) this.#add(picture, blob);
    }
  }

  clear() {
    this.#words.value = "";
    this.#pictures = [];
    this.#changed();
  }

  focus() {
    this.#words.focus();
  }

  /** What the buttons are for now. */
  show({ busy, editing }) {
    const focused = document.activeElement;
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    if (focused === byId(busy ? "send" : "stop")) this.focus(); // a hidden button would drop the focus
    byId("editing").hidden = !editing;
    this.#words.placeholder = editing ? "Your message" : "Message";
  }

  choosePictures() {
    byId("picture-files").click();
  }

  #send() {
    if (this.#taking > 0) say("A picture is still being read.");
    else if (!this.isEmpty) this.#onSend();
  }

  #key(event) {
    // while an input method composes, Enter picks a word
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#send();
  }

  #changed() {
    this.#words.style.height = "auto";
    this.#words.style.height = `${Math.min(this.#words.scrollHeight + 2, innerHeight * TALLEST)}px`;
    this.#showPreviews();
    this.#onChange();
  }

  #bindFiles() {
    const files = byId("picture-files");
    byId("attach").addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      this.#take([...files.files]);
      files.value = "";
    });
    document.addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (pasted.length === 0 || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.#take(pasted);
    });
  }

  #bindDrop() {
    const target = byId("drop-target");
    const withFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => {
      if (withFiles(event)) target.hidden = false;
    });
    document.addEventListener("dragover", (event) => {
      if (withFiles(event)) event.preventDefault();
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) target.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      target.hidden = true;
      if (!withFiles(event)) return;
      event.preventDefault();
      this.#take([...event.dataTransfer.files]);
    });
  }

  async #take(files) {
    this.#taking += 1;
    try {
      for (const file of files) {
        if (this.#pictures.length >= MOST_PICTURES) {
          say(`A message takes ${MOST_PICTURES} pictures at most.`, { kind: "bad" });
          break;
        }
        await this.#takeOne(file);
      }
    } finally {
      this.#taking -= 1;
      this.focus();
    }
  }

  async #takeOne(file) {
    try {
      const { picture, blob } = await takePicture(file);
      await this.#keep(picture, blob);
      this.#add(picture, blob);
      if (blob.size !== file.size) say(`${picture.name} was made to fit: ${described(picture)}.`);
    } catch (error) {
      say(error.message, { kind: "bad" });
    }
  }

  #add(picture, blob) {
    this.#addresses.set(picture.id, URL.createObjectURL(blob));
    this.#pictures = [...this.#pictures, picture];
    this.#changed();
  }

  #remove(picture) {
    this.#pictures = this.#pictures.filter(({ id }) => id !== picture.id);
    this.#changed();
    this.focus();
  }

  #showPreviews() {
    this.#previews.hidden = this.#pictures.length === 0;
    keyed(this.#previews, this.#pictures, {
      key: ({ id }) => id,
      create: (picture) => {
        const remove = el(
          "button",
          { type: "button", class: "remove", "aria-label": `Remove ${picture.name}`, title: "Remove" },
          icon("cross"),
        );
        remove.addEventListener("click", () => this.#remove(picture));
        return el(
          "li",
          { title: described(picture) },
          el("img", { src: this.#addresses.get(picture.id), alt: picture.name }),
          remove,
        );
      },
      update: () => {},
    });
    const shown = new Set(this.#pictures.map(({ id }) => id));
    for (const [id, address] of this.#addresses) {
      if (shown.has(id)) continue;
      URL.revokeObjectURL(address);
      this.#addresses.delete(id);
    }
  }
}
