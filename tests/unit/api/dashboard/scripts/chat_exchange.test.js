import assert from "node:assert/strict";
import { test } from "node:test";

import * as talk from "../assets/chat/conversation.js";
import { readConversation, readExport, writeExport } from "../assets/chat/exchange.js";
import { Shelf } from "../assets/chat/keeping.js";

const PICTURE = { id: "p1", name: "a.png", type: "image/png", width: 1, height: 2, bytes: 3 };
const REPLY = {
  ended: "stop",
  fault: null,
  usage: { prompt: 1, completion: 2 },
  firstSeconds: 0.1,
  tokensPerSecond: 5,
  model: "m",
};

const made = (() => {
  let whole = talk.newConversation({ model: "m", system: "s", parameters: { top_k: "3" } }, { now: 5, id: "c1" });
  whole = talk.withTurn(whole, talk.userTurn("Hi", [PICTURE]), 6);
  return talk.withTurn(whole, { ...talk.assistantTurn(), text: "Ho", reply: REPLY }, 7);
})();

const example = () => structuredClone(made);

/** As localStorage, with room for so many characters. */
function room(limit = Infinity) {
  const kept = new Map();
  return {
    get length() {
      return kept.size;
    },
    key: (index) => [...kept.keys()][index],
    getItem: (name) => kept.get(name) ?? null,
    setItem(name, value) {
      if (value.length > limit) throw new Error("QuotaExceededError");
      kept.set(name, value);
    },
    removeItem: (name) => kept.delete(name),
  };
}

test("what was exported comes back as it was, under another id", () => {
  const text = writeExport([example()], { dataUrls: new Map([["p1", "data:image/png;base64,AA=="]]), now: 0 });
  const { conversations, pictures } = readExport(text);
  assert.notEqual(conversations[0].id, "c1");
  assert.deepEqual({ ...conversations[0], id: "c1" }, example());
  assert.deepEqual([...pictures], [["p1", "data:image/png;base64,AA=="]]);
});

test("a file of another kind is refused in words", () => {
  for (const text of [
    "{",
    "[]",
    '{"format":"gemmad-chat"}',
    '{"format":"gemmad-chat","version":2,"conversations":[]}',
  ]) {
    assert.throws(() => readExport(text), /This file/);
  }
  assert.throws(() => readExport('{"format":"gemmad-chat","version":1,"conversations":[{"id":"x"}]}'), /broken/);
});

test("only known fields of the right kind come in", () => {
  const odd = { ...example(), evil: 1, title: {}, settings: { parameters: { top_k: 3, evil: "1" } } };
  const read = readConversation(odd);
  assert.deepEqual([read.title, read.settings, "evil" in read], ["Chat", talk.noSettings(), false]);
  assert.equal(readConversation({ ...example(), turns: [{ id: "t", role: "system", text: "x" }] }), null);
  assert.equal(readConversation({ ...example(), id: "../x" }), null);
});

test("pictures in a file are pictures, not links or drawings with scripts", () => {
  const urls = new Map([
    ["a", "https://example.org/x.png"],
    ["b", "data:image/svg+xml;base64,AA=="],
    ["c", "data:image/gif;base64,AA=="],
  ]);
  assert.deepEqual([...readExport(writeExport([], { dataUrls: urls, now: 0 })).pictures.keys()], ["c"]);
});

test("a reply that was being written when its page was closed counts as stopped", () => {
  const whole = talk.withTurn(example(), { ...talk.assistantTurn(), text: "Half" }, 8);
  assert.equal(readConversation(JSON.parse(JSON.stringify(whole))).turns.at(-1).reply.ended, "stopped");
});

test("conversations are kept each by itself, the last changed first, and broken ones are passed over", () => {
  const storage = room();
  const shelf = new Shelf(storage);
  storage.setItem("gemmad.chat.broken", "{");
  storage.setItem("another", "1");
  assert.ok(shelf.keep(example()));
  assert.ok(shelf.keep({ ...example(), id: "c2", updated: 99 }));
  assert.deepEqual(
    shelf.all().map(({ id }) => id),
    ["c2", "c1"],
  );
  shelf.drop("c2");
  assert.equal(shelf.one("c2"), null);
  assert.deepEqual(shelf.one("c1"), example());
});

test("a full browser is told, not thrown", () => {
  assert.equal(new Shelf(room(10)).keep(example()), false);
});
