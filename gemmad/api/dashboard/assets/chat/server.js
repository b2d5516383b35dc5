/** What the chat asks of the server it came from. */

import { address, requestJson } from "../common/api.js";
import { apiKey } from "../common/keys.js";

export const chatUrl = () => address("v1/chat/completions");

export const baseUrl = () => address("v1");

/** `[{id, context, sees}]`: names that may be asked for. Throws ApiError. */
export async function models() {
  const { data } = await requestJson("v1/models", { key: apiKey() });
  return data.map(({ id, max_model_len: context, capabilities }) => ({
    id,
    context,
    sees: capabilities === undefined || capabilities.includes("vision"),
  }));
}

/** The answer to a request, whatever it is; closing it through `signal` ends the work on it. */
export function send(body, signal) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  const key = apiKey();
  if (key !== null) headers.authorization = `Bearer ${key}`;
  return fetch(chatUrl(), {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    signal,
    cache: "no-store",
    credentials: "omit",
    referrerPolicy: "no-referrer",
  });
}

/** Some seconds, less if `signal` says so. */
export function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, seconds * 1000);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
