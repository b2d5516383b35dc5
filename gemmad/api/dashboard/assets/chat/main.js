/** The chat page: what a person does goes to the desk, what changes there is shown. */

import { say } from "../common/ask.js";
import { byId, el, setText } from "../common/dom.js";
import { apiKey } from "../common/keys.js";
import { bindThemeSwitch } from "../common/theme.js";
import { Composer } from "./composer.js";
import * as talk from "./conversation.js";
import { Desk } from "./desk.js";
import { askForKey } from "./dialogs.js";
import { Drawers } from "./drawers.js";
import { headingOf } from "./fault.js";
import { exportChats, importChats } from "./files.js";
import { icon } from "./icons.js";
import { Album, Shelf, storage } from "./keeping.js";
import { ModelPicker } from "./models.js";
import { showNextRequest } from "./next.js";
import { readParameters } from "./parameters.js";
import { SettingsPane } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Transcript } from "./transcript.js";
import { offerUndo, withdrawUndo } from "./undo.js";

const ANNOUNCED_CHARACTERS = 1500;
const STARTERS = ["Count to 10.", "Tell me a story."];
const KEY_NEEDED = "This server replies only to those who have a key.";
const KEY_WORDS = "Replies are asked for with this key.";
const PICTURE_STARTER = "What is in this picture?";

