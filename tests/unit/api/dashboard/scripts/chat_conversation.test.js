import assert from "node:assert/strict";
import { test } from "node:test";

import * as talk from "../assets/chat/conversation.js";

const begun = () => talk.newConversation(talk.noSettings(), { now: 1 });
const said = (...texts) => texts.reduce((whole, text) => talk.withTurn(whole, talk.userTurn(text), 2), begun());

test("the first words of a person become the title, shortened to one line", () => {
  assert.equal(begun().title, "New chat");
  assert.equal(said("  What\n is  this? ").title, "What is this?");
  assert.equal(Array.from(said("😀".repeat(60)).title).length, 48);
  const seen = talk.withTurn(begun(), talk.userTurn("", [{ id: "p", name: "cat.png" }]), 2);
  assert.equal(seen.title, "cat.png");
});

test("a title that was given stays; an empty one gives the first words back", () => {
  const named = talk.renamed(said("one"), " Mine ", 3);
  assert.equal(talk.withTurn(named, talk.userTurn("two"), 4).title, "Mine");
  assert.equal(talk.renamed(named, " ", 4).title, "one");
});

test("nothing changes the conversation that it is given", () => {
  const whole = said("a", "b", "c");
  const copy = structuredClone(whole);
  const [, second] = whole.turns;
  talk.withoutTurn(whole, second.id, 9);
  talk.withChangedTurn(whole, second.id, { text: "x" }, 9);
  talk.before(whole, second.id, 9);
  talk.withSettings(whole, { system: "x" }, 9);
  assert.deepEqual(whole, copy);
});

test("a turn is taken out, or everything from it on, or everything behind it", () => {
  const whole = said("a", "b", "c");
  const texts = ({ turns }) => turns.map(({ text }) => text).join("");
  const { id } = whole.turns[1];
  assert.equal(texts(talk.withoutTurn(whole, id, 9)), "ac");
  assert.equal(texts(talk.before(whole, id, 9)), "a");
  assert.equal(texts(talk.upTo(whole, id, 9)), "ab");
  assert.equal(texts(talk.before(whole, "gone", 9)), "abc");
});

test("a reply that was cut may go on, one that ended by itself or said nothing may not", () => {
  const reply = (text, ended) => ({ ...talk.assistantTurn(), text, reply: { ended } });
  assert.ok(talk.mayContinue(reply("x", "length")));
  assert.ok(talk.mayContinue(reply("x", "fault")));
  assert.ok(!talk.mayContinue(reply("x", "stop")));
  assert.ok(!talk.mayContinue(reply("", "stopped")));
  assert.ok(!talk.mayContinue(talk.userTurn("x")));
});
