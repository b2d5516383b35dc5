import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";

import { EventParser, follow, pauseBefore } from "../assets/common/events.js";

const STREAM =
  'event: live\r\ndata: {"points":[]}\r\n\r\n: ping\n\nid: 7\ndata: one\ndata:two\n\ndata:\n\nevent: x\n\ndata: end\r\r';
const EVENTS = [
  { event: "live", data: '{"points":[]}' },
  { event: "message", data: "one\ntwo" },
  { event: "message", data: "" },
  { event: "message", data: "end" },
];

test("events are the same however the stream is cut", () => {
  for (let size = 1; size <= STREAM.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...parser.push(STREAM.slice(at, at + size)));
    found.push(...parser.push(":"));
    assert.deepEqual(found, EVENTS, `in pieces of ${size}`);
  }
});

test("a byte order mark before the first event is no part of it", () => {
  assert.deepEqual(new EventParser().push("\uFEFFdata: x\n\n"), [{ event: "message", data: "x" }]);
});

test("an event that is not complete is none", () => {
  assert.deepEqual(new EventParser().push("event: snapshot\ndata: {}\n"), []);
});

test("pauses grow up to a bound, and chance shortens them", () => {
  assert.equal(pauseBefore(0, 1), 500);
  assert.ok(pauseBefore(3, 0) < pauseBefore(3, 1));
  assert.equal(pauseBefore(100, 1), 15000);
});

/** A daemon that gives these answers, one a connection, and notes the keys that it was shown. */
async function daemon(answers) {
  const keys = [];
  const server = http.createServer((request, response) => {
    keys.push(request.headers.authorization ?? null);
    answers[Math.min(keys.length, answers.length) - 1](response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  globalThis.document = { baseURI: `http://127.0.0.1:${server.address().port}/prefix/` };
  return { keys, close: () => (server.closeAllConnections(), server.close()) };
}

const snapshot = (number) => (response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(`event: snapshot\ndata: ${number}\n\n`);
};
const silence = (response) => response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
const refusal = (response) => {
  response.writeHead(403, { "content-type": "application/json" });
  response.end(
    '{"error": {"message": "an operator\'s key, please", "type": "refused", "param": null, "code": "forbidden"}}',
  );
};

async function followed(answers, options = {}) {
  const server = await daemon(answers);
  const [events, states] = [[], []];
  await follow("/dashboard/events", {
    key: () => "secret",
    signal: new AbortController().signal,
    onEvent: (event, data) => events.push(`${event} ${data}`),
    onState: ({ state, error }) => states.push(error ? `${state}: ${error.message}` : state),
    ...options,
  });
  server.close();
  return { events, states, keys: server.keys };
}

test("a stream that ends is begun anew with the key, until the daemon refuses", async () => {
  const seen = await followed([snapshot(1), snapshot(2), refusal]);
  assert.deepEqual(seen.events, ["snapshot 1", "snapshot 2"]);
  assert.deepEqual(seen.states, ["live", "connecting", "live", "connecting", "refused: an operator's key, please"]);
  assert.deepEqual(seen.keys, Array(3).fill("Bearer secret"));
});

test("a stream that falls silent counts as gone", async () => {
  const seen = await followed([silence, refusal], { silenceMs: 50 });
  assert.deepEqual(seen.states.slice(0, 1), ["connecting"]);
  assert.equal(seen.keys.length, 2);
});

test("a signal ends it, also during a pause", async () => {
  const stop = new AbortController();
  const seen = await followed([snapshot(1)], {
    signal: stop.signal,
    onState: ({ state }) => state === "connecting" && stop.abort(),
  });
  assert.equal(seen.keys.length, 1);
});
