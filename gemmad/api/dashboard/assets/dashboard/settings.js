// The configuration in force, what the files have otherwise by now, and how the last reload went.

import { requestJson } from "../common/api.js";
import { byId, el, keyed, setProse, setText } from "../common/dom.js";
import { count, duration } from "../common/format.js";
import { dashboardKey } from "../common/keys.js";
import { actButton, reload, setRefusal } from "./acts.js";
import { settingsLike } from "./store.js";
import { refusalWords } from "./words.js";

const SAME_RELOAD_SECONDS = 0.5; // its age is rounded, and two clocks are in it
const WHEN = {
  live: "live",
  recycle: "with new workers",
  restart: "with a restart",
  trying: "a worker tries it now",
};

export class Settings {
  #config = null;
  #told = "";
  #reloadedAt = null;
  #asked = 0;
  #button;

  constructor(refused) {
    this.#button = actButton({
      text: "Reload…",
      label: "Reload the configuration",
      refused,
      act: async () => {
        await reload();
        await this.#load();
      },
    });
    byId("reload").replaceWith(this.#button);
    byId("config-text").addEventListener("input", () => this.#show());
    byId("config").append(
      el(
        "table",
        {},
        el("caption", { class: "off-screen", text: "Settings in force" }),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["setting", "value", "takes effect"].map((text) => el("th", { scope: "col", text })),
          ),
        ),
        el("tbody"),
      ),
      el("p", { class: "empty faint" }),
    );
  }

  /** Follow the snapshots: the settings are asked for once of each daemon, and after each reload. */
  show(snapshot) {
    setRefusal(this.#button, refusalWords(snapshot.may_act));
    const last = snapshot.overview.config.reload;
    const at = last === null ? null : snapshot.at - last.seconds_ago;
    const told = JSON.stringify([snapshot.overview.pid, { ...last, seconds_ago: null }]);
    const isSameMoment =
      at === this.#reloadedAt || (at !== null && Math.abs(at - this.#reloadedAt) < SAME_RELOAD_SECONDS);
    if (told === this.#told && isSameMoment) return;
    this.#told = told;
    this.#reloadedAt = at;
    this.#load();
  }

  async #load() {
    const asked = (this.#asked += 1);
    try {
      const config = await requestJson("dashboard/config", { key: dashboardKey() });
      if (asked !== this.#asked) return;
      this.#config = config;
      this.#show();
    } catch (error) {
      if (asked === this.#asked) setText(byId("config-words"), error.message);
    }
  }

  #show() {
    if (this.#config === null) return;
    const { settings, path } = this.#config;
    const found = settingsLike(settings, byId("config-text").value);
    const changed = settings.filter((setting) => !setting.default).length;
    setText(
      byId("config-words"),
      `${path ?? "no file"} · ${count(changed)} of ${count(settings.length)} set otherwise than by default`,
    );
    byId("config-news").replaceChildren(...news(this.#config));
    const place = byId("config");
    keyed(place.querySelector("tbody"), found, {
      key: (setting) => `${setting.section}.${setting.key}`,
      create: (setting) =>
        el(
          "tr",
          {},
          el(
            "th",
            { scope: "row" },
            el("code", { text: `${setting.section}.${setting.key}` }),
            el("p", { class: "doc soft small" }),
          ),
          el("td", {}, el("code", { class: "wrap" })),
          el("td", { class: "soft" }),
        ),
      update: showSetting,
    });
    place.querySelector("table").hidden = found.length === 0;
    const empty = place.querySelector(".empty");
    empty.hidden = found.length > 0;
    setText(empty, "No setting has these words.");
  }
}

function showSetting(node, setting) {
  node.classList.toggle("changed", !setting.default);
  setProse(node.querySelector(".doc"), setting.doc);
  const value = node.children[1].firstElementChild;
  setText(value, setting.value ?? "not set");
  value.classList.toggle("faint", setting.value === null);
  setText(node.children[2], WHEN[setting.when] ?? setting.when);
}

/** What is not as it should be, or not yet: the last reload, and what the files say. */
function news({ reload: last, diff }) {
  const found = [];
  if (last !== null && last.errors.length > 0) {
    found.push(
      callout(
        "bad",
        `The last reload, ${duration(last.seconds_ago)} ago, was refused; the settings before it stay.`,
        last.errors,
      ),
    );
  }
  if (last !== null && last.rolling.length > 0) {
    found.push(callout("busy", "A worker tries these; all get them once it is ready:", last.rolling));
  }
  if (last !== null && last.errors.length === 0 && last.applied.length > 0) {
    found.push(callout("ok", `The last reload, ${duration(last.seconds_ago)} ago, put into force:`, last.applied));
  }
  if (diff.errors.length > 0 && last?.errors.join() !== diff.errors.join()) {
    found.push(callout("bad", "The files cannot be taken as they are:", diff.errors));
  }
  if (diff.settings.length > 0) {
    const lines = diff.settings.map(
      ({ key, running, wanted, when }) =>
        `${key}: ${running ?? "not set"} → ${wanted ?? "not set"} (${WHEN[when] ?? when})`,
    );
    found.push(callout("warn", "The files have otherwise by now:", lines));
  }
  return found;
}

function callout(kind, words, lines) {
  return el(
    "div",
    { class: `callout ${kind}` },
    el("p", { text: words }),
    el(
      "ul",
      { class: "mono small" },
      lines.map((text) => el("li", { text })),
    ),
  );
}
