/** One reply of the model: asked for, streamed, tried again where that is known to help, stopped at any time. */

import { EventParser } from "../common/events.js";
import { Fault, faultOf, nextTry } from "./fault.js";

const LOST = "Nothing answers at this address any more. Is the server running?";
const CUT_OFF = "The connection ended before the reply did.";

/**
 * Ask with `body` until there is a reply or no use in asking. Never throws; resolves to
 * `{ended, fault, usage, firstSeconds, tokensPerSecond, model}`; `ended` is the finish reason, "stopped" or "fault".
 *
 * `send(body, signal)` is the fetch; `clock` gives seconds, `pause(seconds, signal)` waits. `onText(piece)` is told
 * each piece as it comes; `onWait(words, seconds)` each second before another try, `onWait(null)` when it is made.
 */
export async function ask(body, { send, signal, clock, pause, onText, onWait }) {
  const begun = clock();
  let askedAgain = false;
  for (;;) {
    const reply = await askOnce(body, { send, signal, clock, onText });
    if (reply.ended !== "fault" || reply.firstSeconds !== null) return reply;
    const plan = nextTry(reply.fault, { askedAgain, waitedSeconds: clock() - begun });
    if (plan === null) return reply;
    askedAgain ||= reply.fault.status === 429;
    for (let left = Math.ceil(plan.seconds); left > 0 && !signal.aborted; left -= 1) {
      onWait(plan.words, left);
      await pause(Math.min(1, plan.seconds), signal);
    }
    onWait(null, 0);
    if (signal.aborted) return { ...reply, ended: "stopped", fault: null };
  }
}

async function askOnce(body, { send, signal, clock, onText }) {
  const told = new Told(clock);
  try {
    const response = await send(body, signal);
    if (!response.ok) throw faultOf(response.status, response.headers, await response.text());
    await read(response, told, onText);
    return told.reply(told.finish ?? "stop");
  } catch (error) {
    if (signal.aborted) return told.reply("stopped");
    if (error instanceof Fault) return told.reply("fault", error);
    return told.reply("fault", new Fault("lost", told.firstAt === null ? LOST : CUT_OFF));
  }
}

async function read(response, told, onText) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Fault("lost", CUT_OFF);
      for (const { data } of parser.push(decoder.decode(value, { stream: true }))) {
        if (data === "[DONE]") return;
        const text = told.take(JSON.parse(data), response.headers.get("x-request-id"));
        if (text !== "") onText(text);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What a stream has told so far. */
class Told {
  constructor(clock) {
    this.clock = clock;
    this.begun = clock();
    this.firstAt = null;
    this.lastAt = null;
    this.finish = null;
    this.usage = null;
    this.model = null;
  }

  /** The text in one chunk, "" for none. Throws Fault for an error. */
  take(chunk, requestId) {
    if (chunk.error) {
      throw new Fault("stream", String(chunk.error.message ?? ""), { code: chunk.error.code ?? null, requestId });
    }
    this.model = chunk.model ?? this.model;
    this.usage = chunk.usage ?? this.usage;
    const choice = chunk.choices?.[0];
    this.finish = choice?.finish_reason ?? this.finish;
    const text = choice?.delta?.content ?? "";
    if (text !== "") {
      this.lastAt = this.clock();
      this.firstAt ??= this.lastAt;
    }
    return text;
  }

  reply(ended, fault = null) {
    const firstSeconds = this.firstAt === null ? null : this.firstAt - this.begun;
    const usage = this.usage && { prompt: this.usage.prompt_tokens, completion: this.usage.completion_tokens };
    return { ended, fault, usage, firstSeconds, tokensPerSecond: this.#speed(), model: this.model };
  }

  #speed() {
    const seconds = this.lastAt - this.firstAt;
    const tokens = (this.usage?.completion_tokens ?? 0) - 1;
    return tokens > 0 && seconds > 0 ? tokens / seconds : null;
  }
}
