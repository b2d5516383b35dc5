// Requests as code are run: by a shell whose curl prints its arguments, and by Python's own parser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { asCurl, asPython } from "../assets/chat/snippets.js";

const URL = "http://127.0.0.1:4363/v1/chat/completions";
const BASE = "http://127.0.0.1:4363/v1";
const NASTY = "it's \"so\"\n$HOME `id` $(id) \\n \\ !x 'JSON'\nJSON\n\u2028 é 😀 \u0000 \t %s";

function body(text) {
  return {
    model: "it's",
    messages: [
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
          { type: "text", text },
        ],
      },
    ],
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0.5,
    stop: ["\n\n", "'"],
    top_k: 4,
    continue_final_message: true,
    nothing: null,
    empty: {},
  };
}

/** What curl would get: its arguments, and its standard input after them. */
function shellRun(snippet, environment = {}) {
  const script = `curl() { for word; do printf '%s\\0' "$word"; case "$word" in @-) cat;; esac; done; }\n${snippet}`;
  return execFileSync("sh", {
    input: script,
    encoding: "utf8",
    env: { ...process.env, ...environment },
    maxBuffer: 1 << 28,
  }).split("\0");
}

/** The keyword arguments of `create` and of `OpenAI` in a Python script, as JSON. */
function pythonRead(snippet) {
  const reader = `
import ast, json, sys
found = {}
for node in ast.walk(ast.parse(sys.stdin.read())):
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("client.chat.completions.create", "OpenAI"):
        for word in node.keywords:
            try:
                found[word.arg] = ast.literal_eval(word.value)
            except ValueError:
                found[word.arg] = ast.unparse(word.value)
print(json.dumps(found))
`;
  return JSON.parse(execFileSync("python3", ["-c", reader], { encoding: "utf8", input: snippet }));
}

test("what curl sends is the very body, whatever signs are in it", () => {
  const words = shellRun(asCurl(body(NASTY), { url: URL }));
  assert.equal(words[1], URL);
  assert.deepEqual(JSON.parse(words[words.indexOf("-d") + 1]), body(NASTY));
});

test("a body that is longer than an argument may be comes by standard input", () => {
  const long = body(NASTY.repeat(20_000));
  const words = shellRun(asCurl(long, { url: URL }));
  assert.ok(words.includes("@-"));
  assert.deepEqual(JSON.parse(words[words.indexOf("@-") + 1]), long);
});

test("the key comes from the environment, and only if one is needed", () => {
  const keyed = shellRun(asCurl(body("x"), { url: URL, withKey: true }), { GEMMAD_API_KEY: "k y'" });
  assert.ok(keyed.includes("Authorization: Bearer k y'"));
  assert.ok(!asCurl(body("x"), { url: URL }).includes("Authorization"));
  assert.equal(pythonRead(asPython(body("x"), { base: BASE, withKey: true })).api_key, "os.environ['GEMMAD_API_KEY']");
  assert.equal(pythonRead(asPython(body("x"), { base: BASE })).api_key, "none");
});

test("what Python sends is the very body; what the SDK does not know goes into extra_body", () => {
  const {
    base_url: base,
    api_key: _key,
    extra_body: others,
    ...known
  } = pythonRead(asPython(body(NASTY), { base: BASE }));
  assert.equal(base, BASE);
  assert.deepEqual({ ...known, ...others }, body(NASTY));
  assert.deepEqual(Object.keys(others), ["top_k", "continue_final_message", "nothing", "empty"]);
});
