/** A request as something to run elsewhere. The key is never in it: it comes from the environment. */

const KEY_VARIABLE = "GEMMAD_API_KEY";
const SDK_FIELDS = new Set([
  "model",
  "messages",
  "stream",
  "stream_options",
  "temperature",
  "top_p",
  "max_tokens",
  "seed",
  "stop",
]);
const ARGUMENT_LIMIT_BYTES = 100_000;

/** A shell command that sends `body` to `url`. A long one comes by standard input: Linux takes 128 KiB an argument. */
export function asCurl(body, { url, withKey = false }) {
  const json = JSON.stringify(body, null, 2);
  const head = [`curl -N ${shellQuoted(url)}`, "-H 'Content-Type: application/json'"];
  if (withKey) head.push(`-H "Authorization: Bearer $${KEY_VARIABLE}"`);
  if (new TextEncoder().encode(json).length <= ARGUMENT_LIMIT_BYTES) {
    return [...head, `-d ${shellQuoted(json)}`].join(" \\\n  ") + "\n";
  }
  // JSON has no raw line breaks in its strings and no line of a bare word, so nothing in it can end the document.
  return [...head, "--data-binary @- <<'JSON'"].join(" \\\n  ") + `\n${json}\nJSON\n`;
}

/** A script that sends `body` with the openai SDK; `base` is the address that ends in `/v1`. */
export function asPython(body, { base, withKey = false }) {
  const key = withKey ? `os.environ["${KEY_VARIABLE}"]` : '"none"';
  const known = Object.entries(body).filter(([name]) => SDK_FIELDS.has(name));
  const others = Object.entries(body).filter(([name]) => !SDK_FIELDS.has(name));
  const lines = known.map(([name, value]) => `    ${name}=${pythonLiteral(value, 1)},`);
  if (others.length > 0) lines.push(`    extra_body=${pythonLiteral(Object.fromEntries(others), 1)},`);
  return [
    ...(withKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${pythonLiteral(base)}, api_key=${key})`,
    "stream = client.chat.completions.create(",
    ...lines,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
    "print()",
    "",
  ].join("\n");
}

/** One word for a POSIX shell, whatever is in it. */
export function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A JSON value in Python; JSON's strings are Python's. */
export function pythonLiteral(value, depth = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => pythonLiteral(item, depth + 1))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item, depth + 1)}`);
  if (items.length === 0) return open + close;
  const inner = "    ".repeat(depth + 1);
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${"    ".repeat(depth)}${close}`;
}
