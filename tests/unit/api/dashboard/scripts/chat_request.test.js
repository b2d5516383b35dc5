import assert from "node:assert/strict";
import { test } from "node:test";

import * as talk from "../assets/chat/conversation.js";
import { PARAMETERS, readParameter, readParameters } from "../assets/chat/parameters.js";
import { requestBody } from "../assets/chat/request.js";

const named = (name) => PARAMETERS.find((parameter) => parameter.name === name);

function conversation(turns, settings = {}) {
  const empty = talk.newConversation({ ...talk.noSettings(), model: "m", ...settings }, { now: 1 });
  return turns.reduce((whole, turn) => talk.withTurn(whole, turn, 1), empty);
}

test("words alone are a string; pictures stand before the words as parts", () => {
  const turns = [
    talk.userTurn("Hi"),
    { ...talk.assistantTurn(), text: "Ho" },
    talk.userTurn("Look", [{ id: "p" }, { id: "gone" }]),
  ];
  const body = requestBody(conversation(turns), { dataUrls: new Map([["p", "data:image/png;base64,AA=="]]) });
  assert.deepEqual(body.messages, [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Ho" },
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
        { type: "text", text: "Look" },
      ],
    },
  ]);
  assert.deepEqual([body.model, body.stream, body.stream_options], ["m", true, { include_usage: true }]);
});

test("a reply that failed before its first word is not sent", () => {
  const body = requestBody(conversation([talk.userTurn("a"), talk.assistantTurn(), talk.userTurn("b")]));
  assert.deepEqual(
    body.messages.map(({ content }) => content),
    ["a", "b"],
  );
});

test("the system prompt comes first, unless it is blank", () => {
  const turns = [talk.userTurn("a")];
  assert.deepEqual(requestBody(conversation(turns, { system: "Be brief." })).messages[0], {
    role: "system",
    content: "Be brief.",
  });
  assert.equal(requestBody(conversation(turns, { system: " \n" })).messages.length, 1);
});

test("an empty parameter is not sent at all", () => {
  const body = requestBody(
    conversation([talk.userTurn("a")], { parameters: { temperature: "", top_k: " 5 ", seed: "0", stop: "" } }),
  );
  assert.deepEqual([body.top_k, body.seed, "temperature" in body, "stop" in body], [5, 0, false, false]);
});

test("a reply goes on by telling the server so", () => {
  const body = requestBody(conversation([talk.userTurn("a"), { ...talk.assistantTurn(), text: "1, 2," }]), {
    goOn: true,
  });
  assert.deepEqual([body.continue_final_message, body.add_generation_prompt], [true, false]);
});

test("what cannot be sent is told in words", () => {
  assert.match(readParameter(named("temperature"), "3").fault, /at most 2/);
  assert.match(readParameter(named("temperature"), "hot").fault, /number/);
  assert.match(readParameter(named("max_tokens"), "1.5").fault, /whole/);
  assert.match(readParameter(named("max_tokens"), "0").fault, /at least 1/);
  assert.match(readParameter(named("stop"), "x\n".repeat(17)).fault, /16/);
  assert.deepEqual(Object.keys(readParameters({ top_p: "2", seed: "1" }).faults), ["top_p"]);
});

test("texts to stop at are one a line, with line breaks written as \\n", () => {
  assert.deepEqual(readParameter(named("stop"), "###\n\\n\\n\n a\\\\nb"), { value: ["###", "\n\n", " a\\nb"] });
});
