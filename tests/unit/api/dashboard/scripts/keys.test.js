import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { apiKey, dashboardKey, forgetApiKey, isSendable, setApiKey, takeToken } from "../assets/common/keys.js";

/** What a browser keeps for a page. */
class Shelf {
  #items = new Map();
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  setItem(name, value) {
    this.#items.set(name, value);
  }
  removeItem(name) {
    this.#items.delete(name);
  }
}

const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
let shown;

beforeEach(() => {
  define("sessionStorage", new Shelf());
  define("localStorage", new Shelf());
  define("history", { state: null, replaceState: (_state, _title, address) => (shown = address) });
  shown = null;
});

test("a token goes from the address into the tab's own keeping, and what else is there stays", () => {
  define("location", { hash: "#token=gemmad-session-x&view=1", pathname: "/", search: "?a=b" });
  takeToken();
  assert.equal(dashboardKey(), "gemmad-session-x");
  assert.equal(shown, "/?a=b#view=1");
});

test("an address without a token is left alone", () => {
  define("location", { hash: "#main", pathname: "/", search: "" });
  takeToken();
  assert.deepEqual([dashboardKey(), shown], [null, null]);
});

test("an API key outlives the tab only if that is wanted", () => {
  setApiKey("sk-1", { remember: true });
  assert.equal(localStorage.getItem("gemmad.api.key"), "sk-1");
  setApiKey("sk-2");
  assert.deepEqual([apiKey(), localStorage.getItem("gemmad.api.key")], ["sk-2", null]);
  forgetApiKey();
  assert.equal(apiKey(), null);
});

test("what no header can carry is no key", () => {
  assert.deepEqual(["sk-1", "a b", "a\nb", "ключ", ""].map(isSendable), [true, false, false, false, false]);
});
