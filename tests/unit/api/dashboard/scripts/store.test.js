import assert from "node:assert/strict";
import { test } from "node:test";

import { emptyStore, linesWith, LIVE_SECONDS, LOG_LINES, settingsLike, take } from "../assets/dashboard/store.js";

const line = (number, more = {}) => ({ number, level: "info", event: `event ${number}`, fields: {}, ...more });
const snapshot = (at, log = [], pid = 1) => ({ at, point: { at, workers: [] }, log, overview: { pid } });

test("snapshots continue the points of the first event, and a point that is known is not added again", () => {
  const store = take(emptyStore(), "live", { points: [{ at: 1 }, { at: 2 }] }, 0);
  take(store, "snapshot", snapshot(2), 10);
  take(store, "snapshot", snapshot(3), 11);
  assert.deepEqual(
    store.points.map(({ at }) => at),
    [1, 2, 3],
  );
  assert.equal(store.heardAt, 11);
});

test("points older than the last minutes go", () => {
  const store = take(emptyStore(), "live", { points: [{ at: 1 }, { at: 100 }] }, 0);
  take(store, "snapshot", snapshot(LIVE_SECONDS + 50), 0);
  assert.deepEqual(
    store.points.map(({ at }) => at),
    [100, LIVE_SECONDS + 50],
  );
});

test("log lines are kept once, in order, and not without a bound", () => {
  const store = emptyStore();
  take(store, "snapshot", snapshot(1, [line(1), line(2)]), 0);
  take(store, "snapshot", snapshot(2, [line(2), line(3)]), 0);
  assert.deepEqual(
    store.log.map(({ number }) => number),
    [1, 2, 3],
  );
  const before = store.log;
  take(store, "snapshot", snapshot(3), 0);
  assert.equal(store.log, before);
  const many = Array.from({ length: LOG_LINES + 10 }, (_, index) => line(index + 4));
  take(store, "snapshot", snapshot(4, many), 0);
  assert.equal(store.log.length, LOG_LINES);
  assert.equal(store.log.at(-1).number, LOG_LINES + 13);
});

test("the log of a daemon that began anew takes the place of the old one's", () => {
  const store = take(emptyStore(), "snapshot", snapshot(1, [line(400)]), 0);
  take(store, "snapshot", snapshot(2, [line(1), line(500)], 2), 0);
  assert.deepEqual(
    store.log.map(({ number }) => number),
    [1, 500],
  );
});

test("lines are found by severity and by text, whatever its case", () => {
  const log = [line(1, { level: "error" }), line(2), line(3, { level: "error", event: "GPU lost" })];
  const how = { severityOf: (level) => (level === "error" ? 40 : 20), wordsOf: (each) => each.event };
  assert.deepEqual(
    linesWith(log, { ...how, severity: 40, text: " gpu " }).map(({ number }) => number),
    [3],
  );
  assert.equal(linesWith(log, { ...how, severity: 0, text: "" }).length, 3);
});

test("settings that are not at their default come first", () => {
  const setting = (key, isDefault, doc = "") => ({ section: "memory", key, value: null, default: isDefault, doc });
  const all = [setting("a", true), setting("b", false), setting("c", true, "Share of the GPU.")];
  assert.deepEqual(
    settingsLike(all, "").map(({ key }) => key),
    ["b", "a", "c"],
  );
  assert.deepEqual(
    settingsLike(all, "share of").map(({ key }) => key),
    ["c"],
  );
});
