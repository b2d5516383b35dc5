/** What stays in this browser: conversations in localStorage, each under its own key; their pictures in IndexedDB. */

import { readConversation } from "./exchange.js";

const PREFIX = "gemmad.chat.";
const DATABASE = "gemmad.chat";
const PICTURES = "pictures";
const MOST_PICTURE_BYTES = 256 * 1024 * 1024;
const ORPHAN_MS = 24 * 3600 * 1000;

/** Conversations of all tabs. Where storage is forbidden they last as long as the page. */
export class Shelf {
  #storage;
  #parsed = new Map(); // by name, so that a list of many is read anew only where it changed

  constructor(storage) {
    this.#storage = storage;
  }

  /** All of them, the last changed first. */
  all() {
    return this.#names()
      .map((name) => this.#read(name))
      .filter((conversation) => conversation !== null)
      .sort((one, other) => other.updated - one.updated);
  }

  one(id) {
    return this.#read(PREFIX + id);
  }

  /** Whether there was room. */
  keep(conversation) {
    try {
      this.#storage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
      return true;
    } catch {
      return false;
    }
  }

  drop(id) {
    this.#storage.removeItem(PREFIX + id);
    this.#parsed.delete(PREFIX + id);
  }

  /** The id in a key of localStorage, null if it is not of a conversation. */
  static idIn(key) {
    return key?.startsWith(PREFIX) ? key.slice(PREFIX.length) : null;
  }

  #names() {
    const names = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index));
    return names.filter((name) => name.startsWith(PREFIX));
  }

  #read(name) {
    const text = this.#storage.getItem(name);
    if (this.#parsed.get(name)?.text !== text) this.#parsed.set(name, { text, conversation: parsed(text) });
    return this.#parsed.get(name).conversation;
  }
}

/** localStorage, or where it is forbidden something like it that ends with the page. */
export function storage() {
  try {
    localStorage.getItem("gemmad");
    return localStorage;
  } catch {
    const kept = new Map();
    return {
      get length() {
        return kept.size;
      },
      key: (index) => [...kept.keys()][index],
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => kept.set(name, value),
      removeItem: (name) => kept.delete(name),
    };
  }
}

/** Pictures by id, 256 MiB at most: then the oldest go. Where there is no IndexedDB they last as long as the page. */
export class Album {
  #database = opened();
  #here = new Map();

  async keep(id, blob) {
    this.#here.set(id, blob);
    await this.#change((store) => store.put({ id, at: Date.now(), blob }));
    await this.sweep(null);
  }

  /** The blob, or null if it is no longer kept. */
  async one(id) {
    if (this.#here.has(id)) return this.#here.get(id);
    const row = await this.#ask((store) => store.get(id));
    if (row !== undefined) this.#here.set(id, row.blob);
    return row?.blob ?? null;
  }

  /** Drop the oldest beyond the bound and, if `used` is a Set, what no conversation has used for a day. */
  async sweep(used) {
    const rows = (await this.#ask((store) => store.getAll())) ?? [];
    rows.sort((one, other) => other.at - one.at);
    let bytes = 0;
    for (const { id, at, blob } of rows) {
      bytes += blob.size;
      const orphan = used !== null && !used.has(id) && Date.now() - at > ORPHAN_MS;
      if (orphan || bytes > MOST_PICTURE_BYTES) await this.#change((store) => store.delete(id));
    }
  }

  #change(act) {
    return this.#run("readwrite", act);
  }

  #ask(act) {
    return this.#run("readonly", act);
  }

  async #run(mode, act) {
    const database = await this.#database;
    if (database === null) return undefined;
    return new Promise((resolve) => {
      try {
        const request = act(database.transaction(PICTURES, mode).objectStore(PICTURES));
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => resolve(undefined);
      } catch {
        resolve(undefined);
      }
    });
  }
}

/** Null for nothing, and for what is broken or of another version. */
function parsed(text) {
  try {
    return readConversation(JSON.parse(text));
  } catch {
    return null;
  }
}

function opened() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(PICTURES, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    } catch {
      resolve(null); // forbidden
    }
  });
}
