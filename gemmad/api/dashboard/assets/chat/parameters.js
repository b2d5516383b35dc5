/** How a reply is drawn: fields as a person types them, and what they are in a request. An empty one is not sent. */

export const PARAMETERS = [
  {
    name: "temperature",
    label: "Temperature",
    kind: "number",
    least: 0,
    most: 2,
    step: 0.1,
    hint: "0 to 2; 0 is always the likeliest token",
  },
  { name: "top_p", label: "Top p", kind: "number", least: 0, most: 1, step: 0.05, hint: "0 to 1" },
  { name: "top_k", label: "Top k", kind: "integer", least: -1, most: 2147483647, step: 1, hint: "0 is off" },
  { name: "min_p", label: "Min p", kind: "number", least: 0, most: 1, step: 0.05, hint: "0 to 1" },
  {
    name: "max_tokens",
    label: "Longest reply",
    kind: "integer",
    least: 1,
    most: 2147483647,
    step: 1,
    hint: "in tokens; empty: what the context leaves",
  },
  {
    name: "seed",
    label: "Seed",
    kind: "integer",
    least: -9007199254740991,
    most: 9007199254740991,
    step: 1,
    hint: "the same seed, the same reply",
  },
  { name: "stop", label: "Stop at", kind: "lines", most: 16, hint: "one text a line, up to 16; \\n is a line break" },
];

/** `{value}` of what was typed, absent if it is empty, or `{fault}`: words that say what is wrong with it. */
export function readParameter(parameter, typed) {
  const text = String(typed ?? "");
  if (text.trim() === "") return {};
  return parameter.kind === "lines" ? readLines(parameter, text) : readNumber(parameter, text.trim());
}

/** The fields of a request, and what is wrong with those that cannot be read: `{fields, faults: {name: words}}`. */
export function readParameters(typed) {
  const fields = {};
  const faults = {};
  for (const parameter of PARAMETERS) {
    const { value, fault } = readParameter(parameter, typed[parameter.name]);
    if (fault !== undefined) faults[parameter.name] = fault;
    else if (value !== undefined) fields[parameter.name] = value;
  }
  return { fields, faults };
}

function readNumber(parameter, text) {
  const value = Number(text);
  const whole = parameter.kind === "integer";
  if (!Number.isFinite(value)) return { fault: "This is not a number." };
  if (whole && !Number.isInteger(value)) return { fault: "This must be a whole number." };
  if (value < parameter.least) return { fault: `This must be at least ${parameter.least}.` };
  if (value > parameter.most) return { fault: `This must be at most ${parameter.most}.` };
  return { value };
}

function readLines(parameter, text) {
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length > parameter.most) return { fault: `These must be at most ${parameter.most}.` };
  return {
    value: lines.map((line) => line.replace(/\\(n|t|\\)/g, (_, letter) => ({ n: "\n", t: "\t", "\\": "\\" })[letter])),
  };
}
