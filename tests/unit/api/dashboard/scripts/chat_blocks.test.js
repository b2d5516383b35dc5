import assert from "node:assert/strict";
import { test } from "node:test";

import { settledLength } from "../assets/chat/blocks.js";
import { Marked } from "../assets/vendor/marked.js";

const TEXT = `# Title

Some *words*
and more

- one
- two

  still two
- three

1. first
2. second

| a | b |
|---|---|
| 1 | 2 |

\`\`\`python
def f():

    return "# no title"
\`\`\`

> quote
goes on

Setext
======

    indented

    code

***

The end.
`;

test("what counts as settled is drawn the same, whatever comes after", () => {
  const marked = new Marked({ gfm: true, breaks: true });
  const whole = marked.parse(TEXT);
  let cut = 0;
  let drawn = "";
  for (let length = 1; length <= TEXT.length; length += 1) {
    const settled = settledLength(TEXT.slice(cut, length));
    drawn += marked.parse(TEXT.slice(cut, cut + settled));
    cut += settled;
    assert.ok(whole.startsWith(drawn), `after ${length} characters`);
  }
  assert.equal(drawn + marked.parse(TEXT.slice(cut)), whole);
  assert.ok(cut > TEXT.length / 2);
});

test("a block of code without an end, and half a line, are never settled", () => {
  assert.equal(settledLength("```\na\n\nb\n\nc\n"), 0);
  assert.equal(settledLength("one line without an end"), 0);
});

test("nesting deeper than the parser goes is not settled, and does not throw", () => {
  assert.equal(settledLength(`${">".repeat(20_000)} x\n\ny\n`) >= 0, true);
});