class Page {
  #shelf = new Shelf(storage());
  #album = new Album();
  #desk = new Desk(
    { shelf: this.#shelf, album: this.#album },
    {
      onChange: (id) => this.#changed(id),
      onText: (id, turnId, text) => id === this.#id && this.#transcript.grow(turnId, text),
      onEnd: (id, turnId) => this.#announce(id, turnId),
      onFull: () => this.#full(),
    },
  );
  #drawers = new Drawers();
  #transcript = new Transcript(
    { list: byId("turns"), scroller: byId("scroller"), toEnd: byId("to-end") },
    { act: (name, turn) => this.#act(name, turn), picture: (id) => this.#album.one(id) },
  );
  #composer = new Composer({
    onSend: () => this.#send(),
    onStop: () => this.#desk.stop(this.#id),
    onCancelEdit: () => this.#cancelEdit(),
    onChange: () => {},
    keep: (picture, blob) => this.#album.keep(picture.id, blob),
  });
  #settings = new SettingsPane(byId("settings"), {
    onChange: (changes) => this.#desk.set(talk.withSettings(this.#conversation, changes, Date.now())),
    onKey: () => this.#giveKey(null),
    onClose: () => this.#drawers.closeSettings(),
  });
  #sidebar = new Sidebar({
    onOpen: (id) => this.#choose(id),
    onDelete: (id) => this.#deleteChat(id),
    onNew: () => this.#choose(this.#fresh().id),
    onExport: () => exportChats(this.#shelf.all(), { desk: this.#desk }),
    onImport: async (text) => this.#chooseAny(await importChats(text, { desk: this.#desk, album: this.#album })),
  });
  #models = new ModelPicker({
    onChoose: (model) => this.#desk.set(talk.withSettings(this.#conversation, { model }, Date.now())),
    onKnown: () => this.#show(),
    onRefused: (error) => this.#giveKey(error),
  });
  #id = "";
  #drafts = new Map();
  /** `{turnId, former}`: the earlier message that is changed, and the draft that it took the place of. */
  #editing = null;
  #toldFull = false;

  begin() {
    bindThemeSwitch(byId("theme"));
    byId("open-sidebar").append(icon("menu"));
    byId("as-code").prepend(icon("code"));
    byId("open-settings").prepend(icon("settings"));
    this.#bindHead();
    this.#bindKeys();
    this.#makeStarters();
    addEventListener("storage", (event) => this.#changedElsewhere(Shelf.idIn(event.key)));
    addEventListener("hashchange", () => this.#open(location.hash.slice(1)));
    const kept = this.#shelf.all();
    this.#album.sweep(new Set(kept.flatMap(talk.pictureIds)));
    this.#open(location.hash.slice(1) || kept[0]?.id || "");
    this.#composer.focus();
    this.#models.load();
  }

  get #conversation() {
    return this.#desk.get(this.#id);
  }

  // -- which chat

  #fresh() {
    const settings = this.#id === "" ? talk.noSettings() : this.#conversation.settings;
    const conversation = talk.newConversation({ ...settings, system: "" }, { now: Date.now() });
    this.#desk.set(conversation);
    return conversation;
  }

  #choose(id) {
    this.#drawers.leaveSidebar();
    if (id !== this.#id) location.hash = id;
    this.#composer.focus();
  }

  #chooseAny(id) {
    if (id !== null) this.#choose(id);
  }

  #open(id) {
    if (id === this.#id && id !== "") return;
    const found = this.#desk.get(id) ?? this.#fresh();
    if (this.#editing !== null) this.#cancelEdit();
    if (this.#id !== "") this.#drafts.set(this.#id, this.#composer.draft);
    this.#id = found.id;
    history.replaceState(null, "", `#${found.id}`);
    this.#composer.fill(this.#drafts.get(found.id) ?? { text: "", pictures: [] }, (picture) =>
      this.#album.one(picture),
    );
    this.#settings.show(found.settings);
    this.#show();
    this.#transcript.toEnd();
  }

  #deleteChat(id) {
    const gone = this.#desk.get(id);
    this.#desk.drop(id);
    if (id === this.#id) {
      this.#id = "";
      this.#open(this.#shelf.all()[0]?.id ?? "");
    }
    this.#show();
    byId("new-chat").focus();
    offerUndo(`“${gone.title}” was deleted.`, () => {
      this.#desk.set(gone);
      this.#choose(id);
    });
  }

  #changedElsewhere(id) {
    if (id === null) return;
    this.#desk.forget(id);
    if (id === this.#id && this.#conversation === null) {
      this.#id = "";
      this.#open("");
    }
    this.#show();
  }

  // -- what is shown

  #changed(id) {
    if (this.#id === "") return;
    if (id === this.#id) this.#show();
    else this.#showSidebar();
  }

  #show() {
    const conversation = this.#conversation;
    const run = this.#desk.run(this.#id);
    this.#showSidebar();
    document.title = `${conversation.title} – gemmad chat`;
    if (document.activeElement !== byId("title")) byId("title").value = conversation.title;
    byId("empty").hidden = conversation.turns.length > 0;
    const model = this.#showModel(conversation.settings);
    this.#transcript.show(conversation, { busy: run?.turnId ?? null, wait: run?.wait ?? null, model });
    this.#composer.show({ busy: run !== null, editing: this.#editing !== null });
  }

  #showSidebar() {
    this.#sidebar.show(this.#shelf.all(), { current: this.#id, running: this.#desk.running });
  }

  #showModel({ model }) {
    const name = this.#models.chosen(model);
    this.#models.show(model);
    setText(byId("empty-title"), name ? `Chat with ${name}` : "What shall it be?");
    byId("attach").hidden = !this.#models.sees(model);
    return name;
  }

  #announce(id, turnId) {
    if (id !== this.#id) return;
    const { text, reply } = this.#conversation.turns.find((turn) => turn.id === turnId);
    byId("announcer").textContent = text === "" ? "" : `Reply: ${text.slice(0, ANNOUNCED_CHARACTERS)}`;
    byId("alarm").textContent = reply.fault === null ? "" : `${headingOf(reply.fault)}. ${reply.fault.message}`;
  }

  #full() {
    if (this.#toldFull) return;
    this.#toldFull = true;
    say("This browser has no room left: this chat is lost when the page is closed. Export it, or delete others.", {
      kind: "bad",
      seconds: 20,
    });
  }

  // -- what a person does

  async #send() {
    if (this.#desk.run(this.#id) !== null || !this.#mayAsk()) return;
    withdrawUndo();
    const { text, pictures } = this.#composer.draft;
    const whole = this.#conversation;
    const kept = this.#editing === null ? whole : talk.before(whole, this.#editing.turnId, Date.now());
    if (this.#editing !== null) this.#offerBack(whole, "What followed was replaced.");
    this.#composer.clear();
    this.#cancelEdit();
    this.#composer.focus();
    this.#transcript.toEnd();
    await this.#answer(talk.withTurn(kept, talk.userTurn(text.trim(), pictures), Date.now()));
  }

  #act(name, turn) {
    const whole = this.#conversation;
    if (name === "edit") return this.#edit(turn);
    if (name === "delete") {
      this.#offerBack(whole, "The message was deleted.");
      this.#desk.set(talk.withoutTurn(whole, turn.id, Date.now()));
      return this.#composer.focus();
    }
    if (!this.#mayAsk()) return undefined;
    withdrawUndo();
    if (name === "again" && turn.text !== "") this.#offerBack(whole, "The former reply was replaced.");
    this.#composer.focus();
    this.#transcript.toEnd();
    if (name === "again") return this.#answer(talk.before(whole, turn.id, Date.now()));
    return this.#answer(talk.upTo(whole, turn.id, Date.now()), { goOn: true });
  }

  async #answer(conversation, how) {
    const model = this.#models.chosen(conversation.settings.model);
    const asked = talk.withSettings(conversation, { model }, Date.now());
    const fault = await this.#desk.answer(asked, how);
    if (fault?.status === 401 && (await this.#giveKey(fault))) await this.#answer(asked, how);
  }

  #mayAsk() {
    const { faults } = readParameters(this.#conversation.settings.parameters);
    const [wrong] = Object.keys(faults);
    if (wrong === undefined) return true;
    this.#drawers.openSettings();
    byId(`parameter-${wrong}`).focus();
    say("One of the settings cannot be sent as it is.", { kind: "bad" });
    return false;
  }

  #offerBack(whole, words) {
    offerUndo(words, () => {
      this.#desk.stop(whole.id);
      this.#desk.set(whole);
      this.#choose(whole.id);
    });
  }

  #edit(turn) {
    const former = this.#editing?.former ?? this.#composer.draft;
    this.#editing = { turnId: turn.id, former };
    this.#composer.fill(turn, (id) => this.#album.one(id));
    this.#composer.show({ busy: false, editing: true });
    this.#composer.focus();
  }

  #cancelEdit() {
    if (this.#editing === null) return;
    const { former } = this.#editing;
    this.#editing = null;
    this.#composer.fill(former, (id) => this.#album.one(id));
    this.#composer.show({ busy: this.#desk.run(this.#id) !== null, editing: false });
  }

  async #giveKey(refusal) {
    const wrong = refusal !== null && apiKey() !== null ? `${refusal.message} ` : "";
    const given = await askForKey(`${wrong}${refusal === null ? KEY_WORDS : KEY_NEEDED}`);
    this.#settings.showKey();
    if (given) this.#models.load();
    return given;
  }

  #showCode() {
    const whole = this.#conversation;
    const kept = this.#editing === null ? whole : talk.before(whole, this.#editing.turnId, 0);
    const model = this.#models.chosen(whole.settings.model);
    return showNextRequest(kept, { draft: this.#composer.draft, model, desk: this.#desk });
  }

  // -- beginnings

  #bindHead() {
    const title = byId("title");
    title.addEventListener("change", () => this.#desk.set(talk.renamed(this.#conversation, title.value, Date.now())));
    title.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#composer.focus();
    });
    byId("as-code").addEventListener("click", () => this.#showCode());
  }

  #bindKeys() {
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (this.#desk.run(this.#id) !== null) this.#desk.stop(this.#id);
      else if (this.#editing !== null) this.#cancelEdit();
    });
  }

  #makeStarters() {
    const starter = (text, act) => el("button", { type: "button", class: "button", text, on: { click: act } });
    byId("starters").append(
      ...STARTERS.map((text) =>
        starter(text, () => this.#composer.fill({ text, pictures: [] }).then(() => this.#send())),
      ),
      starter(PICTURE_STARTER, () => {
        this.#composer.fill({ text: PICTURE_STARTER, pictures: [] });
        this.#composer.choosePictures();
      }),
    );
  }
}

new Page().begin();
