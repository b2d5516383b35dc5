import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, count, duration, latency, percent, plural, rate } from "../assets/common/format.js";

test("bytes have three digits and a binary unit", () => {
  assert.deepEqual(
    [0, 1023, 1536, 15 * 2 ** 20, 74.04 * 2 ** 30, 141 * 2 ** 30, 2 ** 52, -2048, null].map((value) => bytes(value)),
    ["0 B", "1023 B", "1.50 KiB", "15.0 MiB", "74.0 GiB", "141 GiB", "4096 TiB", "−2.00 KiB", "–"],
  );
});

test("durations have two units at most, and none that is zero", () => {
  assert.deepEqual([0.4, 42, 60, 200, 3600, 3 * 3600 + 125, 5 * 86400 + 60, null].map(duration), [
    "0s",
    "42s",
    "1m",
    "3m 20s",
    "1h",
    "3h 2m",
    "5d",
    "–",
  ]);
});

test("latencies are milliseconds below a second", () => {
  assert.deepEqual([0.0314, 0.9, 2.5, 42.25, null].map(latency), ["31 ms", "900 ms", "2.50 s", "42.3 s", "–"]);
});

test("a share that is not nothing is never 0 %", () => {
  assert.deepEqual([0, 0.001, 0.314, 1, null].map(percent), ["0 %", "<1 %", "31 %", "100 %", "–"]);
});

test("numbers have gaps between thousands", () => {
  assert.equal(count(1234567), "1\u202f234\u202f567");
  assert.deepEqual([0, 0.44, 12.34, 2890.4].map(rate), ["0", "0.4", "12.3", "2\u202f890"]);
  assert.deepEqual([plural(1, "request"), plural(2, "request")], ["1 request", "2 requests"]);
});
