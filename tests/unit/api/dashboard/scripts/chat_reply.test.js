// Replies are read from real Response objects over real streams; only the server is made up.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ask } from "../assets/chat/reply.js";

const encoder = new TextEncoder();
const event = (value) => `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
const text = (content) => event({ model: "m", choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const END =
  event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }) +
  event({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 5 } }) +
  event("[DONE]");
const refusal =
  (status, message, headers = {}) =>
  () =>
    new Response(JSON.stringify({ error: { message, code: "c" } }), { status, headers });

/** A success that streams these bytes or texts, each a piece of its own. */
function stream(...pieces) {
  return () =>
    new Response(
      new ReadableStream({
        start(controller) {
          for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
          controller.close();
        },
      }),
    );
}

/** Ask a server that gives these answers in turn. */
async function run(answers, { onText = () => {}, abort = new AbortController() } = {}) {
  const told = { texts: [], waits: [], asked: 0 };
  let now = 0;
  told.reply = await ask(
    { model: "m" },
    {
      send: async () => {
        const answer = answers[Math.min(told.asked, answers.length - 1)];
        told.asked += 1;
        return answer();
      },
      signal: abort.signal,
      clock: () => (now += 1),
      pause: async (seconds) => void (now += seconds),
      onText: (piece) => {
        told.texts.push(piece);
        onText(piece, abort);
      },
      onWait: (words, seconds) => told.waits.push(words === null ? null : [words, seconds]),
    },
  );
  return told;
}

test("pieces come as they arrive, pings are nothing, the end tells reason, tokens and speed", async () => {
  const { texts, reply } = await run([stream(": ping\n\n", text("He"), ": ping\n\n", text("llo"), END)]);
  assert.deepEqual(texts, ["He", "llo"]);
  assert.deepEqual(
    [reply.ended, reply.fault, reply.usage, reply.model],
    ["stop", null, { prompt: 3, completion: 5 }, "m"],
  );
  assert.deepEqual([reply.firstSeconds, reply.tokensPerSecond], [1, 4]);
});

test("events may be cut anywhere, within a letter too", async () => {
  const bytes = encoder.encode(text("Grüße 😀") + END);
  const { texts } = await run([stream(...Array.from(bytes, (byte) => Uint8Array.of(byte)))]);
  assert.equal(texts.join(""), "Grüße 😀");
});

test("an error inside the stream keeps what was said and is told", async () => {
  const { texts, reply, asked } = await run([
    stream(text("Half"), event({ error: { message: "Lost.", code: "worker_lost" } })),
  ]);
  assert.deepEqual(
    [texts, reply.ended, reply.fault.kind, reply.fault.message, asked],
    [["Half"], "fault", "stream", "Lost.", 1],
  );
});

test("a stream that just ends is a lost connection, no success", async () => {
  const { reply } = await run([stream(text("Half"))]);
  assert.deepEqual([reply.ended, reply.fault.kind], ["fault", "lost"]);
});

test("no answer at all is a lost connection too", async () => {
  const { reply } = await run([
    () => {
      throw new TypeError("Failed to fetch");
    },
  ]);
  assert.deepEqual([reply.ended, reply.fault.kind], ["fault", "lost"]);
});

test("a busy server is asked once more, after the time it told, counted down", async () => {
  const { reply, waits, asked } = await run([refusal(429, "Full.", { "retry-after": "3" }), stream(text("x"), END)]);
  assert.deepEqual([reply.ended, asked], ["stop", 2]);
  assert.deepEqual(
    waits.map((wait) => wait?.[1] ?? null),
    [3, 2, 1, null],
  );
});

test("a server that stays busy is not asked a third time", async () => {
  const { reply, asked } = await run([refusal(429, "Full.", { "retry-after": "1" })]);
  assert.deepEqual([reply.ended, reply.fault.message, reply.fault.status, asked], ["fault", "Full.", 429, 2]);
});

test("a server that loads is waited for, but not for ever", async () => {
  const loading = refusal(503, "The model is loading.", { "retry-after": "5" });
  const soon = await run([loading, loading, loading, stream(text("x"), END)]);
  assert.deepEqual([soon.reply.ended, soon.asked, soon.waits[0]], ["stop", 4, ["The model is loading", 5]]);
  const never = await run([loading]);
  assert.equal(never.reply.fault.status, 503);
  assert.ok(never.asked > 50 && never.asked < 200);
});

test("what the server says not to retry is not retried", async () => {
  const { asked } = await run([refusal(503, "No.", { "x-should-retry": "false" })]);
  assert.equal(asked, 1);
});

test("an answer of something else than the server is told in words", async () => {
  const { reply } = await run([() => new Response("<html>", { status: 502 })]);
  assert.match(reply.fault.message, /502/);
});

test("stopping keeps what was said and is no fault", async () => {
  const { texts, reply } = await run([stream(text("a"), text("b"), text("c"))], {
    onText: (_, abort) => abort.abort(),
  });
  assert.deepEqual([reply.ended, reply.fault], ["stopped", null]);
  assert.equal(texts[0], "a");
});
