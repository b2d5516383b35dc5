/** The panes at both sides: beside the talk where there is room, over it on a phone. */

import { byId } from "../common/dom.js";

const PHONE = "(max-width: 56rem)";

/** Escape closes what lies over the talk, and the focus goes back to the button that opened it. */
export class Drawers {
  #sidebar = { pane: byId("sidebar"), opener: byId("open-sidebar"), first: byId("new-chat") };
  #settings = { pane: byId("settings"), opener: byId("open-settings") };
  #narrow = matchMedia(PHONE);

  constructor() {
    for (const drawer of [this.#sidebar, this.#settings]) {
      drawer.opener.addEventListener("click", () => this.#toggle(drawer));
      drawer.pane.addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || !(this.#narrow.matches || drawer === this.#settings)) return;
        event.stopPropagation();
        this.#set(drawer, false);
      });
    }
    this.#narrow.addEventListener("change", () => this.#arrange());
    byId("main").addEventListener("pointerdown", (event) => {
      if (!this.#narrow.matches || !this.#isOpen(this.#sidebar) || this.#sidebar.opener.contains(event.target)) return;
      this.#set(this.#sidebar, false);
    });
    this.#arrange();
  }

  /** Something was chosen in the sidebar. */
  leaveSidebar() {
    if (this.#narrow.matches) this.#set(this.#sidebar, false);
  }

  openSettings() {
    this.#set(this.#settings, true);
  }

  closeSettings() {
    this.#set(this.#settings, false);
  }

  #arrange() {
    this.#sidebar.pane.hidden = this.#narrow.matches;
    this.#tell(this.#sidebar);
  }

  #toggle(drawer) {
    this.#set(drawer, !this.#isOpen(drawer));
  }

  #isOpen(drawer) {
    return !drawer.pane.hidden;
  }

  #set(drawer, open) {
    if (open === this.#isOpen(drawer)) return;
    drawer.pane.hidden = !open;
    this.#tell(drawer);
    if (open) (drawer.first ?? drawer.pane.querySelector("textarea, input, button")).focus();
    else drawer.opener.focus();
  }

  #tell(drawer) {
    drawer.opener.setAttribute("aria-expanded", String(this.#isOpen(drawer)));
  }
}
