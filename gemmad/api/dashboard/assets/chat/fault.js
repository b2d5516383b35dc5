/** What went wrong with a request, in words for a person, and whether to try again without being asked. */

const LOADING_LIMIT_SECONDS = 600;
const LONGEST_PAUSE_SECONDS = 120;
const PLAIN_PAUSE_SECONDS = 3;

/** `kind`: "answer" (a status), "stream" (told inside the stream), "lost" (no connection, or it ended early). */
export class Fault extends Error {
  constructor(
    kind,
    message,
    { status = null, code = null, retryAfterSeconds = null, mayRetry = true, requestId = null } = {},
  ) {
    super(message);
    Object.assign(this, { kind, status, code, retryAfterSeconds, mayRetry, requestId });
  }

  /** What is kept with a reply. */
  toJSON() {
    return { kind: this.kind, message: this.message, status: this.status, code: this.code, requestId: this.requestId };
  }
}

/** The fault in an answer that is no success. `text` is its body, JSON or not. */
export function faultOf(status, headers, text) {
  const { message, code } = errorIn(text);
  return new Fault("answer", message || wordsFor(status), {
    status,
    code,
    retryAfterSeconds: secondsIn(headers.get("retry-after-ms"), headers.get("retry-after")),
    mayRetry: headers.get("x-should-retry") !== "false",
    requestId: headers.get("x-request-id"),
  });
}

/** A short heading above a fault's own words. */
export function headingOf({ kind, status }) {
  if (kind === "lost") return "The connection was lost";
  if (kind === "stream") return "The reply broke off";
  const headings = {
    400: "The server cannot do this",
    401: "An API key is needed",
    403: "Not allowed",
    404: "Not found",
    408: "It took too long to send",
    413: "Too much at once",
    421: "Not this server's name",
    429: "The server is busy",
    503: "The server is not ready",
  };
  return headings[status] ?? "The server failed";
}

/**
 * When to try again unasked: `{seconds, words}`, or null for never.
 *
 * `askedAgain`: whether a busy server was asked again already, which is done once; `waitedSeconds`: how long all of
 * this takes already, for one that loads is waited for.
 */
export function nextTry(fault, { askedAgain, waitedSeconds }) {
  if (fault.kind !== "answer" || !fault.mayRetry) return null;
  const seconds = Math.min(Math.max(fault.retryAfterSeconds ?? PLAIN_PAUSE_SECONDS, 1), LONGEST_PAUSE_SECONDS);
  if (fault.status === 429 && !askedAgain) return { seconds, words: "The server is busy" };
  if (fault.status === 503 && waitedSeconds + seconds <= LOADING_LIMIT_SECONDS) {
    return { seconds, words: fault.message.replace(/\.$/, "") };
  }
  return null;
}

function errorIn(text) {
  try {
    const error = JSON.parse(text).error;
    return { message: typeof error?.message === "string" ? error.message : "", code: error?.code ?? null };
  } catch {
    return { message: "", code: null }; // what stands in between, such as a proxy, answers in its own way
  }
}

function wordsFor(status) {
  return `The answer was ${status} and nothing else. Something between this page and the server may have given it.`;
}

function secondsIn(milliseconds, seconds) {
  if (milliseconds !== null && Number.isFinite(Number(milliseconds))) return Number(milliseconds) / 1000;
  return seconds !== null && Number.isFinite(Number(seconds)) ? Number(seconds) : null;
}
