import assert from "node:assert/strict";
import { test } from "node:test";

import { described, fitted, served } from "../assets/chat/picture.js";

const head = (...bytes) => Uint8Array.from([...bytes, ...new Array(16).fill(0)]);
const ascii = (text) => [...text].map((letter) => letter.charCodeAt(0));

test("the kind of a picture is told by its bytes, not its name", () => {
  assert.equal(served(head(0x89, ...ascii("PNG"))), "image/png");
  assert.equal(served(head(0xff, 0xd8, 0xff)), "image/jpeg");
  assert.equal(served(head(...ascii("RIFF"), 0, 0, 0, 0, ...ascii("WEBP"))), "image/webp");
  assert.equal(served(head(...ascii("GIF89a"))), "image/gif");
  assert.equal(served(head(...ascii("BM"))), "image/bmp");
  assert.equal(served(head(...ascii("<svg"))), null);
  assert.equal(served(new Uint8Array()), null);
});

test("a picture within the limits keeps its size, a larger one its proportions", () => {
  assert.deepEqual(fitted(4000, 3000), { width: 4000, height: 3000, scale: 1 });
  const { width, height } = fitted(20_000, 10_000);
  assert.ok(width * height <= 50_000_000);
  assert.ok(Math.abs(width / height - 2) < 0.01);
  assert.ok(fitted(1_000_000, 100).width <= 16_384);
  assert.ok(fitted(1_000_000, 60).height >= 1);
});

test("a picture is told by name, size and bytes", () => {
  assert.equal(described({ name: "a.png", width: 640, height: 480, bytes: 2048 }), "a.png, 640 × 480, 2.00 KiB");
});
