import assert from "node:assert/strict";
import { test } from "node:test";

import { bars, takenBytes } from "../assets/dashboard/budget.js";
import {
  columns,
  columnsByWorker,
  columnsOfSamples,
  kvUsage,
  summary,
  workerNames,
} from "../assets/dashboard/series.js";
import { daemonState, fieldWords, logLevel, recycleWords, stageWords, workerState } from "../assets/dashboard/words.js";

const row = (name, planned, measured = null) => ({ name, planned_bytes: planned, measured_bytes: measured });
const worker = (more) => ({ name: "gpu0", state: "ready", drained: false, recycling: false, ...more });

test("both bars have one scale, and the reserve is planned but not taken", () => {
  const drawn = bars([row("weights", 60, 70), row("kv full", 30, 50), row("vision", 5), row("reserve", 5)]);
  assert.deepEqual([drawn.plannedBytes, drawn.measuredBytes, drawn.total], [100, 125, 125]);
  assert.deepEqual(
    drawn.planned.map(({ name, share }) => [name, share]),
    [
      ["weights", 0.48],
      ["kv full", 0.24],
      ["vision", 0.04],
      ["reserve", 0.04],
    ],
  );
  assert.deepEqual(
    drawn.measured.map(({ name }) => name),
    ["weights", "kv full", "vision"],
  );
  assert.equal(takenBytes(row("reserve", 5)), 0);
});

test("nothing measured is no bar of zero length", () => {
  assert.equal(bars([row("weights", 60)]).measured, null);
  assert.equal(bars([]).total, 1);
});

test("live points become columns, with gaps where a worker was not there", () => {
  const points = [
    { at: 1, running: 2, workers: [{ name: "a", kv_usage: 0.5 }] },
    {
      at: 2,
      running: 3,
      workers: [
        { name: "b", kv_usage: null },
        { name: "a", kv_usage: 0 },
      ],
    },
  ];
  assert.deepEqual(columns(points, [(point) => point.running]), [
    [1, 2],
    [2, 3],
  ]);
  const names = workerNames(points);
  assert.deepEqual(names, ["b", "a"]);
  assert.deepEqual(
    columnsByWorker(points, names, (each) => each.kv_usage),
    [
      [1, 2],
      [null, null],
      [0.5, 0],
    ],
  );
});

test("samples of one second share a row, and rows are in order", () => {
  const samples = [
    { at: 20.2, worker: "b", host_rss_bytes: 4 },
    { at: 10.1, worker: "a", host_rss_bytes: 1 },
    { at: 10.3, worker: "b", host_rss_bytes: 2 },
  ];
  const found = columnsOfSamples(samples, ["a", "b"], { read: (sample) => sample.host_rss_bytes });
  assert.deepEqual(found, [
    [10, 20],
    [1, null],
    [2, 4],
  ]);
});

test("a time without samples is a gap, and the usual pause between two is none", () => {
  const samples = [0, 10, 20, 500, 510].map((at) => ({ at, worker: "a", host_rss_bytes: at }));
  const [times, values] = columnsOfSamples(samples, ["a"], { read: (sample) => sample.host_rss_bytes });
  assert.deepEqual(
    [times, values],
    [
      [0, 10, 20, 260, 500, 510],
      [0, 10, 20, null, 500, 510],
    ],
  );
  assert.deepEqual(columnsOfSamples([], ["a"], { read: () => 1 }), [[], []]);
});

test("KV use is that of the fuller pool, and unknown before there are pages", () => {
  const sample = { full_pages: 10, full_pages_used: 1, sliding_pages: 4, sliding_pages_used: 3 };
  assert.equal(kvUsage(sample), 0.75);
  assert.equal(kvUsage({ ...sample, full_pages: 0, sliding_pages: 0 }), null);
});

test("a chart's summary tells now, least and most of each line", () => {
  const words = summary(
    "Requests",
    [{ label: "running" }, { label: "waiting" }],
    [
      [1, 2, 3],
      [4, 9, 5],
      [null, null, null],
    ],
    String,
  );
  assert.equal(words, "Requests. running: now 5, between 4 and 9; waiting: nothing.");
});

test("a worker that was told to stay away is drained, not broken", () => {
  assert.equal(workerState(worker({ state: "stopped", drained: true })).word, "drained");
  assert.equal(workerState(worker({ state: "stopped" })).kind, "idle");
  assert.equal(workerState(worker({ state: "backoff" })).kind, "bad");
  assert.equal(workerState(worker({ state: "of tomorrow" })).word, "of tomorrow");
});

test("a daemon that answers with fewer workers than it should is degraded", () => {
  const overview = { state: "ready", degraded: true, workers: [worker(), worker({ state: "failed" })] };
  assert.equal(daemonState(overview).word, "Degraded");
  assert.match(daemonState(overview).sentence, /1 worker is not ready/);
  assert.equal(daemonState({ ...overview, degraded: false }).word, "Ready");
  assert.equal(daemonState({ state: "failed", degraded: true, workers: [worker({ drained: true })] }).word, "Drained");
});

test("stage, renewal and log fields in words", () => {
  assert.equal(stageWords({ stage: "weights", progress: 0.41 }), "weights, 41 %");
  assert.equal(stageWords({ stage: "warm-up", progress: null }), "warm-up");
  assert.equal(stageWords({ stage: null, progress: null }), "");
  assert.equal(recycleWords({ recycling: false, next_recycle_in_seconds: 3660 }), "in 1h 1m");
  assert.equal(fieldWords({ worker: "gpu0", reason: 'a "b"', life: 2 }), 'worker=gpu0 reason="a \\"b\\"" life=2');
  assert.ok(logLevel("error").severity > logLevel("warning").severity);
});
